"""`local-fusion report`: a run as one HTML file to look at."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer


def report(
    run: Annotated[Path, typer.Argument(metavar="RUN/", help="The folder of a batch, finished or not.")],
    out: Annotated[Path | None, typer.Option(help="The file to write [default: RUN/report.html]")] = None,
) -> None:
    """Write one HTML file about a run: outcome, failures, time line, members, agreement, and rows side by side."""
    from local_fusion.report.run_page import write_report

    typer.echo(str(write_report(run, out)))
