"""`/v1/batches`: many requests in one file, answered in the background."""

from __future__ import annotations

from fastapi import APIRouter, Request
from starlette.responses import Response

from local_fusion.openai_api.batch_objects import batch_schema, parse_batch
from local_fusion.openai_api.file_objects import list_object, listing_schemas, parse_listing
from local_fusion.server.door.body import read_json
from local_fusion.server.problems import Json
from local_fusion.server.service import caller_of, service_of
from local_fusion.server.wire.declared import BatchId, errors, json_body, query

router = APIRouter()
MOST, USUAL = 100, 20
_KEPT = (400, 401, 404, 500, 503)


@router.post("/v1/batches", openapi_extra=json_body(batch_schema()), responses=errors(*_KEPT, 408, 413, 429))
async def create(request: Request) -> Response:
    """Begin a batch over an uploaded file."""
    ask = parse_batch(await read_json(request))
    return Json(await service_of(request).storage.batches.create(caller_of(request), ask))


@router.get("/v1/batches", openapi_extra=query(**listing_schemas(MOST)), responses=errors(*_KEPT))
async def list_batches(request: Request) -> Response:
    """A page of this key's batches, the newest first."""
    listing = parse_listing(request.query_params, MOST, USUAL)
    page, more = service_of(request).storage.batches.page(caller_of(request).owner, listing)
    return Json(list_object(page, more))


@router.get("/v1/batches/{batch_id}", responses=errors(*_KEPT))
async def get_batch(request: Request, batch_id: BatchId) -> Response:
    """Where a batch stands."""
    return Json(service_of(request).storage.batches.get(caller_of(request).owner, batch_id))


@router.post("/v1/batches/{batch_id}/cancel", responses=errors(*_KEPT))
async def cancel(request: Request, batch_id: BatchId) -> Response:
    """Begin no more rows of it; what is finished is kept."""
    return Json(await service_of(request).storage.batches.cancel(caller_of(request).owner, batch_id))
