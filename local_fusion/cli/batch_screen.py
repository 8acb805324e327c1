"""What `batch` shows: a live line on a terminal, a line now and then elsewhere, a table at the end. All on stderr."""

from __future__ import annotations

import time
from contextlib import AbstractContextManager
from types import TracebackType

from rich.console import Console
from rich.live import Live
from rich.markup import escape
from rich.table import Table
from rich.text import Text

from local_fusion.batch.progress import Progress, Summary

PLAIN_EVERY_S = 10.0


class BatchScreen(AbstractContextManager["BatchScreen"]):
    """Shows the steps of the start and the progress of one run."""

    def __init__(self, console: Console | None = None, title: str = "") -> None:
        self._console = console or Console(stderr=True, highlight=False)
        self._live = Live(console=self._console, transient=True, refresh_per_second=4)
        self.title = title
        self._said = 0.0

    def __enter__(self) -> BatchScreen:
        if self._console.is_terminal:
            self._live.start()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, value: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._live.stop()

    def say(self, step: str) -> None:
        """One step of the start."""
        if self._console.is_terminal:
            self._live.update(Text(step, style="dim"))
        else:
            self._console.print(escape(step), soft_wrap=True)

    def show(self, progress: Progress) -> None:
        """Where the run stands now."""
        line = f"{self.title} · {progress_line(progress)}" if self.title else progress_line(progress)
        if self._console.is_terminal:
            self._live.update(Text(line))
        elif time.monotonic() - self._said >= PLAIN_EVERY_S or progress.done == progress.total:
            self._said = time.monotonic()
            self._console.print(escape(line), soft_wrap=True)

    def finish(self, summary: Summary) -> None:
        """The end: what came out, and where it lies."""
        for problem in summary.problems:
            self._console.print(f"[yellow]{escape(problem)}[/]")
        if summary.status == "checked":
            self._console.print(f"{summary.total:,} rows checked: {summary.succeeded:,} good, {summary.failed:,} not")
            return
        self._console.print(summary_table(summary))
        if summary.folder is not None:
            names = "output.jsonl" + (", errors.jsonl" if summary.failed else "")
            self._console.print(f"{escape(str(summary.folder))}/: {names}, run.json")
        if summary.status == "interrupted":
            self._console.print("[yellow]Interrupted. Run the same command again to go on.[/]")


def progress_line(progress: Progress) -> str:
    """Rows, rates, time left and failures in one line."""
    parts = [f"{progress.done:,}/{progress.total:,} rows"]
    if progress.total:
        parts.append(f"{100 * progress.done / progress.total:.0f} %")
    parts.append(f"{progress.rows_per_s:,.1f} rows/s")
    parts.append(f"{progress.tokens_per_s:,.0f} tokens/s")
    if progress.eta_s is not None:
        parts.append(f"{clock(progress.eta_s)} left")
    parts.append(f"{progress.in_flight} in flight")
    failures = dict(progress.failures) | {f"member {key}": n for key, n in progress.member_failures.items()}
    if failures:
        parts.append("failures: " + ", ".join(f"{count} {reason}" for reason, count in failures.items()))
    return " · ".join(parts)


def clock(seconds: float) -> str:
    """Seconds as 1:02:03 or 2:03."""
    minutes, rest = divmod(round(seconds), 60)
    hours, minutes = divmod(minutes, 60)
    return f"{hours}:{minutes:02}:{rest:02}" if hours else f"{minutes}:{rest:02}"


def summary_table(summary: Summary) -> Table:
    """One line per model: what it did and what it cost."""
    title = f"{summary.succeeded:,} answered, {summary.failed:,} failed in {summary.seconds:.1f} s"
    if summary.resumed:
        title += f" ({summary.resumed:,} were done before)"
    table = Table(title=title, title_justify="left", box=None, pad_edge=False, padding=(0, 1, 0, 0))
    table.add_column("model", no_wrap=True)
    for column in ("answers", "failed", "wrote", "calls", "prompt", "cached", "written", "seconds"):
        table.add_column(column, justify="right")
    for model, tally in summary.members.items():
        table.add_row(
            escape(model),
            f"{tally.answers:,}",
            f"{tally.failures:,}",
            f"{tally.wrote:,}",
            f"{tally.calls:,}",
            f"{tally.tokens.prompt:,}",
            f"{tally.tokens.cached:,}",
            f"{tally.tokens.completion:,}",
            f"{tally.seconds:,.1f}",
        )
    if summary.marks:
        table.caption = ", ".join(f"{name.replace('_', ' ')}: {count:,}" for name, count in summary.marks.items())
        table.caption_justify = "left"
    return table
