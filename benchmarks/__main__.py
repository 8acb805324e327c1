"""Runs benchmarks, one after another, in processes of their own: `python -m benchmarks [NAME ...]`; without names, all.

What they find goes to results.jsonl, in place of what the same benchmark found before, and RESULTS.md is made of that.
"""

from __future__ import annotations

import datetime
import json
import os
import subprocess
import sys
import tempfile
from pathlib import Path
from typing import Any

from benchmarks.figures import COLLECT
from benchmarks.results import write

HERE = Path(__file__).parent
OPTILLM = HERE.parent / ".venv-optillm"
"""A virtual environment with optillm, made by `deploy/optillm.sh`; without it that one figure is left out."""
BENCHMARKS: dict[str, list[list[str]]] = {
    "fused_vs_bare": [[]],
    "staged": [[]],
    "http_harness": [["--optillm", str(OPTILLM)] if OPTILLM.exists() else []],
    "ray_calls": [[]],
    "batch_memory": [
        ["--rows", "10000", "100000", "1000000", "--runs", "5", "--at-once", "2"],
        ["--hosts", "ray", "--rows", "20000", "--runs", "5"],
    ],
    "judge_cache": [[]],
    "early_exit": [[]],
    "added_latency": [[]],
    "first_answer": [[]],
    "server_load": [[], ["--ray"]],
}


def main() -> int:
    """Run the named ones, or all; 1 where one of them did not end well."""
    names = sys.argv[1:] or list(BENCHMARKS)
    for name in names:
        if name not in BENCHMARKS:
            print(f"no benchmark is called {name!r}; there are {', '.join(BENCHMARKS)}", file=sys.stderr)
            return 2
    broken: list[str] = []
    for name in names:
        print(f"== {name}", flush=True)
        found = run(name)
        if found is None:
            broken.append(name)
        else:
            keep(name, found)
    if broken:
        print(f"did not end well, so that their earlier figures stay: {', '.join(broken)}", file=sys.stderr)
    return 1 if broken else 0


def run(name: str) -> list[dict[str, Any]] | None:
    """The figures of one benchmark; None where it did not end well."""
    with tempfile.TemporaryDirectory(prefix="figures-") as folder:
        noted = Path(folder) / "figures.jsonl"
        for options in BENCHMARKS[name]:
            command = [sys.executable, "-m", f"benchmarks.{name}", *options]
            done = subprocess.run(command, cwd=HERE.parent, env=os.environ | {COLLECT: str(noted)}, check=False)
            if done.returncode:
                return None
        return [json.loads(line) for line in noted.read_text().splitlines()]


def keep(name: str, found: list[dict[str, Any]]) -> None:
    """Replace the benchmark's figures by these, and write the page anew."""
    place = HERE / "results.jsonl"
    before = [json.loads(line) for line in place.read_text().splitlines()] if place.exists() else []
    stamp = {"benchmark": name, "date": str(datetime.datetime.now(datetime.UTC).date())}
    every = [figure for figure in before if figure["benchmark"] != name] + [figure | stamp for figure in found]
    every.sort(key=lambda figure: list(BENCHMARKS).index(figure["benchmark"]))
    place.write_text("".join(json.dumps(figure) + "\n" for figure in every))
    write(every, HERE / "RESULTS.md")


if __name__ == "__main__":
    sys.exit(main())
