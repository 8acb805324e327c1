"""One record of a run as an entry of the list: what was asked, the panel side by side, the analysis, the answer."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from typing import Any

from local_fusion.report.page import BrowserRow, Group, Part

TEXT_CHARS = 6_000
"""Characters of one text shown at most; the whole of it stands in the run's folder."""
SPAN_CHARS = 28


def answered(record: Mapping[str, Any], line: int, prompt: str | None, agree: bool | None) -> BrowserRow:
    """A line of output.jsonl; `prompt` as `cut` left it. Raises KeyError or TypeError where it is none."""
    body = record["response"]["body"]
    fusion, choice = body["fusion"], body["choices"][0]
    tags = _tags(fusion, agree)
    groups = [_asked(prompt), _panel(fusion, choice["message"].get("content") or "")]
    if fusion.get("analysis"):
        groups.append(Group("Analysis", _analysis(fusion["analysis"])))
    groups.append(Group("Final answer", (_final(fusion, choice),)))
    groups.append(Group("How it came about", (_receipt(body, fusion),)))
    note = f"line {line} · {fusion['mode']} · {fusion['writer']} · {fusion['seconds']:.2f} s"
    return BrowserRow(record["custom_id"], note, tags, tuple(group for group in groups if group.parts))


def failed(record: Mapping[str, Any], line: int, prompt: str | None) -> BrowserRow:
    """A line of errors.jsonl. Raises KeyError or TypeError where it is none."""
    response = record["response"]
    error = response["body"]["error"] if response else record["error"]
    groups = [_asked(prompt), Group("Error", (Part(error["code"], cut(error["message"]), mark="bad"),))]
    members = response["body"].get("fusion", {}).get("failed_models", []) if response else []
    if members:
        groups.append(Group("Members that failed", tuple(map(_failure, members))))
    note = f"line {line} · {error['code']}"
    return BrowserRow(record["custom_id"], note, ("failed",), tuple(group for group in groups if group.parts))


def under_way(row_id: str, line: int, prompt: str | None, calls: Sequence[tuple[str, Mapping[str, Any]]]) -> BrowserRow:
    """A row that has not ended; `calls`: (stage, call record) of what is known of it so far."""
    parts = []
    for stage, record in calls:
        if "completion" in record:
            said = record["completion"]
            parts.append(Part(said["model"], cut(said["text"] or ""), f"{stage}, {_written(said['tokens'])}"))
        elif "error" in record:
            parts.append(Part(stage, cut(record["error"]["message"]), record["error"]["reason"], "bad"))
    groups = (_asked(prompt), Group("Calls that have ended", tuple(parts)))
    note = f"line {line} · {len(calls)} calls ended"
    return BrowserRow(row_id, note, ("not ended",), tuple(group for group in groups if group.parts))


def size_of(row: BrowserRow) -> int:
    """Characters of an entry, about."""
    return 200 + sum(len(part.text) + len(part.meta) + 60 for group in row.groups for part in group.parts)


def _tags(fusion: Mapping[str, Any], agree: bool | None) -> tuple[str, ...]:
    verdict = fusion.get("verdict")
    marks = {
        "guard kept an answer": verdict is not None and verdict["kept"] == "answer",
        "written answer kept": verdict is not None and verdict["kept"] == "written",
        "early exit": fusion["early_exit"],
        "degraded": bool(fusion["degraded"]),
        "member failed": bool(fusion["failed_models"]),
        "changed minds": bool(fusion["changed_minds"]),
        "members disagree": agree is False,
        "members agree": agree is True,
    }
    return tuple(name for name, is_so in marks.items() if is_so)


def _asked(prompt: str | None) -> Group:
    return Group("Asked", (Part("prompt", prompt),) if prompt is not None else ())


def _panel(fusion: Mapping[str, Any], final: str) -> Group:
    parts = []
    for one in fusion["responses"]:
        facts = [f"sample {one['sample']}"] if one["sample"] else []
        facts += [f"round {one['round']}"] if one.get("round") else []
        facts += [f"certainty {one['certainty']:.2f}"] if one.get("certainty") is not None else []
        facts += ["cut"] if one.get("cut") else []
        facts += ["with reasoning"] if one.get("reasoning") else []
        text = one["content"] + (f"\n\n[reasoning]\n{one['reasoning']}" if one.get("reasoning") else "")
        parts.append(Part(one["model"], cut(text), ", ".join(facts), "chosen" if one["content"] == final else ""))
    parts += [_failure(one) for one in fusion["failed_models"]]
    return Group("Panel", tuple(parts))


def _failure(one: Mapping[str, Any]) -> Part:
    return Part(one["model"], cut(one["error"]), f"{one['reason']} ({one['stage']})", "bad")


def _analysis(analysis: Mapping[str, Any]) -> tuple[Part, ...]:
    lists = {
        "consensus": list(analysis["consensus"]),
        "contradictions": [
            f"{one['topic']}\n" + "\n".join(f"    {stance['model']}: {stance['stance']}" for stance in one["stances"])
            for one in analysis["contradictions"]
        ],
        "partial coverage": [f"{', '.join(one['models'])}: {one['point']}" for one in analysis["partial_coverage"]],
        "unique insights": [f"{one['model']}: {one['insight']}" for one in analysis["unique_insights"]],
        "blind spots": list(analysis["blind_spots"]),
    }
    return tuple(Part(name, cut("\n".join(f"• {entry}" for entry in said))) for name, said in lists.items() if said)


def _final(fusion: Mapping[str, Any], choice: Mapping[str, Any]) -> Part:
    message = choice["message"]
    text = message.get("content") or ""
    for call in message.get("tool_calls") or ():
        text += f"\n{call['function']['name']}({call['function']['arguments']})"
    verdict = fusion.get("verdict")
    facts = [f"ended by {choice['finish_reason']}"]
    if verdict is not None:
        kept = "what was written" if verdict["kept"] == "written" else f"the answer of {verdict['against']}"
        facts.append(f"the guard kept {kept} (margin {verdict['margin']:+.2f})")
    return Part(fusion["writer"], cut(text.strip("\n")), ", ".join(facts), "good")


def _receipt(body: Mapping[str, Any], fusion: Mapping[str, Any]) -> Part:
    """Why, and a line per call: when it was under way, how long, and its tokens."""
    lines = [fusion["why"], *(f"degraded: {phrase}" for phrase in fusion["degraded"]), *fusion["notes"], ""]
    longest = max((len(call["model"]) for call in fusion["calls"]), default=0)
    for call in fusion["calls"]:
        lines.append(
            f"{call['stage']:<8} {call['model']:<{longest}} {_span(call, fusion['seconds'])} {call['total_s']:>8.3f} s "
            f"{call['prompt_tokens']:>6} read {call['cached_tokens']:>6} cached {call['completion_tokens']:>5} written"
        )
    usage = body["usage"]
    meta = f"{usage['prompt_tokens']:,} prompt tokens, {usage['completion_tokens']:,} written, seed {fusion['seed']}"
    return Part(fusion["mode"], cut("\n".join(lines)), meta, "calls")


def _span(call: Mapping[str, Any], seconds: float) -> str:
    """The call's place in the time of its row, drawn with characters."""
    if call.get("ended_s") is None or not seconds:
        return " " * SPAN_CHARS
    ended, total = float(call["ended_s"]), float(call["total_s"])
    end = min(SPAN_CHARS, max(1, math.ceil(SPAN_CHARS * ended / seconds)))
    begin = max(0, min(end - 1, int(SPAN_CHARS * (ended - total) / seconds)))
    return "·" * begin + "█" * (end - begin) + "·" * (SPAN_CHARS - end)


def _written(tokens: Mapping[str, int]) -> str:
    return f"{tokens['completion']} tokens written"


def cut(text: str) -> str:
    """As much of a text as the page shows, and how much more there is."""
    if len(text) <= TEXT_CHARS:
        return text
    return f"{text[:TEXT_CHARS]}\n… {len(text) - TEXT_CHARS:,} more characters in the run's folder"
