"""What a run says of itself: where it stands as it goes, and how it ended."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Literal

from local_fusion.types import Tokens

Status = Literal["finished", "interrupted", "checked"]
EXIT_SOME_FAILED = 1
EXIT_INTERRUPTED = 75


@dataclass(frozen=True, slots=True)
class MemberTally:
    """What one model did over all rows. `wrote`: final answers in its own words. Seconds are sums over calls."""

    answers: int = 0
    failures: int = 0
    wrote: int = 0
    calls: int = 0
    tokens: Tokens = field(default_factory=Tokens)
    seconds: float = 0.0
    gpu_s: float = 0.0


@dataclass(frozen=True)
class Progress:
    """Where a run stands. Rates are of this session's last seconds; `eta_s` None while unknown."""

    total: int
    done: int
    failed: int
    resumed: int
    in_flight: int
    tokens: Tokens
    seconds: float
    rows_per_s: float
    tokens_per_s: float
    eta_s: float | None
    failures: Mapping[str, int]
    member_failures: Mapping[str, int]


@dataclass(frozen=True)
class Summary:
    """How a run ended, all sessions together. `resumed`: rows done before this session; `seconds`: of this one;
    `problems`: the first sentences about bad rows of a dry run."""

    status: Status
    total: int
    succeeded: int
    failed: int
    resumed: int
    seconds: float
    tokens: Tokens = field(default_factory=Tokens)
    failures: Mapping[str, int] = field(default_factory=dict)
    member_failures: Mapping[str, int] = field(default_factory=dict)
    modes: Mapping[str, int] = field(default_factory=dict)
    marks: Mapping[str, int] = field(default_factory=dict)
    members: Mapping[str, MemberTally] = field(default_factory=dict)
    problems: tuple[str, ...] = ()
    folder: Path | None = None

    @property
    def exit_code(self) -> int:
        """0 all good, 1 some rows failed, 75 interrupted."""
        if self.status == "interrupted":
            return EXIT_INTERRUPTED
        return EXIT_SOME_FAILED if self.failed else 0
