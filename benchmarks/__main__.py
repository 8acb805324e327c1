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
OPTILLM = HERE.parent / ".venv-optillm"
"""A virtual environment with optillm, made by `deploy/optillm.sh`; without it that one figure is left out."""
BENCHMARKS: dict[str, list[list[str]]] = {
    "fused_vs_bare": [[]],
    "staged": [[]],
    "http_harness": [["--optillm", str(OPTILLM)] if OPTILLM.exists() else []],
    "ray_calls": [[]],
    "batch_memory": [["--rows", "10000", "100000", "1000000"], ["--hosts", "ray", "--rows", "20000", "20000", "20000"]],
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
    with tempfile.TemporaryDirectory(prefix="figures-") as folder:
        noted = Path(folder) / "figures.jsonl"
        for name in names:
            for options in BENCHMARKS[name]:
                print(f"== {name} {' '.join(options)}".rstrip(), flush=True)
                command = [sys.executable, "-m", f"benchmarks.{name}", *options]
                done = subprocess.run(command, cwd=HERE.parent, env=os.environ | {COLLECT: str(noted)}, check=False)
                if done.returncode:
                    broken.append(name)
        figures = [json.loads(line) for line in noted.read_text().splitlines()] if noted.exists() else []
    if len(names) == len(BENCHMARKS):
        write(figures, HERE / "RESULTS.md", broken)
        print(f"written to {HERE / 'RESULTS.md'}")
    return 1 if broken else 0


if __name__ == "__main__":
    sys.exit(main())
