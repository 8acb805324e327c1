"""Fitting: equal shares, long conversations, windows, and the notes that say so. In these tests a token is a word."""

from __future__ import annotations

import pytest
from fusion_fakes import FakeEngine, engines_of, judge_says, prefers, recipe_of, request_of
from hypothesis import given, settings
from hypothesis import strategies as st

from local_fusion.errors import CallError
from local_fusion.fusion.case import Case
from local_fusion.fusion.fuse import fuse
from local_fusion.fusion.sizes import byte_length, equal_share
from local_fusion.types import Answer, Message

NAMES = tuple("abcdefgh")


@given(st.lists(st.integers(0, 500), min_size=1, max_size=12), st.integers(0, 3000))
def test_equal_shares_never_sum_to_more_and_use_what_there_is(sizes, total):
    share = equal_share(sizes, total)
    used = sum(min(size, share) for size in sizes)
    assert used <= total
    if any(size > share for size in sizes):
        assert sum(min(size, share + 1) for size in sizes) > total


@given(st.text(max_size=50))
def test_byte_length_is_that_of_utf8(text):
    assert byte_length(text) == len(text.encode("utf-8", "surrogatepass"))


@pytest.mark.parametrize("templates", ["default", "short"])
@settings(max_examples=40, deadline=None)
@given(texts=st.lists(st.text(max_size=30), min_size=1, max_size=5), turns=st.integers(1, 4))
def test_the_bound_by_bytes_is_never_less_than_the_conversation(templates, texts, turns):
    recipe = recipe_of(mode="merge", templates=templates, criteria="be brief")
    request = tuple(Message("developer", text) for text in (texts * 4)[:turns])
    case = Case(request, tuple(Answer("m", place, text, cut=True) for place, text in enumerate(texts)), 1)
    brief, around = case.brief(), recipe.frame_bytes
    bound = around.bare
    bound += sum(byte_length(turn.content) + around.turn for turn in brief.request)
    bound += sum(byte_length(candidate.text) + around.answer for candidate in brief.candidates)
    for swapped in (True, False):
        shown = recipe.prompts.guard(brief, "", "", "A", swapped, recipe.settings.criteria)
        assert sum(byte_length(turn.content) for turn in shown) <= bound
    shown = recipe.prompts.pair(brief, "A", "B", recipe.settings.criteria)
    assert sum(byte_length(turn.content) for turn in shown) <= bound


def words(name: str, count: int) -> str:
    return " ".join(f"{name}{number}" for number in range(count))


def prompt_tokens(messages) -> int:
    return sum(len(message.content.split()) + 3 for message in messages)


async def counted(engine) -> list[int]:
    return await engine.count_tokens([call.messages for call in engine.reads + engine.calls])


async def test_what_surely_fits_is_not_counted():
    class Uncountable(FakeEngine):
        async def count_tokens(self, conversations):
            raise AssertionError("counted for nothing")

    engines = engines_of(a="alpha", b="beta", judge=Uncountable("judge", judge_says()))
    fused = await fuse(request_of(), recipe_of(("a", "b", "judge"), mode="merge"), engines)
    assert fused.receipt.notes == ()


async def test_long_answers_are_cut_to_equal_shares_and_short_ones_stay_whole():
    judge = FakeEngine("judge", read=prefers("c0"), context=700)
    engines = engines_of(a=words("a", 900), b=words("b", 900), c=words("c", 20), judge=judge)
    fused = await fuse(request_of(), recipe_of(mode="best-of"), engines)
    assert fused.model == "c"
    assert max(await counted(judge)) < 700
    shown = judge.reads[0].messages[1].content
    kept = {name: sum(word.startswith(name) and word[1:].isdigit() for word in shown.split()) for name in "abc"}
    assert kept["c"] == 20
    assert abs(kept["a"] - kept["b"]) <= 2
    assert kept["a"] > 150
    assert "a0 " in shown
    assert "a899" in shown
    assert shown.count("shortened>") == 2
    assert any(note.startswith("2 of 3 answers were shortened to") for note in fused.receipt.notes)
    assert fused.degraded == ()


async def test_the_same_cut_serves_every_stage():
    judge = FakeEngine("judge", judge_says(), prefers("c0"), context=1500)
    engines = engines_of(a=words("a", 900), b=words("b", 900), c=words("c", 20), judge=judge)
    await fuse(request_of(), recipe_of(mode="merge", max_judge_tokens=200, max_writer_tokens=200), engines)
    first = judge.calls[0].messages[1].content.rsplit("</answer", 1)[0]
    for call in [*judge.calls, *(read for read in judge.reads if read.stage == "guard")]:
        assert call.messages[1].content.startswith(first)
    for call in judge.calls:
        assert prompt_tokens(call.messages) + call.sampling.max_tokens <= 1500


async def test_a_cap_of_the_fusion_s_own_is_kept():
    judge = FakeEngine("judge", read=prefers("a0"))
    engines = engines_of(a=words("a", 300), b=words("b", 30), judge=judge)
    await fuse(request_of(), recipe_of(("a", "b", "judge"), mode="best-of", max_candidate_tokens=40), engines)
    shown = judge.reads[0].messages[1].content.split()
    assert sum(word.startswith("a") and word[1:].isdigit() for word in shown) <= 40
    assert sum(word.startswith("b") and word[1:].isdigit() for word in shown) == 30


@pytest.mark.parametrize("mode", ["best-of", "merge"])
async def test_what_does_not_fit_even_cut_is_folded_in_windows(mode):
    context = {"best-of": 450, "merge": 750}[mode]
    judge = FakeEngine("judge", judge_says(), prefers("g1 "), context=context)
    engines = engines_of(**{name: words(name, 200) for name in NAMES}, judge=judge)
    folded = recipe_of((*NAMES, "judge"), mode=mode, guard_margin=10, max_judge_tokens=64, max_writer_tokens=64)
    fused = await fuse(request_of(), folded, engines)
    assert fused.model == "g"
    assert any("folded in" in note for note in fused.receipt.notes)
    assert any(call.stage == "fold" and call.priority == 2 for call in judge.reads)
    assert max(await counted(judge)) <= context
    assert len({call.id for call in judge.reads}) == len(judge.reads)
    assert fused.receipt.choice.winner == 6
    assert len(fused.receipt.choice.probabilities) == 8


async def test_a_judge_that_cannot_hold_two_answers_is_not_asked():
    judge = FakeEngine("judge", context=120)
    engines = engines_of(a=words("a", 300), b=words("b", 300), judge=judge)
    fused = await fuse(request_of(), recipe_of(("a", "b", "judge"), mode="best-of"), engines)
    assert judge.reads == []
    assert fused.text == words("a", 300)
    assert "cannot hold two answers" in fused.receipt.notes[0]
    assert fused.degraded


async def test_where_there_is_no_room_to_write_the_judge_still_chooses():
    judge = FakeEngine("judge", judge_says(), prefers("b0"), context=400)
    engines = engines_of(a=words("a", 100), b=words("b", 100), judge=judge)
    fused = await fuse(request_of(), recipe_of(("a", "b", "judge"), mode="merge", max_judge_tokens=200), engines)
    assert fused.model == "b"
    assert fused.degraded == (
        "the answers leave no room to write in the context of judge and writer; this is the best panel answer",
    )


async def test_a_long_conversation_is_cut_fairly_for_the_judge_but_not_for_the_panel():
    turns = [Message("system", words("s", 20))]
    for turn in range(40):
        turns.append(Message("user", words(f"u{turn}x", 30)))
        turns.append(Message("assistant", words(f"r{turn}x", 30)))
    turns.append(Message("user", words("last", 40)))
    judge = FakeEngine("judge", read=prefers("a0"), context=900)
    engines = engines_of(a=words("a", 200), b=words("b", 200), judge=judge)
    fused = await fuse(request_of(messages=tuple(turns)), recipe_of(("a", "b", "judge"), mode="best-of"), engines)
    assert fused.model == "a"
    shown = judge.reads[0].messages[1].content
    assert words("s", 20) in shown
    assert words("last", 40) in shown
    assert "u39x29" in shown
    assert "u0x1 " not in shown
    assert max(await counted(judge)) < 900
    assert any("conversation was too long" in note for note in fused.receipt.notes)
    assert engines["a"].calls[0].messages == tuple(turns)


async def test_one_very_long_question_is_cut_head_and_tail():
    judge = FakeEngine("judge", read=prefers("a0"), context=800)
    engines = engines_of(a=words("a", 50), b=words("b", 50), judge=judge)
    await fuse(request_of(words("q", 3000)), recipe_of(("a", "b", "judge"), mode="best-of"), engines)
    shown = judge.reads[0].messages[1].content
    assert "q0 " in shown
    assert "q2999" in shown
    assert words("a", 50) in shown
    assert max(await counted(judge)) < 800


async def test_the_smaller_context_of_judge_and_writer_counts():
    judge = FakeEngine("judge", judge_says(), context=32_000)
    writer = FakeEngine("writer", "the final answer", context=900)
    engines = engines_of(a=words("a", 900), b=words("b", 900), judge=judge, writer=writer)
    recipe = recipe_of(("a", "b", "judge", "writer"), mode="merge", writer="writer", max_judge_tokens=100)
    fused = await fuse(request_of(), recipe, engines)
    assert fused.model == "writer"
    (call,) = writer.calls
    assert prompt_tokens(call.messages) < 700


async def test_a_judge_that_cannot_count_is_asked_all_the_same():
    class Uncountable(FakeEngine):
        async def count_tokens(self, conversations):
            raise CallError("no tokenizer")

    judge = Uncountable("judge", read=prefers("b0"), context=600)
    engines = engines_of(a=words("a", 300), b=words("b", 300), judge=judge)
    fused = await fuse(request_of(), recipe_of(("a", "b", "judge"), mode="best-of"), engines)
    assert fused.model == "b"


async def test_dense_text_is_measured_again_until_it_fits():
    dense = " ".join("abcdefgh"[number % 8] for number in range(3000))
    sparse = "sparse" * 50 + " " + " ".join(["x" * 40] * 200)
    judge = FakeEngine("judge", read=lambda call: [0.0, -9.0], context=400)
    engines = engines_of(a=sparse + " " + dense, b=dense + " " + sparse, judge=judge)
    await fuse(request_of(), recipe_of(("a", "b", "judge"), mode="best-of"), engines)
    assert judge.reads
    assert max(await counted(judge)) < 400
