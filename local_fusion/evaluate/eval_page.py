"""The report of an evaluation: one HTML file on the frame of `report/`, for a reader who was not there."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

from local_fusion.batch.files import write_atomically
from local_fusion.evaluate.eval_charts import calibration_chart, frontier_chart
from local_fusion.evaluate.intervals import Interval
from local_fusion.evaluate.items import Grade, Item, Said
from local_fusion.evaluate.measure import ArmResult, Results
from local_fusion.evaluate.panel_study import Study
from local_fusion.evaluate.runner import Evaluated
from local_fusion.evaluate.written import REPORT, expected_text
from local_fusion.report import charts
from local_fusion.report.page import (
    BrowserRow,
    Group,
    Html,
    Part,
    browser,
    cards,
    joined,
    page,
    paragraph,
    section,
    table,
)

MOST_ROWS = 2_000
MOST_CHARS = 30_000_000
"""Items in the page's list and characters of their texts at most; all are in items.jsonl."""
_TEXT_CHARS = 4_000
LINKS = {
    "arms": "Arms",
    "frontier": "Accuracy and cost",
    "kinds": "Kinds",
    "calibration": "Calibration",
    "agreement": "Agreement",
    "about": "How it was measured",
    "rows": "Items",
}


def write_page(folder: Path, about: Mapping[str, Any], results: Results, study: Study, evaluated: Evaluated) -> Path:
    """Write `report.html`; `about` as in results.json. Raises RunError."""
    path = folder / REPORT
    write_atomically(path, eval_page(about, results, study, evaluated))
    return path


def eval_page(about: Mapping[str, Any], results: Results, study: Study, evaluated: Evaluated) -> bytes:
    """The whole page."""
    rows = list(_rows(results, study, evaluated))
    body = joined(
        *(paragraph(warning, "warning") for warning in results.warnings),
        _figures(results),
        section("Arms", *_arms(results), ident="arms"),
        section(
            f"Accuracy against {results.effort}",
            paragraph("Upright lines are 95 % intervals. The dashed line joins arms that no other beats on both."),
            frontier_chart(results),
            ident="frontier",
        ),
        *_kinds(results),
        Html('<div class="pair">'),
        section("Calibration of members", *_calibration(study), ident="calibration"),
        section("Agreement of members", *_agreement(study), ident="agreement"),
        Html("</div>"),
        section("How it was measured", *_about(about, results), ident="about"),
        browser("Items", _word(len(rows), len(evaluated.items))),
    )
    title = f"{about['set']}: {about['fusion']}"
    lead = f"{len(results.counted):,} items, {len(results.arms)} arms, every arm over the same panel answers"
    links = {ident: name for ident, name in LINKS.items() if ident != "kinds" or results.kinds}
    return page(title, lead, body, rows, links)


def _figures(results: Results) -> Html:
    entries = []
    if results.main:
        main = results.arm(results.main)
        entries.append((results.main, _percent(main.accuracy.value), _span(main.accuracy)))
        if main.gain is not None:
            entries.append(("over the best member", _points(main.gain.value), _signed_span(main.gain)))
    best = results.arm(results.hindsight)
    entries.append(("best member", _percent(best.accuracy.value), best.name))
    for arm in results.arms:
        if arm.kind == "oracle":
            entries.append(("oracle", _percent(arm.accuracy.value), "a perfect choice among the panel"))
    if results.least is not None:
        entries.append(("can be told apart", f"{100 * results.least:.1f} points", "power 80 %, level 5 %"))
    return cards(entries)


def _arms(results: Results) -> tuple[Html, ...]:
    priced = any(arm.cost is not None for arm in results.arms)
    timed = any(arm.gpu_s for arm in results.arms)
    columns = ["arm", "", "accuracy", "95 %", "gain", "95 %", "tokens/answer", "seconds", "failed"]
    columns += ["GPU-seconds"] * timed + ["cost of 1,000"] * priced
    rows = [_line(arm, len(results.counted), timed, priced) for arm in results.arms]
    halves = " and ".join(dict.fromkeys(results.halves))
    word = (
        f"Gain: over the best member alone, item by item. Which member that is ({halves}) is read on the other half of "
        f"the items; against {results.hindsight}, the best in hindsight, the gains are in results.json. Seconds: "
        "median of the answers given (failed items have no part in it), the slowest call of each stage and "
        "round, one after the other, as measured under this run's load. Self-samples are as many answers as the panel "
        "gives, or as many as the fusion's tokens pay for (self-equal); the column of tokens says what that comes to."
    )
    return table(columns, rows, words=(0, 1)), paragraph(word)


def _line(arm: ArmResult, count: int, timed: bool, priced: bool) -> list[object]:
    free = arm.kind == "oracle"
    tokens = (arm.tokens.prompt + arm.tokens.completion) / count
    cells: list[object] = [
        arm.name + (" ◆" if arm.frontier else ""),
        arm.about,
        _percent(arm.accuracy.value),
        _span(arm.accuracy),
        "" if arm.gain is None else _points(arm.gain.value),
        "" if arm.gain is None else _signed_span(arm.gain),
        "" if free else f"{tokens:,.0f}",
        "" if free or arm.seconds is None else f"{arm.seconds:.2f}",
        "" if free else f"{arm.failed:,}",
    ]
    if timed:
        cells.append(f"{arm.gpu_s:,.1f}" if arm.gpu_s else "")
    if priced:
        cells.append("" if arm.cost is None else f"{arm.cost:,.4g}")
    return cells


def _kinds(results: Results) -> tuple[Html, ...]:
    if not results.kinds:
        return ()
    columns = ("arm", *(kind or "(none)" for kind in results.kinds))
    rows = [
        (arm.name, *(f"{100 * scores[arm.name]:.0f} %" for scores in results.kinds.values())) for arm in results.arms
    ]
    return (section("Accuracy by kind of item", table(columns, rows), ident="kinds"),)


def _calibration(study: Study) -> tuple[Html, ...]:
    if not study.calibration:
        return (paragraph("No certainty was told, or no answer of the panel was graded by itself."),)
    word = "Answers of a member in groups of like certainty (exp of the mean token log-probability)."
    return paragraph(word), calibration_chart(study.calibration)


def _agreement(study: Study) -> tuple[Html, ...]:
    if len(study.models) < 2:
        return (paragraph("The panel has one member."),)

    def cell(one: str, other: str) -> tuple[float, str, str] | None:
        share = study.agreement[study.models.index(one)][study.models.index(other)]
        return None if share is None else (share, _percent(share), "")

    caption = "How often two members' first answers come to the same value, or are the same text"
    told = f"On {sum(study.disagreed):,} of {len(study.disagreed):,} items not all members say the same."
    return charts.heat(study.models, cell, caption), paragraph(told)


def _about(about: Mapping[str, Any], results: Results) -> tuple[Html, ...]:
    rows = [(name.replace("_", " "), _plain(value)) for name, value in about.items() if value]
    rows.append(("items counted", f"{len(results.counted):,} of {results.total:,}"))
    return (table(("", ""), rows, words=(0, 1)),)


def _plain(value: Any) -> str:
    if isinstance(value, Mapping):
        return ", ".join(f"{key} {entry}" for key, entry in value.items())
    return ", ".join(map(str, value)) if isinstance(value, list | tuple) else str(value)


def _word(listed: int, total: int) -> str:
    more = "" if listed == total else f" The first {listed:,} of {total:,}; all are in items.jsonl."
    return f"Every item with the panel's answers and what each arm returned.{more}"


def _rows(results: Results, study: Study, evaluated: Evaluated) -> Iterator[BrowserRow]:
    left = MOST_CHARS
    for place, item in enumerate(evaluated.items[:MOST_ROWS]):
        groups = tuple(_groups(place, item, evaluated))
        left -= sum(len(part.text) + len(part.meta) for group in groups for part in group.parts)
        if left < 0:
            return
        tags = tuple(tags_of(place, results, study, evaluated))
        yield BrowserRow(item.id, _cut(item.question, 160), tags, groups)


def tags_of(place: int, results: Results, study: Study, evaluated: Evaluated) -> Iterator[str]:
    """What an item can be filtered by: right, wrong, fusion lost or won, members disagreed, guard acted, …"""
    item = evaluated.items[place]
    if results.main:
        main = evaluated.arm(results.main)
        grade, said = main.grades[place], main.said[place]
        alone = evaluated.arm(evaluated.best[place]).grades[place]
        if grade.score is None:
            yield "not graded"
        else:
            yield "right" if grade.right else "wrong"
            if alone.score is not None and grade.score != alone.score:
                yield "fusion lost" if grade.score < alone.score else "fusion won"
        if said.failure:
            yield "failed"
    if study.disagreed[place]:
        yield "members disagreed"
    verdicts = [one.said[place].verdict for one in evaluated.arms]
    if any(verdict is not None and verdict.kept == "answer" for verdict in verdicts):
        yield "guard acted"
    if all(one.grades[place].score == 0 for one in evaluated.arms):
        yield "nobody right"
    if item.kind:
        yield item.kind


def _groups(place: int, item: Item, evaluated: Evaluated) -> Iterator[Group]:
    asked = "\n\n".join(f"{turn.role}: {turn.content}" for turn in item.messages)
    asked = item.question if len(item.messages) == 1 else asked
    parts = [Part("asked", _cut("\n\n".join((asked, *item.then)))), Part("expected", _cut(expected_text(item)))]
    yield Group("Item", tuple(parts))
    panel = []
    for answer in evaluated.panel[place]:
        name = answer.model if not answer.sample else f"{answer.model} #{answer.sample}"
        certain = "" if answer.certainty is None else f"certain {answer.certainty:.2f}; "
        panel.append(Part(name, _cut(answer.text), certain + answer.grade.why, _mark(answer.grade)))
    yield Group("Panel", tuple(panel) or (Part("nobody", "", "no member answered"),))
    arms = [
        _part(one.arm.name, one.said[place], one.grades[place])
        for one in evaluated.arms
        if one.arm.kind not in ("member", "oracle") or item.then
    ]
    yield Group("Arms", tuple(arms))


def _part(name: str, said: Said, grade: Grade) -> Part:
    told = [grade.why, f"in the words of {said.model}" if said.model else "", said.why]
    if said.verdict is not None:
        told.append(f"guard kept the {said.verdict.kept} ({said.verdict.margin:+.2f})")
    text = "\n\n———\n\n".join(said.texts)
    return Part(name, _cut(text), "; ".join(word for word in told if word), _mark(grade))


def _mark(grade: Grade) -> str:
    return "" if grade.score is None else "good" if grade.right else "bad"


def _cut(text: str, most: int = _TEXT_CHARS) -> str:
    return text if len(text) <= most else f"{text[:most]}… ({len(text) - most:,} more characters)"


def _percent(share: float) -> str:
    return f"{100 * share:.1f} %"


def _points(value: float) -> str:
    return f"{100 * value:+.1f}"


def _span(interval: Interval) -> str:
    return f"{100 * interval.low:.1f} to {100 * interval.high:.1f}"


def _signed_span(interval: Interval) -> str:
    return f"{100 * interval.low:+.1f} to {100 * interval.high:+.1f}"
