"""What is not the same when a row is run again, named: which call, which field, the first byte that differs.

Differences stand in the order of cause and effect: the first one is where the two runs parted. No text of a prompt or
an answer is in them.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any, get_args

import orjson

from local_fusion.batch.folder import later_versions
from local_fusion.batch.identity import differences, identity_of
from local_fusion.batch.options import BatchOptions
from local_fusion.batch.recorded import RecordedRow
from local_fusion.batch.records import Outcome, dump
from local_fusion.batch.replay import Replay
from local_fusion.errors import CallError, FusionError
from local_fusion.fusion.recipe import Recipe
from local_fusion.openai_api.reply import chat_completion
from local_fusion.types import Completion, Fused, LabelRead, Stage

_ORDER: tuple[str, ...] = ("panel", "fold", "layer", "revise", "analyse", "repair", "pick", "pair", "write", "guard")


@dataclass(frozen=True, slots=True)
class Difference:
    """`where`: a call or "the fused answer"; `field` of it; `told`: what of it is not the same."""

    where: str
    field: str
    told: str

    def __str__(self) -> str:
        return f"{self.where}: {self.field} {self.told}"


def compare(row: RecordedRow, again: Replay) -> list[Difference]:
    """Every difference, causes before effects; empty where all is equal, byte for byte.

    Compared are every call's text, reasoning, tool calls, end and tokens, every read of labels with its
    log-probabilities, the panel's answers, analysis, choice, verdict and the fused answer. Not
    compared: times, and how many prompt tokens the engine still had in its cache.
    """
    return [*_calls(row, again.calls), *_ending(row, again.result)]


def likely_causes(
    row: RecordedRow, recipe: Recipe, now: BatchOptions, versions: Mapping[str, str], result: Fused | FusionError
) -> list[str]:
    """What differs between the run and today beside the results: settings, templates, weights, versions."""
    before, today = dict(row.run["identity"]), identity_of(recipe, now)
    both = before["more"].keys() & today["more"].keys()  # a run from Python may not have noted its engine settings
    for identity in (before, today):
        identity["more"] = {name: value for name, value in identity["more"].items() if name in both}
    causes = [_setting(name) for name in differences(before, today)]
    for noted in (row.run.get("versions", {}), *later_versions(row.run)):
        causes += _differing("version of", noted, versions)
    if isinstance(result, Fused) and not row.failed:
        receipt = row.record["response"]["body"]["fusion"]
        causes += _differing("version of", receipt.get("versions", {}), result.receipt.versions)
        causes += _differing("weights of", receipt.get("digests", {}), result.receipt.digests)
    return list(dict.fromkeys(causes))


def _setting(name: str) -> str:
    head, _, rest = name.partition(".")
    if head == "more":
        return f"the engine settings of model {rest} in models.yaml are others"
    if head == "weights":
        return f"the digest of model {rest} in models.yaml is another"
    if head == "by_kind":
        return f"what is done for kind {rest.partition('.')[0] or '(none)'} is another ({rest.partition('.')[2]})"
    if head in ("templates", "kinds"):
        return "the templates are others" if head == "templates" else "the table of kinds is another"
    return f"{name} is another"


def _differing(what: str, before: Mapping[str, str], now: Mapping[str, str]) -> list[str]:
    return [
        f"{what} {name}: {before[name]} then, {now[name]} now"
        for name in before
        if name in now and before[name] != now[name]
    ]


def _calls(row: RecordedRow, made: Mapping[str, Outcome]) -> list[Difference]:
    recorded = row.calls
    seats = {call_id: _parts(call_id, outcome) for calls in (made, recorded) for call_id, outcome in calls.items()}
    names = {call_id: f"the {stage} call of {seat}" for call_id, (stage, seat) in seats.items()}
    found = []
    for call_id in sorted(seats, key=lambda call_id: _place(call_id, *seats[call_id])):
        where = names[call_id]
        if call_id not in made:
            others = [other for other in made if other not in recorded and names[other] == where]
            told = "is another: what it is built on differs" if others else "is recorded, but was not asked this time"
            found.append(Difference(where, "the question", told))
        elif call_id not in recorded:
            if not any(other not in made and names[other] == where for other in recorded):
                found.append(Difference(where, "the question", "was asked this time, but is not recorded"))
        else:
            found += _outcomes(where, recorded[call_id], made[call_id])
    return found


def _outcomes(where: str, before: Outcome, now: Outcome) -> list[Difference]:
    if isinstance(before, CallError) or isinstance(now, CallError):
        first, second = _end_of(before), _end_of(now)
        return [] if first == second else [Difference(where, "its end", f"was {first}, now {second}")]
    found = []
    if isinstance(before, Completion) and isinstance(now, Completion):
        for field in ("text", "reasoning"):
            told = first_difference(getattr(before, field), getattr(now, field))
            found += [Difference(where, field, told)] if told else []
        for field in ("tool_calls", "finish_reason"):
            if getattr(before, field) != getattr(now, field):
                found.append(Difference(where, field, "is not the same"))
    if isinstance(before, LabelRead) and isinstance(now, LabelRead):
        told = _reads(before.logprobs, now.logprobs)
        found += [Difference(where, "the read", told)] if told else []
    for field in ("prompt", "completion"):
        counts = getattr(before.tokens, field), getattr(now.tokens, field)
        if counts[0] != counts[1]:
            found.append(Difference(where, f"{field} tokens", f"were {counts[0]}, now {counts[1]}"))
    return found


def _reads(before: Sequence[float], now: Sequence[float]) -> str | None:
    """How two reads of labels part, in words; None where they are equal."""
    if tuple(before) == tuple(now):
        return None
    if len(before) != len(now):
        return f"was of {len(before)} labels, now of {len(now)}"
    first, second = (max(range(len(read)), key=lambda place: read[place]) for read in (before, now))
    if first != second:
        return f"prefers label {second + 1} now, and preferred label {first + 1} of {len(now)}"
    apart = max(abs(a - b) if a != b else 0.0 for a, b in zip(before, now, strict=True))
    return f"has other log-probabilities (up to {apart:.3g} apart), and prefers the same label"


def _end_of(outcome: Outcome) -> str:
    return f"a failure ({outcome.reason})" if isinstance(outcome, CallError) else "a result"


def _ending(row: RecordedRow, result: Fused | FusionError) -> list[Difference]:
    whole = "the fused answer"
    body = row.record["response"]["body"] if row.record["response"] else {}
    if row.failed or isinstance(result, FusionError):
        before = f"the error {body['error']['code']}" if row.failed else "an answer"
        now = f"the error {result.code}" if isinstance(result, FusionError) else "an answer"
        return [] if before == now else [Difference(whole, "the outcome", f"was {before}, now {now}")]
    now_body = chat_completion(result, 0)
    found = [*_answers(body["fusion"], now_body["fusion"]), *_judgements(body["fusion"], now_body["fusion"])]
    for field in ("content", "reasoning"):
        told = first_difference(_message(body).get(field), _message(now_body).get(field))
        found += [Difference(whole, "text" if field == "content" else field, told)] if told else []
    for field, then, today in (
        ("tool_calls", _message(body).get("tool_calls"), _message(now_body).get("tool_calls")),
        ("finish_reason", body["choices"][0]["finish_reason"], now_body["choices"][0]["finish_reason"]),
        ("writer", body["fusion"]["writer"], now_body["fusion"]["writer"]),
        ("mode", body["fusion"]["mode"], now_body["fusion"]["mode"]),
    ):
        if then != today:
            found.append(Difference(whole, field, "is not the same"))
    for field in ("prompt_tokens", "completion_tokens"):
        if body["usage"][field] != now_body["usage"][field]:
            told = f"were {body['usage'][field]}, now {now_body['usage'][field]}"
            found.append(Difference(whole, field.replace("_", " "), told))
    return found


def _answers(before: Mapping[str, Any], now: Mapping[str, Any]) -> list[Difference]:
    """Panel answers and failures by member, sample and round."""

    def by_seat(fusion: Mapping[str, Any]) -> dict[str, str]:
        seats = {_seat(one): one["content"] for one in fusion["responses"]}
        return seats | {_seat(one): f"failed: {one['reason']}" for one in fusion["failed_models"]}

    first, second = by_seat(before), by_seat(now)
    found = []
    for seat in dict.fromkeys([*first, *second]):
        told = first_difference(first.get(seat), second.get(seat))
        found += [Difference(f"the panel answer of {seat}", "text", told)] if told else []
    return found


def _judgements(before: Mapping[str, Any], now: Mapping[str, Any]) -> list[Difference]:
    """The analysis, how a winner was chosen and the guard's verdict, field by field."""
    found = []
    for name, where in (("analysis", "the analysis"), ("choice", "the choice"), ("verdict", "the guard's verdict")):
        then, today = _plain(before.get(name)), _plain(now.get(name))
        if then == today:
            continue
        if then is None or today is None:
            found.append(Difference("the fused answer", where, "is missing now" if today is None else "is new"))
            continue
        for field in dict.fromkeys([*then, *today]):
            if then.get(field) != today.get(field):
                found.append(Difference(where, field, _told(then.get(field), today.get(field))))
    return found


def _told(before: Any, now: Any) -> str:
    """Numbers as they are; of anything else only that it differs, for it may hold an answer's words."""
    if isinstance(before, int | float) and isinstance(now, int | float):
        return f"was {before:.6g}, now {now:.6g}"
    return "is not the same"


def _plain(value: Any) -> Any:
    """As it is read back from a file."""
    return orjson.loads(dump(value))


def _seat(one: Mapping[str, Any]) -> str:
    stage = f", {one['stage']}" if "stage" in one else ""
    return f"{one['model']}, sample {one.get('sample', 0)}, round {one.get('round', 0)}{stage}"


def first_difference(before: str | None, now: str | None) -> str | None:
    """Where two texts part, in words; None where they are equal."""
    if before == now:
        return None
    if before is None or now is None:
        return "is missing now" if now is None else "is there now, and was not"
    old, new = before.encode("utf-8", "replace"), now.encode("utf-8", "replace")
    at = next((place for place, pair in enumerate(zip(old, new, strict=False)) if pair[0] != pair[1]), None)
    at = min(len(old), len(new)) if at is None else at
    return f"differs from byte {at} on ({len(old)} bytes recorded, {len(new)} now)"


def _message(body: Mapping[str, Any]) -> Mapping[str, Any]:
    message: Mapping[str, Any] = body["choices"][0]["message"]
    return message


def _parts(call_id: str, outcome: Outcome) -> tuple[str, str]:
    """Stage, and member with sample; a member's name and a row's id may hold slashes, and be the name of a stage."""
    *pieces, sample, _ = call_id.split("/")
    model = "" if isinstance(outcome, CallError) else outcome.model
    head, found, _ = f"{'/'.join(pieces)}/".rpartition(f"/{model}/")
    if model and found and head.rpartition("/")[2] in get_args(Stage):
        return head.rpartition("/")[2], f"{model} sample {sample}"
    place = max((at for at, piece in enumerate(pieces[:-1]) if piece in get_args(Stage)), default=0)
    return pieces[place], f"{'/'.join(pieces[place + 1 :])} sample {sample}"


def _place(call_id: str, stage: str, seat: str) -> tuple[int, str, str]:
    return (_ORDER.index(stage) if stage in _ORDER else len(_ORDER), seat, call_id)
