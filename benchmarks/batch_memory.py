"""Memory and speed of the batch driver: scripted engines that answer at once, runs of different lengths.

    python -m benchmarks.batch_memory --rows 10000 300000

Each run has a process of its own; a second process then opens the finished run again. Printed per run: rows/s, the
peak and the last resident memory of the driver in MB, seconds and memory of the resume. What must hold: memory grows
by at most 64 MB from 10,000 to 300,000 rows. The engines live in the driver's process and are counted with it.
"""

from __future__ import annotations

import argparse
import asyncio
import json
import os
import resource
import shutil
import subprocess
import sys
import tempfile
import time
from pathlib import Path

from benchmarks.figures import at_most, plain, tell

MODELS = ("ada", "bob", "cyd")
GROUP = "Scale of the batch driver"
PAGE_MB = os.sysconf("SC_PAGE_SIZE") / 2**20


def write_input(path: Path, rows: int) -> None:
    """Rows of a prompt of 200 characters each."""
    with path.open("w") as handle:
        for row in range(rows):
            handle.write(json.dumps({"id": f"row-{row}", "prompt": f"Question {row}: {'what is it? ' * 15}"}) + "\n")


def resident_mb() -> float:
    """Memory of this process that is in RAM now."""
    return int(Path("/proc/self/statm").read_text().split()[1]) * PAGE_MB


async def session(
    source: Path, folder: Path, mode: str, members: int, in_flight: int, hosts: str = "local"
) -> dict[str, float]:
    """One run, or one resume, in this process."""
    from local_fusion.batch.options import BatchOptions
    from local_fusion.batch.run import run_batch
    from local_fusion.config import parse_config
    from local_fusion.runtime import open_engines, recipe_of

    names = MODELS[:members]
    models = "".join(f"  {name}: {{engine: scripted}}\n" for name in names)
    fusion = f"fusions:\n  trio: {{panel: [{', '.join(names)}], mode: {mode}}}\n"
    config = parse_config(f"models:\n{models}{fusion}runtime: {{hosts: {hosts}}}\n")
    recipe = recipe_of(config, "trio")
    async with open_engines(config, names) as engines:
        before, begun = resident_mb(), time.perf_counter()
        summary = await run_batch(source, folder, engines, recipe, BatchOptions(in_flight=in_flight), lambda _: None)
        seconds = time.perf_counter() - begun
    return {
        "rows_per_s": (summary.succeeded - summary.resumed) / seconds,
        "seconds": seconds,
        "before_mb": before,
        "last_mb": resident_mb(),
        "peak_mb": resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024,
    }


def in_own_process(source: Path, folder: Path, options: argparse.Namespace) -> dict[str, float]:
    """The same in a process of its own, so that its memory is its own."""
    command = [
        sys.executable,
        "-m",
        "benchmarks.batch_memory",
        "--session",
        str(source),
        str(folder),
        "--mode",
        options.mode,
    ]
    command += ["--members", str(options.members), "--in-flight", str(options.in_flight), "--hosts", options.hosts]
    done = subprocess.run(command, check=True, stdout=subprocess.PIPE, text=True)
    result: dict[str, float] = json.loads(done.stdout.splitlines()[-1])
    return result


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--rows", type=int, nargs="+", default=[10_000, 300_000])
    parser.add_argument("--mode", default="best-of")
    parser.add_argument("--members", type=int, choices=range(1, len(MODELS) + 1), default=len(MODELS))
    parser.add_argument("--in-flight", type=int, default=256)
    parser.add_argument("--hosts", choices=("local", "ray"), default="local", help="ray: each engine in its Ray host")
    parser.add_argument("--folder", type=Path, help="where the runs are made; default: the system's temporary folder")
    parser.add_argument("--session", nargs=2, type=Path, help=argparse.SUPPRESS)
    options = parser.parse_args()
    if options.session:
        source, folder = options.session
        once = session(source, folder, options.mode, options.members, options.in_flight, options.hosts)
        print(json.dumps(asyncio.run(once)))
        return
    runs: list[dict[str, float]] = []
    print(f"{'rows':>9} {'rows/s':>8} {'peak MB':>8} {'last MB':>8} {'resume s':>9} {'resume peak MB':>15}")
    for rows in options.rows:
        place = Path(tempfile.mkdtemp(prefix="batch-memory-", dir=options.folder))
        try:
            write_input(place / "in.jsonl", rows)
            run = in_own_process(place / "in.jsonl", place / "out", options)
            again = in_own_process(place / "in.jsonl", place / "out", options)
        finally:
            shutil.rmtree(place)
        print(
            f"{rows:>9,} {run['rows_per_s']:>8.0f} {run['peak_mb']:>8.1f} {run['last_mb']:>8.1f} "
            f"{again['seconds']:>9.2f} {again['peak_mb']:>15.1f}",
            flush=True,
        )
        runs.append({"rows": rows, **run, "resume_s": again["seconds"], "resume_mb": again["peak_mb"]})
    if options.hosts == "ray":
        told = "Through Ray: scripted engines that answer at once, each in its host."
        rates = [run["rows_per_s"] for run in runs]
        tell(plain(GROUP, f"rows/s through Ray over {options.rows[0]:,} rows", rates, "/s", conditions=told))
        return
    told = f"Scripted engines that answer at once, in the driver's process; {options.members} members, {options.mode}."
    for run in runs:
        rows = f"{run['rows']:,.0f} rows"
        tell(plain(GROUP, f"rows/s over {rows}", [run["rows_per_s"]], "/s", conditions=told))
        tell(plain(GROUP, f"peak memory over {rows}", [run["peak_mb"]], "MB"))
    more = runs[-1]["peak_mb"] - runs[0]["peak_mb"]
    tell(at_most(GROUP, "memory more at the most rows than at the fewest", [more], "MB", 64))
    cost = runs[0]["rows_per_s"] / runs[-1]["rows_per_s"]
    tell(at_most(GROUP, "cost of a row at the most rows over that at the fewest", [cost], "times", 1.2))
    what = f"resume of {runs[-1]['rows']:,.0f} finished rows"
    tell(
        at_most(GROUP, what, [runs[-1]["resume_s"]], "s", 30, bound="Bound by reading the journal back, line by line.")
    )
    tell(plain(GROUP, "peak memory of that resume", [runs[-1]["resume_mb"]], "MB"))


if __name__ == "__main__":
    main()
