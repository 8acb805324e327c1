"""Finds, reads and checks `models.yaml`; every mistake becomes one sentence with the key and the nearest right name."""

from __future__ import annotations

import difflib
import os
import re
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass, field
from functools import cached_property
from importlib import resources
from pathlib import Path
from typing import Any, TypeVar, get_args

import yaml
from pydantic import BaseModel, ValidationError

from local_fusion.config.machine import gpu_count
from local_fusion.config.schema import FusionSettings, ModelSettings, RuntimeSettings
from local_fusion.config.server import ServerSettings
from local_fusion.errors import ConfigError

T = TypeVar("T", bound=BaseModel)
FILE_NAME = "models.yaml"
_VARIABLE = re.compile(r"\$\{([A-Za-z_][A-Za-z0-9_]*)(?::-([^}]*))?\}")
_TOP = ("models", "fusions", "default", "runtime", "server")


@dataclass(frozen=True)
class Config:
    """A checked configuration. `source`: the file it came from, or None."""

    models: Mapping[str, ModelSettings]
    fusions: Mapping[str, FusionSettings]
    defaults: tuple[str, ...]
    runtime: RuntimeSettings
    source: Path | None = None
    server: ServerSettings = field(default_factory=ServerSettings)

    @cached_property
    def default(self) -> str:
        """The first of `defaults` whose models are all here, with GPUs enough for the largest; else the last."""
        for name in self.defaults[:-1]:
            if all(self.missing(model) is None for model in self.fusions[name].models):
                return name
        if not self.defaults:
            raise ConfigError(f"{self.source or 'the configuration'}: there is no fusion; add one under `fusions`")
        return self.defaults[-1]

    def fusion(self, name: str | None = None) -> FusionSettings:
        """The fusion called `name` (None: the default). Raises ConfigError with the nearest right name."""
        return self.fusions[self.fusion_name(name)]

    def fusion_name(self, name: str | None = None) -> str:
        """`name`, or the default's. Raises ConfigError with the nearest right name."""
        wanted = self.default if name is None else name
        if wanted not in self.fusions:
            raise ConfigError(f"no fusion is called {wanted!r}{nearest(wanted, self.fusions)}")
        return wanted

    def missing(self, model: str) -> str | None:
        """What this machine lacks to run `model`, as a sentence with the remedy; None when nothing is seen to lack.

        Looks at the folder and counts GPUs; reads no weights.
        """
        settings = self.models[model]
        if settings.engine == "scripted":
            return None
        try:
            folder = self.folder(model)
        except ConfigError as problem:
            return problem.message
        if not (folder / "config.json").is_file():
            return f"no model in {folder}; put its folder there, or set its path in models.yaml"
        wanted = gpus_wanted(settings)
        if self.runtime.ray_address is None and wanted > gpu_count():
            return f"needs {wanted:g} GPU{'s' if wanted > 1 else ''}, this machine has {gpu_count()}"
        return None

    def folder(self, model: str) -> Path:
        """Absolute folder of a model's weights. Raises ConfigError where a variable of its path is not set."""
        settings = self.models[model]
        path = expand(settings.path or "", f"models.{model}.path")
        if path.startswith("shipped:"):
            return Path(str(resources.files("local_fusion").joinpath("zoo/weights"))) / path.removeprefix("shipped:")
        base = self.source.parent if self.source else Path.cwd()
        return (base / Path(path).expanduser()).resolve()


def find_config() -> Path:
    """`models.yaml` of the working folder, else the shipped one."""
    here = Path.cwd() / FILE_NAME
    return here if here.is_file() else Path(str(resources.files("local_fusion").joinpath(FILE_NAME)))


def load_config(path: str | Path | None = None) -> Config:
    """Read a configuration file (None: `find_config`). Raises ConfigError."""
    source = Path(path) if path is not None else find_config()
    try:
        text = source.read_text("utf-8")
    except (OSError, UnicodeDecodeError) as problem:
        reason = getattr(problem, "strerror", None) or "it is not UTF-8"
        raise ConfigError(f"cannot read {source}: {reason}; name a readable file with --config") from None
    return parse_config(text, source.resolve())


def parse_config(text: str, source: Path | None = None) -> Config:
    """Check the text of a `models.yaml`. Raises ConfigError naming file, key and remedy."""
    where = str(source) if source else "the configuration"
    try:
        data = yaml.load(text, Loader=_UniqueKeyLoader)  # noqa: S506 (a SafeLoader)
    except yaml.YAMLError as problem:
        raise ConfigError(f"{where}: not YAML: {_one_line(str(problem))}") from None
    except RecursionError:
        raise ConfigError(f"{where}: lists and mappings are nested too deeply; write a flatter file") from None
    if not isinstance(data, dict):
        raise ConfigError(f"{where}: expected a mapping with {', '.join(_TOP)}")
    for key in data:
        if key not in _TOP:
            raise ConfigError(f"{where}: unknown key {key!r}{nearest(str(key), _TOP)}")
    models = {
        name: _check(ModelSettings, value, f"{where}: models.{name}")
        for name, value in _mapping(data.get("models"), f"{where}: models").items()
    }
    fusions = {
        name: _check(FusionSettings, value, f"{where}: fusions.{name}")
        for name, value in _mapping(data.get("fusions"), f"{where}: fusions").items()
    }
    for name, fusion in fusions.items():
        for model in fusion.models:
            if model not in models:
                raise ConfigError(f"{where}: fusions.{name}: no model is called {model!r}{nearest(model, models)}")
    given = data.get("default", list(fusions)[:1])
    defaults = tuple(str(name) for name in (given if isinstance(given, list) else [given]))
    for name in defaults:
        if name not in fusions:
            raise ConfigError(f"{where}: default: no fusion is called {name!r}{nearest(name, fusions)}")
    runtime = _check(RuntimeSettings, data.get("runtime") or {}, f"{where}: runtime")
    server = _check(ServerSettings, data.get("server") or {}, f"{where}: server")
    for name in server.fusions:
        if name not in fusions:
            raise ConfigError(f"{where}: server.fusions: no fusion is called {name!r}{nearest(name, fusions)}")
    return Config(models, fusions, defaults, runtime, source, server)


def expand(text: str, where: str) -> str:
    """Fill in `${NAME}` and `${NAME:-default}`. Raises ConfigError where NAME is not set and has no default."""

    def value(match: re.Match[str]) -> str:
        name, default = match.group(1), match.group(2)
        found = os.environ.get(name, default)
        if found is None:
            raise ConfigError(f"{where}: the environment variable {name} is not set; export it, or write a path")
        return found

    return _VARIABLE.sub(value, text)


def gpus_wanted(settings: ModelSettings, present: int | None = None) -> float:
    """GPUs one replica takes on a machine with `present` of them (None: as many as are here).

    Not given: one per shard, or the CPU for one shard where there is no GPU. Below 1: a share of a GPU, or the CPU.
    """
    found = gpu_count() if present is None else present
    shards = settings.tensor_parallel * settings.pipeline_parallel
    if settings.gpus is None:
        return 0.0 if shards == 1 and not found else float(shards)
    return 0.0 if settings.gpus < 1 and not found else settings.gpus


class _UniqueKeyLoader(yaml.SafeLoader):
    """YAML takes the last of two equal keys in silence; a user means neither. What cannot be made into a value, such as
    the 45th of a month, is a mistake at its line."""

    def construct_object(self, node: yaml.Node, deep: bool = False) -> Any:
        try:
            return super().construct_object(node, deep)
        except (ValueError, TypeError, KeyError, AttributeError):
            told = f"this cannot be read as {node.tag.rpartition(':')[2]}; put it into quotes if it is text"
            raise yaml.constructor.ConstructorError(None, None, told, node.start_mark) from None


def _unique_mapping(loader: _UniqueKeyLoader, node: yaml.MappingNode) -> dict[Any, Any]:
    seen: set[str] = set()
    for key, _ in node.value:
        if not isinstance(key, yaml.ScalarNode):
            told = "a list or mapping cannot be a key; put a text that begins with { or [ into quotes"
            raise yaml.constructor.ConstructorError(None, None, told, key.start_mark)
        if key.value in seen and key.tag != "tag:yaml.org,2002:merge":
            raise yaml.constructor.ConstructorError(None, None, f"the key {key.value!r} stands twice", key.start_mark)
        seen.add(key.value)
    loader.flatten_mapping(node)
    return loader.construct_mapping(node, deep=True)


_UniqueKeyLoader.add_constructor(yaml.resolver.BaseResolver.DEFAULT_MAPPING_TAG, _unique_mapping)


def _mapping(value: Any, where: str) -> dict[str, Any]:
    if value is None:
        return {}
    if not isinstance(value, dict):
        raise ConfigError(f"{where}: expected a mapping of names")
    return {str(key): entry for key, entry in value.items()}


def _check(kind: type[T], value: Any, where: str) -> T:
    try:
        return kind.model_validate(value)
    except ValidationError as problem:
        raise ConfigError(sentence(problem, kind, where)) from None


def sentence(problem: ValidationError, kind: type[BaseModel], where: str) -> str:
    """The first mistake as a sentence; says how many more there are. An unknown key comes before what is missing: most
    often the two are one slip."""
    errors = problem.errors(include_url=False, include_input=False)
    first = min(errors, key=lambda error: error["type"] != "extra_forbidden")
    place = ".".join(str(part) for part in first["loc"])
    if first["type"] == "extra_forbidden":
        known = _fields_at(kind, first["loc"][:-1])
        text = f"{where}: unknown key {place!r}{nearest(str(first['loc'][-1]), known)}"
    else:
        text = f"{where}{'.' + place if place else ''}: {first['msg'].removeprefix('Value error, ')}"
    more = len(errors) - 1
    return text if not more else f"{text} (and {more} more mistake{'s' if more > 1 else ''})"


def _fields_at(kind: type[BaseModel], path: tuple[int | str, ...]) -> list[str]:
    """Names of the fields of the settings found at `path` below `kind`."""
    current: type[BaseModel] | None = kind
    for part in path:
        if current is None or isinstance(part, int):
            continue
        annotation = current.model_fields[part].annotation if part in current.model_fields else None
        current = next(_settings_in(annotation), None)
    return list(current.model_fields) if current else []


def _settings_in(annotation: Any) -> Iterator[type[BaseModel]]:
    if isinstance(annotation, type) and issubclass(annotation, BaseModel):
        yield annotation
    for inner in get_args(annotation):
        yield from _settings_in(inner)


def nearest(name: str, known: Iterable[str]) -> str:
    """The end of a sentence about a wrong name: the nearest right one, else all of them."""
    names = list(known)
    close = difflib.get_close_matches(name, names, n=1, cutoff=0.5)
    if close:
        return f"; did you mean {close[0]!r}?"
    return f"; known are {', '.join(names)}" if names else ""


def _one_line(text: str) -> str:
    return " ".join(text.split())
