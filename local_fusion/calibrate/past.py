"""What was already asked and answered: rows of batch folders and receipts of a server, with what is known of them.

Reads only; of a run's output only what its journal vouches for. Nothing of a prompt gets into a message.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import orjson

from local_fusion.batch.lines import digest_file, read_lines
from local_fusion.batch.past import OUTPUT, read_past
from local_fusion.batch.rows import BadRow, Terms, read_row
from local_fusion.errors import InputError
from local_fusion.types import Sampling

RUN, RECEIPTS = "run.json", "receipts"
BY_KIND = "auto: a prompt of "
MOST_PROMPTS = 50_000


@dataclass(frozen=True, slots=True)
class PastAnswer:
    """What a member said first. `certainty`: None where the engine told none; `tokens`, `gpu_s`: of that call; `cut`:
    stopped by its limit of tokens."""

    model: str
    text: str
    certainty: float | None
    tokens: float
    gpu_s: float
    sample: int = 0
    cut: bool = False


@dataclass(frozen=True)
class PastPrompt:
    """One answered prompt. `ids`: by which feedback may name it; `mode`, `panel`: how it was answered; `picked`: the
    judge's choice among the answers; `rest`: tokens and GPU-seconds beside the panel's, `reads` those of the choice."""

    ids: tuple[str, ...]
    question: str
    mode: str
    panel: tuple[str, ...]
    text: str
    answers: tuple[PastAnswer, ...]
    picked: str | None
    rest: tuple[float, float]
    reads: tuple[float, float]


def read_prompts(places: Sequence[Path]) -> list[PastPrompt]:
    """Everything found in batch folders, a server's state folder, its receipts, or single files of those; at most
    MOST_PROMPTS. A place named twice tells nothing twice.

    Raises InputError for a place that is none of these.
    """
    found: list[PastPrompt] = []
    for place in dict.fromkeys(place.resolve() for place in places):
        for prompt in _prompts(place):
            found.append(prompt)
            if len(found) == MOST_PROMPTS:
                return found
    return found


def _prompts(place: Path) -> Iterator[PastPrompt]:
    if (place / RUN).is_file():
        yield from _of_run(place)
    elif place.is_file() and place.suffix == ".jsonl":
        yield from _of_receipts(place)
    elif place.is_dir():
        folder = place / RECEIPTS if (place / RECEIPTS).is_dir() else place
        days = sorted(folder.glob("*.jsonl"))
        if not days:
            raise InputError(f"{place} holds neither {RUN} of a batch nor receipts of a server; name such a folder")
        for day in days:
            yield from _of_receipts(day)
    else:
        raise InputError(f"there is no {place}; name the folder of a batch, or of a server's state")


def _of_run(folder: Path) -> Iterator[PastPrompt]:
    questions, mode = _questions(folder)
    vouched = read_past(folder).bytes_of[OUTPUT]
    if not vouched:
        return
    with open(folder / OUTPUT, "rb") as lines:
        for raw in lines:
            vouched -= len(raw)
            if vouched < 0:
                return
            try:
                record = orjson.loads(raw)
                body = record["response"]["body"]
                row, receipt = record["custom_id"], body["fusion"]
                text = body["choices"][0]["message"]["content"] or ""
                prompt = _prompt((row, body["id"]), questions.get(row), receipt, text, mode)
            except (ValueError, KeyError, TypeError, IndexError):
                continue
            if prompt is not None:
                yield prompt


def _questions(folder: Path) -> tuple[dict[str, str], str]:
    """What each row of the run asked, by id, and the mode it ran in."""
    try:
        run = orjson.loads((folder / RUN).read_bytes())
        path, digest, mode = Path(run["input"]["path"]), run["input"]["sha256"], str(run["mode"])
        terms = Terms(run["identity"]["fusion"], 0, Sampling(), path.name)
    except (OSError, ValueError, KeyError, TypeError):
        raise InputError(f"{folder / RUN} does not say how the run was made; leave it out") from None
    if not path.is_file() or digest_file(path) != digest:
        raise InputError(f"the input of {folder} ({path}) is gone or has changed; put it back to learn from its rows")
    found = {}
    for line, raw in read_lines(path):
        row = read_row(line, raw, terms)
        if not isinstance(row, BadRow):
            said = [turn.content for turn in row.request.messages if turn.role == "user"]
            found[row.id] = said[-1] if said else ""
    return found, mode


def _of_receipts(path: Path) -> Iterator[PastPrompt]:
    try:
        lines = path.read_bytes().splitlines()
    except OSError as problem:
        raise InputError(f"cannot read {path}: {problem.strerror}") from None
    for raw in lines:
        try:
            line = orjson.loads(raw)
            said = [turn["content"] for turn in line["messages"] if turn["role"] == "user"]
            receipt = line["receipt"]
            mode = "auto" if receipt["why"].startswith("auto") else receipt["mode"]
            prompt = _prompt((line["id"],), said[-1] if said else None, receipt, line["text"], mode)
        except (ValueError, KeyError, TypeError):
            continue
        if prompt is not None:
            yield prompt


def _prompt(
    ids: tuple[str, ...], question: str | None, receipt: Mapping[str, Any], text: str, mode: str
) -> PastPrompt | None:
    """None where it is not known what was asked, or nobody on the panel answered."""
    first = [one for one in receipt["responses"] if not one.get("round")]
    if not question or not first:
        return None
    calls = {(call["model"], call["sample"]): call for call in receipt["calls"] if call["stage"] == "panel"}
    answers = [_answer(one, calls.get((one["model"], one["sample"]), {})) for one in first]
    missed = [one["model"] for one in receipt["failed_models"] if one["stage"] == "panel"]
    choice = receipt.get("choice")
    picked = receipt["responses"][choice["winner"]]["content"] if choice is not None else None
    if receipt["why"].startswith(BY_KIND):
        mode = receipt["mode"]
    others = [call for call in receipt["calls"] if call["stage"] != "panel"]
    reads = [call for call in others if call["stage"] in ("pick", "pair")]
    panel = tuple(dict.fromkeys([*(one.model for one in answers), *missed]))
    return PastPrompt(ids, question, mode, panel, text, tuple(answers), picked, _effort(others), _effort(reads))


def _answer(one: Mapping[str, Any], call: Mapping[str, Any]) -> PastAnswer:
    tokens, gpu_s = _effort([call] if call else [])
    return PastAnswer(
        one["model"], one["content"], one.get("certainty"), tokens, gpu_s, one["sample"], bool(one.get("cut"))
    )


def _effort(calls: Sequence[Mapping[str, Any]]) -> tuple[float, float]:
    tokens = sum(call["prompt_tokens"] + call["completion_tokens"] for call in calls)
    return float(tokens), float(sum(call["gpu_s"] for call in calls))
