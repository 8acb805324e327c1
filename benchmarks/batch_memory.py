"""Memory and speed of the batch driver: scripted engines that answer at once, runs of different lengths.

    python -m benchmarks.batch_memory --rows 10000 300000 [--runs 5] [--at-once 2]

Each run has a process of its own; a second process then opens the finished run again. Printed per run: rows/s, the
peak and the last resident memory of the driver in MB, seconds and memory of the resume. What must hold: memory grows
by at most 64 MB from the fewest rows to the most. The engines live in the driver's process and are counted with it.
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
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

from benchmarks.figures import at_most, plain, tell

MODELS = ("ada", "bob", "cyd")
GROUP = "Scale of the batch driver"
Numbers = dict[str, float]
PAGE_MB = os.sysconf("SC_PAGE_SIZE") / 2**20


def write_input(path: Path, rows: int) -> None:
    """Rows of a prompt of 200 characters each."""
    with path.open("w") as handle:
        for row in range(rows):
            handle.write(json.dumps({"id": f"row-{row}", "prompt": f"Question {row}: {'what is it? ' * 15}"}) + "\n")


def resident_mb() -> float:
    """Memory of this process that is in RAM now."""
    return int(Path("/proc/self/statm").read_text().split()[1]) * PAGE_MB


async def session(source: Path, folder: Path, mode: str, members: int, in_flight: int, hosts: str = "local") -> Numbers:
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


def in_own_process(source: Path, folder: Path, options: argparse.Namespace) -> Numbers:
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
    result: Numbers = json.loads(done.stdout.splitlines()[-1])
    return result


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--rows", type=int, nargs="+", default=[10_000, 300_000])
    parser.add_argument("--runs", type=int, default=1, help="of each number of rows")
    parser.add_argument("--at-once", type=int, default=1, help="runs side by side; each keeps one core busy")
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
    print(f"{'rows':>9} {'rows/s':>8} {'peak MB':>8} {'last MB':>8} {'resume s':>9} {'resume peak MB':>15}")
    with ThreadPoolExecutor(options.at_once) as pool:
        sets = list(pool.map(lambda _: one_of_each(options), range(options.runs)))
    say({rows: [one[rows] for one in sets] for rows in options.rows}, options)


def one_of_each(options: argparse.Namespace) -> dict[int, Numbers]:
    """A run of each number of rows, one after the other, so that those compared have met the machine alike."""
    return {rows: one_run(rows, options) for rows in options.rows}


def one_run(rows: int, options: argparse.Namespace) -> Numbers:
    """A run of so many rows and its resume, each in a process of its own."""
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
    return {**run, "resume_s": again["seconds"], "resume_mb": again["peak_mb"]}


def say(found: dict[int, list[Numbers]], options: argparse.Namespace) -> None:
    """The figures of all runs, by rows; those that compare are of pairs of runs."""
    if options.hosts == "ray":
        told = "Through Ray: scripted engines that answer at once, each in its host."
        for rows, runs in found.items():
            rates = [run["rows_per_s"] for run in runs]
            tell(plain(GROUP, f"rows/s through Ray over {rows:,} rows", rates, "/s", conditions=told))
        return
    told = (
        f"Scripted engines that answer at once, in the driver's process; {options.members} members, {options.mode}; "
        f"{options.at_once} run{'s' * (options.at_once > 1)} at a time."
    )
    for rows, runs in found.items():
        rates = [run["rows_per_s"] for run in runs]
        tell(plain(GROUP, f"rows/s over {rows:,} rows", rates, "/s", conditions=told))
        tell(plain(GROUP, f"peak memory over {rows:,} rows", [run["peak_mb"] for run in runs], "MB"))
    most = max(found)
    pairs = list(zip(found[min(found)], found[most], strict=True))
    more = [large["peak_mb"] - small["peak_mb"] for small, large in pairs]
    tell(at_most(GROUP, "memory more at the most rows than at the fewest", more, "MB", 64))
    cost = [small["rows_per_s"] / large["rows_per_s"] for small, large in pairs]
    tell(at_most(GROUP, "cost of a row at the most rows over that at the fewest", cost, "times", 1.2))
    seconds = [run["resume_s"] for run in found[most]]
    bound = "Bound by reading the journal back, line by line."
    tell(at_most(GROUP, f"resume of {most:,} finished rows", seconds, "s", 30, bound=bound))
    tell(plain(GROUP, "peak memory of that resume", [run["resume_mb"] for run in found[most]], "MB"))


if __name__ == "__main__":
    main()
