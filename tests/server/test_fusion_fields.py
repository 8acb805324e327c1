"""What a request says about fusion: read exactly, refused by name, and turned into settings."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import httpx
import pytest
from jsonschema import Draft202012Validator

from local_fusion.config import parse_config
from local_fusion.errors import RequestError
from local_fusion.openai_api.fusion_fields import FusionFields, parse_fusion
from local_fusion.openai_api.request import parse_chat
from local_fusion.server.door.callers import Caller
from local_fusion.server.orders.choose import order_for
from local_fusion.server.orders.order import FusionOrder, MemberOrder, OuterOrder
from local_fusion.server.service import Service
from tests.server.talk import ADD, TURN, refused, said

FULL_PLUGIN = {
    "id": "fusion",
    "enabled": True,
    "preset": "general-fast",
    "analysis_models": ["one", "two"],
    "model": "judge",
    "max_tool_calls": 4,
    "tools": [],
}
FULL_TOOL = {
    "analysis_models": ["one"],
    "model": "judge",
    "max_completion_tokens": 99,
    "max_tool_calls": 16,
    "reasoning": {"effort": "high", "max_tokens": 50},
    "temperature": 0.3,
    "tools": [],
    "cache_control": {"type": "ephemeral", "ttl": "1h"},
}
CONFIG = """
models:
  one: {engine: scripted, sampling: {max_tokens: 200}}
  two: {engine: scripted, reasoning_parser: qwen3}
  three: {engine: scripted}
  judge: {engine: scripted}
fusions:
  team: {panel: [{model: one, weight: 2.0, sampling: {top_p: 0.5}}, two, three], judge: judge, mode: merge, quorum: 3}
  general-fast: {panel: [one, two], judge: two, analysis: false}
default: team
server: {state: STATE}
"""


@pytest.fixture
def service(tmp_path: Path) -> Service:
    return Service(parse_config(CONFIG.replace("STATE", str(tmp_path / "state"))))


def order(service: Service, allowed: frozenset[str] | None = None, **body: Any) -> Any:
    asked = parse_chat({"messages": [TURN]} | body)
    return order_for(service, Caller("key", allowed), asked, "chatcmpl-1")


def test_everything_that_openrouter_s_schema_has_is_read() -> None:
    plugin, client = parse_fusion([FULL_PLUGIN], None, None)
    assert plugin == FusionFields(
        plugin=True, preset="general-fast", panel=("one", "two"), judge="judge", judge_writes=True
    )
    tool, client = parse_fusion(None, [ADD, {"type": "openrouter:fusion", "parameters": FULL_TOOL}], None)
    assert client == (ADD,)
    assert (tool.tool, tool.max_completion_tokens, tool.temperature) == (True, 99, 0.3)
    assert (tool.effort, tool.thinking_tokens) == ("high", 50)


def test_the_samples_above_are_valid_by_openrouter_s_own_schema(openrouter_schema: dict[str, Any]) -> None:
    defs = openrouter_schema["$defs"]
    for name, value in (("FusionPlugin", FULL_PLUGIN), ("FusionServerToolConfig", FULL_TOOL)):
        Draft202012Validator({"$ref": f"#/$defs/{name}", "$defs": defs}).validate(value)


@pytest.mark.parametrize(
    ("plugins", "tools", "own", "param"),
    [
        ([{"id": "web"}], None, None, "plugins.0"),
        ([{"id": "fusion", "analysis_models": []}], None, None, "plugins.0.analysis_models"),
        ([{"id": "fusion", "analysis_models": ["m"] * 9}], None, None, "plugins.0.analysis_models"),
        ([{"id": "fusion", "max_tool_calls": 17}], None, None, "plugins.0.max_tool_calls"),
        ([{"id": "fusion", "max_tool_calls": 0}], None, None, "plugins.0.max_tool_calls"),
        ([{"id": "fusion", "temperature": 1}], None, None, "plugins.0.temperature"),
        ([{"id": "fusion", "tools": [{"type": "web_search"}]}], None, None, "plugins.0.tools"),
        ([{"id": "fusion"}, {"id": "fusion"}], None, None, "plugins.1"),
        ("fusion", None, None, "plugins"),
        (None, [{"type": "openrouter:fusion", "parameters": {"preset": "x"}}], None, "tools.0.parameters.preset"),
        (None, [{"type": "openrouter:fusion", "parameters": {"temperature": 3}}], None,
         "tools.0.parameters.temperature"),
        (None, [{"type": "openrouter:fusion", "parameters": {"reasoning": {"effort": "huge"}}}], None,
         "tools.0.parameters.reasoning.effort"),
        (None, [{"type": "openrouter:fusion", "parameters": {"cache_control": {"type": "x"}}}], None,
         "tools.0.parameters.cache_control.type"),
        (None, [5], None, "tools.0"),
        (None, None, {"mode": "chaos"}, "fusion.mode"),
        (None, None, {"samples": 0}, "fusion.samples"),
        (None, None, {"templates": "/etc/passwd"}, "fusion.templates"),
        (None, None, {"include": ["all"]}, "fusion.include.0"),
        (None, None, {"stream": "fast"}, "fusion.stream"),
        (None, None, 5, "fusion"),
        ([{"id": "fusion", "analysis_models": ["one"]}], None, {"panel": ["two"]}, "fusion.panel"),
    ],
)  # fmt: skip
def test_refusals_name_the_field(plugins, tools, own, param) -> None:
    with pytest.raises(RequestError) as caught:
        parse_fusion(plugins, tools, own)
    assert caught.value.param == param


def test_a_fusion_s_name_always_fuses(service: Service) -> None:
    for name in (None, "team", "openrouter/fusion"):
        made = order(service, model=name)
        assert isinstance(made, FusionOrder)
        assert made.recipe.name == "team"
    with_tool = order(service, model="team", tools=[{"type": "openrouter:fusion", "parameters": {}}, ADD])
    assert isinstance(with_tool, FusionOrder)
    assert with_tool.request.tools == (ADD,)


def test_presets_and_flash_name_fusions_that_are_served(service: Service) -> None:
    assert order(service, plugins=[{"id": "fusion", "preset": "general-fast"}]).recipe.name == "general-fast"
    assert order(service, model="openrouter/fusion-flash").recipe.name == "general-fast"
    with pytest.raises(RequestError) as caught:
        order(service, plugins=[{"id": "fusion", "preset": "general-high"}])
    assert (caught.value.code, caught.value.param) == ("model_not_found", "preset")
    with pytest.raises(RequestError) as caught:
        order(service, model="team", plugins=[{"id": "fusion", "preset": "general-fast"}])
    assert caught.value.param == "preset"


def test_explicit_models_beat_the_preset_and_keep_what_is_known_of_them(service: Service) -> None:
    recipe = order(service, plugins=[{"id": "fusion", "analysis_models": ["one", "three"], "model": "three"}]).recipe
    assert [(seat.model, seat.weight, seat.sampling.top_p) for seat in recipe.seats] == [
        ("one", 2.0, 0.5),
        ("three", 1.0, 1.0),
    ]
    assert (recipe.judge, recipe.writers, recipe.settings.quorum) == ("three", ("three",), 2)
    own = order(service, fusion={"judge": "two", "writer": "three"}).recipe
    assert (own.judge, own.writers) == ("two", ("three",))


def test_inner_calls_get_temperature_caps_and_effort_each_where_it_belongs(service: Service) -> None:
    recipe = order(service, tools=[{"type": "openrouter:fusion", "parameters": FULL_TOOL}]).recipe
    (one,) = recipe.seats
    assert (one.sampling.temperature, one.sampling.max_tokens) == (0.3, 99)
    assert one.sampling.thinking_token_budget is None, "a model that does not think keeps any bound"
    assert one.sampling.chat_template_kwargs["reasoning_effort"] == "high"
    assert (recipe.judge_sampling.temperature, recipe.judge_sampling.max_tokens) == (0.0, 99)
    assert recipe.judge_sampling.chat_template_kwargs["reasoning_effort"] == "high"
    tool = {"type": "openrouter:fusion", "parameters": FULL_TOOL}
    both = order(service, tools=[tool], fusion={"max_panel_tokens": 150, "max_judge_tokens": 50}).recipe
    assert (both.seats[0].sampling.max_tokens, both.judge_sampling.max_tokens) == (99, 50)
    thinker = order(
        service,
        tools=[
            {"type": "openrouter:fusion", "parameters": {"analysis_models": ["two"], "reasoning": {"max_tokens": 7}}}
        ],
    ).recipe.seats[0]
    assert thinker.sampling.thinking_token_budget == 7


def test_the_key_fusion_sets_what_models_yaml_could(service: Service) -> None:
    given = {
        "mode": "vote", "samples": 2, "criteria": "be kind", "quorum": 2, "deadline_s": 60, "member_timeout_s": 5,
        "straggler_grace_s": 1.5, "max_panel_tokens": 9, "guard": False, "stream": "live", "include": ["panel"],
    }  # fmt: skip
    made = order(service, fusion=given)
    settings = made.recipe.settings
    assert (settings.mode, settings.criteria, settings.quorum, settings.guard) == ("vote", "be kind", 2, False)
    assert (settings.deadline_s, settings.member_timeout_s, settings.straggler_grace_s) == (60, 5, 1.5)
    assert [seat.samples for seat in made.recipe.seats] == [2, 2, 2]
    assert all(seat.sampling.max_tokens == 9 for seat in made.recipe.seats)
    assert made.streaming == "live"


def test_settings_that_do_not_fit_together_are_refused(service: Service) -> None:
    with pytest.raises(RequestError) as caught:
        order(service, fusion={"quorum": 9})
    assert "never be met" in caught.value.message


def test_a_member_with_the_plugin_may_consult(service: Service) -> None:
    made = order(service, model="one", plugins=[{"id": "fusion"}])
    assert isinstance(made, OuterOrder)
    assert (made.forced, made.whole, made.recipe.name) == (False, False, "team")
    assert order(service, model="one", plugins=[{"id": "fusion"}], tool_choice="required").forced
    named = {"type": "function", "function": {"name": "openrouter_fusion"}}
    assert order(service, model="one", plugins=[{"id": "fusion"}], tools=[ADD], tool_choice=named).forced
    among = order(service, model="one", plugins=[{"id": "fusion"}], tools=[ADD], tool_choice="required")
    assert (among.forced, among.member.tool_choice) == (False, "required")
    assert order(service, model="one", plugins=[{"id": "fusion"}], fusion={"mode": "vote"}).whole


def test_a_member_that_may_not_consult_answers_alone(service: Service) -> None:
    for body in (
        {"plugins": [{"id": "fusion", "enabled": False}]},
        {"plugins": [{"id": "fusion"}], "tool_choice": "none"},
        {
            "plugins": [{"id": "fusion"}],
            "tools": [ADD],
            "tool_choice": {"type": "function", "function": {"name": "add"}},
        },
    ):
        assert isinstance(order(service, model="one", **body), MemberOrder)


def test_enabled_false_on_a_fusion_asks_its_writer_alone(service: Service) -> None:
    made = order(service, plugins=[{"id": "fusion", "enabled": False}], n=2)
    assert isinstance(made, MemberOrder)
    assert (made.model, made.n) == ("judge", 2)


def test_a_model_that_cannot_decide_by_itself_must_be_made_to(tmp_path: Path) -> None:
    text = CONFIG.replace("one: {engine: scripted,", "one: {path: /nowhere,").replace("STATE", str(tmp_path))
    service = Service(parse_config(text.replace("default: team", "default: [team]")))
    with pytest.raises(RequestError) as caught:
        order(service, model="one", plugins=[{"id": "fusion"}])
    assert caught.value.param == "tool_choice"
    forced = order(service, model="one", plugins=[{"id": "fusion"}], tool_choice="required")
    assert (forced.forced, forced.reads_calls) == (True, False)


def test_a_writer_that_cannot_decide_by_itself_must_be_made_to_call(tmp_path: Path) -> None:
    text = CONFIG.replace("judge: {engine: scripted}", "judge: {path: /nowhere}").replace("STATE", str(tmp_path))
    service = Service(parse_config(text.replace("default: team", "default: [team]")))
    with pytest.raises(RequestError) as caught:
        order(service, model="team", tools=[ADD])
    assert caught.value.param == "tools"
    assert order(service, model="team", tools=[ADD], tool_choice="required").request.tool_choice == "required"
    with pytest.raises(RequestError, match="tools_without_parser"):
        order(service, model="judge", tools=[ADD], tool_choice="auto")


def test_tools_that_nobody_can_decide_on_are_ignored_where_the_server_says_so(tmp_path: Path) -> None:
    text = CONFIG.replace("judge: {engine: scripted}", "judge: {path: /nowhere}").replace("STATE", str(tmp_path))
    text = text.replace("default: team", "default: [team]").replace(
        "server: {", "server: {tools_without_parser: ignore, "
    )
    service = Service(parse_config(text))
    for choice in ({}, {"tool_choice": "auto"}):
        assert order(service, model="team", tools=[ADD], **choice).request.tools == ()
        assert order(service, model="judge", tools=[ADD], **choice).tools == ()
        alone = order(service, model="team", tools=[ADD], plugins=[{"id": "fusion", "enabled": False}], **choice)
        assert (alone.model, alone.tools) == ("judge", ())
    assert order(service, model="one", tools=[ADD]).tools == (ADD,)
    assert order(service, model="team", tools=[ADD], tool_choice="required").request.tools == (ADD,)


def test_keys_keep_to_what_they_are_allowed(service: Service) -> None:
    only_team = frozenset({"team"})
    assert order(service, only_team, model="openrouter/fusion").recipe.name == "team"
    assert order(service, only_team, fusion={"panel": ["one", "two"], "quorum": 1}).recipe.name == "team"
    for body in ({"model": "one"}, {"model": "general-fast"}):
        with pytest.raises(RequestError) as caught:
            order(service, only_team, **body)
        assert caught.value.code == "permission_denied"
    with pytest.raises(RequestError) as caught:
        order(service, frozenset({"one"}), model="one", plugins=[{"id": "fusion"}])
    assert caught.value.code == "permission_denied"
    only_fast = frozenset({"general-fast"})
    with pytest.raises(RequestError) as caught:
        order(service, only_fast, model="general-fast", fusion={"panel": ["three"]})
    assert caught.value.code == "permission_denied"


async def test_over_http_refusals_are_openai_s(client: httpx.AsyncClient) -> None:
    assert await refused(client, model="tem") == (404, "model_not_found", "model")
    assert await refused(client, plugins=[{"id": "fusion", "analysis_models": ["gpt-4o"]}]) == (
        400,
        "invalid_model",
        "model",
    )
    assert await refused(client, model="one", fusion={"mode": "vote"}) == (400, "invalid_field", "fusion")
    assert await refused(client, n=2) == (400, "unsupported_field", "n")
    assert await refused(client, logprobs=True) == (400, "unsupported_field", "logprobs")


async def test_over_http_a_request_chooses_panel_judge_and_mode(client: httpx.AsyncClient) -> None:
    body = await said(
        client,
        plugins=[{"id": "fusion", "analysis_models": ["one", "two"], "model": "judge"}],
        fusion={"mode": "best-of", "include": ["panel"]},
    )
    assert [answer["model"] for answer in body["fusion"]["responses"]] == ["one", "two"]
    assert body["fusion"]["mode"] == "best-of"


@pytest.fixture
def openrouter_schema() -> dict[str, Any]:
    path = Path(__file__).parents[1] / "contracts" / "openrouter-fusion.schema.json"
    loaded: dict[str, Any] = json.loads(path.read_text("utf-8"))
    return loaded


def test_a_mode_asked_for_is_run_and_not_the_table_of_kinds(tmp_path: Path) -> None:
    table = {"version": 1, "rarity": {}, "least": 0.5, "kinds": [], "otherwise": {"mode": "vote", "panel": ["one"]}}
    (tmp_path / "kinds.json").write_text(json.dumps(table))
    text = CONFIG.replace("mode: merge, quorum: 3", "mode: auto, kinds: kinds.json")
    service = Service(parse_config(text.replace("STATE", str(tmp_path / "state")), tmp_path / "models.yaml"))
    recipe = service.catalog.recipes["team"]
    assert recipe.kinds is not None
    merge = service.catalog.changed(recipe, {"mode": "merge"})
    assert (merge.settings.mode, merge.kinds, len(merge.seats)) == ("merge", None, 3)
    assert service.catalog.changed(recipe, {"panel": [{"model": "two"}]}).kinds is None
    assert service.catalog.changed(recipe, {"criteria": "Be brief."}).kinds is not None


def test_each_writer_thinks_by_its_own_settings(tmp_path: Path) -> None:
    text = CONFIG.replace("reasoning_parser: qwen3}", "reasoning_parser: qwen3, sampling: {thinking_token_budget: 90}}")
    service = Service(parse_config(text.replace("STATE", str(tmp_path / "state"))))
    writers = {"writer": ["two", "one"]}

    def budgets(**body: Any) -> list[int | None]:
        made = order(service, fusion=writers, **body)
        own, client = made.recipe.writer_sampling, made.request.sampling
        given = None if client is None else client.thinking_token_budget
        return [own[model].thinking_token_budget if given is None else given for model in ("two", "one")]

    assert budgets() == [90, None]
    assert budgets(temperature=0.5) == [90, None]
    assert budgets(reasoning={"max_tokens": 7}) == [7, None]
    assert budgets(temperature=0.5, reasoning={"max_tokens": 7}) == [7, None]
    assert budgets(thinking_token_budget=5) == [5, 5]
