"""The writer: the only call that gets the client's sampling, schema, tools and stop strings.

Writers stand in a list; where one fails, says nothing or is cut by the fusion's own limit, the next one steps in.
"""

from __future__ import annotations

from dataclasses import dataclass, replace

from local_fusion.errors import CallError
from local_fusion.fusion.case import Case
from local_fusion.fusion.events import WriterDelta, WriterStarted
from local_fusion.fusion.member import says_something
from local_fusion.fusion.session import Heard, Session
from local_fusion.fusion.thinking import split_thinking
from local_fusion.types import Completion, Delta, Message, Sampling


@dataclass(frozen=True, slots=True)
class Written:
    """What a writer wrote. `text` is empty only where tools are called; `whole`: not cut by the fusion's own limit."""

    text: str
    reasoning: str | None
    completion: Completion
    whole: bool = True


async def write(session: Session, case: Case, analysis: str | None) -> Written | None:
    """The first whole text that a writer gives; else one that was cut; None where there is none at all."""
    messages = session.recipe.prompts.write(case.brief(), analysis, session.settings.criteria)
    cut: Written | None = None
    writers = session.recipe.writers
    for place, model in enumerate(writers):
        if session.expired:
            break
        session.emit(WriterStarted(model))
        try:
            written = await _write(session, model, messages)
        except CallError as problem:
            session.failed(model, "write", problem)
            session.degrade(_phrase(model, problem.reason, writers[place + 1 :]))
            continue
        if written.whole:
            return written
        cut = cut or written
        session.degrade(_phrase(model, "cut at its token limit", writers[place + 1 :]))
    return cut


def writing_sampling(session: Session, model: str) -> Sampling:
    """The client's sampling where there is one, within its limit and the fusion's; the writer's template settings
    stay."""
    own, client = session.recipe.writer_sampling[model], session.request.sampling
    limits = [limit for limit in (session.settings.max_writer_tokens, session.request.max_tokens) if limit is not None]
    if client is None:
        return replace(own, max_tokens=min(own.max_tokens, *limits)) if limits else own
    return replace(
        client,
        max_tokens=min(client.max_tokens, *limits) if limits else client.max_tokens,
        thinking_token_budget=(
            own.thinking_token_budget if client.thinking_token_budget is None else client.thinking_token_budget
        ),
        chat_template_kwargs={**own.chat_template_kwargs, **client.chat_template_kwargs},
    )


async def _write(session: Session, model: str, messages: tuple[Message, ...]) -> Written:
    request = session.request
    sampling = writing_sampling(session, model)
    completion, _ = await session.generate(
        "write",
        model,
        0,
        messages,
        sampling,
        json_schema=request.json_schema,
        tools=session.tools,
        tool_choice=request.tool_choice if session.tools else None,
        delta=_teller(session, model) if session.deltas else None,
    )
    reasoning, text = completion.reasoning, completion.text
    if text is not None and reasoning is None:
        reasoning, text = split_thinking(text)
    if completion.finish_reason == "abort":
        raise CallError(f"{model} was aborted while it wrote", "aborted")
    if not completion.tool_calls:
        if text is None:
            raise CallError(f"{model} only thought and wrote nothing; raise max_writer_tokens", "no_answer")
        if not says_something(text):
            raise CallError(f"{model} wrote nothing", "empty")
    whole = completion.finish_reason != "length" or _cut_by_client(session, completion)
    return Written(text or "", reasoning, completion, whole)


def _cut_by_client(session: Session, completion: Completion) -> bool:
    most = session.request.max_tokens
    return most is not None and completion.tokens.completion >= most


def _teller(session: Session, model: str) -> Heard:
    def tell(piece: Delta) -> None:
        if piece.text or piece.reasoning or piece.tools:
            session.emit(WriterDelta(model, piece.text, piece.reasoning, piece.tools))

    return tell


def _phrase(model: str, reason: str, rest: tuple[str, ...]) -> str:
    return f"writer {model} failed ({reason}); " + (
        f"{rest[0]} was asked instead" if rest else "no other writer is left"
    )
