"""What a checked request orders: which fusion or member stands behind its model's name, and with what changes.

Every door that takes a `ChatRequest` comes through here. A fusion's name (or `openrouter/fusion`, or none) always runs
that fusion. A member's name runs the member alone, or, with the fusion plugin or tool, lets it consult a fusion.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import replace
from typing import Any

from local_fusion.config.load import nearest
from local_fusion.errors import RequestError
from local_fusion.fusion.recipe import Recipe
from local_fusion.openai_api.completions import CompletionRequest
from local_fusion.openai_api.fusion_fields import FusionFields
from local_fusion.openai_api.request import FLASH_ALIAS, FLASH_PRESET, FUSION_ALIAS, ChatRequest
from local_fusion.openai_api.tools import names_fusion
from local_fusion.server.door.callers import Caller
from local_fusion.server.ids import new_seed
from local_fusion.server.orders.changes import changes_of
from local_fusion.server.orders.completing import TextOrder
from local_fusion.server.orders.order import FusionOrder, MemberOrder, Order, OuterOrder
from local_fusion.server.service import Service
from local_fusion.types import Sampling

SEED_RANGE = 2**53


def order_for(service: Service, caller: Caller, asked: ChatRequest, request_id: str) -> Order:
    """The order behind a request; every call id of it begins with `request_id`.

    Raises RequestError: model_not_found (404), permission_denied (403), or a field that does not fit.
    """
    if asked.seed is None:
        asked = replace(asked, seed=new_seed())
    catalog = service.catalog
    name = FUSION_ALIAS if asked.model is None else asked.model
    if name == FLASH_ALIAS or catalog.fusion(name) is not None:
        return _of_fusion(service, caller, asked, name, request_id)
    if not catalog.is_member(name):
        raise not_served(service, caller, name)
    check_allowed(caller, name)
    member = member_order(service, asked, name, request_id)
    fields = asked.fusion
    if fields.own and not (fields.plugin or fields.tool):
        raise RequestError(
            f"fusion belongs to a fusion, and {name} is a member; let it consult one by plugins, or leave fusion out",
            "invalid_field",
            "fusion",
        )
    consults = asked.tool_choice in (None, "auto", "required") or names_fusion(asked.tool_choice)
    if not fields.asked or not consults:
        return replace(member, tools=_usable_tools(service, asked, (name,)))
    return _outer(service, caller, asked, member)


def member_order(service: Service, asked: ChatRequest, model: str, request_id: str) -> MemberOrder:
    """The member alone, under its own sampling and above it the client's."""
    settings = service.config.models[model]
    sampling = settings.sampling.over(Sampling())
    if asked.sampling is not None:
        sampling = asked.sampling.over(sampling)
    return MemberOrder(
        id=request_id,
        model=model,
        messages=asked.messages,
        sampling=_bounded_thinking(service, model, sampling, asked.thinking_tokens),
        seed=(asked.seed or 0) % SEED_RANGE,
        json_schema=asked.json_schema,
        tools=asked.tools,
        tool_choice=_own_choice(asked),
        n=asked.n,
        logprobs=asked.logprobs,
        cache_salt=asked.cache_salt,
        parallel_tools=asked.parallel_tools,
        timeout_s=service.catalog.recipes[service.catalog.default].settings.member_timeout_s,
    )


def text_order(service: Service, caller: Caller, asked: CompletionRequest, request_id: str) -> TextOrder:
    """The member behind a completion request. Raises RequestError as `order_for`, and for fusions."""
    model = asked.model
    if model == FLASH_ALIAS or service.catalog.fusion(model) is not None:
        raise RequestError(
            f"{model} is a fusion, and a fusion has no completions: ask a member, or POST /v1/chat/completions",
            "fusion_has_no_completions",
            "model",
        )
    if not service.catalog.is_member(model):
        raise not_served(service, caller, model)
    check_allowed(caller, model)
    base = service.config.models[model].sampling.over(Sampling())
    return TextOrder(
        id=request_id,
        model=model,
        prompts=asked.prompts,
        sampling=replace(asked.sampling.over(base), max_tokens=asked.max_tokens),
        seed=(new_seed() if asked.seed is None else asked.seed) % SEED_RANGE,
        n=asked.n,
        logprobs=asked.logprobs,
        echo=asked.echo,
        cache_salt=asked.cache_salt,
        timeout_s=service.catalog.recipes[service.catalog.default].settings.member_timeout_s,
    )


def token_model(service: Service, caller: Caller, name: str | None) -> str:
    """Whose tokenizer a name stands for: a member's own, of a fusion its first writer's. Raises RequestError."""
    recipe = service.catalog.fusion(name)
    if recipe is not None:
        check_allowed(caller, name or recipe.name, recipe.name)
        return recipe.writers[0]
    if name is None or not service.catalog.is_member(name):
        raise not_served(service, caller, name or FUSION_ALIAS)
    check_allowed(caller, name)
    return name


def check_allowed(caller: Caller, *names: str) -> None:
    """Whether the caller's key may use what goes by any of these names. Raises RequestError (403)."""
    if not any(caller.may_use(name) for name in names):
        raise RequestError(f"this key may not use {names[0][:64]!r}", "permission_denied", "model")


def may_ask(service: Service, caller: Caller, name: str) -> bool:
    """Whether a request of this caller may name it as `model`: by its own name, or by that of the fusion behind."""
    recipe = service.catalog.fusion(name)
    return caller.may_use(name) or (recipe is not None and caller.may_use(recipe.name))


def not_served(service: Service, caller: Caller, name: str) -> RequestError:
    """The 404 of a name that is none, with the nearest that is."""
    known = [known for known in service.catalog.names() if may_ask(service, caller, known)]
    return RequestError(
        f"no model called {name[:64]!r} is served here{nearest(name, known)}",
        "model_not_found",
        "model",
    )


def _of_fusion(service: Service, caller: Caller, asked: ChatRequest, name: str, request_id: str) -> Order:
    recipe = _base(service, caller, asked.fusion, name)
    by_preset = asked.fusion.preset is not None and name != FLASH_ALIAS
    check_allowed(caller, *(() if by_preset else (name,)), recipe.name)
    if (asked.fusion.plugin or asked.fusion.tool) and not asked.fusion.enabled:
        writer = _changed(service, caller, recipe, asked.fusion).writers[0]
        member = member_order(service, asked, writer, request_id)
        return replace(member, tools=_usable_tools(service, asked, (writer,)))
    plain = replace(asked.plain(), tool_choice=_own_choice(asked))
    plain.check_fusable()
    recipe = _changed(service, caller, recipe, asked.fusion)
    plain = replace(plain, tools=_usable_tools(service, plain, recipe.writers))
    base = recipe.writer_sampling[recipe.writers[0]]
    request = replace(plain.request(request_id, 0, base), seed_name="")
    if asked.thinking_tokens is not None:
        recipe = _thinking(service, recipe, asked.thinking_tokens)
        if request.sampling is not None:
            request = replace(request, sampling=replace(request.sampling, thinking_token_budget=None))
    return FusionOrder(recipe, request, asked.fusion.stream or service.settings.stream, asked.parallel_tools)


def _outer(service: Service, caller: Caller, asked: ChatRequest, member: MemberOrder) -> OuterOrder:
    for field, wrong in (("n", member.n != 1), ("logprobs", member.logprobs is not None)):
        if wrong:
            raise RequestError(
                f"{field} is not supported where a model may consult a fusion; leave it out", "unsupported_field", field
            )
    recipe = _base(service, caller, asked.fusion, FUSION_ALIAS)
    check_allowed(caller, recipe.name)
    recipe = _changed(service, caller, recipe, asked.fusion)
    forced = names_fusion(asked.tool_choice) or (asked.tool_choice == "required" and not asked.tools)
    reads_calls = _any_reads_calls(service, (member.model,))
    if not forced and not reads_calls and member.tool_choice != "required":
        raise RequestError(
            f"{member.model} has no tool_parser in models.yaml and cannot decide by itself; give tool_choice: required",
            "invalid_field",
            "tool_choice",
        )
    return OuterOrder(member, recipe, forced, asked.fusion.mode is not None, reads_calls)


def _base(service: Service, caller: Caller, fields: FusionFields, name: str) -> Recipe:
    """The fusion by name, or by preset where the name leaves it open."""
    catalog = service.catalog
    preset = FLASH_PRESET if name == FLASH_ALIAS else fields.preset
    if preset is None:
        recipe = catalog.fusion(name)
    else:
        if name not in (FUSION_ALIAS, FLASH_ALIAS, preset):
            raise RequestError(f"preset and model name two fusions; ask for {FUSION_ALIAS}", "invalid_field", "preset")
        recipe = catalog.recipes.get(preset)
    if recipe is None:
        served = ", ".join(known for known in catalog.recipes if caller.may_use(known))
        raise RequestError(
            f"no preset called {(preset or name)[:64]!r} is served here; there are {served}",
            "model_not_found",
            "preset",
        )
    return recipe


def _changed(service: Service, caller: Caller, recipe: Recipe, fields: FusionFields) -> Recipe:
    named = (*(fields.panel or ()), *([fields.judge] if fields.judge else ()), *(fields.writer or ()))
    for model in named:
        if model not in service.catalog.models:
            raise RequestError(
                f"no model called {model[:64]!r} is served here; GET /v1/models lists them", "invalid_model", "model"
            )
        if model not in recipe.settings.models:
            check_allowed(caller, model)
    return service.catalog.changed(recipe, changes_of(recipe.settings, fields, service.config.models))


def _usable_tools(service: Service, asked: ChatRequest, models: Sequence[str]) -> tuple[Mapping[str, Any], ...]:
    """The client's tools; none where no engine could find a call in free text and the server's settings let it answer
    without. Raises RequestError where they do not."""
    free = _own_choice(asked) in (None, "auto")
    if not asked.tools or not free or _any_reads_calls(service, models):
        return asked.tools
    if service.settings.tools_without_parser == "ignore":
        return ()
    raise RequestError(
        f"tools: {models[0]} has no tool_parser in models.yaml and cannot decide by itself; give tool_choice: "
        "required, leave tools out, or set server.tools_without_parser: ignore",
        "invalid_field",
        "tools",
    )


def _any_reads_calls(service: Service, models: Sequence[str]) -> bool:
    """Whether the engine of one of them finds calls of tools in free text."""
    settings = [service.config.models[model] for model in models]
    return any(own.engine != "vllm" or own.tool_parser is not None for own in settings)


def _own_choice(asked: ChatRequest) -> Any:
    """The client's choice among its own tools."""
    if names_fusion(asked.tool_choice) or (asked.tool_choice == "required" and not asked.tools):
        return None
    return asked.tool_choice


def _thinking(service: Service, recipe: Recipe, tokens: int) -> Recipe:
    """The recipe with each of its writers bounded, those that step in too."""
    writers = {
        model: _bounded_thinking(service, model, sampling, tokens) for model, sampling in recipe.writer_sampling.items()
    }
    by_kind = {kind: _thinking(service, inner, tokens) for kind, inner in recipe.by_kind.items()}
    return replace(recipe, writer_sampling=writers, by_kind=by_kind)


def _bounded_thinking(service: Service, model: str, sampling: Sampling, tokens: int | None) -> Sampling:
    """A model that does not think keeps any bound, and its engine would refuse one."""
    if tokens is None or service.config.models[model].reasoning_parser is None:
        return sampling
    return replace(sampling, thinking_token_budget=tokens)
