"""Learning from batch folders, receipts and feedback: the recipe that won for each kind, where enough tell so."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
from calib_fakes import TOPICS, items_of, members, space_of

from local_fusion.batch.options import BatchOptions
from local_fusion.batch.run import run_batch
from local_fusion.calibrate.learning import learn, vote
from local_fusion.calibrate.marks import Marks, read_feedback, same
from local_fusion.calibrate.past import PastAnswer, PastPrompt, read_prompts
from local_fusion.calibrate.space import Space
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
    assert all("on the other half" in kind.why or kind.recipe == {"mode": "vote"} for kind in found.table.kinds)


def test_a_thumb_marks_only_what_the_user_saw() -> None:
    words = {f"id-{n}": {"id": f"id-{n}", "rating": "up" if n < 200 else "down"} for n in range(400)}
    prompts = [prompt(n, "sums", "best-of" if n < 200 else "vote") for n in range(400)]
    found = learn(space(), prompts, Marks((), words), 1)
    assert found.changes
    assert found.table is not None
    assert [kind.recipe for kind in found.table.kinds] == [{"mode": "best-of"}]
    names = {tried.name for step in found.steps for tried in step.tried}
    assert not any("alone" in name for name in names)


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
    assert same("Add 2 and 2.", "4", "It is 4.")
    assert not same("Add 2 and 2.", "4", "It is 7.")


async def test_batch_folders_and_receipts_say_the_same(tmp_path: Path) -> None:
    items = items_of(12)
    rows = [{"id": item.id, "prompt": item.question} for item in items]
    (tmp_path / "rows.jsonl").write_text("".join(json.dumps(row) + "\n" for row in rows))
    recipe = space(mode="best-of").own
    await run_batch(tmp_path / "rows.jsonl", tmp_path / "run", members(), recipe, BatchOptions())
    (tmp_path / "run" / "output.jsonl").open("a").write('{"torn')
    found = read_prompts([tmp_path / "run"])
    assert [one.question for one in found] == [item.question for item in items]
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
