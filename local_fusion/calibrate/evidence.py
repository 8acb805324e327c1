"""The evidence of a change as plain data, and as a page to read: what was tried, by which figures it was chosen."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import asdict
from typing import Any

from local_fusion.calibrate.bench import Trial
from local_fusion.calibrate.calibration import Calibrated, Order
from local_fusion.calibrate.steps import Step, Tried, percent, points
from local_fusion.calibrate.yaml_text import plain_settings, rendered
from local_fusion.config.schema import FusionSettings

_DIGITS = 6
SHORT = 40
"""Characters of a name that a table's head has room for."""


def evidence_of(
    order: Order, found: Calibrated, versions: Mapping[str, str], kinds: str | None = None
) -> dict[str, Any]:
    """Everything that was measured, as JSON can hold it; shares of 1, seconds. `kinds`: path of the table of kinds."""
    space = order.space
    body = {
        "action": "calibrate",
        "fusion": space.name,
        "changes": found.changes,
        "why": found.why,
        "set": order.items.name,
        "set_sha256": order.items.digest,
        "items": {"fit": found.fit_items, "held_out": len(found.old.scores)},
        "seed": order.seed,
        "grader": order.grader,
        "before": plain_settings(space.present),
        "after": plain_settings(found.settings.model_copy(update={"kinds": kinds if found.table else None})),
        "held_out": {
            "before": _trial(found.old),
            "after": _trial(found.new),
            "gain": asdict(found.gain),
            "unit": found.unit,
        },
        "calls": found.calls,
        "seconds": found.seconds,
        "notes": list(found.notes),
        "steps": [asdict(step) for step in found.steps],
        "kinds": found.table.model_dump(mode="json", include={"version", "least"}) if found.table else None,
        "weights": dict(space.own.digests),
        "templates": f"{space.own.prompts.name}:{space.own.prompts.digest}",
        "versions": dict(versions),
    }
    rounded: dict[str, Any] = _rounded(body)
    return rounded


def page_of(evidence: Mapping[str, Any], steps: Sequence[Step]) -> str:
    """The same in Markdown."""
    return "\n".join(_lines(evidence, steps)) + "\n"


def changes_of(before: FusionSettings, after: FusionSettings) -> list[tuple[str, str, str]]:
    """Key, old and new value of each setting that differs."""
    return changed_keys(plain_settings(before), plain_settings(after))


def changed_keys(before: Mapping[str, Any], after: Mapping[str, Any]) -> list[tuple[str, str, str]]:
    """The same of settings as plain data; a default is called so."""
    keys = dict.fromkeys([*before, *after])
    return [(key, _value(before, key), _value(after, key)) for key in keys if before.get(key) != after.get(key)]


def _lines(evidence: Mapping[str, Any], steps: Sequence[Step]) -> Iterator[str]:
    verb = "changed" if evidence["changes"] else "not changed"
    yield f"# Fusion {evidence['fusion']}: {verb}"
    yield ""
    yield f"In short: {evidence['why']}."
    yield ""
    if changed := changed_keys(evidence["before"], evidence["after"]):
        yield from _table(("setting", "before", "after" if evidence["changes"] else "tried"), changed)
    if "held_out" in evidence:
        yield from _measured(evidence)
    for note in evidence["notes"]:
        yield f"- {note}."
    for step in steps:
        yield from _step(step, evidence.get("unit") or evidence.get("held_out", {}).get("unit", "tokens"))


def _measured(evidence: Mapping[str, Any]) -> Iterator[str]:
    items, held = evidence["items"], evidence["held_out"]
    yield f"Set {evidence['set']}: {items['fit']} items to choose on, {items['held_out']} kept back for the comparison."
    yield f"{evidence['calls']:,} engine calls in {evidence['seconds']:,.0f} s; the rest was recalled or replayed."
    yield "Intervals are at 95 %: Wilson's of shares of right answers, else bootstraps; differences are paired by item."
    yield ""
    rows = []
    for name in ("before", "after"):
        one = held[name]
        rows.append((name, _interval(one["accuracy"]), f"{one['effort']:,.4g}"))
    yield from _table(("items kept back", "right", f"{held['unit']} an answer"), rows)


def _step(step: Step, unit: str) -> Iterator[str]:
    yield f"## {step.question}"
    yield ""
    rows = []
    for tried in sorted(step.tried, key=lambda one: one.name != step.reference):
        rows.append((_name(tried), _interval(asdict(tried.accuracy)), _against(tried), f"{tried.effort:,.4g}"))
    against = f"against {step.reference}" if len(step.reference) <= SHORT else "against the first"
    yield from _table(("", "right", against, f"{unit} an answer"), rows)
    yield f"So: {step.why}."
    yield ""


def _name(tried: Tried) -> str:
    return f"**{tried.name}**" if tried.chosen else tried.name


def _against(tried: Tried) -> str:
    return points(tried.against) if tried.against is not None else ""


def _interval(found: Mapping[str, float]) -> str:
    return f"{percent(found['value'])} ({100 * found['low']:.1f} to {100 * found['high']:.1f})"


def _table(head: Sequence[str], rows: Sequence[Sequence[str]]) -> Iterator[str]:
    yield "| " + " | ".join(head) + " |"
    yield "|" + "---|" * len(head)
    for row in rows:
        yield "| " + " | ".join(cell.replace("|", "\\|").replace("\n", " ") for cell in row) + " |"
    yield ""


def _value(settings: Mapping[str, Any], key: str) -> str:
    return rendered(settings[key]) if key in settings else "default"


def _trial(trial: Trial) -> dict[str, Any]:
    ungraded = sum(score is None for score in trial.scores)
    return {
        "accuracy": asdict(trial.accuracy),
        "ungraded": ungraded,
        "effort": trial.cost,
        "scores": list(trial.scores),
    }


def _rounded(value: Any) -> Any:
    if isinstance(value, float):
        return round(value, _DIGITS)
    if isinstance(value, dict):
        return {key: _rounded(entry) for key, entry in value.items()}
    if isinstance(value, list | tuple):
        return [_rounded(entry) for entry in value]
    return value
