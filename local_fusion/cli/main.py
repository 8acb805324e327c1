"""The `local-fusion` command: its sub-commands, and what becomes of errors: a sentence on stderr and an exit code.

Exit codes: 0 all good, 1 some rows or the request failed, 2 wrong use, 75 interrupted (run the same command again).
"""

from __future__ import annotations

import asyncio
import sys

import typer

from local_fusion.cli import ask, batch, calibrate, demo, evaluate, keys, models, replay, report, serve
from local_fusion.errors import LocalFusionError, RunError, UserError

app = typer.Typer(
    name="local-fusion",
    help="One better answer out of several open models, on your own GPUs, fully offline.",
    no_args_is_help=True,
    add_completion=False,
    pretty_exceptions_enable=False,
)
app.command("ask")(ask.ask)
app.command("batch")(batch.batch)
app.command("serve")(serve.serve)
app.add_typer(keys.app, name="keys")
app.command("report")(report.report)
app.command("replay")(replay.replay)
app.command("models")(models.models)
app.command("demo")(demo.demo)
app.command("eval")(evaluate.evaluate)
app.command("calibrate")(calibrate.calibrate)
app.command("schema", help="Print the JSON schema of models.yaml, for editors.")(models.schema)

INTERRUPTED = 75


def main() -> None:
    """Run the command and exit with its code."""
    try:
        app()
    except LocalFusionError as problem:
        print(f"local-fusion: {problem.message}", file=sys.stderr)
        code = 2 if isinstance(problem, UserError) else INTERRUPTED if isinstance(problem, RunError) else 1
        sys.exit(code)
    except (KeyboardInterrupt, asyncio.CancelledError):  # the second signal of a run cancels it
        sys.exit(INTERRUPTED)
    except BrokenPipeError:
        sys.stderr.close()
        sys.exit(1)
