"""What the checks on a GPU found: a JSON file and a page, both written again after each result.

Invariant: after a kill at any moment both files are whole and hold every result told so far.
"""

from __future__ import annotations

import asyncio
import json
import os
import traceback
from collections.abc import Awaitable, Callable
from datetime import UTC, datetime
from pathlib import Path
from time import perf_counter
from typing import Any

Facts = dict[str, Any]


class Missed(Exception):
    """A check ran to its end and the measured value is not what is promised."""

    def __init__(self, reason: str, facts: Facts) -> None:
        super().__init__(reason)
        self.facts = facts


class Skipped(Exception):
    """A check cannot be run here; says what is missing."""


class Report:
    """Results by name in `folder`; a name put again is replaced."""

    def __init__(self, folder: Path) -> None:
        folder.mkdir(parents=True, exist_ok=True)
        self.folder = folder
        self._file = folder / "report.json"

    @property
    def results(self) -> dict[str, Facts]:
        """As they stand in the file, which other processes write too, one at a time."""
        results: dict[str, Facts] = json.loads(self._file.read_text()) if self._file.exists() else {}
        return results

    def of(self, name: str) -> dict[str, Facts]:
        """Results of a check and of its parts, `name-part`."""
        return {one: result for one, result in self.results.items() if one == name or one.startswith(f"{name}-")}

    def forget(self, name: str) -> None:
        """Drop what an earlier run of a check and of its parts wrote."""
        self._write({one: result for one, result in self.results.items() if one not in self.of(name)})

    def put(self, name: str, status: str, facts: Facts, seconds: float, detail: str = "") -> None:
        """Write one result; `status` is passed, missed, failed, skipped or killed."""
        results = self.results
        results[name] = {
            "status": status,
            "detail": detail,
            "seconds": round(seconds, 1),
            "when": datetime.now(UTC).isoformat(timespec="seconds"),
            "facts": facts,
        }
        self._write(results)
        print(f"== {name}: {status} after {seconds:.1f} s {detail}\n   {json.dumps(facts)}", flush=True)

    def _write(self, results: dict[str, Facts]) -> None:
        _replace(self._file, json.dumps(results, indent=1) + "\n")
        _replace(self.folder / "report.md", page(results))

    async def attempt(self, name: str, check: Callable[[], Awaitable[Facts]], limit_s: float) -> bool:
        """Run one check and put its result, whatever happens; whether it passed."""
        print(f"-- {name} (at most {limit_s:g} s)", flush=True)
        begun = perf_counter()
        try:
            async with asyncio.timeout(limit_s):
                facts = await check()
        except Missed as missed:
            self.put(name, "missed", missed.facts, perf_counter() - begun, str(missed))
        except Skipped as skipped:
            self.put(name, "skipped", {}, perf_counter() - begun, str(skipped))
        except Exception as problem:
            self.keep(name, traceback.format_exc())
            self.put(name, "failed", {}, perf_counter() - begun, f"{type(problem).__name__}: {problem}"[:800])
        else:
            self.put(name, "passed", facts, perf_counter() - begun)
            return True
        return False

    def keep(self, name: str, text: str) -> None:
        """Add to the file of failures, for whoever looks into them later."""
        with (self.folder / "failures.log").open("a") as log:
            log.write(f"==== {name}\n{text[-20_000:]}\n")


def page(results: dict[str, Facts]) -> str:
    """The report as Markdown: a table, then every check's numbers."""
    lines = ["# Checks on a GPU", "", "| check | result | seconds | remark |", "|---|---|---|---|"]
    for name, result in results.items():
        remark = str(result["detail"]).replace("|", "/").replace("\n", " ")[:200]
        lines.append(f"| {name} | {result['status']} | {result['seconds']} | {remark} |")
    for name, result in results.items():
        lines += ["", f"## {name}", "", f"{result['status']}, {result['when']}", ""]
        lines += [f"- {key}: {_shown(value)}" for key, value in result["facts"].items()]
    return "\n".join(lines) + "\n"


def _shown(value: Any) -> str:
    return f"{value:.4g}" if isinstance(value, float) else f"`{json.dumps(value)}`" if value != str(value) else value


def _replace(path: Path, text: str) -> None:
    new = path.with_suffix(path.suffix + ".new")
    new.write_text(text, "utf-8")
    os.replace(new, path)
