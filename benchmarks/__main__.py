"""Runs every benchmark, one after another, each in a process of its own: `python -m benchmarks [NAME ...]`.

All of them together write RESULTS.md anew; some of them alone only print.
"""

from __future__ import annotations

import json
import os
import subprocess
import sys
import tempfile
from pathlib import Path

from benchmarks.figures import COLLECT
from benchmarks.results import write

HERE = Path(__file__).parent
BENCHMARKS = {
    "fused_vs_bare": [],
    "staged": [],
    "http_harness": [],
    "ray_calls": [],
    "batch_memory": ["--rows", "10000", "100000", "1000000"],
    "judge_cache": [],
    "early_exit": [],
    "added_latency": [],
    "first_answer": [],
    "server_load": [],
}


def main() -> int:
    """Run the named ones, or all; the exit code is that of the first that failed."""
    names = sys.argv[1:] or list(BENCHMARKS)
    for name in names:
        if name not in BENCHMARKS:
            print(f"no benchmark is called {name!r}; there are {', '.join(BENCHMARKS)}", file=sys.stderr)
            return 2
    code = 0
    with tempfile.TemporaryDirectory(prefix="figures-") as folder:
        noted = Path(folder) / "figures.jsonl"
        for name in names:
            print(f"== {name}", flush=True)
            command = [sys.executable, "-m", f"benchmarks.{name}", *BENCHMARKS[name]]
            done = subprocess.run(command, cwd=HERE.parent, env=os.environ | {COLLECT: str(noted)}, check=False)
            code = code or done.returncode
        figures = [json.loads(line) for line in noted.read_text().splitlines()] if noted.exists() else []
    if len(names) == len(BENCHMARKS):
        write(figures, HERE / "RESULTS.md")
        print(f"written to {HERE / 'RESULTS.md'}")
    return code


if __name__ == "__main__":
    sys.exit(main())
