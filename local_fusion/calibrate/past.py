"""What was already asked and answered: rows of batch folders and receipts of a server, with what is known of them.

Reads only; of a run's output only what its journal vouches for. Nothing of a prompt gets into a message.
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from itertools import islice
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
_KIND = re.compile(rf"^{BY_KIND}.*table \d+\): ", re.DOTALL)
_CERTAIN = re.compile(r"is certain \(.*so no one else was asked")
_NO_VOTE = "the answers have no common value to vote on"
_JUDGES = ("pick", "pair", "fold", "analyse", "guard")
_NOT_ITS_FAULT = ("straggler", "aborted")
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


@dataclass(frozen=True, slots=True)
class Missed:
    """A sample of a member that came to nothing. `failed`: by itself; else it was stopped before it was done."""

    model: str
    sample: int
    failed: bool


@dataclass(frozen=True)
class PastPrompt:
    """One answered prompt. `ids`: by which feedback may name it; `mode`, `panel`: how it was asked for; `picked`: the
    judge's choice among these answers alone; `rest`: tokens and GPU-seconds beside the panel's, `reads` those of the
    choice.

    `fusion`, `judge`: None where not told; `writers`: those that wrote; `short`: not everyone had to answer to the end.
    """

    ids: tuple[str, ...]
    question: str
    mode: str
    panel: tuple[str, ...]
    text: str
    answers: tuple[PastAnswer, ...]
    picked: str | None
    rest: tuple[float, float]
    reads: tuple[float, float]
    fusion: str | None = None
    judge: str | None = None
    writers: tuple[str, ...] = ()
    missed: tuple[Missed, ...] = ()
    short: bool = False


def read_prompts(places: Sequence[Path]) -> list[PastPrompt]:
    """Everything found in batch folders, a server's state folder, its receipts, or single files of those; at most
    MOST_PROMPTS. A place named twice tells nothing twice.

    Raises InputError for a place that is none of these.
    """
    found: list[PastPrompt] = []
    for place in dict.fromkeys(place.resolve() for place in places):
        found += _filled(list(islice(_prompts(place), MOST_PROMPTS - len(found))))
    return found


def _filled(prompts: list[PastPrompt]) -> list[PastPrompt]:
    """What a receipt leaves open is as in the one before it of the same fusion; at the beginning, after it.

    Whether anyone judged, and who was not waited for, comes of the answers: prompts must not be told apart by it.
    """
    return _as_before(_as_before(prompts)[::-1])[::-1]


def _as_before(prompts: Iterable[PastPrompt]) -> list[PastPrompt]:
    found, last = list[PastPrompt](), dict[tuple[str | None, str], PastPrompt]()
    for prompt in prompts:
        before = last.get((prompt.fusion, prompt.mode))
        if before is not None:
            panel = before.panel if prompt.short and set(prompt.panel) < set(before.panel) else prompt.panel
            judge, writers = prompt.judge or before.judge, prompt.writers or before.writers
            prompt = replace(prompt, panel=panel, judge=judge, writers=writers)
        last[prompt.fusion, prompt.mode] = prompt
        found.append(prompt)
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
            prompt = _prompt((line["id"],), said[-1] if said else None, receipt, line["text"])
        except (ValueError, KeyError, TypeError):
            continue
        if prompt is not None:
            yield prompt


def _prompt(
    ids: tuple[str, ...], question: str | None, receipt: Mapping[str, Any], text: str, mode: str | None = None
) -> PastPrompt | None:
    """None where it is not known what was asked, or nobody on the panel answered. `mode`: of the run."""
    first = [one for one in receipt["responses"] if not one.get("round")]
    if not question or not first:
        return None
    calls = {(call["model"], call["sample"]): call for call in receipt["calls"] if call["stage"] == "panel"}
    answers = [_answer(one, calls.get((one["model"], one["sample"]), {})) for one in first]
    missed = [_missed(one) for one in receipt["failed_models"] if one["stage"] == "panel"]
    choice = receipt.get("choice")
    others = [call for call in receipt["calls"] if call["stage"] != "panel"]
    return PastPrompt(
        ids=ids,
        question=question,
        mode=_mode(receipt) if mode is None or receipt["why"].startswith(BY_KIND) else mode,
        panel=tuple(dict.fromkeys([*(one.model for one in answers), *(one.model for one in missed)])),
        text=text,
        answers=tuple(answers),
        picked=first[choice["winner"]]["content"] if choice is not None and first == receipt["responses"] else None,
        rest=_effort(others),
        reads=_effort([call for call in others if call["stage"] in ("pick", "pair")]),
        fusion=receipt.get("fusion"),
        judge=next((call["model"] for call in others if call["stage"] in _JUDGES), None),
        writers=tuple(dict.fromkeys(call["model"] for call in others if call["stage"] == "write")),
        missed=tuple(missed),
        short=bool(receipt.get("early_exit")) or _CERTAIN.search(receipt["why"]) is not None,
    )


def _mode(receipt: Mapping[str, Any]) -> str:
    """The mode that was asked for, whatever it came to: a vote without a common value is a vote too."""
    why = _KIND.sub("", receipt["why"])
    if why.startswith(_NO_VOTE):
        return "vote"
    return "auto" if why.startswith("auto: ") and not why.startswith(BY_KIND) else str(receipt["mode"])


def _missed(one: Mapping[str, Any]) -> Missed:
    return Missed(one["model"], one.get("sample", 0), one.get("reason") not in _NOT_ITS_FAULT)


def _answer(one: Mapping[str, Any], call: Mapping[str, Any]) -> PastAnswer:
    tokens, gpu_s = _effort([call] if call else [])
    return PastAnswer(
        one["model"], one["content"], one.get("certainty"), tokens, gpu_s, one["sample"], bool(one.get("cut"))
    )


def _effort(calls: Sequence[Mapping[str, Any]]) -> tuple[float, float]:
    tokens = sum(call["prompt_tokens"] + call["completion_tokens"] for call in calls)
    return float(tokens), float(sum(call["gpu_s"] for call in calls))
