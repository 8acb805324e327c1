"""Fusions over HTTP, as any OpenAI client knows it. FastAPI, Starlette and uvicorn live in this room alone."""
