"""Learning from batch folders, receipts and feedback: the recipe that won for each kind, where enough tell so."""

from __future__ import annotations

import json
from dataclasses import replace
from pathlib import Path

import pytest
from calib_fakes import TOPICS, items_of, members, space_of

from local_fusion.batch.options import BatchOptions
from local_fusion.batch.run import run_batch
from local_fusion.calibrate.learning import learn
from local_fusion.calibrate.marks import Marks, read_feedback, refuse_ambiguous, same
from local_fusion.calibrate.past import PastAnswer, PastPrompt, read_prompts
from local_fusion.calibrate.space import Space
from local_fusion.calibrate.verdicts import REPORT, part_of
from local_fusion.calibrate.ways import vote
from local_fusion.config.schema import MemberSettings
from local_fusion.errors import InputError

SPECIALIST = {"sums": "ann", "days": "bob"}


def prompt(number: int, topic: str, mode: str = "vote", text: str | None = None) -> PastPrompt:
    """ann is right on sums, bob on days, each as certain as the other; the judge picked ann."""
    answers = tuple(
        PastAnswer(model, "It is 4." if SPECIALIST[topic] == model else "It is 7.", 0.9, 10.0, 0.0)
        for model in ("ann", "bob")
    )
    question = f"{TOPICS[topic]} ({number})."
    picked = answers[0].text
    said = text or picked
    return PastPrompt((f"id-{number}",), question, mode, ("ann", "bob"), said, answers, picked, (5.0, 0.0), (5.0, 0.0))


def space(**changes: object) -> Space:
    return space_of(**({"panel": ["ann", "bob"], "judge": "jed", "mode": "vote"} | changes))


def test_each_kind_gets_the_member_that_knows_it() -> None:
    prompts = [prompt(number, ("sums", "days")[number % 2]) for number in range(400)]
    items = items_of(400, ("sums", "days"))
    found = learn(space(), prompts, Marks(items), 3)
    assert found.changes, found.why
    assert found.table is not None
    assert found.settings.mode == "auto"
    assert (found.table.version, found.table.otherwise) == (3, {"mode": "vote"})
    assert len(found.table.kinds) == 2
    alone = {tuple(seat["model"] for seat in kind.recipe.get("panel", [])) for kind in found.table.kinds}
    assert ("bob",) in alone
    assert found.graded == 400
    assert all("on other prompts" in kind.why or kind.recipe == {"mode": "vote"} for kind in found.table.kinds)


def test_a_thumb_marks_only_what_the_user_saw() -> None:
    words = {f"id-{n}": {"id": f"id-{n}", "rating": "up" if n < 200 else "down"} for n in range(400)}
    prompts = [prompt(n, "sums", "best-of" if n < 200 else "vote") for n in range(400)]
    found = learn(space(), prompts, Marks((), words), 1)
    assert found.changes
    assert found.table is not None
    assert [kind.recipe for kind in found.table.kinds] == [{"mode": "best-of"}]
    names = {tried.name for step in found.steps for tried in step.tried}
    assert not any("alone" in name for name in names)
    assert "seem better served" in found.why
    assert "observed on different prompts, not measured on the same" in found.why
    assert found.report is not None
    assert found.report.gain is None
    assert found.report.observed == ("kind-1",)
    assert "no measured gain" in found.notes[-1]
    assert "no measured gain" in found.table.kinds[0].why


def test_thumbs_that_turn_on_what_was_kept_for_the_report_change_nothing() -> None:
    prompts = [prompt(n, "sums", "best-of" if n < 200 else "vote") for n in range(400)]
    turned = {one.ids[0]: part_of(one.question) == REPORT for one in prompts}
    words = {
        name: {"id": name, "rating": "up" if (place < 200) is not turned[name] else "down"}
        for place, name in enumerate(turned)
    }
    found = learn(space(), prompts, Marks((), words), 1)
    assert not found.changes
    assert found.why.endswith("nothing is changed")


def test_what_is_worse_on_what_was_kept_for_the_report_changes_nothing() -> None:
    """ann alone is right wherever a recipe is chosen and kept, and wrong where only the report looks."""
    prompts = [prompt(n, "sums", text="It is 7.") for n in range(160)]
    items = [replace(item, expected=7 if part_of(item.question) == REPORT else 4) for item in items_of(160, ("sums",))]
    found = learn(space(), prompts, Marks(items), 1)
    assert not found.changes
    assert "-100.0" in found.why
    assert found.report is not None
    assert found.report.prompts == sum(part_of(one.question) == REPORT for one in prompts)


def test_a_claim_is_made_on_prompts_that_nothing_was_chosen_on() -> None:
    prompts = [prompt(n, "sums", text="It is 7.") for n in range(160)]
    found = learn(space(), prompts, Marks(items_of(160, ("sums",))), 1)
    assert found.changes, found.why
    kept_back = sum(part_of(one.question) == REPORT for one in prompts)
    assert f"+100.0 (+100.0 to +100.0) points on {kept_back} prompts kept for the report" in found.why


def test_too_few_prompts_for_a_report_are_a_sentence() -> None:
    questions = [prompt(n, "sums", text="It is 7.") for n in range(160)]
    last = [one for one in questions if part_of(one.question) == REPORT]
    few = [one for one in questions if one not in last[19:]]
    found = learn(space(), few, Marks(items_of(160, ("sums",))), 1)
    assert not found.changes
    assert "only 19 prompts kept for the report tell of the new recipes, 20 are wanted" in found.why


def test_what_can_no_longer_be_graded_counts_as_wrong() -> None:
    """bob is right or says no number: he must not win by what cannot be read."""
    prompts = []
    for number in range(160):
        ann = PastAnswer("ann", "It is 4." if number % 2 else "It is 7.", 0.9, 10.0, 0.0)
        bob = PastAnswer("bob", "It is 4." if number % 4 == 1 else "I cannot say.", 0.9, 5.0, 0.0)
        question = f"{TOPICS['sums']} ({number})."
        prompts.append(
            PastPrompt(
                (f"id-{number}",), question, "vote", ("ann", "bob"), ann.text, (ann, bob), None, (5.0, 0.0), (5.0, 0.0)
            )
        )
    found = learn(space(), prompts, Marks(items_of(160, ("sums",))), 1)
    bobs = [tried for step in found.steps for tried in step.tried if tried.name.startswith("bob alone")]
    assert [tried.name for tried in bobs] == ["bob alone (160 graded)"]
    assert bobs[0].accuracy.value == 0.25


def test_right_answers_of_users_mark_every_member() -> None:
    words = {f"id-{n}": {"id": f"id-{n}", "rating": "down", "answer": "4"} for n in range(200)}
    found = learn(space(), [prompt(n, "days") for n in range(200)], Marks((), words), 1)
    assert found.table is not None
    assert found.table.kinds[0].recipe["panel"] == [{"model": "bob"}]


def test_too_little_evidence_changes_nothing() -> None:
    found = learn(space(), [prompt(n, "days") for n in range(40)], Marks(items_of(40, ("days",))), 1)
    assert not found.changes
    assert "nothing is changed" in found.why


def test_without_prompts_answered_as_now_there_is_nothing_to_compare_with() -> None:
    words = {f"id-{n}": {"id": f"id-{n}", "rating": "up"} for n in range(80)}
    found = learn(space(mode="debate"), [prompt(n, "sums") for n in range(80)], Marks((), words), 1)
    assert not found.changes
    assert "answers now" in found.why


def test_prompts_of_other_models_are_left_out() -> None:
    with pytest.raises(InputError, match="1 past prompts were found, and none"):
        learn(space_of(panel=["cyd"], judge="jed"), [prompt(1, "sums")], Marks(), 1)


def test_a_vote_is_counted_by_certainty() -> None:
    def answer(text: str, certainty: float) -> PastAnswer:
        return PastAnswer("m", text, certainty, 1.0, 0.0)

    answers = (answer("It is 4.", 0.3), answer("The sum is 4.", 0.4), answer("It is 7.", 0.6))
    one = PastPrompt(("a",), "Add 2 and 2.", "vote", ("m",), "", answers, None, (0.0, 0.0), (0.0, 0.0))
    assert vote(one) == "The sum is 4."
    unknown = replace(one, answers=tuple(replace(answer, certainty=None) for answer in answers))
    assert vote(unknown) == "It is 4."
    assert same("Add 2 and 2.", "4", "It is 4.")
    assert not same("Add 2 and 2.", "4", "It is 7.")


@pytest.mark.parametrize(
    ("question", "right", "text", "is_same"),
    [
        ("Reverse the word 'abc'.", "cba", "Backwards it is 'cba'.", True),
        ("Reverse the word 'abc'.", "cba", "Backwards it is 'cab'.", False),
        ("What is the first letter of 'ox'?", "o", 'The first letter is "o".', True),
        ("Is it so?", "no", "Yes, though he says 'no'.", False),
        ("Add 2 and 2.", "4", "Not '4', it is 5.", False),
    ],
)
def test_a_bare_right_answer_is_the_word_a_text_quotes(question: str, right: str, text: str, is_same: bool) -> None:
    assert same(question, right, text) is is_same


def test_a_long_right_answer_of_a_user_marks_nothing_in_other_words() -> None:
    """Else everything were wrong alike, and the cheapest way would win."""
    words = {f"id-{n}": {"id": f"id-{n}", "rating": "up", "answer": "Rivers run to the sea. " * 40} for n in range(240)}
    prompts = [prompt(n, "sums", text="They all end in some sea.") for n in range(240)]
    found = learn(space(), prompts, Marks((), words), 1)
    assert not found.changes, found.why
    assert found.graded == 240


def test_feedback_on_an_id_that_different_prompts_have_is_refused() -> None:
    prompts = [prompt(1, "sums"), replace(prompt(1, "sums"), question="Another one?")]
    refuse_ambiguous({"id-2": {}}, prompts, Marks())
    refuse_ambiguous({"id-1": {}}, [prompts[0], prompts[0]], Marks())
    with pytest.raises(InputError, match="speaks of id-1, which is the id of different prompts"):
        refuse_ambiguous({"id-1": {}}, prompts, Marks())


def test_a_thumb_on_an_id_that_different_answers_have_is_refused() -> None:
    """Two runs of one input: a row's id does not tell which of the answers the user saw."""
    prompts = [prompt(1, "sums"), prompt(1, "sums", text="It is 7.")]
    for answer in ({}, {"answer": "Rivers run to the sea. " * 40}):
        words = {"id-1": {"id": "id-1", "rating": "up"} | answer}
        with pytest.raises(InputError, match="speaks of id-1, which is the id of different answers to one prompt"):
            refuse_ambiguous(words, prompts, Marks((), words))
    refuse_ambiguous(words, [prompts[0], replace(prompts[0], text=f" {prompts[0].text}\n")], Marks((), words))
    refuse_ambiguous(words, prompts, Marks(items_of(3, ("sums",)), words))
    right = {"id-1": {"id": "id-1", "rating": "up", "answer": "4"}}
    refuse_ambiguous(right, prompts, Marks((), right))


@pytest.mark.parametrize("answer", ["4", "4.0", '"4"'])
def test_a_right_answer_may_be_a_number(tmp_path: Path, answer: str) -> None:
    (tmp_path / "feedback.jsonl").write_text(f'{{"id": "id-1", "rating": "down", "answer": {answer}}}\n')
    marks = Marks((), read_feedback(tmp_path / "feedback.jsonl"))
    assert marks.text(prompt(1, "sums"), "It is 4.") == 1.0
    assert marks.text(prompt(1, "sums"), "It is 7.") == 0.0


@pytest.mark.parametrize("answer", ["[4]", "true", '{"is": 4}'])
def test_a_right_answer_that_is_neither_text_nor_number_is_refused(tmp_path: Path, answer: str) -> None:
    (tmp_path / "feedback.jsonl").write_text(f'{{"id": "id-1", "rating": "down", "answer": {answer}}}\n')
    with pytest.raises(InputError, match="the answer in the line on id-1 is no text and no number"):
        read_feedback(tmp_path / "feedback.jsonl")
    (tmp_path / "feedback.jsonl").write_text('{"id": "id-1", "rating": "down", "answer": null}\n')
    assert not Marks((), read_feedback(tmp_path / "feedback.jsonl")).knows(prompt(1, "sums"))


def test_what_is_only_cheaper_is_not_called_better() -> None:
    """Every answer is right already: ann alone is as right for less."""
    answers = tuple(PastAnswer(model, "It is 4.", 0.9, 10.0, 0.0) for model in ("ann", "bob"))
    prompts = [replace(prompt(n, "sums"), answers=answers, text="It is 4.") for n in range(240)]
    found = learn(space(), prompts, Marks(items_of(240, ("sums",))), 1)
    assert found.changes
    assert "get a recipe of their own, cheaper as a whole: no sure difference" in found.why
    assert "better" not in found.why


def test_that_not_everything_was_read_is_said(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("local_fusion.calibrate.learning.MOST_PROMPTS", 240)
    prompts = [prompt(n, "sums") for n in range(240)]
    notes = learn(space(), prompts, Marks(items_of(240, ("sums",))), 1).notes
    assert any("only the first 240 past prompts were read" in note for note in notes)


def test_a_vote_is_counted_with_the_seats_weights() -> None:
    said = [("ann", 0, "It is 4."), ("bob", 0, "It is 7."), ("bob", 1, "The sum is 7.")]
    answers = tuple(PastAnswer(model, text, 0.9, 1.0, 0.0, sample) for model, sample, text in said)
    one = PastPrompt(("a",), "Add 2 and 2.", "vote", ("ann", "bob"), "", answers, None, (0.0, 0.0), (0.0, 0.0))
    seats = (MemberSettings(model="ann", weight=4), MemberSettings(model="bob", samples=2))
    assert vote(one) == "It is 7."
    assert vote(one, seats) == "It is 4."
    by_sample = (MemberSettings(model="ann"), MemberSettings(model="bob"), MemberSettings(model="bob", weight=0.5))
    assert vote(one, by_sample) == "It is 7."
    cut = replace(one, answers=(answers[0], replace(answers[1], cut=True, certainty=0.99), answers[2]))
    assert vote(cut) == "The sum is 7."


def test_a_replayed_vote_weighs_as_the_fusion_does() -> None:
    """Of ann, who weighs 4, and bob, as certain as she, the vote of the fusion is ann's."""
    panel = [{"model": "bob"}, {"model": "ann", "weight": 4}]
    prompts = [replace(prompt(n, "sums", "best-of"), panel=("bob", "ann")) for n in range(80)]
    found = learn(space(panel=panel, mode="best-of"), prompts, Marks(items_of(80, ("sums",))), 1)
    votes = [tried for step in found.steps for tried in step.tried if tried.name.startswith("vote of")]
    assert [tried.accuracy.value for tried in votes] == [1.0]


async def test_batch_folders_and_receipts_say_the_same(tmp_path: Path) -> None:
    items = items_of(12)
    rows = [{"id": item.id, "prompt": item.question} for item in items]
    (tmp_path / "rows.jsonl").write_text("".join(json.dumps(row) + "\n" for row in rows))
    recipe = space(mode="best-of").own
    await run_batch(tmp_path / "rows.jsonl", tmp_path / "run", members(), recipe, BatchOptions())
    (tmp_path / "run" / "output.jsonl").open("a").write('{"torn')
    found = read_prompts([tmp_path / "run"])
    assert [one.question for one in found] == [item.question for item in items]
    assert read_prompts([tmp_path / "run", tmp_path / "state" / ".." / "run"]) == found
    assert found[0].panel == ("ann", "bob")
    assert found[0].mode == "best-of"
    assert all(answer.tokens > 0 for one in found for answer in one.answers)
    marks = Marks(items)
    assert [marks.final(one) for one in found] == [1.0] * 12
    assert {one.picked for one in found} <= {"It is 4.", None}
    folder = tmp_path / "state" / "receipts"
    folder.mkdir(parents=True)
    lines = []
    for raw in (tmp_path / "run" / "output.jsonl").read_text().splitlines()[:12]:
        body = json.loads(raw)["response"]["body"]
        text, turns = body["choices"][0]["message"]["content"], [{"role": "user", "content": "hello"}]
        lines.append(
            {"id": body["id"], "key": "k", "at": 1, "messages": turns, "text": text, "receipt": body["fusion"]}
        )
    lines.append({"id": "cut", "messages": [], "cut": True, "text": "", "receipt": lines[0]["receipt"]})
    (folder / "2026-11-20.jsonl").write_text("".join(json.dumps(line) + "\n" for line in lines) + "torn")
    kept = read_prompts([tmp_path / "state"])
    assert len(kept) == 12
    assert [one.answers for one in kept] == [one.answers for one in found]


def test_what_is_no_run_is_a_sentence(tmp_path: Path) -> None:
    with pytest.raises(InputError, match="holds neither"):
        read_prompts([tmp_path])
    with pytest.raises(InputError, match="there is no"):
        read_prompts([tmp_path / "nowhere"])
    (tmp_path / "feedback.jsonl").write_text('{"id": "a", "rating": "fine"}\n')
    with pytest.raises(InputError, match="no word of a user"):
        read_feedback(tmp_path / "feedback.jsonl")
    (tmp_path / "feedback.jsonl").write_text('{"id": "a", "rating": "up"}\n{"id": "a", "rating": "down"}\n{"torn')
    assert read_feedback(tmp_path / "feedback.jsonl")["a"]["rating"] == "down"
