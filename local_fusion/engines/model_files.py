"""Is this folder a whole, safe model? Read from headers and indexes in milliseconds, before anything is loaded.

Invariant: imports neither vllm nor torch and reads no tensor; what passes can be loaded without running code from
the folder and is not cut short. Every refusal is a ModelFilesError that says what to do.
"""

from __future__ import annotations

import hashlib
import json
import os
import re
from collections.abc import Iterator, Mapping
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

from local_fusion.config.schema import ModelSettings
from local_fusion.engines.safetensors_header import tensors_of
from local_fusion.errors import ModelFilesError

TOKENIZER_FILES = ("tokenizer.json", "tokenizer.model", "tekken.json", "spiece.model")
_SAFETENSORS_FORMATS = (None, "auto", "hf", "safetensors", "fastsafetensors", "instanttensor", "runai_streamer")
_DIGESTED = re.compile(r"\.(safetensors|json|jinja|model|tiktoken|py|txt|gguf)$")


def check_model(settings: ModelSettings, folder: Path) -> None:
    """Check `folder` as `settings` will load it, and its digest where one is expected. Raises ModelFilesError."""
    given = {key.replace("-", "_"): value for key, value in settings.vllm.items()}
    trusted = bool(given.get("trust_remote_code"))
    check_folder(
        folder,
        weights=given.get("load_format") in _SAFETENSORS_FORMATS,
        tokenizer="tokenizer" not in given and not given.get("skip_tokenizer_init"),
        remote_code=trusted,
    )
    if settings.digest is not None:
        found = digest(folder)
        if found != settings.digest:
            raise ModelFilesError(
                f"{folder}: the files differ from the expected digest (found {found}); "
                "copy the model again, or put the new digest into models.yaml if the change is yours"
            )


def check_folder(
    folder: Path, *, weights: bool = True, tokenizer: bool = True, remote_code: bool = False
) -> dict[str, Any]:
    """Check a model folder and return its config.json.

    `weights`: safetensors are expected; `tokenizer`: a tokenizer is; `remote_code`: the user trusts the folder's own
    Python files. Raises ModelFilesError.
    """
    if not folder.is_dir():
        raise ModelFilesError(f"{folder}: there is no such folder; correct `path`, or copy the model there")
    config = _read_json(folder / "config.json", "copy the model's config.json beside its weights")
    if weights:
        _check_weights(folder)
    tokenizer_config = folder / "tokenizer_config.json"
    settings = _read_json(tokenizer_config, "copy it again") if tokenizer_config.exists() else {}
    if tokenizer:
        _check_tokenizer(folder, settings, remote_code)
    for name, data in (("config.json", config), ("tokenizer_config.json", settings)):
        _check_code(folder, name, data, remote_code)
    return config


def digest(folder: Path) -> str:
    """`sha256:…` over the names and contents of weights, configuration and tokenizer; independent of other files."""
    files = list(_digested_files(folder))
    with ThreadPoolExecutor(min(8, os.cpu_count() or 1)) as pool:
        sums = list(pool.map(_sha256, files))
    whole = hashlib.sha256()
    for path, inner in zip(files, sums, strict=True):
        whole.update(f"{path.relative_to(folder).as_posix()}\0{inner}\n".encode())
    return f"sha256:{whole.hexdigest()}"


def _digested_files(folder: Path) -> Iterator[Path]:
    if not folder.is_dir():
        raise ModelFilesError(f"{folder}: there is no such folder; correct `path`, or copy the model there")
    for path in sorted(folder.rglob("*"), key=lambda p: p.relative_to(folder).as_posix()):
        hidden = any(part.startswith((".", "__pycache__")) for part in path.relative_to(folder).parts)
        if path.is_file() and not hidden and _DIGESTED.search(path.name):
            yield path


def _sha256(path: Path) -> str:
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()


def _read_json(path: Path, remedy: str) -> dict[str, Any]:
    try:
        data = json.loads(path.read_bytes())
    except FileNotFoundError:
        raise ModelFilesError(f"{path.parent}: {path.name} is missing; {remedy}") from None
    except OSError as problem:
        raise ModelFilesError(f"{path}: cannot be read ({problem.strerror}); correct its permissions") from None
    except ValueError:
        raise ModelFilesError(f"{path}: this is not JSON; copy the file again") from None
    if not isinstance(data, dict):
        raise ModelFilesError(f"{path}: expected a JSON object; copy the file again")
    return data


def _check_weights(folder: Path) -> None:
    shards = sorted(folder.glob("*.safetensors"))
    if not shards:
        pickled = [*folder.glob("*.bin"), *folder.glob("*.pt"), *folder.glob("*.pth")]
        if pickled:
            raise ModelFilesError(
                f"{folder}: the weights are pickled ({pickled[0].name}), which can run code when loaded; "
                "convert them to safetensors, or get the model's safetensors files"
            )
        raise ModelFilesError(f"{folder}: there is no *.safetensors file; copy the model's weights there")
    held = {shard.name: tensors_of(shard) for shard in shards}
    index = folder / "model.safetensors.index.json"
    if index.exists():
        _check_index(index, held)


def _check_index(index: Path, held: Mapping[str, frozenset[str]]) -> None:
    weight_map = _read_json(index, "copy it again").get("weight_map")
    if not isinstance(weight_map, dict):
        raise ModelFilesError(f"{index}: it has no weight_map; copy the file again")
    missing = sorted({str(shard) for shard in weight_map.values()} - set(held))
    if missing:
        more = f" and {len(missing) - 1} more" if len(missing) > 1 else ""
        raise ModelFilesError(f"{index.parent}: {missing[0]}{more} of the index is missing; copy the rest of the model")
    for tensor, shard in weight_map.items():
        if tensor not in held[str(shard)]:
            raise ModelFilesError(
                f"{index.parent}: {shard} lacks the tensor {tensor!r} that the index names; copy both files again"
            )


def _check_tokenizer(folder: Path, settings: Mapping[str, Any], remote_code: bool) -> None:
    plain = any((folder / name).is_file() for name in TOKENIZER_FILES)
    if plain or ((folder / "vocab.json").is_file() and (folder / "merges.txt").is_file()):
        return
    if "AutoTokenizer" in (settings.get("auto_map") or {}):
        if remote_code:
            return
        raise ModelFilesError(
            f"{folder}: the tokenizer is Python code of the model's publisher; "
            "read its .py files, then allow them with `vllm: {trust_remote_code: true}`"
        )
    raise ModelFilesError(f"{folder}: there is no tokenizer ({' or '.join(TOKENIZER_FILES[:2])}); copy it there")


def _check_code(folder: Path, name: str, data: Mapping[str, Any], remote_code: bool) -> None:
    """Code of the folder runs only where trusted; it must be here then: nothing is fetched."""
    entries = data.get("auto_map") or {}
    for value in entries.values() if remote_code and isinstance(entries, Mapping) else ():
        for reference in value if isinstance(value, list) else [value]:
            if not isinstance(reference, str):
                continue
            repository, _, target = reference.rpartition("--")
            module = target.partition(".")[0] + ".py"
            if repository:
                raise ModelFilesError(
                    f"{folder}: {name} takes code from another repository ({repository}); "
                    f"copy {module} into the folder and remove the prefix in auto_map"
                )
            if not (folder / module).is_file():
                raise ModelFilesError(
                    f"{folder}: {module}, named by {name}, is missing; copy the model's .py files too"
                )
