"""A pydantic complaint as one sentence that names the field and repeats nothing of the texts."""

from __future__ import annotations

from pydantic import ValidationError

from local_fusion.errors import RequestError


def refusal_of(problem: ValidationError, where: str = "") -> RequestError:
    """The first complaint; `where`: the dotted name of what was checked, "" for the body itself."""
    first = problem.errors(include_url=False, include_input=False, include_context=False)[0]
    param = ".".join([*([where] if where else []), *(str(part)[:64] for part in first["loc"])])
    if first["type"] == "too_many_fields":
        return RequestError(f"{param or 'the body'}: {first['msg']}", "too_many", param or None)
    if first["type"] == "extra_forbidden":
        return RequestError(f"the field {param!r} is not supported; leave it out", "unknown_field", param)
    if first["type"] == "missing":
        return RequestError(f"the field {param!r} is missing; add it", "missing_field", param)
    return RequestError(f"{param}: {first['msg']}", "invalid_field", param)
