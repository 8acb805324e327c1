"""`local-fusion ask`: one question, answered on the terminal as it is written."""

from __future__ import annotations

import asyncio
import sys
from typing import TYPE_CHECKING, Annotated, Any

import typer

from local_fusion.cli.options import (
    ConfigOption,
    FusionOption,
    ModeOption,
    TraceOption,
    TraceRemoteOption,
    checked_mode,
)
from local_fusion.errors import InputError

if TYPE_CHECKING:
    from local_fusion.fusion.recipe import Recipe
    from local_fusion.trace import Tracer
    from local_fusion.types import Fused, Request

SECTIONS = ("panel", "analysis", "receipt")


def ask(
    prompt: Annotated[str | None, typer.Argument(help="The question; `-` or nothing reads it from stdin.")] = None,
    fusion: FusionOption = None,
    mode: ModeOption = None,
    show: Annotated[str, typer.Option(help="Show besides the answer: " + ",".join(SECTIONS))] = "",
    system: Annotated[str | None, typer.Option(help="System message.")] = None,
    seed: Annotated[int, typer.Option(help="Root of all seeds.")] = 0,
    as_json: Annotated[bool, typer.Option("--json", help="Print answer and receipt as one JSON object.")] = False,
    trace: TraceOption = None,
    trace_remote: TraceRemoteOption = False,
    config: ConfigOption = None,
) -> None:
    """Ask a fusion one question; the answer streams to the terminal."""
    sections = _sections(show)
    text = _prompt(prompt)
    from local_fusion.config import load_config
    from local_fusion.runtime import recipe_of
    from local_fusion.trace import open_tracer
    from local_fusion.types import Message, Request

    loaded = load_config(config)
    recipe = recipe_of(loaded, fusion, mode=checked_mode(mode))
    turns = ((Message("system", system),) if system else ()) + (Message("user", text),)
    request = Request(id="ask", messages=turns, seed=seed)
    tracer = open_tracer(trace, trace_remote)
    try:
        fused = asyncio.run(_ask(loaded, recipe, request, sections, as_json, tracer))
    finally:
        if tracer is not None:
            tracer.close()
    if as_json:
        from local_fusion.cli.screen import as_json_text

        print(as_json_text(fused))


def _sections(show: str) -> tuple[str, ...]:
    wanted = tuple(part.strip() for part in show.split(",") if part.strip())
    for part in wanted:
        if part not in SECTIONS:
            raise InputError(f"--show: unknown section {part!r}; known are {', '.join(SECTIONS)}")
    return wanted


def _prompt(prompt: str | None) -> str:
    if prompt is not None and prompt != "-":
        text = prompt
    elif sys.stdin.isatty():
        raise InputError("no question; write it behind `ask`, or send it to stdin")
    else:
        text = sys.stdin.buffer.read().decode("utf-8", errors="replace")
    if not text.strip():
        raise InputError("the question is empty; write it behind `ask`, or send it to stdin")
    return text


async def _ask(
    config: Any,
    recipe: Recipe,
    request: Request,
    sections: tuple[str, ...],
    quiet: bool,
    tracer: Tracer | None,
) -> Fused:
    from functools import partial

    from local_fusion.cli.screen import AskScreen
    from local_fusion.fusion.events import Listener
    from local_fusion.fusion.fuse import fuse
    from local_fusion.runtime import open_engines

    screen = AskScreen(sections, quiet)
    with screen:
        async with open_engines(config, recipe.settings.models, screen.say) as engines:
            heard = partial(fuse, listener=Listener(screen.hear, deltas=not quiet))
            fused = await (heard if tracer is None else tracer.around(heard))(request, recipe, engines)
            screen.finish(fused)
    return fused
