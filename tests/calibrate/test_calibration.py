"""The whole search on scripted members: roles are found, nothing is asked twice, never worse on what was kept back."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import pytest
from calib_fakes import Member, bench_of, items_of, members, order_of, run, space_of

from local_fusion.calibrate.bench import Trial, best_of, no_worse
from local_fusion.calibrate.calibration import FIT, HELD_OUT, decide
from local_fusion.calibrate.evidence import evidence_of, page_of
from local_fusion.calibrate.kinds_of_set import sort_items
from local_fusion.calibrate.search import Proposal
from local_fusion.errors import InputError
from local_fusion.evaluate.items import Said


async def test_it_finds_judge_and_members_from_a_shuffled_arrangement(tmp_path: Path) -> None:
    engines = members()
    order = order_of(tmp_path, items_of(60), space_of())
    found = await run(order, engines)
    assert found.changes, found.why
    assert found.settings.judge == "jed"
    assert [seat.model for seat in found.settings.panel] == ["ann", "bob"]
    assert found.settings.mode == "best-of"
    assert found.new.mean == 1.0
    assert found.gain.low > 0
    assert found.fit_items == len(order.half(FIT))
    assert len(found.old.scores) == len(order.half(HELD_OUT))
    questions = " ".join(step.question for step in found.steps)
    for word in ("judge", "write", "adds nothing", "weigh", "samples", "mode"):
        assert word in questions
    left_out = next(step for step in found.steps if step.question.startswith("Who adds nothing? best-of"))
    assert len(left_out.tried) == 1 + 4 + 6  # all, leave one out, leave two out
    page = page_of(evidence_of(order, found, {}), found.steps)
    assert "**without cyd, jed**" in page
    assert "judge | bob | jed" in page
    asked = sum(sum(engine.asked.values()) for engine in engines.values())
    assert asked == found.calls
    again = members()
    assert (await run(order, again)).settings == found.settings
    assert not any(engine.asked for engine in again.values())


async def test_what_is_best_already_is_left_alone(tmp_path: Path) -> None:
    space = space_of(panel=["ann", "bob"], judge="jed")
    found = await run(order_of(tmp_path, items_of(40), space), members())
    assert not found.changes
    assert "nothing is changed" in found.why
    assert found.settings == space.present


async def test_too_few_items_are_a_sentence(tmp_path: Path) -> None:
    with pytest.raises(InputError, match="needs 10 in each"):
        order_of(tmp_path, items_of(15), space_of()).half(FIT)


def trial(name: str, scores: list[float | None], effort: float) -> Trial:
    return Trial(name, space_of().present, (Said(("",)),), tuple(scores), (effort,) * len(scores))


@pytest.mark.parametrize(
    ("scores", "effort", "changes"),
    [
        ([1, 1, 1, 0], 10, True),
        ([1, 1, 0, 0], 9, True),
        ([1, 1, 0, 0], 10, False),
        ([1, 0, 0, 0], 1, False),
    ],
    ids=["better", "as good and cheaper", "the same", "worse, though far cheaper"],
)
def test_never_worse_on_the_half_kept_back(scores: list[float], effort: float, changes: bool) -> None:
    old, new = trial("before", [1, 1, 0, 0], 10), trial("after", scores, effort)
    proposal = Proposal(new.settings, None, old, new)
    decided, why = decide(proposal, old, new, "tokens")
    assert decided is changes
    assert ("nothing is changed" in why) is not changes


@pytest.mark.parametrize(
    ("before", "after", "changes", "told"),
    [
        ([1, 1, 0, 0], [1, None, None, None], False, "-25.0"),
        ([1, 1, 0, 0], [1, 1, 1, None], True, "1 of them can no longer be graded and count as wrong"),
        ([1, 0, None, None], [1, 0, None, None], True, "on 2 items kept back"),
        ([None] * 4, [1, 1, 1, 1], False, "none of the items kept back could be graded"),
        ([None] * 4, [None] * 4, False, "none of the items kept back could be graded"),
    ],
    ids=["ungraded is wrong", "better all the same", "the same and cheaper", "nothing before", "nothing at all"],
)
def test_what_cannot_be_graded_wins_nothing(
    before: list[float | None], after: list[float | None], changes: bool, told: str
) -> None:
    old, new = trial("before", before, 10), trial("after", after, 1)
    decided, why = decide(Proposal(new.settings, None, old, new), old, new, "tokens")
    assert decided is changes
    assert told in why


@pytest.mark.parametrize(("before", "after"), [([0.1, 0.1, 0.4], [0.3, 0.2, 0.1]), ([0.3, 0.2, 0.1], [0.1, 0.1, 0.4])])
def test_the_noise_of_floats_decides_nothing(before: list[float], after: list[float]) -> None:
    """Both come to 0.6: the one is neither better nor worse than the other."""
    assert sum(a - b for a, b in zip(before, after, strict=True)) != 0
    old = trial("before", [*before, 0.5], 10)
    dearer, cheaper = trial("after", [*after, 0.5], 11), trial("after", [*after, 0.5], 9)
    assert not decide(Proposal(dearer.settings, None, old, dearer), old, dearer, "tokens")[0]
    assert decide(Proposal(cheaper.settings, None, old, cheaper), old, cheaper, "tokens")[0]
    assert str(dearer.gain_over(old).value) == "0.0"


async def test_at_a_tie_what_is_there_now_stays(tmp_path: Path) -> None:
    """`auto` comes to the very same choices, at the same cost; so does best-of under another name."""
    engines = members() | {"ann": Member("ann", "sums", likes="is 4"), "bob": Member("bob", "days", likes="is 7")}
    space = space_of(panel=["ann", "bob"], judge="ann", mode="best-of")
    found = await run(order_of(tmp_path, items_of(80, ("sums", "days")), space), engines)
    assert not found.changes
    assert found.settings == space.present
    assert found.why == "nothing better than the present arrangement was found; nothing is changed"
    mode = next(step for step in found.steps if step.question == "Which mode?")
    assert [tried.name for tried in mode.tried if tried.chosen] == ["as it is now"]


def test_trials_are_ranked_over_the_same_items() -> None:
    most, hides = trial("most", [1, 1, 1, 0], 9), trial("hides", [1, None, None, None], 1)
    assert best_of([hides, most]) is most
    assert not no_worse(hides, most)
    assert not no_worse(most, trial("unknown", [None] * 4, 9))


async def test_kinds_of_the_set_get_recipes_of_their_own(tmp_path: Path) -> None:
    engines = members() | {"cyd": Member("cyd", "sums words days", 0.4, likes="is 7")}
    space = space_of(panel=["ann", "bob", "cyd"], judge="jed")
    items = items_of(160, ("sums", "days"), kinds=True)
    found = await run(order_of(tmp_path, items, space), engines)
    assert found.changes, found.why
    assert found.table is not None
    recipes = {kind.name: kind.recipe for kind in found.table.kinds}
    assert [seat["model"] for seat in recipes["sums"]["panel"]] == ["ann"]
    assert [seat["model"] for seat in recipes["days"]["panel"]] == ["bob"]
    assert found.settings.mode == "auto"
    assert found.table.otherwise is not None
    assert found.new.mean == 1.0
    assert found.new.cost < found.old.cost


@pytest.mark.parametrize(
    ("kinds", "names"),
    [
        (("sums", "words", "days"), {"sums", "words", "days"}),
        (("Größe", "Grüße", "Tage"), {"Gr--e", "Gr--e-2", "Tage"}),
        (("数学", "文字", "日期"), {"kind", "kind-2", "kind-3"}),
        (("a b", "a-b", "a-b-2"), {"a-b", "a-b-2", "a-b-2-2"}),
    ],
)
def test_kinds_of_other_alphabets_stay_apart(kinds: tuple[str, ...], names: set[str]) -> None:
    items = [replace(item, kind=kinds[number % 3]) for number, item in enumerate(items_of(90))]
    found = sort_items(items)
    assert set(found.centre) == names
    assert all(len({found.label[place] for place in range(first, 90, 3)}) == 1 for first in range(3))


async def test_pairs_are_judged_against_one_baseline(tmp_path: Path) -> None:
    items = [replace(item, match="pair") for item in items_of(6)]
    bench, store = bench_of(tmp_path, items, members())
    try:
        space = space_of()
        one = await bench.trial("ann", space.alone("ann"), space.recipe(space.alone("ann")))
        other = await bench.trial("bob", space.alone("bob"), space.recipe(space.alone("bob")))
    finally:
        store.close()
    assert set(one.scores) == {0.5}
    assert all(score is not None for score in other.scores)
