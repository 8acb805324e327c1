"""Log lines on stderr: one per request and per event, structured, without prompts, answers or query strings.

Invariant: what is logged are names, numbers and types; never the text of an error that is not ours.
"""

from __future__ import annotations

import logging
import sys
from pathlib import Path
from typing import Any, BinaryIO, Literal

import orjson
import structlog

LogFormat = Literal["json", "text", "off"]


class Log:
    """Says nothing until `configure`d, so that a server inside a test or another program is quiet."""

    def __init__(self) -> None:
        self._logger: Any = None

    def configure(self, form: LogFormat, output: BinaryIO | None = None) -> None:
        """`json`: a JSON object a line; `text`: for a person; `off`: nothing. `output`: None for stderr."""
        if form == "off":
            self._logger = None
            return
        renderer: Any = structlog.dev.ConsoleRenderer(colors=sys.stderr.isatty())
        if form == "json":
            renderer = structlog.processors.JSONRenderer(serializer=_dumps)
        processors: list[Any] = [
            structlog.processors.add_log_level,
            structlog.processors.TimeStamper(fmt="iso", utc=True),
            renderer,
            _encoded,
        ]
        self._logger = structlog.wrap_logger(
            structlog.BytesLogger(output or sys.stderr.buffer),
            processors=processors,
            wrapper_class=structlog.make_filtering_bound_logger(logging.INFO),
            cache_logger_on_first_use=True,
        )

    def info(self, event: str, **fields: Any) -> None:
        """What happens in the ordinary course."""
        if self._logger is not None:
            self._logger.info(event, **fields)

    def warning(self, event: str, **fields: Any) -> None:
        """What somebody should look at."""
        if self._logger is not None:
            self._logger.warning(event, **fields)

    def failed(self, event: str, problem: BaseException, **fields: Any) -> None:
        """An error that is not ours: its type and the place it comes from; its text may hold a prompt."""
        if self._logger is not None:
            self._logger.error(event, error=type(problem).__name__, place=place_of(problem), **fields)


log = Log()
_PLAIN = ("uvicorn.error", "uvicorn", "asyncio")


class LibraryHandler(logging.Handler):
    """Passes warnings of libraries on: the place, the type of an exception; words only of those known to use constant
    ones in their first line (below it, asyncio shows what a task raised)."""

    def emit(self, record: logging.LogRecord) -> None:
        """One record; never raises."""
        problem = record.exc_info[1] if record.exc_info else None
        if problem is not None:
            log.failed("library_error", problem, library=record.name)
        else:
            words = str(record.msg).split("\n")[0][:200] if record.name in _PLAIN else ""
            log.warning("library_warning", library=record.name, place=f"{record.filename}:{record.lineno}", words=words)


def tame_libraries() -> None:
    """Let libraries of this process speak through `log` alone."""
    logging.getLogger().addHandler(LibraryHandler(logging.WARNING))
    for name in _PLAIN:
        logger = logging.getLogger(name)
        logger.handlers = [LibraryHandler(logging.WARNING)]
        logger.propagate = False
        logger.setLevel(logging.WARNING)


def place_of(problem: BaseException) -> str:
    """File and line where an exception was raised: `run.py:42`, innermost last, three at most."""
    places = []
    trace = problem.__traceback__
    while trace is not None:
        places.append(f"{Path(trace.tb_frame.f_code.co_filename).name}:{trace.tb_lineno}")
        trace = trace.tb_next
    return " < ".join(reversed(places[-3:]))


def _encoded(logger: Any, method: str, line: str | bytes) -> bytes:
    return line if isinstance(line, bytes) else line.encode("utf-8", "backslashreplace")


def _dumps(fields: Any, **options: Any) -> bytes:
    return orjson.dumps(fields, default=str)
