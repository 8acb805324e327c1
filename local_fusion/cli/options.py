"""Options that several commands share."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from local_fusion.errors import ConfigError
from local_fusion.types import MODES

ConfigOption = Annotated[
    Path | None,
    typer.Option("--config", "-c", help="models.yaml [default: the one in this folder, else the shipped one]"),
]
FusionOption = Annotated[
    str | None, typer.Option("--fusion", "-f", help="Fusion of models.yaml [default: its `default`]")
]
ModeOption = Annotated[str | None, typer.Option("--mode", "-m", help=" | ".join(MODES))]

TraceOption = Annotated[
    str | None, typer.Option("--trace", help="OpenTelemetry spans, without content: a file, or http://127.0.0.1:4318")
]
TraceRemoteOption = Annotated[
    bool, typer.Option("--trace-remote", help="Allow --trace to name a collector beyond this machine.")
]


def checked_mode(mode: str | None) -> str | None:
    """`mode` if it is one. Raises ConfigError with the nearest right name."""
    from local_fusion.config.load import nearest

    if mode is not None and mode not in MODES:
        raise ConfigError(f"no mode is called {mode!r}{nearest(mode, MODES)}")
    return mode
