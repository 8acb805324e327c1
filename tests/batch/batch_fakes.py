"""Small stand-ins for the rooms a batch sits on: a recipe on scripted engines, a fusion of three calls, a call log."""

from __future__ import annotations

import asyncio
import json
import os
from collections.abc import AsyncIterator
from pathlib import Path

from local_fusion.config import parse_config
from local_fusion.engine import Engine, Engines, PassingEngine
from local_fusion.engines.scripted import ScriptedEngine
from local_fusion.errors import CallError, FusionError
from local_fusion.fusion.recipe import Recipe, make_recipe
from local_fusion.types import (
    Answer,
    Call,
    Completion,
    Delta,
    Failure,
    Fused,
    LabelCall,
    LabelRead,
    Receipt,
    Request,
    StageUsage,
    Tokens,
)

MODELS = ("ada", "bob", "cyd")


def recipe_for(mode: str = "best-of", scripted: str = "", fusion: str = "", panel: str = "[ada, bob, cyd]") -> Recipe:
    """A fusion of three scripted models; `scripted` and `fusion`: more YAML for the models or the fusion."""
    models = "".join(f"  {name}: {{engine: scripted, scripted: {{{scripted}}}}}\n" for name in MODELS)
    text = f"models:\n{models}fusions:\n  trio: {{panel: {panel}, mode: {mode}{fusion and ', ' + fusion}}}\n"
    config = parse_config(text)
    return make_recipe("trio", config.fusions["trio"], config.models)


def scripted_engines(recipe_text: str = "") -> dict[str, Engine]:
    """Three instant scripted engines (or with these settings, in YAML)."""
    config = parse_config(
        "models:\n" + "".join(f"  {name}: {{engine: scripted, scripted: {{{recipe_text}}}}}\n" for name in MODELS)
    )
    return {name: ScriptedEngine(name, config.models[name].scripted) for name in MODELS}


async def small_fuse(request: Request, recipe: Recipe, engines: Engines) -> Fused:
    """Every seat answers; the judge reads labels; the first answer is returned. Fails when nobody answers."""

    async def ask(model: str) -> Completion | Failure:
        call = Call(f"{request.id}/panel/{model}/0/{request.seed}", request.messages, recipe.seats[0].sampling, 1)
        try:
            return await engines[model].generate(call)
        except CallError as problem:
            return Failure(model, problem.reason, problem.message)

    results = await asyncio.gather(*(ask(seat.model) for seat in recipe.seats))
    answers = [result for result in results if isinstance(result, Completion)]
    failures = tuple(result for result in results if isinstance(result, Failure))
    if not answers:
        raise FusionError("no member answered", "all_panels_failed", failures)
    read = await engines[recipe.judge].label_read(
        LabelCall(f"{request.id}/pick/{recipe.judge}/0/{len(answers)}", request.messages, ("A", "B"))
    )
    calls = tuple(StageUsage("panel", one.model, 0, one.tokens, one.timing, one.call_id) for one in answers)
    receipt = Receipt(
        fusion=recipe.name,
        mode="best-of",
        why="asked for",
        answers=tuple(Answer(one.model, 0, one.text or "") for one in answers),
        failures=failures,
        calls=(*calls, StageUsage("pick", read.model, 0, read.tokens, read.timing, read.call_id)),
        seed=request.seed,
    )
    tokens = sum((one.tokens for one in answers), Tokens())
    return Fused(request.id, answers[0].text or "", answers[0].model, "stop", receipt, tokens)


class LoggedEngine(PassingEngine):
    """An engine that appends the id of each call to a file before it starts, one write each: what a checker trusts."""

    def __init__(self, engine: Engine, log: Path) -> None:
        super().__init__(engine)
        self.handle = os.open(log, os.O_WRONLY | os.O_CREAT | os.O_APPEND, 0o600)

    def _started(self, call_id: str) -> None:
        os.write(self.handle, json.dumps(call_id).encode() + b"\n")

    async def generate(self, call: Call) -> Completion:
        self._started(call.id)
        return await super().generate(call)

    async def stream(self, call: Call) -> AsyncIterator[Delta | Completion]:
        self._started(call.id)
        async for item in super().stream(call):
            yield item

    async def label_read(self, call: LabelCall) -> LabelRead:
        self._started(call.id)
        return await super().label_read(call)

    async def close(self) -> None:
        await self._engine.close()
        os.close(self.handle)


def logged(engines: dict[str, Engine], log: Path) -> dict[str, Engine]:
    """The same engines, with one log of the calls they start."""
    return {name: LoggedEngine(engine, log) for name, engine in engines.items()}


def read_lines(path: Path) -> list[dict]:
    """The JSON lines of a file; every one must be whole."""
    return [json.loads(line) for line in path.read_text("utf-8").splitlines()]


def write_rows(path: Path, count: int) -> Path:
    """Rows row-0 … of short prompts."""
    path.write_text("".join(json.dumps({"id": f"row-{n}", "prompt": f"Question {n}?"}) + "\n" for n in range(count)))
    return path
