"""A plain member as the model of batch rows: one call, in the form of a fusion's result, so that the runner journals
and resumes it like any other."""

from __future__ import annotations

from local_fusion.config import Config, FusionSettings
from local_fusion.config.schema import SamplingSettings
from local_fusion.engine import Engines
from local_fusion.errors import CallError, FusionError
from local_fusion.fusion.calls import call_id, digest_of, priority_of, seed_of
from local_fusion.fusion.recipe import Recipe, make_recipe
from local_fusion.types import Answer, Call, Failure, Fused, Receipt, Request, StageUsage

WHY = "a single model was asked for"


def member_recipe(config: Config, model: str, limit_s: float | None) -> Recipe:
    """What a run needs to know of a model that answers alone: its own sampling under the client's, and the seconds that
    it has, as in an interactive request."""
    settings = FusionSettings.model_validate(
        {
            "panel": [model],
            "mode": "best-of",
            "writer_sampling": SamplingSettings(),
            "analysis": False,
            "member_timeout_s": limit_s,
        }
    )
    return make_recipe(model, settings, config.models, config.source.parent if config.source else None)


async def ask_member(request: Request, recipe: Recipe, engines: Engines) -> Fused:
    """One call with everything the request says. Raises FusionError where it fails."""
    model = recipe.judge
    sampling = request.sampling or recipe.writer_sampling[model]
    tools = () if request.tool_choice == "none" else request.tools
    choice = request.tool_choice if tools else None
    seed = seed_of(request, model, 0, "write")
    digest = digest_of(request.messages, sampling, seed, request.json_schema, tools, choice)
    call = Call(
        id=call_id(request, "write", model, 0, digest),
        messages=request.messages,
        sampling=sampling,
        seed=seed,
        json_schema=request.json_schema,
        tools=tools,
        tool_choice=choice,
        priority=priority_of(request, "write"),
        timeout_s=recipe.settings.member_timeout_s,
        cache_salt=request.cache_salt,
        stage="write",
    )
    try:
        done = await engines[model].generate(call)
    except CallError as problem:
        failure = Failure(model, problem.reason, problem.message, "write")
        raise FusionError(f"{model} gave no answer: {problem.message}", "all_panels_failed", [failure]) from None
    text = done.text or ""
    receipt = Receipt(
        fusion=recipe.name,
        mode="best-of",
        why=WHY,
        answers=(Answer(model, 0, text, done.reasoning, tokens=done.tokens, seed=seed, call_id=call.id),),
        calls=(StageUsage("write", model, 0, done.tokens, done.timing, call.id, seed),),
        seconds=done.timing.total_s,
        seed=request.seed,
        digests=recipe.digests,
        templates=f"{recipe.prompts.name}:{recipe.prompts.digest}",
    )
    return Fused(request.id, text, model, done.finish_reason, receipt, done.tokens, done.reasoning, done.tool_calls)
