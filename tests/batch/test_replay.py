"""A recorded row comes out again byte for byte; where it does not, the difference is named, causes before effects."""

from __future__ import annotations

import asyncio
import json
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import pytest

from local_fusion.batch.difference import Difference, compare, first_difference, likely_causes
from local_fusion.batch.options import BatchOptions
from local_fusion.batch.recorded import RecordedRow, find_row, recipe_again, request_again
from local_fusion.batch.replay import Replay, replay
from local_fusion.batch.run import run_batch
from local_fusion.batch.serial import SerialEngines
from local_fusion.config import Config, parse_config
from local_fusion.config.kinds import KindTable
from local_fusion.engine import Engine, PassingEngine, current_watch
from local_fusion.engines.scripted import ScriptedEngine
from local_fusion.errors import ConfigError, FusionError, InputError
from local_fusion.fusion.fuse import fuse
from local_fusion.fusion.recipe import make_recipe
from local_fusion.prompts import load_prompts
from local_fusion.runtime import recipe_of
from local_fusion.types import MODES, Call, Completion, LabelCall, LabelRead, Message, Request, Sampling

ROWS = (
    {"id": "org/panel/one", "prompt": "How much is 3 times 4?"},
    {"id": "two", "messages": [{"role": "system", "content": "Be brief."}, {"role": "user", "content": "2 + 2?"}]},
    {"id": "three", "prompt": "Name a colour.", "max_tokens": 5, "temperature": 0.3, "seed": 9},
    {"id": "dö “3”", "prompt": "Sort 3, 1, 2."},
)


BOB = 'answers: ["It is 12.", "It is 4.", "Blue."], fail_rate: 0.2'
CYD = 'answers: ["<think>well</think>Perhaps 12."], certainty: 0.7'


def config_of(ada: str = "The answer is 12.", bob: str = BOB, cyd: str = CYD, more: str = "") -> Config:
    return parse_config(
        f"""
models:
  org/ada: {{engine: scripted, scripted: {{answers: ["{ada}", "I say red, 4 or 1, 2, 3."]}}}}
  bob: {{engine: scripted, scripted: {{{bob}}}{more}}}
  cyd: {{engine: scripted, scripted: {{{cyd}}}}}
fusions:
  trio: {{panel: [org/ada, {{model: bob, samples: 2}}, cyd], judge: cyd, mode: merge}}
"""
    )


def engines_of(config: Config) -> dict[str, Engine]:
    return {name: ScriptedEngine(name, settings.scripted) for name, settings in config.models.items()}


async def make_run(folder: Path, mode: str = "merge", rows: tuple[dict, ...] = ROWS) -> Path:
    config = config_of()
    settings = config.fusions["trio"].model_copy(update={"mode": mode})
    source = folder / "rows.jsonl"
    source.write_text("".join(json.dumps(row) + "\n" for row in rows))
    recipe = make_recipe("trio", settings, config.models)
    options = BatchOptions(seed=7, identity=dict.fromkeys(config.models, "as it was"))
    await run_batch(source, folder / "run", engines_of(config), recipe, options)
    return folder / "run"


async def again(row: RecordedRow, config: Config, serial: bool = False) -> Replay:
    recipe = recipe_again(row, config.models, None)
    engines = engines_of(config)
    return await replay(request_again(row, recipe), recipe, SerialEngines(engines) if serial else engines)


@pytest.mark.parametrize("mode", MODES)
async def test_every_mode_comes_out_again_byte_for_byte(tmp_path: Path, mode: str) -> None:
    run = await make_run(tmp_path, mode)
    for row in ROWS:
        recorded = find_row(run, str(row["id"]))
        for serial in (False, True):
            assert compare(recorded, await again(recorded, config_of(), serial)) == []


async def test_another_answer_is_named_first_and_what_follows_from_it_after(tmp_path: Path) -> None:
    recorded = find_row(await make_run(tmp_path), "two")
    found = compare(recorded, await again(recorded, config_of("The answer is 13.")))
    if not found:  # this row drew the other answer
        recorded = find_row(tmp_path / "run", "three")
        found = compare(recorded, await again(recorded, config_of("The answer is 13.")))
    assert found[0] == Difference(
        "the panel call of org/ada sample 0", "text", "differs from byte 15 on (17 bytes recorded, 17 now)"
    )
    assert any(one.where.startswith("the panel answer of org/ada") for one in found)
    assert any("what it is built on differs" in one.told for one in found)
    assert not any("13" in one.told.replace("byte 13", "") and "answer is" in one.told for one in found)


async def test_failures_and_tokens_are_compared(tmp_path: Path) -> None:
    run = await make_run(tmp_path)
    rows = [find_row(run, str(row["id"])) for row in ROWS]
    broken, wordy = config_of(bob=BOB.replace("0.2", "1.0")), config_of(cyd=CYD + ", tokens: 99")
    found = [one for row in rows for one in compare(row, await again(row, broken))]
    told = "was a result, now a failure (engine_error)"
    assert Difference("the panel call of bob sample 0", "its end", told) in found
    found = compare(rows[0], await again(rows[0], wordy))
    assert found[0].where == "the panel call of cyd sample 0"
    assert (found[0].field, found[0].told[-6:]) == ("completion tokens", "now 99")
    assert found[-1].where == "the fused answer"


async def test_the_likely_cause_is_named(tmp_path: Path) -> None:
    recorded = find_row(await make_run(tmp_path), "two")
    config = config_of()
    recipe = recipe_again(recorded, config.models, None)
    result = (await again(recorded, config)).result
    same = BatchOptions(seed=7, identity=dict.fromkeys(config.models, "as it was"))
    versions = recorded.run["versions"]
    assert likely_causes(recorded, recipe, same, versions, result) == []
    other = replace(same, identity=dict(same.identity) | {"bob": "changed"})
    assert likely_causes(recorded, recipe, other, versions | {"python": "2.7"}, result) == [
        "the engine settings of model bob in models.yaml are others",
        f"version of python: {versions['python']} then, 2.7 now",
    ]
    templates = replace(recipe, prompts=load_prompts("short", None))
    assert likely_causes(recorded, templates, same, versions, result) == ["the templates are others"]
    kinds = replace(recipe, kinds=KindTable(version=1, rarity={}, least=0.5, kinds=()))
    assert likely_causes(recorded, kinds, same, versions, result) == ["the table of kinds is another"]


async def test_samplings_are_those_of_the_run_not_of_todays_file(tmp_path: Path) -> None:
    recorded = find_row(await make_run(tmp_path), "two")
    changed = config_of(more=", sampling: {max_tokens: 1}")
    assert recipe_again(recorded, changed.models, None).seats[1].sampling == Sampling()
    assert compare(recorded, await again(recorded, changed)) == []


KINDS = """
models:
  a: {engine: scripted, scripted: {answers: ["It is 4."]}, sampling: {max_tokens: TOKENS}}
  b: {engine: scripted, scripted: {answers: ["It is 5.", "It is 6.", "It is 7."]}}
fusions:
  f: {panel: [a, b], judge: b, mode: auto, kinds: kinds.json}
"""


async def kinds_run(folder: Path, **asked: object) -> Path:
    """A run of a fusion whose table of kinds asks `b` alone, three times, for every prompt."""
    otherwise = {
        "mode": "vote",
        "panel": [{"model": "b", "samples": 3, "sampling": {"temperature": 0.9}}, {"model": "a"}],
    }
    table = {"version": 1, "rarity": {}, "least": 0.5, "kinds": [], "otherwise": otherwise}
    (folder / "kinds.json").write_text(json.dumps(table))
    (folder / "rows.jsonl").write_text('{"id": "x", "prompt": "How much is 2 + 2?"}\n')
    config = parse_config(KINDS.replace("TOKENS", "50"), folder / "models.yaml")
    await run_batch(
        folder / "rows.jsonl", folder / "run", engines_of(config), recipe_of(config, **asked), BatchOptions()
    )
    return folder / "run"


async def test_samplings_of_the_table_of_kinds_are_those_of_the_run(tmp_path: Path) -> None:
    run = await kinds_run(tmp_path)
    today = parse_config(KINDS.replace("TOKENS", "1"), tmp_path / "models.yaml")
    row = find_row(run, "x")
    recipe = recipe_again(row, today.models, tmp_path)
    (own,) = recipe.by_kind.values()
    assert [(seat.model, seat.samples, seat.sampling.max_tokens) for seat in own.seats] == [
        ("b", 3, Sampling().max_tokens),
        ("a", 1, 50),
    ]
    assert own.seats[0].sampling.temperature == 0.9
    assert compare(row, await replay(request_again(row, recipe), recipe, engines_of(today))) == []
    changed = recipe_of(today)
    causes = likely_causes(row, changed, BatchOptions(), {}, FusionError("", "x"))
    assert any("what is done for kind (none) is another" in cause for cause in causes)
    before = {name: value for name, value in row.run["identity"].items() if name != "by_kind"}
    older = replace(row, run={**row.run, "identity": before})
    assert recipe_again(older, today.models, tmp_path).seats[0].sampling.max_tokens == 50
    assert likely_causes(older, recipe, BatchOptions(), {}, FusionError("", "x")) == []


async def test_a_run_that_did_without_its_table_of_kinds_is_replayed_without(tmp_path: Path) -> None:
    run = await kinds_run(tmp_path, panel=["a"])
    config = parse_config(KINDS.replace("TOKENS", "50"), tmp_path / "models.yaml")
    row = find_row(run, "x")
    recipe = recipe_again(row, config.models, tmp_path)
    assert (recipe.kinds, len(recipe.seats)) == (None, 1)
    assert compare(row, await replay(request_again(row, recipe), recipe, engines_of(config))) == []
    assert likely_causes(row, recipe, BatchOptions(), {}, FusionError("", "x")) == []


async def test_a_model_called_like_a_stage_is_told_by_its_name(tmp_path: Path) -> None:
    def config(answer: str) -> Config:
        return parse_config(
            f"models:\n  write: {{engine: scripted, scripted: {{answers: ['{answer}']}}}}\n"
            "  a/pick: {engine: scripted, scripted: {answers: ['It is 4.']}}\n"
            "fusions:\n  f: {panel: [write, a/pick], mode: vote}\n"
        )

    source, before = tmp_path / "rows.jsonl", config("It is 4.")
    source.write_text('{"id": "x", "prompt": "2 + 2?"}\n')
    recipe = make_recipe("f", before.fusions["f"], before.models)
    await run_batch(source, tmp_path / "run", engines_of(before), recipe, BatchOptions())
    row = find_row(tmp_path / "run", "x")
    broken = engines_of(before) | {
        "a/pick": ScriptedEngine("a/pick", config_of(bob="fail_rate: 1.0").models["bob"].scripted)
    }
    for engines, where in (
        (engines_of(config("It is 5.")), "the panel call of write sample 0"),
        (broken, "the panel call of a/pick sample 0"),
    ):
        found = compare(row, await replay(request_again(row, recipe), recipe, engines))
        assert found[0].where == where


async def test_versions_of_later_sessions_are_causes_too(tmp_path: Path) -> None:
    recorded = find_row(await make_run(tmp_path), "two")
    config = config_of()
    recipe = recipe_again(recorded, config.models, None)
    same = BatchOptions(seed=7, identity=dict.fromkeys(config.models, "as it was"))
    run = {**recorded.run, "versions": {"vllm": "1"}, "later_versions": [{"vllm": "2"}]}
    causes = likely_causes(replace(recorded, run=run), recipe, same, {"vllm": "2"}, FusionError("", "x"))
    assert causes == ["version of vllm: 1 then, 2 now"]


class Contrary(PassingEngine):
    """Reads labels the other way round, or a hair from what they were."""

    def __init__(self, engine: Engine, by: float | None) -> None:
        super().__init__(engine)
        self._by = by

    async def label_read(self, call: LabelCall) -> LabelRead:
        read = await super().label_read(call)
        if self._by is None:
            return replace(read, logprobs=read.logprobs[::-1])
        return replace(read, logprobs=tuple(value - self._by for value in read.logprobs))


@pytest.mark.parametrize("mode", ["best-of", "merge"])
async def test_a_read_that_says_the_opposite_is_a_difference(tmp_path: Path, mode: str) -> None:
    config = config_of(cyd=CYD + ", prefer: is 12")
    source = tmp_path / "rows.jsonl"
    source.write_text(json.dumps(ROWS[0]) + "\n")
    recipe = make_recipe("trio", config.fusions["trio"].model_copy(update={"mode": mode}), config.models)
    await run_batch(source, tmp_path / "run", engines_of(config), recipe, BatchOptions())
    row = find_row(tmp_path / "run", str(ROWS[0]["id"]))
    engines = engines_of(config)
    engines["cyd"] = Contrary(engines["cyd"], None)
    found = compare(row, await replay(request_again(row, recipe), recipe, engines))
    reads = [one for one in found if one.field == "the read"]
    assert reads
    assert all("preferred label" in one.told for one in reads)
    assert any(one.where in ("the choice", "the guard's verdict") for one in found)
    engines["cyd"] = Contrary(engines_of(config)["cyd"], 0.25)
    found = compare(row, await replay(request_again(row, recipe), recipe, engines))
    assert {one.told for one in found if one.field == "the read"} == {
        "has other log-probabilities (up to 0.25 apart), and prefers the same label"
    }


async def test_a_row_that_failed_fails_again_in_the_same_way(tmp_path: Path) -> None:
    config = parse_config(
        "models:\n  a: {engine: scripted, scripted: {fail_rate: 1.0}}\nfusions:\n  f: {panel: [a], mode: best-of}\n"
    )
    source = tmp_path / "rows.jsonl"
    source.write_text('{"id": "x", "prompt": "Why?"}\n')
    recipe = make_recipe("f", config.fusions["f"], config.models)
    for options in (BatchOptions(), BatchOptions(retry_failed=True)):
        await run_batch(source, tmp_path / "run", engines_of(config), recipe, options)
        recorded = find_row(tmp_path / "run", "x")
        assert recorded.failed
        assert len(recorded.calls) == 1
        assert compare(recorded, await again(recorded, config)) == []
    well = parse_config("models:\n  a: {engine: scripted}\n")
    found = compare(recorded, await again(recorded, well))
    assert found[-1] == Difference("the fused answer", "the outcome", "was the error all_panels_failed, now an answer")


async def test_what_is_lacking_is_said(tmp_path: Path) -> None:
    run = await make_run(tmp_path)
    recorded = find_row(run, "two")
    recipe = recipe_again(recorded, config_of().models, None)
    with pytest.raises(InputError, match="no row 'nobody'"):
        find_row(run, "nobody")
    with pytest.raises(ConfigError, match="org/ada"):
        recipe_again(recorded, {}, None)
    foreign = {**recorded.run["identity"], "settings": {"mode": "telepathy"}}
    with pytest.raises(InputError, match="another version"):
        recipe_again(replace(recorded, run={**recorded.run, "identity": foreign}), config_of().models, None)
    moved = (tmp_path / "rows.jsonl").rename(tmp_path / "elsewhere.jsonl")
    with pytest.raises(InputError, match="--input"):
        request_again(recorded, recipe)
    assert request_again(recorded, recipe, moved).messages[0] == Message("system", "Be brief.")
    moved.write_text("other\n")
    with pytest.raises(InputError, match="not the input"):
        request_again(recorded, recipe, moved)
    (run / "output.jsonl").write_bytes(b"x" * 100_000)
    with pytest.raises(InputError, match="not as the run left it"):
        find_row(run, "two")
    (run / "journal.jsonl").unlink()
    with pytest.raises(InputError, match="no journal"):
        find_row(run, "two")
    with pytest.raises(InputError, match="no run"):
        find_row(tmp_path, "two")


@pytest.mark.parametrize(
    ("before", "now", "told"),
    [
        ("same", "same", None),
        ("", None, "is missing now"),
        (None, "", "is there now, and was not"),
        ("abc", "abd", "differs from byte 2 on (3 bytes recorded, 3 now)"),
        ("é", "éa", "differs from byte 2 on (2 bytes recorded, 3 now)"),
    ],
)
def test_the_first_byte_that_differs_is_named(before: str | None, now: str | None, told: str | None) -> None:
    assert first_difference(before, now) == told


async def test_serial_engines_have_one_call_under_way_and_share_no_prefix() -> None:
    seen: list[LabelCall] = []
    most = 0

    class Watched(ScriptedEngine):
        async def label_read(self, call: LabelCall) -> LabelRead:
            nonlocal most
            seen.append(call)
            most = max(most, self.running + other.running + 1)
            return await super().label_read(call)

    settings = config_of().models["cyd"].scripted.model_copy(update={"delay_s": 0.001})
    one, other = Watched("one", settings), Watched("other", settings)
    engines = SerialEngines({"one": one, "other": other})
    call = LabelCall("r/pick/one/0/x", (Message("user", "A or B?"),), ("A", "B"))
    await asyncio.gather(*(engines[name].label_read(call) for name in ("one", "other") * 8))
    assert most == 1
    assert len({call.cache_salt for call in seen}) == 16
    assert "three" not in engines


class Dozing(PassingEngine):
    """Wakes up before each call, and tells its watch, as a model does that takes turns on the GPUs."""

    async def generate(self, call: Call) -> Completion:
        watch = current_watch()
        assert watch is not None
        watch.waits(soon=True)
        await asyncio.sleep(0.4)
        watch.placed()
        return await super().generate(call)


@pytest.mark.parametrize("front", [PassingEngine, Dozing])
async def test_waiting_for_the_turn_uses_nothing_of_a_calls_time(front: Callable[[Engine], Engine]) -> None:
    models = "".join(
        f"  {name}: {{engine: scripted, scripted: {{answers: ['It is 4.'], delay_s: 0.15}}}}\n" for name in "abcd"
    )
    fusion = "{panel: [a, b, c, d], mode: vote, early_exit: false, member_timeout_s: 0.35}"
    config = parse_config(f"models:\n{models}fusions:\n  f: {fusion}\n")
    engines = SerialEngines({name: front(engine) for name, engine in engines_of(config).items()})
    recipe = make_recipe("f", config.fusions["f"], config.models)
    fused = await fuse(Request("r", (Message("user", "2 + 2?"),)), recipe, engines)
    assert [answer.model for answer in fused.receipt.answers] == list("abcd")
    assert fused.receipt.failures == ()


async def test_a_call_that_has_its_turn_still_has_its_limit() -> None:
    models = "".join(
        f"  {name}: {{engine: scripted, scripted: {{delay_s: {s}}}}}\n" for name, s in (("a", 0.2), ("b", 9))
    )
    config = parse_config(f"models:\n{models}fusions:\n  f: {{panel: [a, b], mode: vote, member_timeout_s: 0.4}}\n")
    recipe = make_recipe("f", config.fusions["f"], config.models)
    fused = await fuse(Request("r", (Message("user", "2 + 2?"),)), recipe, SerialEngines(engines_of(config)))
    assert [(failure.model, failure.reason) for failure in fused.receipt.failures] == [("b", "timeout")]
