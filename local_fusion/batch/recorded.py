"""One row of a run as its folder recorded it: what was asked, by which settings, every call's result, and how it ended.

Reads only; what of a file the journal does not vouch for is never looked at.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import orjson

from local_fusion.batch.folder import RUN
from local_fusion.batch.lines import digest_file, read_lines
from local_fusion.batch.past import ERRORS, JOURNAL, OUTPUT, damaged
from local_fusion.batch.records import Outcome, dump, read_call
from local_fusion.batch.rows import BadRow, Terms, read_row
from local_fusion.config.schema import FusionSettings, ModelSettings
from local_fusion.errors import ConfigError, InputError
from local_fusion.fusion.recipe import Recipe, Seat, make_recipe
from local_fusion.types import Request, Sampling

_CALL, _END = b'{"call":', b'{"end":'


@dataclass(frozen=True)
class RecordedRow:
    """A row that has ended. `record`: its line in output.jsonl, or in errors.jsonl where it `failed`; `calls`: results
    by call id, in the order in which they came; `run`: what run.json says."""

    line: int
    id: str
    failed: bool
    record: Mapping[str, Any]
    calls: Mapping[str, Outcome]
    run: Mapping[str, Any]


def find_row(folder: Path, row_id: str) -> RecordedRow:
    """The row `row_id` of the run in `folder`. Raises InputError where there is none, or it has not ended."""
    run = _read_run(folder)
    line, name, end_at = _find_end(folder, row_id)
    calls = _calls(folder, line)
    record = _record(folder / name, end_at, row_id)
    return RecordedRow(line, row_id, name == ERRORS, record, calls, run)


def recipe_again(row: RecordedRow, models: Mapping[str, ModelSettings], base: Path | None) -> Recipe:
    """The fusion with the settings and samplings of the run, of every kind of prompt too; only engines, templates and
    which prompts are of which kind are those of today.

    `base`: folder that template paths are relative to. Raises ConfigError where a model is not there any more, and
    InputError where the run is of a version with other settings.
    """
    identity = row.run["identity"]
    try:
        settings = FusionSettings.model_validate(identity["settings"])
    except ValueError:
        raise InputError("the run's settings are of another version of local-fusion; replay it with that one") from None
    for model in settings.models:
        if model not in models:
            raise ConfigError(f"this run used a model {model!r} that models.yaml does not hold; put it back to replay")
    if "kinds" not in identity:  # something was asked for that the table would have decided
        settings = settings.model_copy(update={"kinds": None})
    recipe = make_recipe(identity["fusion"], settings, models, base)
    recorded = identity.get("by_kind", {})  # a run of before these were noted has today's
    by_kind = {
        name: _as_recorded(one, recorded[name]) if name in recorded else one for name, one in recipe.by_kind.items()
    }
    return replace(_as_recorded(recipe, identity), by_kind=by_kind)


def _as_recorded(recipe: Recipe, noted: Mapping[str, Any]) -> Recipe:
    """The recipe with settings, seats and samplings as the run noted them."""
    settings = recipe.settings
    if "settings" in noted:
        settings = FusionSettings.model_validate(noted["settings"])
    seats = tuple(
        Seat(one["model"], one["samples"], _sampling(one["sampling"]), one["weight"]) for one in noted["panel"]
    )
    writer_sampling = {name: _sampling(one) for name, one in noted["writer_sampling"].items()}
    return replace(
        recipe,
        settings=settings,
        seats=seats,
        judge=settings.judge_name,
        writers=settings.writer_names,
        judge_sampling=_sampling(noted["judge_sampling"]),
        writer_sampling=writer_sampling,
    )


def request_again(row: RecordedRow, recipe: Recipe, source: Path | None = None) -> Request:
    """The row's request, read again from the input; `source`: where the input lies now, if it was moved.

    Raises InputError where it is gone, has changed, or the row was no request.
    """
    described = row.run["input"]
    path = source or Path(described["path"])
    if not path.exists():
        raise InputError(f"the input {path} is gone; say with --input where it lies now")
    if digest_file(path) != described["sha256"]:
        raise InputError(f"{path} is not the input as it was when the run began; say with --input where that lies")
    name = Path(described["path"]).name
    terms = Terms(recipe.name, row.run["identity"]["seed"], recipe.writer_sampling[recipe.writers[0]], name)
    raw = next((raw for line, raw in read_lines(path) if line == row.line), None)
    read = read_row(row.line, raw, terms)
    if isinstance(read, BadRow):
        raise InputError(f"row {row.id!r} was never run: {read.message}")
    return read.request


def _read_run(folder: Path) -> Mapping[str, Any]:
    try:
        run = orjson.loads((folder / RUN).read_bytes())
        known = isinstance(run["identity"]["settings"], dict) and isinstance(run["input"]["sha256"], str)
    except OSError:
        raise InputError(f"{folder} holds no {RUN}; name the output folder of a batch") from None
    except (ValueError, KeyError, TypeError):
        known = False
    if not known:
        raise InputError(f"{folder / RUN} does not say how the run was made; it cannot be replayed")
    return dict(run)


def _find_end(folder: Path, row_id: str) -> tuple[int, str, int]:
    """Line, file and place of the end of the row's record; the last word of the journal counts."""
    wanted, found = dump(row_id), None
    for offset, raw in _journal(folder):
        if raw.startswith(_END) and wanted in raw:
            try:
                end = orjson.loads(raw)
                found = (end["end"], end["to"], end["at"]) if end["id"] == row_id else found
            except (ValueError, KeyError, TypeError):
                raise damaged(folder / JOURNAL, offset) from None
        elif raw.startswith(b'{"retry":') and found is not None and found[1] == ERRORS:
            found = None
    if found is None:
        raise InputError(f"no row {row_id!r} has ended in {folder}; take an id from its {OUTPUT}")
    return found


def _calls(folder: Path, line: int) -> dict[str, Outcome]:
    """Results of the row's calls; those from before its errors were to be run again are void."""
    head, calls, has_failed = b'{"call":%d,' % line, dict[str, Outcome](), False
    tail = b'{"end":%d,' % line
    for offset, raw in _journal(folder):
        if raw.startswith(head):
            try:
                call_id, outcome = read_call(raw)
            except ValueError:
                raise damaged(folder / JOURNAL, offset) from None
            calls[call_id] = outcome
        elif raw.startswith(tail):
            has_failed = b'"to":"%s"' % ERRORS.encode() in raw
        elif raw.startswith(b'{"retry":') and has_failed:
            calls, has_failed = {}, False
    return calls


def _journal(folder: Path) -> Iterator[tuple[int, bytes]]:
    """Place and bytes of each whole line."""
    path, place = folder / JOURNAL, 0
    if not path.exists():
        raise InputError(f"{folder} has no {JOURNAL}; without it no row can be replayed")
    with open(path, "rb", buffering=1 << 20) as handle:
        for raw in handle:
            if not raw.endswith(b"\n"):
                return
            yield place, raw
            place += len(raw)


def _record(path: Path, end_at: int, row_id: str) -> Mapping[str, Any]:
    """The line of a file that ends at the byte `end_at`."""
    step, place = 1 << 16, end_at - 1
    pieces: list[bytes] = []
    try:
        with open(path, "rb") as handle:
            while place > 0:
                begin = max(0, place - step)
                handle.seek(begin)
                _, newline, rest = handle.read(place - begin).rpartition(b"\n")
                pieces.append(rest)
                place = 0 if newline else begin
        record = orjson.loads(b"".join(reversed(pieces)))
        known = record["custom_id"] == row_id
    except (OSError, ValueError, KeyError, TypeError):
        known = False
    if not known:
        raise InputError(f"{path} is not as the run left it; put it back to replay its rows")
    return dict(record)


def _sampling(data: Mapping[str, Any]) -> Sampling:
    return Sampling(**{**data, "stop": tuple(data["stop"])})
