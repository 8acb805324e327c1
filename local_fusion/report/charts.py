"""Charts as SVG and tables inside the page: no script, no style attributes, and every figure drawn also as text."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence

from local_fusion.report.page import Html, escaped, made, table

COLOURS = 10
_WIDTH, _HEIGHT = 960, 190


def legend(names: Sequence[tuple[str, str]]) -> Html:
    """(class of the colour, name) each."""
    entries = "".join(f'<li><i class="{escaped(kind)}"></i>{escaped(name)}</li>' for kind, name in names)
    return Html(f'<ul class="legend">{entries}</ul>')


def share_bar(parts: Sequence[tuple[str, str, float]], label: str) -> Html:
    """One bar divided: (class of the colour, name, amount) each; amounts are in the legend."""
    total = sum(amount for _, _, amount in parts) or 1.0
    drawn, place = [], 0.0
    for kind, name, amount in parts:
        width = _WIDTH * amount / total
        if amount:
            drawn.append(
                f'<rect class="{escaped(kind)}" x="{place:.1f}" y="0" width="{max(1.0, width):.1f}" height="22">'
                f"<title>{escaped(name)}: {amount:,.0f}</title></rect>"
            )
        place += width
    size = f'viewBox="0 0 {_WIDTH} 22" preserveAspectRatio="none"'
    svg = f'<svg class="strip" {size} role="img" aria-label="{escaped(label)}">'
    told = [(kind, f"{name} {amount:,.0f} ({100 * amount / total:.1f} %)") for kind, name, amount in parts if amount]
    return Html(f"{svg}{''.join(drawn)}</svg>{legend(told)}")


def stacked(
    series: Mapping[str, Sequence[float]],
    colours: Mapping[str, int],
    end_s: float,
    breaks_s: Sequence[float],
    label: str,
) -> Html:
    """Bins of equal width over `end_s` seconds, stacked; upright lines where a session began."""
    bins = max((len(values) for values in series.values()), default=0)
    if not bins:
        return Html("")
    top = max(sum(values[place] for values in series.values()) for place in range(bins)) or 1.0
    below = [0.0] * bins
    drawn = []
    step = _WIDTH / bins
    for name, values in series.items():
        path = []
        for place, value in enumerate(values):
            if value > 0:
                low, high = _y(below[place], top), _y(below[place] + value, top)
                path.append(f"M{place * step:.1f} {low:.1f}V{high:.1f}h{step + 0.3:.1f}V{low:.1f}z")
                below[place] += value
        kind = f"f{colours[name] % COLOURS}"
        drawn.append(f'<path class="{kind}" d="{"".join(path)}"><title>{escaped(name)}</title></path>')
    for at in breaks_s:
        x = _WIDTH * at / end_s if end_s else 0.0
        drawn.append(f'<path class="axis" d="M{x:.1f} 0V{_HEIGHT}"/>')
    ticks = "".join(f"<span>{clock(end_s * share)}</span>" for share in (0.0, 0.25, 0.5, 0.75, 1.0))
    axis = f'<path class="axis" d="M0 {_HEIGHT}H{_WIDTH}"/>'
    size = f'viewBox="0 0 {_WIDTH} {_HEIGHT}" preserveAspectRatio="none"'
    chart = f'<svg class="chart" {size} role="img" aria-label="{escaped(label)}">{"".join(drawn)}{axis}</svg>'
    told = f'<p class="word">{top:,.1f} at most</p>'
    names = [(f"f{colours[name] % COLOURS}", name) for name in series]
    return Html(f'{told}{chart}<div class="ticks word" aria-hidden="true">{ticks}</div>{legend(names)}')


def heat(names: Sequence[str], cell: Callable[[str, str], tuple[float, str, str] | None], caption: str) -> Html:
    """A matrix: `cell` gives (0 to 1, what is written, small print) or None; only one half is drawn."""
    columns = names[1:]
    rows = []
    for place, name in enumerate(names[:-1]):
        cells = []
        for other in columns:
            found = cell(name, other) if names.index(other) > place else None
            if found is None:
                cells.append("<td></td>")
            else:
                share, written, small = found
                shade = f"h{min(10, max(0, round(10 * share)))}"
                cells.append(f'<td class="{shade}">{escaped(written)}<small>{escaped(small)}</small></td>')
        rows.append(f'<tr><th scope="row">{escaped(name)}</th>{"".join(cells)}</tr>')
    head = "".join(f'<th scope="col">{escaped(name)}</th>' for name in columns)
    return Html(
        f'<div class="wide" tabindex="0"><table class="heat"><caption>{escaped(caption)}</caption>'
        f"<thead><tr><td></td>{head}</tr></thead><tbody>{''.join(rows)}</tbody></table></div>"
    )


def ranked(column: str, counts: Mapping[str, int], total: int, most: int = 12, of: str = "rows") -> Html:
    """Counts of what `of` says as a table with bars, largest first; beyond `most` they are summed up."""
    order = sorted(counts.items(), key=lambda entry: -entry[1])
    shown, rest = order[:most], sum(count for _, count in order[most:])
    if rest:
        shown.append((f"{len(order) - most} others", rest))
    largest = max((count for _, count in shown), default=1)
    return table(
        (column, "", of, "share"),
        ((name, made(_bar(count / largest)), f"{count:,}", _percent(count, total)) for name, count in shown),
        words=(0, 1),
    )


def clock(seconds: float) -> str:
    """Seconds as 0.3 s, 42 s, 2:03 or 1:02:03."""
    if seconds < 60:
        return f"{seconds:.1f} s" if seconds < 10 else f"{seconds:.0f} s"
    minutes, rest = divmod(round(seconds), 60)
    hours, minutes = divmod(minutes, 60)
    return f"{hours}:{minutes:02}:{rest:02}" if hours else f"{minutes}:{rest:02}"


def _bar(share: float) -> Html:
    width = max(1.0, 120 * share)
    return Html(
        f'<svg viewBox="0 0 120 10" width="120" aria-hidden="true">'
        f'<rect class="f0" y="1" width="{width:.1f}" height="8" rx="2"/></svg>'
    )


def _percent(count: int, total: int) -> str:
    return f"{100 * count / total:.1f} %" if total else ""


def _y(value: float, top: float) -> float:
    return _HEIGHT - (_HEIGHT - 4) * value / top
