"""The door of this room: one request in, one `Fused` out."""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Mapping
from dataclasses import replace

from local_fusion.config.kinds import kind_of
from local_fusion.engine import Engines
from local_fusion.errors import CallError, FusionError
from local_fusion.fusion.events import Listener
from local_fusion.fusion.modes.auto import auto
from local_fusion.fusion.modes.best_of import best_of
from local_fusion.fusion.modes.debate import debate
from local_fusion.fusion.modes.layered import layered
from local_fusion.fusion.modes.merge import merge
from local_fusion.fusion.modes.vote import vote
from local_fusion.fusion.outcome import Outcome
from local_fusion.fusion.reading import gather
from local_fusion.fusion.recipe import OF_NO_KIND, Recipe
from local_fusion.fusion.session import Session
from local_fusion.types import EngineInfo, Fused, Mode, Receipt, Request

MODES: Mapping[Mode, Callable[[Session], Awaitable[Outcome]]] = {
    "best-of": best_of,
    "vote": vote,
    "merge": merge,
    "debate": debate,
    "layered": layered,
    "auto": auto,
}


async def fuse(request: Request, recipe: Recipe, engines: Engines, listener: Listener | None = None) -> Fused:
    """Fuse one request. Raises FusionError only where there is no answer at all, or fewer than the quorum.

    Cancelling aborts every call of the request; so does an early end: none is running when this returns.
    """
    chosen, because = _by_kind(request, recipe)
    fused = await run(request, chosen, engines, listener, MODES[chosen.settings.mode])
    if not because:
        return fused
    return replace(fused, receipt=replace(fused.receipt, why=f"{because}: {fused.receipt.why}"))


def _by_kind(request: Request, recipe: Recipe) -> tuple[Recipe, str]:
    """The recipe that won for prompts of this kind, where the fusion has a table of kinds; and why, in words."""
    said = [message.content for message in request.messages if message.role == "user"]
    found = kind_of(recipe.kinds, said[-1]) if recipe.kinds is not None and said else None
    if recipe.kinds is None:
        return recipe, ""
    if found is None:
        if OF_NO_KIND not in recipe.by_kind:
            return recipe, ""
        return recipe.by_kind[OF_NO_KIND], f"auto: a prompt of no known kind (table {recipe.kinds.version})"
    kind = found.kind
    return recipe.by_kind[kind.name], f"auto: a prompt of kind {kind.name} ({kind.why}; table {recipe.kinds.version})"


async def run(
    request: Request,
    recipe: Recipe,
    engines: Engines,
    listener: Listener | None,
    mode: Callable[[Session], Awaitable[Outcome]],
) -> Fused:
    """One request through one mode, which need not be the recipe's own; else as `fuse`."""
    session = Session(request, recipe, engines, listener)
    try:
        outcome = await mode(session)
    except FusionError as problem:
        problem.calls = session.ledger.calls
        raise
    finally:
        await session.close()
    return await _fused(session, outcome)


async def _fused(session: Session, outcome: Outcome) -> Fused:
    versions, digests = await _origins(session)
    recipe = session.recipe
    receipt = Receipt(
        fusion=recipe.name,
        mode=outcome.mode,
        why=outcome.why,
        answers=tuple(session.answers),
        failures=tuple(session.failures),
        analysis=session.analysis,
        choice=session.choice,
        verdict=session.verdict,
        changed_minds=tuple(session.changed_minds),
        early_exit=session.early_exit,
        aborted=session.aborted,
        notes=tuple(session.notes),
        calls=session.ledger.calls,
        seconds=session.seconds,
        seed=session.request.seed,
        versions=versions,
        digests=digests,
        templates=f"{recipe.prompts.name}:{recipe.prompts.digest}",
    )
    return Fused(
        request_id=session.request.id,
        text=outcome.text,
        model=outcome.model,
        finish_reason=outcome.finish_reason,
        receipt=receipt,
        tokens=session.ledger.tokens,
        reasoning=outcome.reasoning,
        tool_calls=outcome.tool_calls,
        degraded=tuple(session.degraded),
    )


async def _origins(session: Session) -> tuple[dict[str, str], dict[str, str]]:
    """Versions and weight digests of the engines that had a part in the answer."""
    versions: dict[str, str] = {}
    digests = dict(session.recipe.digests)
    models = list(dict.fromkeys(call.model for call in session.ledger.calls))
    for model, info in zip(models, await gather([_info(session, model) for model in models]), strict=True):
        if info is None:
            continue
        versions.update(info.versions)
        if info.digest:
            digests[model] = info.digest
    return versions, digests


async def _info(session: Session, model: str) -> EngineInfo | None:
    try:
        return await session.info(model)
    except CallError:  # an engine that died since takes no version with it that the others do not have
        return None
