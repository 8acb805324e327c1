"""What past prompts tell of other ways to answer: nobody wins on prompts that an outcome chose."""

from __future__ import annotations

import json
from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import Any

import pytest
from calib_fakes import TOPICS, items_of, space_of

from local_fusion.calibrate.by_kind import Option
from local_fusion.calibrate.learning import Learnt, learn
from local_fusion.calibrate.marks import Marks
from local_fusion.calibrate.past import read_prompts
from local_fusion.calibrate.space import Space
from local_fusion.calibrate.verdicts import winner_of
from local_fusion.calibrate.ways import options_of

RIGHT, WRONG = "It is 4.", "It is 7."
PROSE = "There is much to be said about sums, and more about those who make them, but hardly here and hardly today. "
CERTAIN = "auto: ann is certain (0.97, 0.90 asked), so no one else was asked"
NO_VOTE = "the answers have no common value to vote on: the judge's choice among 2 answers, read in 2 orders"
MANY = 240


def call(stage: str, model: str, sample: int = 0) -> dict[str, Any]:
    return {
        "stage": stage, "model": model, "sample": sample, "prompt_tokens": 9, "completion_tokens": 3, "gpu_s": 0.0,
    }  # fmt: skip


def receipt(said: Mapping[str, str | None], **more: Any) -> dict[str, Any]:
    """Of a vote. `said`: by member, None where it failed, and then for `reason`; `judge`: who was asked, if anyone."""
    reason, judge, picked = more.pop("reason", "engine_error"), more.pop("judge", None), more.pop("picked", None)
    answers = {model: text for model, text in said.items() if text is not None}
    plain = {
        "fusion": "trio", "mode": "vote", "why": "2 of 3 answers agree (number)", "early_exit": False,
        "responses": [
            {"model": model, "content": text, "sample": 0, "certainty": 0.9} for model, text in answers.items()
        ],
        "failed_models": [
            {"model": model, "reason": reason, "stage": "panel", "sample": 0} for model in said if said[model] is None
        ],
        "calls": [call("panel", model) for model in answers] + ([call("pick", judge)] if judge else []),
    }  # fmt: skip
    if picked is not None:
        plain["choice"] = {"winner": list(answers).index(picked)}
    return plain | more


def learnt(
    folder: Path, space: Space, receipts: Iterable[tuple[dict[str, Any], str]], marks: Marks | None = None
) -> Learnt:
    """From a server's receipts, each with its final text; the right answer is 4."""
    days = folder / "receipts"
    days.mkdir(parents=True)
    lines = [
        {
            "id": f"id-{number}",
            "messages": [{"role": "user", "content": f"{TOPICS['sums']} ({number})."}],
            "text": text,
            "receipt": one,
        }
        for number, (one, text) in enumerate(receipts)
    ]
    (days / "2026-11-20.jsonl").write_text("".join(json.dumps(line) + "\n" for line in lines))
    prompts = read_prompts([folder])
    assert len(prompts) == len(lines)
    return learn(space, prompts, marks or Marks(items_of(len(lines), ("sums",))), 1)


def right_by_name(found: Learnt) -> dict[str, float]:
    """Share of right answers by way and number of graded prompts."""
    return {tried.name: round(tried.accuracy.value, 3) for step in found.steps for tried in step.tried}


def three(**changes: Any) -> Space:
    return space_of(**({"panel": ["ann", "bob", "cyd"], "judge": "jed", "mode": "vote", "early_exit": True} | changes))


@pytest.mark.parametrize("mode", ["vote", "auto"])
def test_an_early_exit_is_the_present_way(tmp_path: Path, mode: str) -> None:
    """Where ann and bob agree cyd is stopped; where they do not the vote is right half of the time."""
    why = "2 of 2 answers agree (number)" if mode == "vote" else "auto: 2 of 2 answers agree (number)"
    easy = receipt({"ann": RIGHT, "bob": RIGHT}, early_exit=True, aborted=1, why=why)
    hard = receipt({"ann": RIGHT, "bob": WRONG, "cyd": RIGHT}, why=why)
    lost = receipt({"ann": RIGHT, "bob": WRONG, "cyd": WRONG}, why=why)
    kinds = [(easy, RIGHT), (easy, RIGHT), (hard, RIGHT), (lost, WRONG)]
    found = learnt(tmp_path, three(mode=mode), [kinds[number % 4] for number in range(MANY)])
    assert right_by_name(found) == {
        f"{mode} of ann, bob, cyd (240 graded)": 0.75,
        "ann alone (240 graded)": 1.0,
        "bob alone (240 graded)": 0.5,
    }


def test_a_run_that_was_never_waited_out_is_the_present_way_too(tmp_path: Path) -> None:
    shown = ({"ann": RIGHT, "bob": RIGHT}, {"bob": RIGHT, "cyd": RIGHT})
    early = [(receipt(shown[number % 2], early_exit=True), RIGHT) for number in range(MANY)]
    assert right_by_name(learnt(tmp_path, three(), early)) == {
        "vote of ann, bob, cyd (240 graded)": 1.0,
        "bob alone (240 graded)": 1.0,
    }


def test_a_member_that_was_certain_alone_is_the_present_way(tmp_path: Path) -> None:
    sure = receipt({"ann": RIGHT}, why=CERTAIN, mode="auto")
    unsure = receipt({"ann": WRONG, "bob": RIGHT, "cyd": RIGHT}, why="auto: 2 of 3 answers agree (number)")
    found = learnt(tmp_path, three(mode="auto"), [((sure, unsure)[number % 2], RIGHT) for number in range(MANY)])
    assert right_by_name(found) == {"auto of ann, bob, cyd (240 graded)": 1.0, "ann alone (240 graded)": 0.5}


def test_answers_of_another_fusion_are_not_those_of_this_one(tmp_path: Path) -> None:
    space = space_of(panel=["ann", "bob"], judge="jed", mode="best-of")
    said = {"ann": RIGHT, "bob": WRONG}
    others = [
        receipt(said, fusion="bad", judge="cyd", picked="bob", mode="best-of"),
        receipt(said, judge="cyd", picked="bob", mode="best-of"),  # before its judge was changed
    ]
    for place, other in enumerate(others):
        found = learnt(tmp_path / str(place), space, [(other, WRONG)] * MANY)
        assert found.why.startswith("no graded prompt was answered as fusion trio answers now")
        assert found.notes[-1].startswith("240 past prompts were answered by other fusions, or with another judge")
    mine = receipt(said, judge="jed", picked="ann", mode="best-of")
    both = learnt(tmp_path / "both", space, [((mine, others[0])[number % 2], WRONG) for number in range(2 * MANY)])
    assert right_by_name(both)["ann alone (480 graded)"] == 1.0
    assert right_by_name(both)["best-of of ann, bob (240 graded)"] == 0.0


def test_where_nobody_had_to_judge_the_judge_is_that_of_the_others(tmp_path: Path) -> None:
    """Else what all said alike, which is easy, would count as answered with the judge of now."""
    space = space_of(panel=["ann", "bob"], judge="jed", mode="best-of")
    same = receipt({"ann": RIGHT, "bob": RIGHT}, mode="best-of", why="all 2 answers are the same")
    judged = receipt({"ann": RIGHT, "bob": WRONG}, mode="best-of", judge="cyd", picked="bob")
    found = learnt(tmp_path, space, [(same, RIGHT), (judged, WRONG)] * (MANY // 2))
    assert not found.changes
    assert found.notes[-1].startswith("240 past prompts")


def test_the_answers_of_another_fusion_tell_of_members_and_votes(tmp_path: Path) -> None:
    other = receipt({"ann": RIGHT, "bob": RIGHT, "cyd": WRONG}, fusion="other", mode="merge", why="jed wrote")
    found = learnt(tmp_path, three(), [(other, WRONG)] * MANY)
    assert right_by_name(found) == {
        "vote of ann, bob, cyd (240 graded)": 1.0,
        "ann alone (240 graded)": 1.0,
        "bob alone (240 graded)": 1.0,
        "cyd alone (240 graded)": 0.0,
    }


@pytest.mark.parametrize("panel", [["ann", "bob", "cyd"], ["bob", "cyd", "ann"]])
def test_a_member_that_fails_is_wrong_and_changes_no_name(tmp_path: Path, panel: list[str]) -> None:
    """ann is right where she answers, the vote nearly always."""
    names = ", ".join(panel)
    vote_fails = receipt({"bob": RIGHT, "cyd": RIGHT, "ann": None})
    all_came = receipt({model: RIGHT if model == "ann" else WRONG for model in panel})
    kinds = [(vote_fails, RIGHT), (vote_fails, RIGHT), (all_came, RIGHT), (all_came, RIGHT)]
    found = learnt(tmp_path, three(panel=panel), [kinds[number % 4] for number in range(MANY)])
    right = right_by_name(found)
    assert right[f"vote of {names} (240 graded)"] == 1.0
    assert right["ann alone (240 graded)"] == 0.5
    assert {name.rpartition(" (")[0] for name in right if name.startswith("vote")} == {f"vote of {names}"}


def test_of_a_straggler_nothing_is_known(tmp_path: Path) -> None:
    slow = receipt({"ann": None, "bob": RIGHT, "cyd": RIGHT}, reason="straggler")
    fast = receipt({"ann": RIGHT, "bob": RIGHT, "cyd": RIGHT})
    found = learnt(tmp_path, three(), [((slow, fast)[number % 2], RIGHT) for number in range(MANY)])
    assert not any(name.startswith("ann alone") for name in right_by_name(found))


def test_a_vote_that_cannot_be_counted_is_no_vote_that_was_right(tmp_path: Path) -> None:
    """The merge is always right, both members only where they say a number."""
    space = space_of(panel=["ann", "bob"], judge="jed", mode="merge")
    counted = receipt({"ann": RIGHT, "bob": RIGHT}, mode="merge", why="all 2 answers are the same")
    prose = receipt({"ann": PROSE * 3, "bob": f"Well. {PROSE * 3}"}, mode="merge", why="jed wrote from 2 answers")
    kinds = [(counted, RIGHT), (prose, RIGHT)]
    found = learnt(tmp_path / "unknown", space, [kinds[number % 2] for number in range(MANY)])
    assert not found.changes
    assert not any(name.startswith(("vote of", "best-of of")) for name in right_by_name(found))
    picked = prose | {"choice": {"winner": 0}, "calls": [*prose["calls"], call("pick", "jed")]}
    kinds = [(counted, RIGHT), (picked, RIGHT)]
    found = learnt(tmp_path / "picked", space, [kinds[number % 2] for number in range(MANY)])
    assert right_by_name(found)["vote of ann, bob (240 graded)"] == 0.5


def test_a_choice_after_a_debate_is_no_choice_among_first_answers(tmp_path: Path) -> None:
    said = receipt({"ann": WRONG, "bob": RIGHT}, mode="debate", why="after a debate", judge="jed")
    said["responses"].append(said["responses"][0] | {"round": 1, "content": RIGHT})
    debate = space_of(panel=["ann", "bob"], judge="jed", mode="debate")
    found = learnt(tmp_path, debate, [(said | {"choice": {"winner": 2}}, RIGHT)] * MANY)
    assert not any(name.startswith("best-of") for name in right_by_name(found))


@pytest.mark.parametrize(
    ("why", "came_to", "mode"),
    [
        (NO_VOTE, "best-of", "vote"),
        (f"auto: a prompt of kind sums (auto: ann won; table 3): {NO_VOTE}", "best-of", "vote"),
        (f"auto: a prompt of no known kind (table 3): {NO_VOTE}", "best-of", "vote"),
        ("auto: a prompt of kind sums (ann won; table 3): auto: 2 of 2 answers agree (number)", "vote", "auto"),
        ("auto: a prompt of kind sums (ann won; table 3): 2 of 2 answers agree (number)", "vote", "vote"),
        ("auto: the answers are free text: jed wrote from 2 answers", "merge", "auto"),
        ("the judge's choice among 2 answers, read in 2 orders", "best-of", "best-of"),
    ],
)
def test_the_mode_is_the_one_that_was_asked_for(tmp_path: Path, why: str, came_to: str, mode: str) -> None:
    learnt(tmp_path, three(), [(receipt({"ann": RIGHT, "bob": WRONG}, mode=came_to, why=why), RIGHT)])
    assert [prompt.mode for prompt in read_prompts([tmp_path])] == [mode]


def test_right_answers_that_users_give_where_it_was_wrong_prove_nothing(tmp_path: Path) -> None:
    """Nine of ten are right and get a thumb; where the vote was wrong users say what is right, and bob had it."""
    right, wrong = (
        receipt({"ann": text, "bob": other, "cyd": text}) for text, other in ((RIGHT, WRONG), (WRONG, RIGHT))
    )
    words = {f"id-{n}": {"id": f"id-{n}", "rating": "up"} for n in range(2 * MANY)}
    words |= {f"id-{n}": {"id": f"id-{n}", "rating": "down", "answer": "4"} for n in range(0, 2 * MANY, 5)}
    receipts = [(right, RIGHT) if number % 5 else (wrong, WRONG) for number in range(2 * MANY)]
    found = learnt(tmp_path, three(), receipts, Marks((), words))
    assert not found.changes, found.why
    assert right_by_name(found) == {"vote of ann, bob, cyd (480 graded)": 0.8}


def test_one_answer_of_a_member_is_written_as_one(tmp_path: Path) -> None:
    """ann's first answer was measured, so that it is what is written, of the first of her seats."""
    panel = [
        {"model": "ann", "samples": 2, "weight": 2.0, "sampling": {"temperature": 0.5}},
        {"model": "ann", "sampling": {"temperature": 1.5}},
        "bob",
    ]
    space = space_of(panel=panel, judge="jed", mode="vote")
    said = receipt({"ann": RIGHT, "bob": WRONG})
    said["responses"][1:1] = [said["responses"][0] | {"sample": sample, "content": WRONG} for sample in (1, 2)]
    found = learnt(tmp_path, space, [(said, WRONG)] * MANY)
    assert found.changes, found.why
    assert found.table is not None
    recipe = {"mode": "best-of", "panel": [{"model": "ann", "sampling": {"temperature": 0.5}}], "quorum": 1}
    assert [kind.recipe for kind in found.table.kinds] == [recipe]


def test_one_member_of_many_samples_is_not_what_it_is_alone(tmp_path: Path) -> None:
    space = space_of(panel=[{"model": "ann", "samples": 3}], judge="jed", mode="best-of")
    said = receipt({"ann": RIGHT}, mode="best-of", why="the judge's choice", judge="jed", picked="ann")
    said["responses"] += [said["responses"][0] | {"sample": sample, "content": WRONG} for sample in (1, 2)]
    found = learnt(tmp_path / "three", space, [(said, RIGHT)] * MANY)
    assert found.table is not None
    assert found.table.kinds[0].recipe == {"mode": "best-of", "panel": [{"model": "ann"}], "quorum": 1}
    single = receipt({"ann": RIGHT}, mode="best-of", why="only one answer came")
    space = space_of(panel=["ann"], judge="jed", mode="best-of")
    found = learnt(tmp_path / "one", space, [(single, RIGHT)] * MANY)
    assert right_by_name(found) == {"best-of of ann (240 graded)": 1.0}


def test_other_seats_than_now_are_another_way(tmp_path: Path) -> None:
    space = space_of(panel=[{"model": "ann", "samples": 3}, "bob"], judge="jed", mode="vote")
    found = learnt(tmp_path, space, [(receipt({"ann": RIGHT, "bob": WRONG}), RIGHT)] * MANY)
    assert found.why.startswith("no graded prompt was answered as fusion trio answers now")


def test_a_table_of_kinds_is_to_be_taken_back_first(tmp_path: Path) -> None:
    space = three(mode="auto", kinds="calibration/kinds-trio-1.json")
    found = learnt(tmp_path, space, [(receipt({"ann": RIGHT, "bob": RIGHT, "cyd": RIGHT}), RIGHT)] * MANY)
    assert not found.changes
    assert "local-fusion calibrate --undo trio" in found.why


def test_an_option_of_too_few_prompts_of_a_kind_is_dropped() -> None:
    places = range(400)
    present = Option("now", {}, {place: float(place % 2) for place in places}, dict.fromkeys(places, 9.0))
    easy = {place: 1.0 for place in places if place % 2}
    parts = [place // 2 % 4 for place in places]
    for wanted, wins in ((frozenset(), True), (frozenset(places), False), (frozenset(easy), True)):
        option = Option("easy", {}, easy, dict.fromkeys(places, 1.0), wanted)
        assert option.covers(places) is wins
        assert (winner_of(places, [min(part, 2) for part in parts], present, [option]).option is option) is wins
    few = Option("now", {}, easy, dict.fromkeys(places, 9.0), frozenset(places))
    assert "may be the easy ones" in winner_of(places, parts, few, [option]).why


def test_options_know_what_they_should_tell_of(tmp_path: Path) -> None:
    prompts = [(receipt({"ann": RIGHT, "bob": RIGHT, "cyd": RIGHT}), RIGHT)] * 8
    learnt(tmp_path, three(), prompts)
    options, graded = options_of(three(), read_prompts([tmp_path]), Marks(items_of(8, ("sums",))), False)
    assert graded == 8
    assert {option.wanted for option in options.values()} == {frozenset(range(8))}
