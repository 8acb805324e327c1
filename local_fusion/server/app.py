"""The FastAPI application: which routes there are, and what stands before all of them."""

from __future__ import annotations

from fastapi import FastAPI

from local_fusion import __version__
from local_fusion.server import problems
from local_fusion.server.door.gate import Gate
from local_fusion.server.door.middleware import Front
from local_fusion.server.routes import (
    batches,
    chat,
    completions,
    feedback,
    files,
    fleet,
    health,
    metrics,
    models,
    openapi,
    page,
    responses,
    tokenize,
    version,
)
from local_fusion.server.service import Service


def make_app(service: Service) -> FastAPI:
    """Every route over one service. The engines may still be starting."""
    app = FastAPI(
        title="local-fusion",
        version=__version__,
        description="One better answer out of several open models, on your own GPUs, fully offline.",
        docs_url=None,
        redoc_url=None,
        openapi_url=None,
        redirect_slashes=False,
    )
    app.state.service = service
    problems.install(app)
    for routes in (
        models,
        chat,
        tokenize,
        completions,
        responses,
        files,
        batches,
        feedback,
        health,
        metrics,
        version,
        openapi,
        fleet,
        page,
    ):
        app.include_router(routes.router)
    app.add_middleware(Gate, service=service)
    app.add_middleware(Front, service=service)  # the last one added is the outermost
    return app
