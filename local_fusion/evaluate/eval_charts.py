"""Charts of an evaluation as SVG for the report's frame: accuracy against effort, certainty against accuracy."""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence

from local_fusion.evaluate.measure import ArmResult, Results
from local_fusion.evaluate.panel_study import Calibration
from local_fusion.report.charts import COLOURS, legend
from local_fusion.report.page import Html, escaped, joined

_WIDTH, _HEIGHT, _LEFT, _BELOW = 900, 400, 48, 44
_NARROW = 520
_KINDS = {"member": 9, "judge": 6, "self": 1, "fusion": 0, "oracle": 2}
_KIND_NAMES = (("f0", "fusion"), ("f9", "member alone"), ("f1", "self-samples"), ("f6", "judge alone"))


def frontier_chart(results: Results) -> Html:
    """Every arm that has an effort, with its interval; the line joins those that none is both cheaper and better."""
    arms = [arm for arm in results.arms if arm.effort is not None and arm.effort > 0]
    if not arms:
        return Html("")
    across = _log_scale([arm.effort or 1.0 for arm in arms])
    low = min(arm.accuracy.low for arm in results.arms)
    bottom = max(0.0, math.floor(10 * low) / 10)
    up = _scale(bottom, 1.0)
    drawn = [_grid(up, bottom), _efforts(across, arms), *_oracle_line(results, up)]
    best = sorted((arm for arm in arms if arm.frontier), key=lambda arm: arm.effort or 0.0)
    points = " ".join(f"{across(arm.effort or 1.0):.1f},{up(arm.accuracy.value):.1f}" for arm in best)
    drawn.append(
        f'<polyline points="{points}" fill="none" stroke="currentColor" stroke-opacity="0.45" stroke-width="1.5" '
        'stroke-dasharray="5 4"/>'
    )
    spots = [(across(arm.effort or 1.0), up(arm.accuracy.value)) for arm in arms]
    taken: list[_Box] = [(x - 7, y - 7, x + 7, y + 7) for x, y in spots]
    for arm in sorted(arms, key=lambda arm: (arm.name != results.main, -arm.accuracy.value)):
        drawn.append(_point(arm, across(arm.effort or 1.0), up, arm.name == results.main, taken))
    label = f"Accuracy of each arm against {results.effort}, with the frontier"
    told = _text(_WIDTH / 2, _HEIGHT - 4, f"{results.effort} (log scale)")
    there = {f"f{_KINDS[arm.kind]}" for arm in arms}
    return joined(_svg(label, [*drawn, told]), legend([entry for entry in _KIND_NAMES if entry[0] in there]))


def calibration_chart(calibration: Sequence[Calibration]) -> Html:
    """Accuracy of answers of like certainty, a line per member; the diagonal is a member that knows what it knows."""
    if not calibration:
        return Html("")

    def across(value: float) -> float:
        return _LEFT + (_NARROW - _LEFT - 24) * value

    up = _scale(0.0, 1.0)
    drawn = [_grid(up, 0.0, _NARROW)]
    drawn.append(
        f'<path d="M{across(0):.0f} {up(0):.0f}L{across(1):.0f} {up(1):.0f}" fill="none" stroke="currentColor" '
        'stroke-opacity="0.3" stroke-dasharray="3 4"/>'
    )
    for value in (0.0, 0.2, 0.4, 0.6, 0.8, 1.0):
        drawn.append(_text(across(value), _HEIGHT - _BELOW + 16, f"{100 * value:.0f} %"))
    names = []
    for place, one in enumerate(calibration):
        kind = f"f{place % COLOURS}"
        places = [(across(bar.certainty), up(bar.accuracy), bar) for bar in one.bins]
        path = "L".join(f"{x:.1f} {y:.1f}" for x, y, _ in places)
        drawn.append(f'<path d="M{path}" fill="none" stroke="currentColor" stroke-opacity="0.25"/>')
        for x, y, bar in places:
            told = f"{one.model}: certain {bar.certainty:.2f}, right {bar.accuracy:.2f}, {bar.count} answers"
            drawn.append(f'<circle class="{kind}" cx="{x:.1f}" cy="{y:.1f}" r="{3 + math.sqrt(bar.count) / 3:.1f}">')
            drawn.append(f"<title>{escaped(told)}</title></circle>")
        names.append((kind, f"{one.model}: mean gap {100 * one.gap:.0f} points"))
    drawn.append(_text(_NARROW / 2, _HEIGHT - 4, "certainty of the answer"))
    return joined(_svg("Accuracy of answers by their certainty, per member", drawn, _NARROW), legend(names))


def _svg(label: str, drawn: Sequence[str], width: int = _WIDTH) -> Html:
    """The drawing; its colours are the page's own, so that it is read in the light and in the dark."""
    head = f'<svg viewBox="0 0 {width} {_HEIGHT}" role="img" aria-label="{escaped(label)}">'
    return Html(f'{head}<g fill="currentColor" font-size="12">{"".join(drawn)}</g></svg>')


def _text(x: float, y: float, words: str, anchor: str = "middle") -> str:
    """Quiet words: axes and marks."""
    return f'<text x="{x:.1f}" y="{y:.1f}" text-anchor="{anchor}" fill-opacity="0.6">{escaped(words)}</text>'


def _scale(low: float, high: float) -> Callable[[float], float]:
    span = (high - low) or 1.0
    return lambda value: _HEIGHT - _BELOW - (_HEIGHT - _BELOW - 16) * (value - low) / span


def _log_scale(values: Sequence[float]) -> Callable[[float], float]:
    low, high = math.log(min(values)), math.log(max(values))
    margin = max(0.15, 0.06 * (high - low))
    low, high = low - margin, high + margin
    return lambda value: _LEFT + (_WIDTH - _LEFT - 110) * (math.log(value) - low) / (high - low)


def _grid(up: Callable[[float], float], bottom: float, width: int = _WIDTH) -> str:
    lines = []
    for tenth in range(round(10 * bottom), 11, 1 if bottom >= 0.5 else 2):
        y = up(tenth / 10)
        lines.append(f'<path d="M{_LEFT} {y:.1f}H{width - 10}" stroke="currentColor" stroke-opacity="0.13"/>')
        lines.append(_text(_LEFT - 8, y + 4, f"{10 * tenth} %", "end"))
    return "".join(lines)


def _efforts(across: Callable[[float], float], arms: Sequence[ArmResult]) -> str:
    """Marks of the x-axis: 1, 2 or 5 times a power of ten, as many as stand clear of each other."""
    low, high = min(arm.effort or 1.0 for arm in arms), max(arm.effort or 1.0 for arm in arms)
    marks, last = [], -100.0
    for power in range(math.floor(math.log10(low)) - 1, math.ceil(math.log10(high)) + 1):
        for step in (1, 2, 5):
            value = step * 10.0**power
            x = across(value)
            if _LEFT <= x <= _WIDTH - 60 and x - last > 70:
                marks.append(_text(x, _HEIGHT - _BELOW + 16, f"{value:,.6g}"))
                last = x
    return "".join(marks)


def _oracle_line(results: Results, up: Callable[[float], float]) -> list[str]:
    """The oracle costs what the panel does but cannot be had: a line, not a point."""
    for arm in results.arms:
        if arm.kind == "oracle":
            y = up(arm.accuracy.value)
            line = (
                f'<path d="M{_LEFT} {y:.1f}H{_WIDTH - 10}" fill="none" stroke="currentColor" stroke-opacity="0.35" '
                'stroke-dasharray="2 5"/>'
            )
            return [line, _text(_WIDTH - 12, y + 14, f"oracle {100 * arm.accuracy.value:.1f} %", "end")]
    return []


def _point(arm: ArmResult, x: float, up: Callable[[float], float], is_main: bool, taken: list[_Box]) -> str:
    """A point with its interval and its name, put where it hides no other name or point, if there is such a place."""
    y, kind = up(arm.accuracy.value), f"f{_KINDS[arm.kind]}"
    left, top = _place(arm.name, x, y, taken)
    told = (
        f"{arm.name}: {100 * arm.accuracy.value:.1f} % "
        f"({100 * arm.accuracy.low:.1f} to {100 * arm.accuracy.high:.1f}), {arm.effort:,.6g}"
    )
    weight = 'font-weight="700"' if is_main else 'fill-opacity="0.75"'
    return (
        f'<path d="M{x:.1f} {up(arm.accuracy.low):.1f}V{up(arm.accuracy.high):.1f}" fill="none" stroke="currentColor" '
        'stroke-opacity="0.3"/>'
        f'<circle class="{kind}" cx="{x:.1f}" cy="{y:.1f}" r="{7 if is_main else 5}"><title>{escaped(told)}</title>'
        f'</circle><text x="{left:.1f}" y="{top:.1f}" {weight}>{escaped(arm.name)}</text>'
    )


_Box = tuple[float, float, float, float]
_LETTER, _LINE = 7.0, 14.0


def _place(name: str, x: float, y: float, taken: list[_Box]) -> tuple[float, float]:
    """Where the name begins and stands on: right or left of the point, else the nearest free line above or below."""
    width = _LETTER * len(name)
    spots = [(x + 10, y + 4), (x - 10 - width, y + 4)]
    for line in range(1, 6):
        for side in (line, -line):
            spots += [(x + 6, y + 4 + side * _LINE), (x - 6 - width, y + 4 + side * _LINE)]
    for left, top in spots:
        box = (left, top - 11, left + width, top + 3)
        inside = left >= _LEFT and top > 10 and top < _HEIGHT - _BELOW
        if inside and not any(_overlap(box, other) for other in taken):
            break
    else:
        left, top = spots[0]
        box = (left, top - 11, left + width, top + 3)
    taken.append(box)
    return left, top


def _overlap(one: _Box, other: _Box) -> bool:
    return one[0] < other[2] and other[0] < one[2] and one[1] < other[3] and other[1] < one[3]
