"""What is known of one batch, as it lies in its `batch.json` and as a client sees it."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import asdict, dataclass, field, replace
from pathlib import Path
from typing import Any, Literal

import orjson

from local_fusion.server.stored.disk import write_private

RECORD = "batch.json"
Status = Literal["validating", "in_progress", "finalizing", "completed", "failed", "expired", "cancelling", "cancelled"]
Ending = Literal["completed", "failed", "expired", "cancelled"]
ENDINGS: tuple[Ending, ...] = ("completed", "failed", "expired", "cancelled")
_SECOND_NS = 1_000_000_000


@dataclass(frozen=True, slots=True)
class Problem:
    """Why a batch failed; `line` of its input, from 1."""

    code: str
    message: str
    line: int | None = None
    param: str | None = None


@dataclass(frozen=True, slots=True)
class Counts:
    """Rows and tokens. `failed` rows stand in the error file, those that were never run among them."""

    total: int = 0
    completed: int = 0
    failed: int = 0
    prompt_tokens: int = 0
    cached_tokens: int = 0
    completion_tokens: int = 0


@dataclass(frozen=True, slots=True)
class BatchRecord:
    """One batch. `models`: what its rows name, resolved; empty until it is validated. `times`: Unix seconds of each
    status that was reached. `ending`: what it will be called once finalised."""

    id: str
    owner: str
    input_file_id: str
    endpoint: str
    window: str
    made_ns: int
    expires_at: int
    metadata: Mapping[str, str] = field(default_factory=dict)
    output_expires_after_s: int | None = None
    status: Status = "validating"
    ending: Ending = "completed"
    models: tuple[str, ...] = ()
    counts: Counts = Counts()
    problems: tuple[Problem, ...] = ()
    output_file_id: str | None = None
    error_file_id: str | None = None
    times: Mapping[str, int] = field(default_factory=dict)

    @property
    def created_at(self) -> int:
        return self.made_ns // _SECOND_NS

    @property
    def ended(self) -> bool:
        """Nothing will change any more."""
        return self.status in ENDINGS

    def now(self, status: Status, at: int, **changes: Any) -> BatchRecord:
        """The record in another status, reached at the Unix second `at`."""
        return replace(self, status=status, times={**self.times, status: at}, **changes)

    def save(self, folder: Path) -> None:
        """Write it into the batch's folder. Raises OSError."""
        write_private(folder / RECORD, orjson.dumps(asdict(self)))

    def body(self, counts: Counts | None = None) -> dict[str, Any]:
        """OpenAI's batch object; `counts` as they stand now, where they are not yet in the record."""
        counts = counts or self.counts
        times = {f"{status}_at": self.times.get(status) for status in ("in_progress", "finalizing", *ENDINGS)}
        return {
            "id": self.id,
            "object": "batch",
            "endpoint": self.endpoint,
            "model": self.models[0] if len(self.models) == 1 else None,
            "errors": _errors(self.problems),
            "input_file_id": self.input_file_id,
            "completion_window": self.window,
            "status": self.status,
            "output_file_id": self.output_file_id if self.ended else None,
            "error_file_id": self.error_file_id if self.ended else None,
            "created_at": self.created_at,
            "expires_at": self.expires_at,
            **times,
            "cancelling_at": self.times.get("cancelling"),
            "request_counts": {"total": counts.total, "completed": counts.completed, "failed": counts.failed},
            "usage": _usage(counts),
            "metadata": dict(self.metadata) or None,
        }


def read_record(folder: Path) -> BatchRecord | None:
    """The record in `folder`; None where there is no whole one."""
    try:
        data = orjson.loads((folder / RECORD).read_bytes())
        data["counts"] = Counts(**data["counts"])
        data["problems"] = tuple(Problem(**problem) for problem in data["problems"])
        data["models"] = tuple(data["models"])
        data.pop("allowed", None)  # earlier versions asked it and not the key
        record = BatchRecord(**data)
    except (OSError, ValueError, KeyError, TypeError):
        return None
    return record if record.id == folder.name else None


def _errors(problems: tuple[Problem, ...]) -> dict[str, Any] | None:
    return {"object": "list", "data": [asdict(problem) for problem in problems]} if problems else None


def _usage(counts: Counts) -> dict[str, Any]:
    return {
        "input_tokens": counts.prompt_tokens,
        "input_tokens_details": {"cached_tokens": counts.cached_tokens},
        "output_tokens": counts.completion_tokens,
        "output_tokens_details": {"reasoning_tokens": 0},
        "total_tokens": counts.prompt_tokens + counts.completion_tokens,
    }
