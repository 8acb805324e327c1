"""Texts continued by one model, without a chat template: several prompts, each several times, at once."""

from __future__ import annotations

from contextlib import aclosing
from dataclasses import dataclass, replace

from local_fusion.engine import Engine, Engines
from local_fusion.errors import CallAborted, CallError
from local_fusion.fusion.calls import seed_of
from local_fusion.server.orders.member import Tell, bounded, together
from local_fusion.server.orders.order import Hear, Piece, Reply, Said
from local_fusion.types import Delta, Request, Sampling, StageUsage, TextCall, TextCompletion, Tokens


@dataclass(frozen=True, slots=True)
class TextOrder:
    """Each of `prompts` continued `n` times by `model`; choices are numbered prompt by prompt. `logprobs`, `echo` as in
    `TextCall`."""

    id: str
    model: str
    prompts: tuple[str | tuple[int, ...], ...]
    sampling: Sampling
    seed: int
    n: int = 1
    logprobs: int | None = None
    echo: bool = False
    cache_salt: str | None = None
    timeout_s: float | None = None


async def run_text(engines: Engines, order: TextOrder, hear: Hear, deltas: bool) -> Reply:
    """Run all; a choice's text and log-probabilities begin with those of its prompt where `echo`. Raises CallError."""
    if order.model not in engines:
        raise CallError(f"no engine named {order.model} is running", "engine_died")
    engine = engines[order.model]
    places = [(prompt, copy) for prompt in range(len(order.prompts)) for copy in range(order.n)]
    works = [_one(engine, order, prompt, copy, hear, deltas) for prompt, copy in places]
    done = await together(works)
    prompts = [completion.tokens for (_, copy), (completion, _) in zip(places, done, strict=True) if copy == 0]
    read = sum(prompts, Tokens())
    written = sum(completion.tokens.completion for completion, _ in done)
    return Reply(
        order.id,
        order.model,
        tuple(said for _, said in done),
        replace(read, completion=written),
        calls=tuple(
            StageUsage("write", order.model, place, completion.tokens, completion.timing, completion.call_id)
            for place, (completion, _) in enumerate(done)
        ),
    )


async def _one(
    engine: Engine, order: TextOrder, prompt: int, copy: int, hear: Hear, deltas: bool
) -> tuple[TextCompletion, Said]:
    index = prompt * order.n + copy
    root = Request("", (), order.seed)
    call = TextCall(
        id=f"{order.id}/text/{order.model}/{index}",
        prompt=order.prompts[prompt],
        sampling=order.sampling,
        seed=order.seed if copy == 0 else seed_of(root, order.model, copy, "panel"),
        logprobs=order.logprobs,
        echo=order.echo,
        priority=0,
        timeout_s=order.timeout_s,
        cache_salt=order.cache_salt,
        stream=deltas,
    )
    lead = await _lead(engine, call, order.model) if order.echo else ""
    if deltas and lead:
        hear(Piece(lead, index=index))

    def tell(delta: Delta) -> None:
        hear(Piece(delta.text, logprobs=delta.logprobs, index=index))

    completion = await bounded(_read(engine, call, tell if deltas else None), order.model, order.timeout_s)
    if completion.finish_reason == "abort":
        raise CallAborted(f"{order.model} was aborted before its text was complete")
    return completion, _said(order, completion, lead)


async def _lead(engine: Engine, call: TextCall, model: str) -> str:
    """The prompt as text."""
    if isinstance(call.prompt, str):
        return call.prompt
    return await bounded(engine.detokenize(call.prompt), model, call.timeout_s)


def _said(order: TextOrder, completion: TextCompletion, lead: str) -> Said:
    logprobs = (*completion.prompt_logprobs, *completion.logprobs) if order.echo else completion.logprobs
    return Said(lead + completion.text, completion.finish_reason, logprobs=logprobs)


async def _read(engine: Engine, call: TextCall, tell: Tell | None) -> TextCompletion:
    completion: TextCompletion | None = None
    async with aclosing(engine.complete(call)) as pieces:
        async for piece in pieces:
            if isinstance(piece, TextCompletion):
                completion = piece
            elif tell is not None:
                tell(piece)
    if completion is None:
        raise CallError(f"{call.id}: the stream ended without a completion")
    return completion
