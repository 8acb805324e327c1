"""`/v1/feedback`: what users say of answers, kept beside the receipts for calibration."""

from __future__ import annotations

from fastapi import APIRouter, Request
from starlette.responses import Response

from local_fusion.openai_api.feedback import feedback_schema, parse_feedback
from local_fusion.server.door.body import read_json
from local_fusion.server.problems import Json
from local_fusion.server.service import caller_of, service_of
from local_fusion.server.wire.declared import errors, json_body

router = APIRouter()


@router.post(
    "/v1/feedback", openapi_extra=json_body(feedback_schema()), responses=errors(400, 401, 404, 413, 429, 500, 503)
)
async def feedback(request: Request) -> Response:
    """Thumbs up or down on an answer of this key; the last word counts."""
    said = parse_feedback(await read_json(request))
    await service_of(request).storage.receipts.rate(caller_of(request).owner, said)
    return Json({"id": said.id, "object": "feedback", "rating": said.rating})
