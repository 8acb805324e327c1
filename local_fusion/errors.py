"""The one tree of errors; each survives pickling and carries a sentence with the remedy.

LocalFusionError
├── UserError                wrong use: exit code 2, HTTP 400
│   ├── ConfigError          models.yaml is wrong
│   ├── InputError           a row, a request or a file is wrong
│   │   └── RequestError     one request is wrong: `code`, and `param` names the field
│   └── ModelFilesError      a model folder is missing or corrupt
├── CallError                one call failed; `reason` is a member of `FailureReason`
│   ├── ContextExceeded      the prompt does not fit the engine's context
│   ├── CallTimeout          the call's time was up
│   ├── CallAborted          aborted by its owner
│   └── EngineDied           the engine went away under the call (retried by the fleet)
├── FusionError              a whole request failed: `code` as in the failure table
├── StartError               an engine or host did not start; the message names the cause
└── RunError                 the batch must stop now, resumable (disk full, lost folder)
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from local_fusion.types import Failure, FailureReason, StageUsage


class LocalFusionError(Exception):
    """Base of all errors raised on purpose. `message` is meant for the user."""

    def __init__(self, message: str) -> None:
        super().__init__(message)
        self.message = message


class UserError(LocalFusionError):
    """Wrong use; nothing was started or lost."""


class ConfigError(UserError):
    """The configuration is wrong; the message names file, key and remedy."""


class InputError(UserError):
    """A row, request or input file is wrong; the message names it and the remedy."""


class RequestError(InputError):
    """One request is wrong. `code`: unknown_field, invalid_field, …; `param`: the field, dotted, or None."""

    def __init__(self, message: str, code: str, param: str | None = None) -> None:
        super().__init__(message)
        self.code = code
        self.param = param

    def __reduce__(self) -> tuple[Any, ...]:
        return type(self), (self.message, self.code, self.param)


class ModelFilesError(UserError):
    """A model folder is missing, incomplete or corrupt."""


class CallError(LocalFusionError):
    """One engine call failed. The rest of the request goes on without it."""

    reason: FailureReason = "engine_error"

    def __init__(self, message: str, reason: FailureReason | None = None) -> None:
        super().__init__(message)
        if reason is not None:
            self.reason = reason

    def __reduce__(self) -> tuple[Any, ...]:
        return type(self), (self.message, self.reason)


class ContextExceeded(CallError):
    """The prompt does not fit the model's context."""

    reason: FailureReason = "context_exceeded"


class CallTimeout(CallError):
    """The call did not end within its time."""

    reason: FailureReason = "timeout"


class CallAborted(CallError):
    """The call was aborted by its owner (early exit, client gone, shutdown)."""

    reason: FailureReason = "aborted"


class EngineDied(CallError):
    """The engine or its host died while the call ran."""

    reason: FailureReason = "engine_died"


class FusionError(LocalFusionError):
    """A request has no answer at all. `code`: all_panels_failed, quorum_not_met, deadline_exceeded …; `calls`: those
    that ended with a result all the same, and cost what they cost."""

    def __init__(
        self, message: str, code: str, failures: Sequence[Failure] = (), calls: Sequence[StageUsage] = ()
    ) -> None:
        super().__init__(message)
        self.code = code
        self.failures = tuple(failures)
        self.calls = tuple(calls)

    def __reduce__(self) -> tuple[Any, ...]:
        return type(self), (self.message, self.code, self.failures, self.calls)


class StartError(LocalFusionError):
    """An engine or host could not be started; the message carries the real cause."""


class RunError(LocalFusionError):
    """The run stops here and can be resumed by the same command."""
