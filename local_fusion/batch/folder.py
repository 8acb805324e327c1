"""The folder of a run: locked, of one input and one set of settings, described by `run.json`."""

from __future__ import annotations

import os
import platform
from collections.abc import Mapping
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import orjson

from local_fusion import __version__
from local_fusion.batch.files import LOCK, FolderLock, fresh_name, write_atomically
from local_fusion.batch.identity import differences, digest_of, identity_of
from local_fusion.batch.lines import digest_file, survey
from local_fusion.batch.options import BatchOptions
from local_fusion.batch.past import ERRORS, JOURNAL, OUTPUT
from local_fusion.batch.tally import Tally
from local_fusion.errors import InputError
from local_fusion.fusion.recipe import Recipe

RUN = "run.json"
FORMAT = 1
WRITTEN = (OUTPUT, ERRORS, JOURNAL, RUN, fresh_name(Path(RUN)).name, LOCK)
"""Names of the files that a run writes in its folder."""


class RunFolder:
    """An open run folder: this process holds its lock. `rows`: rows of the input, `limit` not counted."""

    def __init__(self, source: Path, folder: Path, recipe: Recipe, options: BatchOptions) -> None:
        """Make the folder, or check that it is of this input and these settings. Raises InputError or RunError."""
        self.path = folder
        self._versions = _versions(options.versions)
        self._check_names(source)
        new = None if (folder / RUN).exists() else survey(source)
        self._lock = _lock(folder)
        try:
            self._run = self._begin(source, new, recipe, options)
        except BaseException:
            self._lock.release()
            raise
        self.rows: int = self._run["input"]["rows"]

    def note_versions(self) -> None:
        """Rows are run in this session: beside the versions that ran the first ones, its own are noted."""
        if self._versions not in (self._run.setdefault("versions", self._versions), *later_versions(self._run)):
            self._run["later_versions"] = [*later_versions(self._run), self._versions]

    def write(self, status: str, tally: Tally, seconds: float, sessions: int) -> None:
        """Bring run.json up to date. Raises RunError."""
        self._run |= {
            "status": status,
            "ended_at": None if status == "running" else _now(),
            "sessions": sessions,
            "seconds_of_session": round(seconds, 3),
            **tally.plain(),
        }
        write_atomically(self.path / RUN, orjson.dumps(self._run, option=orjson.OPT_INDENT_2) + b"\n")

    def release(self) -> None:
        """Give the folder free; idempotent."""
        self._lock.release()

    def _check_names(self, source: Path) -> None:
        if source.resolve().parent == self.path.resolve() and source.name in WRITTEN:
            raise InputError(f"{source} is a file this run writes; name another output folder")

    def _begin(self, source: Path, new: Any, recipe: Recipe, options: BatchOptions) -> dict[str, Any]:
        identity = identity_of(recipe, options)
        if (self.path / RUN).exists():
            run = self._read()
            self._compare(run, source, identity)
            return run | {"limit": options.limit, "input": run["input"] | {"path": _written(source)}}
        for name in (OUTPUT, ERRORS, JOURNAL):
            if (self.path / name).exists():
                raise InputError(
                    f"{self.path} holds {name} but no {RUN}: it is not the folder of a run; name another one"
                )
        found = new or survey(source)
        return {
            "format": FORMAT,
            "status": "running",
            "started_at": _now(),
            "input": {"path": _written(source), "sha256": found.sha256, "rows": found.rows},
            "limit": options.limit,
            "mode": recipe.settings.mode,
            "config_digest": digest_of(identity),
            "identity": identity,
            "versions": self._versions,
        }

    def _read(self) -> dict[str, Any]:
        path = self.path / RUN
        try:
            run = orjson.loads(path.read_bytes())
            known = run["format"] == FORMAT and run["input"]["rows"] and run["identity"]
        except (OSError, orjson.JSONDecodeError, KeyError, TypeError):
            known = False
        if not known:
            raise InputError(f"{path} is not of a run this version can go on with; name another output folder")
        return dict(run)

    def _compare(self, run: Mapping[str, Any], source: Path, identity: Mapping[str, Any]) -> None:
        if digest_file(source) != run["input"]["sha256"]:
            raise InputError(
                f"{self.path} is the folder of a run over another input ({run['input']['path']} as it was then); "
                "name another output folder, or put the input back as it was"
            )
        changed = differences(run["identity"], identity)
        if changed:
            more = f" and {len(changed) - 5} more" if len(changed) > 5 else ""
            raise InputError(
                f"{self.path} is the folder of a run with other settings ({', '.join(map(_told, changed[:5]))}{more}); "
                "name another output folder, or use the settings it was started with"
            )


def later_versions(run: Mapping[str, Any]) -> list[dict[str, str]]:
    """Versions of later sessions that ran rows, where they were others than those of the first."""
    return list(run.get("later_versions", ()))


def _written(source: Path) -> str:
    """The path as JSON can hold it: bytes that are not UTF-8 are written as \\xNN."""
    return os.fsencode(source.resolve()).decode("utf-8", "backslashreplace")


def _told(name: str) -> str:
    """A setting that differs, as a user knows it."""
    return f"the engine settings of model {name.removeprefix('more.')}" if name.startswith("more.") else name


def _lock(folder: Path) -> FolderLock:
    try:
        folder.mkdir(mode=0o700, parents=True, exist_ok=True)
    except FileExistsError:
        raise InputError(f"{folder} is a file; name a folder for the output") from None
    except OSError as problem:
        raise InputError(f"cannot make the folder {folder}: {problem.strerror}; name another output folder") from None
    return FolderLock(folder)


def _versions(more: Mapping[str, str]) -> dict[str, str]:
    return {"local-fusion": __version__, "python": platform.python_version(), **more}


def _now() -> str:
    return datetime.now(UTC).isoformat(timespec="seconds")
