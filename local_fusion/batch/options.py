"""How a batch is run: what the command line offers, and nothing about the fusion itself."""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from typing import Any

from local_fusion.errors import InputError
from local_fusion.types import Request

_SEEDS = 2**63
Ask = Callable[[str, Mapping[str, Any]], Request]
"""A row's id and chat body to its request; the same for the same row, always. Raises RequestError, or waits: never."""


@dataclass(frozen=True)
class BatchOptions:
    """Options of one run. Only `seed` decides results, so a resumed run may change all others."""

    limit: int | None = None
    """The first so many rows of the file; None: all."""
    seed: int = 0
    """Root of every seed of rows that bring none; 64 bits, with sign."""
    dry_run: bool = False
    """Check every row, start nothing, write nothing."""
    retry_failed: bool = False
    """Run the rows again that ended in errors.jsonl."""
    in_flight: int = 256
    """Rows in flight at most."""
    grace_s: float = 30.0
    """Seconds that rows under way have after `stop` is set, before their calls are cancelled."""
    journal_sync_s: float = 1.0
    """Seconds between syncs to disk; 0: after each row."""
    progress_every_s: float = 0.5
    """Seconds between two reports of progress."""
    stop: asyncio.Event | None = None
    """Set by the caller to stop: no new row starts, rows under way get `grace_s`."""
    identity: Mapping[str, str] = field(default_factory=dict)
    """More that must be the same when a run is resumed, by name: for instance digests of model settings."""
    versions: Mapping[str, str] = field(default_factory=dict)
    """Versions written to run.json."""
    ask: Ask | None = None
    """Makes the requests of chat bodies; None: every row is of the run's own fusion."""

    def __post_init__(self) -> None:
        """Raises InputError where a number makes no sense."""
        for name, least in (("limit", 1), ("in_flight", 1), ("grace_s", 0), ("journal_sync_s", 0)):
            value = getattr(self, name)
            if value is not None and value < least:
                raise InputError(f"{name} is {value}; give at least {least}")
        if not -_SEEDS <= self.seed < _SEEDS:
            raise InputError(f"seed is {self.seed}; give a whole number from {-_SEEDS} to {_SEEDS - 1}")
