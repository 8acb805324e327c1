"""What `ask` shows: steps while the panel works, then the answer as it is written, then what `--show` asked for.

Only the answer and the wanted sections go to stdout; everything about progress goes to stderr. Text of models is shown
without control characters, so that no answer can move the cursor or colour the screen.
"""

from __future__ import annotations

import sys
from collections.abc import Callable
from contextlib import AbstractContextManager
from dataclasses import asdict
from types import TracebackType
from typing import Any

import orjson
from rich.console import Console
from rich.markup import escape
from rich.status import Status

from local_fusion.fusion import events
from local_fusion.types import Analysis, Fused


def plain(text: str) -> str:
    """`text` without control characters but newline and tab."""
    return "".join(letter for letter in text if letter in "\n\t" or letter.isprintable())


def as_json_text(fused: Fused) -> str:
    """A fused answer with its receipt as indented JSON."""
    return orjson.dumps(asdict(fused), option=orjson.OPT_INDENT_2 | orjson.OPT_NON_STR_KEYS).decode()


class AskScreen(AbstractContextManager["AskScreen"]):
    """Hears the events of one request and shows them."""

    def __init__(self, sections: tuple[str, ...], quiet: bool = False) -> None:
        self._sections = sections
        self._quiet = quiet
        self._live = sys.stdout.isatty() and not quiet
        self._out = Console(highlight=False, soft_wrap=True)
        self._status = Status("starting", console=Console(stderr=True))
        self._written = ""
        self._done = False

    def __enter__(self) -> AskScreen:
        self._spin()
        return self

    def _spin(self) -> None:
        if not self._quiet and sys.stderr.isatty():
            self._status.start()

    def __exit__(
        self, kind: type[BaseException] | None, value: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._status.stop()

    def say(self, step: str) -> None:
        """One step of the start."""
        self._status.update(escape(step))

    def hear(self, event: events.Event) -> None:
        """One event of the request."""
        if isinstance(event, events.MemberDone):
            answer = event.answer
            self.say(f"{answer.model} answered")
            if "panel" in self._sections and not self._quiet:
                head = f"[bold]{escape(answer.model)}[/]" + (f" (round {answer.round})" if answer.round else "")
                self._print(f"{head}\n{escape(plain(answer.text))}\n")
        elif isinstance(event, events.MemberFailed):
            failure = event.failure
            self._note(f"{failure.model} gave no answer: {failure.reason} ({failure.error})")
        elif isinstance(event, events.AnalysisStarted):
            self.say(f"{event.model} compares the answers")
        elif isinstance(event, events.AnalysisDone):
            if "analysis" in self._sections and event.analysis is not None and not self._quiet:
                self._print(analysis_text(event.analysis))
        elif isinstance(event, events.WriterStarted):
            self.say(f"{event.model} writes")
        elif isinstance(event, events.WriterDelta) and self._live and event.text:
            self._status.stop()
            text = plain(event.text)
            self._written += text
            print(text, end="", flush=True)

    def finish(self, fused: Fused) -> None:
        """Show the answer, as far as it is not on the screen yet, and the receipt if wanted."""
        self._done = True
        self._status.stop()
        if self._quiet:
            return
        text = plain(fused.text)
        if not self._written:
            print(text)
        elif self._written.strip() == text.strip():
            print()
        else:
            print(f"\n\n{text}")
            verdict = fused.receipt.verdict
            if verdict is not None and verdict.kept == "answer":
                self._note(f"the guard kept the answer of {fused.model}: what was written is not better")
        for phrase in fused.degraded:
            self._note(phrase)
        if "receipt" in self._sections:
            self._print("\n" + receipt_text(fused))

    def _print(self, markup: str) -> None:
        self._aside(self._out, markup)

    def _note(self, text: str) -> None:
        self._aside(Console(stderr=True, highlight=False), f"[yellow]{escape(plain(text))}[/]")

    def _aside(self, console: Console, markup: str) -> None:
        """Print on a line of its own: the spinner stands on the same terminal, though not on the same stream."""
        self._status.stop()
        console.print(markup)
        if not self._written and not self._done:
            self._spin()


def analysis_text(analysis: Analysis) -> str:
    """The five lists as markup; empty ones are left out."""
    lines: list[str] = []

    def section(title: str, entries: tuple[Any, ...], line: Callable[[Any], str]) -> None:
        if entries:
            lines.append(f"[bold]{title}[/]")
            lines.extend(f"  - {escape(plain(line(entry)))}" for entry in entries)

    section("consensus", analysis.consensus, str)
    section(
        "contradictions",
        analysis.contradictions,
        lambda entry: f"{entry.topic}: " + "; ".join(f"{s.model}: {s.stance}" for s in entry.stances),
    )
    section("partial coverage", analysis.partial_coverage, lambda entry: f"{', '.join(entry.models)}: {entry.point}")
    section("unique insights", analysis.unique_insights, lambda entry: f"{entry.model}: {entry.insight}")
    section("blind spots", analysis.blind_spots, str)
    return "\n".join(lines) + "\n" if lines else "[dim]The analysis has no entries.[/]\n"


def receipt_text(fused: Fused) -> str:
    """Mode, why, who wrote, failures, tokens and seconds per call, as markup."""
    receipt = fused.receipt
    lines = [
        f"[bold]{escape(receipt.fusion)}[/] {receipt.mode}: {escape(receipt.why)}",
        f"written by {escape(fused.model)} in {receipt.seconds:.2f} s, "
        f"{fused.tokens.prompt} prompt tokens ({fused.tokens.cached} cached), {fused.tokens.completion} written",
    ]
    for call in receipt.calls:
        lines.append(
            f"  {call.stage:<8} {escape(call.model):<24} {call.tokens.prompt:>6} prompt {call.tokens.cached:>6} cached "
            f"{call.tokens.completion:>6} written {call.timing.total_s:>7.3f} s"
        )
    if receipt.verdict is not None:
        lines.append(f"guard kept the {receipt.verdict.kept} (margin {receipt.verdict.margin:+.2f})")
    lines.extend(f"{failure.model} failed: {failure.reason}" for failure in receipt.failures)
    lines.extend(escape(note) for note in receipt.notes)
    return "\n".join(lines)
