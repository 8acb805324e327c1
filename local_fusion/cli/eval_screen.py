"""What `eval` shows: one line of progress while it runs, on stderr; at the end the table of arms, on stdout."""

from __future__ import annotations

import time
from contextlib import AbstractContextManager
from types import TracebackType

from rich.console import Console
from rich.live import Live
from rich.markup import escape
from rich.table import Table
from rich.text import Text

from local_fusion.evaluate.evaluation import Order
from local_fusion.evaluate.intervals import Interval
from local_fusion.evaluate.measure import ArmResult, Results
from local_fusion.evaluate.runner import Step
from local_fusion.evaluate.written import REPORT, RESULTS

PLAIN_EVERY_S = 10.0


class EvalScreen(AbstractContextManager["EvalScreen"]):
    """Shows the steps of one evaluation."""

    def __init__(self) -> None:
        self._console = Console(stderr=True, highlight=False)
        self._live = Live(console=self._console, transient=True, refresh_per_second=4)
        self._said = 0.0

    def __enter__(self) -> EvalScreen:
        if self._console.is_terminal:
            self._live.start()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, value: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._live.stop()

    def say(self, line: str) -> None:
        """One step of the start."""
        if self._console.is_terminal:
            self._live.update(Text(line, style="dim"))
        else:
            self._console.print(escape(line), soft_wrap=True)

    def hear(self, step: Step) -> None:
        """Where the evaluation stands."""
        line = f"{step.arm}: {step.done:,}/{step.total:,} items"
        if self._console.is_terminal:
            self._live.update(Text(line))
        elif time.monotonic() - self._said >= PLAIN_EVERY_S or step.done == step.total:
            self._said = time.monotonic()
            self._console.print(escape(line), soft_wrap=True)

    def finish(self, order: Order, results: Results, fresh: int) -> None:
        """The table, what to beware of, and where everything lies."""
        out = Console(highlight=False)
        out.print(arms_table(order, results))
        for warning in results.warnings:
            out.print(f"[yellow]! {escape(warning)}[/]", soft_wrap=True)
        called = f"{fresh:,} calls were run, all others recalled" if fresh else "no call was run: all were recalled"
        out.print(f"{called}. {escape(str(order.folder))}/: {REPORT}, {RESULTS}, items.jsonl", soft_wrap=True)


def arms_table(order: Order, results: Results) -> Table:
    """One line per arm: accuracy and gain with their intervals, tokens, seconds, cost."""
    count = len(results.counted)
    halves = " / ".join(dict.fromkeys(results.halves))
    table = Table(
        title=f"{escape(order.items.name)}: {count:,} items, fusion {escape(order.recipe.name)} (95 % intervals)",
        caption=f"gain: over the best member, chosen on the other half of the items ({escape(halves)}); "
        f"*: no arm is better for as little ({results.effort}); tokens: of one answer, mean; s: of one answer, "
        "median; self-…: the best member asked as often as the panel answers, self-equal: as often as the fusion's "
        "tokens pay for; cost: of 1,000",
        title_justify="left",
        caption_justify="left",
        box=None,
        pad_edge=False,
    )
    table.add_column("", no_wrap=True)
    shown = any(arm.gpu_s for arm in results.arms), any(arm.cost is not None for arm in results.arms)
    columns = ["right %", "interval", "gain", "interval", "tokens", "s"] + ["GPU-s"] * shown[0] + ["cost"] * shown[1]
    for column in columns:
        table.add_column(column, justify="right", no_wrap=True)
    for arm in results.arms:
        table.add_row(*_cells(arm, count, *shown), style="bold" if arm.name == results.main else "")
    return table


def _cells(arm: ArmResult, count: int, timed: bool, priced: bool) -> list[str]:
    free = arm.kind == "oracle"
    tokens = (arm.tokens.prompt + arm.tokens.completion) / count
    cells = [
        escape(arm.name) + (" *" if arm.frontier else ""),
        f"{100 * arm.accuracy.value:.1f}",
        f"{100 * arm.accuracy.low:.1f} {100 * arm.accuracy.high:.1f}",
        *_gain(arm.gain),
        "" if free else f"{tokens:,.0f}",
        "" if free or arm.seconds is None else f"{arm.seconds:.2f}",
    ]
    if timed:
        cells.append(f"{arm.gpu_s:,.1f}" if arm.gpu_s else "")
    if priced:
        cells.append("" if arm.cost is None else f"{arm.cost:,.4g}")
    return cells


def _gain(gain: Interval | None) -> tuple[str, str]:
    if gain is None:
        return "", ""
    return f"{100 * gain.value:+.1f}", f"{100 * gain.low:+.1f} {100 * gain.high:+.1f}"
