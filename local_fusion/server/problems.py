"""Errors as a client sees them: OpenAI's form, the right status, never a prompt, never a traceback."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import orjson
from fastapi import FastAPI, Request
from fastapi.exceptions import RequestValidationError
from starlette.exceptions import HTTPException
from starlette.responses import Response
from starlette.routing import Match, Route

from local_fusion.errors import CallError, FusionError, LocalFusionError, RequestError
from local_fusion.openai_api import error_body
from local_fusion.openai_api.reply import failed_models

_STATUS_OF_CODE = {
    "model_not_found": 404,
    "not_found": 404,
    "permission_denied": 403,
    "invalid_api_key": 401,
    "body_too_large": 413,
    "uri_too_long": 414,
    "unsupported_media_type": 415,
    "deadline_exceeded": 504,
}
_STATUS_OF_REASON = {"context_exceeded": 400, "bad_request": 400, "timeout": 504, "deadline": 504}
_WORKED = {"x-should-retry": "false"}
"""Engines have worked on it: to send it again would cost the same again."""


class Refusal(LocalFusionError):
    """A request that the server refuses for its own reasons: status, code and headers are given.

    `retriable`: nothing has been done for it, so the same request may be sent again.
    """

    status = 503
    code = "unavailable"
    retriable = True

    def __init__(
        self, message: str, retry_after_s: int | None = None, headers: Mapping[str, str] | None = None
    ) -> None:
        super().__init__(message)
        self.headers = dict(headers or {})
        if retry_after_s is not None:
            self.headers["retry-after"] = str(retry_after_s)

    def __reduce__(self) -> tuple[Any, ...]:
        return type(self), (self.message, None, self.headers)


class NotReady(Refusal):
    """The engines are not there (yet, or any more)."""

    code = "not_ready"

    def __init__(self, message: str, retry_after_s: int | None = 5, headers: Mapping[str, str] | None = None) -> None:
        super().__init__(message, retry_after_s, headers)


class CutOff(Refusal):
    """The server ended before the work had."""

    code = "shutting_down"
    retriable = False


class Overloaded(Refusal):
    """More requests than the server, or this key, may have."""

    status = 429
    code = "rate_limit_exceeded"


class Unauthorized(Refusal):
    """No key, or none that is known."""

    status = 401
    code = "invalid_api_key"
    retriable = False

    def __init__(self, message: str) -> None:
        super().__init__(message, None, {"www-authenticate": 'Bearer realm="local-fusion"'})


class Forbidden(Refusal):
    """This is not for this caller."""

    status = 403
    code = "permission_denied"
    retriable = False


class TooSlow(Refusal):
    """The body did not come in time."""

    status = 408
    code = "request_timeout"
    retriable = False


class ClientGone(Refusal):
    """The client hung up; nobody reads the answer."""

    status = 499
    code = "client_gone"
    retriable = False


class Json(Response):
    """A JSON body by orjson."""

    media_type = "application/json"

    def render(self, content: Any) -> bytes:
        return orjson.dumps(content, option=orjson.OPT_NON_STR_KEYS)


def described(problem: BaseException) -> tuple[int, dict[str, Any], dict[str, str]]:
    """Status, body in OpenAI's form and headers of an error. What is not ours becomes a 500 without details."""
    if isinstance(problem, RequestError):
        status = _STATUS_OF_CODE.get(problem.code, 400)
        return status, error_body(problem.message, problem.code, problem.param, status), {}
    if isinstance(problem, Refusal):
        headers = {"x-should-retry": "true" if problem.retriable else "false"} | problem.headers
        return problem.status, error_body(problem.message, problem.code, None, problem.status), headers
    if isinstance(problem, FusionError):
        status = _STATUS_OF_CODE.get(problem.code, 503)
        body = error_body(problem.message, problem.code, None, status)
        body["error"]["failed_models"] = failed_models(problem.failures)
        return status, body, dict(_WORKED)
    if isinstance(problem, CallError):
        status = _STATUS_OF_REASON.get(problem.reason, 503)
        return status, error_body(problem.message, problem.reason, None, status), dict(_WORKED)
    message = "the server failed on this request; its log has a line under the request's id"
    return 500, error_body(message, "internal_error", None, 500), dict(_WORKED)


def answer(problem: BaseException) -> Response:
    """The response for an error."""
    status, body, headers = described(problem)
    return Json(body, status, headers)


def _methods(request: Request) -> str:
    """Every method of this address; one route knows of its own only."""
    there = (route for route in request.app.routes if isinstance(route, Route))
    fitting = (route for route in there if route.matches(request.scope)[0] is not Match.NONE)
    return ", ".join(sorted({method for route in fitting for method in route.methods or ()}))


def install(app: FastAPI) -> None:
    """Make every error of every route look like OpenAI's."""

    async def ours(request: Request, problem: Exception) -> Response:
        return answer(problem)

    async def http(request: Request, problem: Exception) -> Response:
        status = problem.status_code if isinstance(problem, HTTPException) else 500
        given: Mapping[str, str] | None = getattr(problem, "headers", None)
        headers = {"allow": _methods(request)} if status == 405 else dict(given or {})
        words = {
            404: ("there is no such address here", "not_found"),
            405: ("this method is not for this address", "method_not_allowed"),
        }
        message, code = words.get(status, ("the request was refused", "refused"))
        return Json(error_body(message, code, None, status), status, headers)

    async def unread(request: Request, problem: Exception) -> Response:
        return answer(RequestError("a part of the address is not of its kind", "invalid_field"))

    app.add_exception_handler(LocalFusionError, ours)
    app.add_exception_handler(RequestValidationError, unread)
    app.add_exception_handler(HTTPException, http)
