"""Changes of fusions, versioned beside `models.yaml` in `calibration/`, each with its evidence and the file before it.

`NAME-N.json` (evidence), `NAME-N.md` (to read), `NAME-N.before.yaml` (the file as it was), and `kinds-NAME-N.json`
where there is a table of kinds. Invariants: all of these are on the disk before `models.yaml` is replaced, in one
piece; no two changes share a file; what is taken back has the bytes it had, all of the file or, where the rest was
edited since, the fusion's own lines. A link to a configuration stays a link: what it leads to is changed.
"""

from __future__ import annotations

import contextlib
import hashlib
import os
import re
from collections.abc import Mapping
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import orjson

import local_fusion
from local_fusion.batch.files import write_atomically
from local_fusion.calibrate.yaml_text import check_name, edited, lines_of, put_back, without
from local_fusion.config import load_config, parse_config
from local_fusion.config.kinds import KindTable
from local_fusion.config.schema import FusionSettings
from local_fusion.errors import ConfigError, InputError

FOLDER = "calibration"
_NUMBER = re.compile(r"-(\d+)\.json$")
_TOLD = ("name", "at", "action", "why", "before_sha256", "after_sha256")


@dataclass(frozen=True)
class Change:
    """One entry of the history. `undone_at`: empty while it stands; `config`: name of the file that was changed."""

    name: str
    version: int
    at: str
    action: str
    why: str
    undone_at: str
    path: Path
    config: str


def own_file(source: Path | None) -> Path:
    """The configuration that may be changed. Raises InputError for the one inside the package."""
    if source is None:
        raise InputError("there is no models.yaml to change; name one with --config")
    source = source.resolve()
    inside = Path(local_fusion.__file__).resolve().parent
    if source.is_relative_to(inside):
        raise InputError(
            f"the configuration in use is the one inside the package, which is not changed; copy it here "
            f"(cp {source} models.yaml) and run the same command again, or name your own with --config"
        )
    return source


def check_can_be_written(source: Path, name: str) -> None:
    """Raises InputError where the fusion `name` is written such that its lines cannot be found."""
    check_name(_text(source), source, name)


def next_version(source: Path, name: str) -> int:
    """The number the next change of the fusion `name` gets."""
    return max((change.version for change in _all_changes(source.resolve()) if change.name == name), default=0) + 1


def kinds_file(name: str, version: int) -> str:
    """Path of a table of kinds, relative to `models.yaml`."""
    return f"{FOLDER}/kinds-{_file_name(name)}-{version}.json"


def changes(source: Path, name: str | None = None) -> list[Change]:
    """Every change of this configuration (or of one fusion in it), oldest first."""
    source = source.resolve()
    return [one for one in _all_changes(source) if one.config == source.name and name in (None, one.name)]


def _all_changes(source: Path) -> list[Change]:
    """Of every configuration beside this one."""
    found = []
    folder = source.parent / FOLDER
    for path in sorted(folder.glob("*.json")) if folder.is_dir() else ():
        if path.name.startswith("kinds-") or not _NUMBER.search(path.name):
            continue
        entry = _read(path)
        found.append(
            Change(
                entry["name"], entry["version"], entry["at"], entry["action"], entry["why"],
                entry.get("undone_at", ""), path, entry.get("config", ""),
            )
        )  # fmt: skip
    return sorted(found, key=lambda change: (change.at, change.version))


def apply(
    source: Path,
    name: str,
    wanted: FusionSettings,
    evidence: Mapping[str, Any],
    page: str,
    table: KindTable | None,
    comment: str,
) -> tuple[int, list[Path]]:
    """Write the fusion `name` into `source`; the version, and the files that were written, the configuration last.

    Raises InputError where the file cannot be edited, RunError where writing fails.
    """
    source = source.resolve()
    version = next_version(source, name)
    text = _text(source)
    if table is not None:
        table = table.model_copy(update={"version": version})
        wanted = wanted.model_copy(update={"kinds": kinds_file(name, version)})
    changed = edited(text, source, name, wanted, comment)
    folder = source.parent / FOLDER
    _make(folder)
    stem = f"{_file_name(name)}-{version}"
    entry = {
        "name": name,
        "version": version,
        "at": datetime.now(UTC).isoformat(timespec="seconds"),
        "config": source.name,
        "before_sha256": _digest(text),
        "after_sha256": _digest(changed),
        "lines": lines_of(changed, source, name),
        **evidence,
    }
    files = {
        folder / f"{stem}.before.yaml": text.encode(),
        folder / f"{stem}.md": page.encode(),
        folder / f"{stem}.json": _json(entry),
    }
    if table is not None:
        files[source.parent / kinds_file(name, version)] = _json(table.model_dump(mode="json"))
    for path, data in files.items():
        write_atomically(path, data)
    if table is not None:  # who may read the configuration must be able to read its table
        (source.parent / kinds_file(name, version)).chmod(os.stat(source).st_mode & 0o777)
    _replace(source, changed)
    load_config(source).fusion(name)
    return version, [*files, source]


def undo(source: Path, name: str) -> str:
    """Take back the last change of the fusion `name` that stands; says what was done. Raises InputError."""
    source = source.resolve()
    standing = [change for change in changes(source, name) if not change.undone_at]
    if not standing:
        known = sorted({change.name for change in changes(source)})
        raise InputError(f"no change of {name!r} stands that could be taken back; changed were: {_listed(known)}")
    last = standing[-1]
    entry = _read(last.path)
    text = _text(source)
    before = _before(last.path, entry)
    if _digest(text) == entry["after_sha256"]:
        restored, how = before, "byte for byte as it was"
    else:
        restored, how = _fusion_back(source, name, text, before, entry.get("lines", ""))
    if restored != text:
        _replace(source, restored)
    write_atomically(last.path, _json(entry | {"undone_at": datetime.now(UTC).isoformat(timespec="seconds")}))
    return f"{source.name}: version {last.version} of {name} is taken back, {how}"


def _fusion_back(source: Path, name: str, text: str, before: str, lines: str) -> tuple[str, str]:
    """The fusion of an earlier file in a later one, and how it came back. `lines`: as the change left them."""
    then, now = parse_config(before, source), parse_config(text, source)
    how = "this fusion as it was, the rest as it is now"
    if name in then.fusions:
        if lines and lines.rstrip("\r\n") == lines_of(text, source, name).rstrip("\r\n"):
            with contextlib.suppress(InputError):
                return put_back(text, source, name, before), how
        lost = "comments that went out with the change do not come back"
        return edited(text, source, name, then.fusions[name]), f"{how}; {lost}"
    if name not in now.fusions:
        return text, how
    try:
        return without(text, source, name), how
    except ConfigError:
        raise InputError(f"{name} cannot be taken out: something else in {source.name} names it") from None


def _before(path: Path, entry: Mapping[str, Any]) -> str:
    kept = path.with_suffix(".before.yaml")
    try:
        text = _text(kept)
    except (OSError, UnicodeDecodeError):
        raise InputError(f"{kept} cannot be read, so the change cannot be taken back") from None
    if _digest(text) != entry["before_sha256"]:
        raise InputError(f"{kept} is not the file as it was; the change cannot be taken back")
    return text


def _text(path: Path) -> str:
    """Every byte of it: the ends of lines stay what they are."""
    return path.read_bytes().decode("utf-8")


def _replace(source: Path, text: str) -> None:
    """In one piece, with the rights the file has."""
    mode = os.stat(source).st_mode & 0o777
    write_atomically(source, text.encode())
    source.chmod(mode)


def _read(path: Path) -> dict[str, Any]:
    try:
        entry = orjson.loads(path.read_bytes())
        known = all(isinstance(entry[key], str) for key in _TOLD) and isinstance(entry["version"], int)
    except (OSError, orjson.JSONDecodeError, KeyError, TypeError):
        known = False
    if not known:
        raise InputError(f"{path} is not the evidence of a change; move it out of {FOLDER}/")
    return dict(entry)


def _make(folder: Path) -> None:
    try:
        folder.mkdir(exist_ok=True)
    except OSError as problem:
        raise InputError(f"cannot make the folder {folder}: {problem.strerror}") from None


def _json(body: Mapping[str, Any]) -> bytes:
    return orjson.dumps(body, option=orjson.OPT_INDENT_2) + b"\n"


def _digest(text: str) -> str:
    return hashlib.sha256(text.encode()).hexdigest()


def _file_name(name: str) -> str:
    """A fusion's name as a file's: one to one, for no name holds a per cent sign; tables of kinds keep their prefix."""
    plain = name.replace("/", "%2F")
    return f"%6B{plain[1:]}" if plain.startswith("kinds-") else plain


def _listed(names: list[str]) -> str:
    return ", ".join(names) or "none"
