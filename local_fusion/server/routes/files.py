"""`/v1/files`: what clients upload, for batches or as documents, and what batches put out."""

from __future__ import annotations

from fastapi import APIRouter, Request
from starlette.responses import FileResponse, Response

from local_fusion.openai_api.file_objects import (
    deleted_object,
    file_object,
    list_object,
    listing_schemas,
    parse_listing,
    parse_upload,
    upload_schema,
)
from local_fusion.server.door.body import timely
from local_fusion.server.problems import Json
from local_fusion.server.service import caller_of, service_of
from local_fusion.server.stored.file_store import StoredFile
from local_fusion.server.stored.upload import UploadReader
from local_fusion.server.wire.declared import FileId, errors, query

router = APIRouter()
MOST = 10_000
_KEPT = (400, 401, 404, 500, 503)
_UPLOAD = {"requestBody": {"required": True, "content": {"multipart/form-data": {"schema": upload_schema()}}}}
_BYTES = {
    "description": "The bytes of the file.",
    "content": {"application/octet-stream": {"schema": {"type": "string", "format": "binary"}}},
}


@router.post("/v1/files", openapi_extra=_UPLOAD, responses=errors(*_KEPT, 408, 413))
async def upload(request: Request) -> Response:
    """Keep a file, streamed to the disk."""
    files, owner = service_of(request).storage.files, caller_of(request).owner
    reader = UploadReader(request.headers.get("content-type", ""), lambda: files.open(owner))
    kept = False
    try:
        await reader.read(timely(request))
        asked = parse_upload(reader.fields)
        incoming = reader.incoming
        if incoming is None:  # `read` has refused it
            raise RuntimeError("an upload without a file was read")
        file = await files.keep(incoming, owner, reader.filename, asked.purpose, asked.expires_after_s)
        kept = True
    finally:
        if reader.incoming is not None and not kept:
            files.drop(reader.incoming)
    return Json(_object(file))


@router.get("/v1/files", openapi_extra=query(**listing_schemas(MOST, purposes=True)), responses=errors(*_KEPT))
async def list_files(request: Request) -> Response:
    """A page of this key's files."""
    listing = parse_listing(request.query_params, MOST, MOST, purposes=True)
    page, more = service_of(request).storage.files.page(caller_of(request).owner, listing)
    return Json(list_object([_object(file) for file in page], more))


@router.get("/v1/files/{file_id}", responses=errors(*_KEPT))
async def get_file(request: Request, file_id: FileId) -> Response:
    """What is known of one file."""
    return Json(_object(service_of(request).storage.files.get(caller_of(request).owner, file_id)))


@router.get("/v1/files/{file_id}/content", responses={200: _BYTES, **errors(*_KEPT)})
async def content(request: Request, file_id: FileId) -> Response:
    """The bytes as they were sent. Never shown by a browser as a page of this server."""
    files = service_of(request).storage.files
    file = files.get(caller_of(request).owner, file_id)
    return FileResponse(
        files.content(file),
        media_type="application/octet-stream",
        filename=file.filename,
        headers={"x-content-type-options": "nosniff", "cache-control": "no-store"},
    )


@router.delete("/v1/files/{file_id}", responses=errors(*_KEPT))
async def delete(request: Request, file_id: FileId) -> Response:
    """The file is gone at once; a batch that began with it goes on."""
    await service_of(request).storage.files.delete(caller_of(request).owner, file_id)
    return Json(deleted_object(file_id))


def _object(file: StoredFile) -> dict[str, object]:
    return file_object(file.id, file.filename, file.purpose, file.size_bytes, file.created_at, file.expires_at)
