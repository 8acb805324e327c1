"""A report counts what the run counts, of runs in any state, and its size does not follow the run's."""

from __future__ import annotations

import json
import re
from pathlib import Path

import orjson
import pytest
from run_maker import HOSTILE, MEMBERS, asked, make_run

from local_fusion.batch.options import BatchOptions
from local_fusion.errors import InputError
from local_fusion.report import facts as facts_module
from local_fusion.report.agreement import Agreement
from local_fusion.report.choose import Choice, Place
from local_fusion.report.effort import BINS, Timeline, stage_and_model
from local_fusion.report.facts import Facts, Spread, facts_of
from local_fusion.report.folder import open_run, prompts
from local_fusion.report.history import History
from local_fusion.report.page import BrowserRow, Group, Part, visible
from local_fusion.report.rows import TEXT_CHARS
from local_fusion.report.run_page import write_report


def output_of(folder: Path) -> list[bytes]:
    """The lines of its output."""
    return (folder / "output.jsonl").read_bytes().splitlines()


async def test_what_is_counted_is_what_the_run_counted(tmp_path: Path) -> None:
    await make_run(tmp_path / "run", 60)
    run = json.loads((tmp_path / "run" / "run.json").read_text())
    facts = facts_of(tmp_path / "run")
    history = facts.history
    assert (history.succeeded, history.failed, facts.rest) == (60, 0, 0)
    assert facts.run.problems == []
    assert history.tallies["output.jsonl"].plain()["marks"] == run["marks"]
    calls = {name: member["calls"] for name, member in run["members"].items()}
    by_model: dict[str, int] = {}
    for (_, model), sums in history.effort.by.items():
        by_model[model] = by_model.get(model, 0) + sums.calls - sum(sums.failed.values())
    assert by_model == calls
    assert sum(sums.completion for sums in history.effort.by.values()) == run["tokens"]["completion"]
    assert sum(facts.kept.values()) == 60
    assert facts.kept["written"] + facts.kept.get("answer", 0) == run["marks"]["guarded"]
    assert facts.kept.get("answer", 0) == run["marks"].get("guard_kept_answer", 0)
    failed = run["member_failures"]["engine_error"]
    assert sum(history.effort.by["panel", "cyd"].failed.values()) == failed
    assert sum(facts.degraded.values()) == run["marks"]["degraded"] == failed
    assert history.effort.timeline.end_s > 0


async def test_rows_show_prompt_panel_and_answer(tmp_path: Path) -> None:
    await make_run(tmp_path / "run", 12)
    facts = facts_of(tmp_path / "run")
    assert [row.id for row in facts.rows] == [f"row-{n}" for n in range(12)]
    records = {(one := orjson.loads(raw))["custom_id"]: one for raw in output_of(tmp_path / "run")}
    for number, row in enumerate(facts.rows):
        groups = {group.title: group.parts for group in row.groups}
        assert groups["Asked"][0].text == asked(number)
        body = records[row.id]["response"]["body"]
        said = {one["model"]: one["content"] for one in body["fusion"]["responses"]}
        assert {part.head: part.text for part in groups["Panel"] if part.mark != "bad"} == said
        assert groups["Final answer"][0].text == body["choices"][0]["message"]["content"].strip("\n")
    page = write_report(tmp_path / "run").read_text()
    assert HOSTILE[:20] not in page
    data = json.loads(re.search(r'id="data">(.*?)</script>', page, re.DOTALL).group(1))
    texts = {part["text"] for row in data for group in row["groups"] for part in group["parts"]}
    assert visible(HOSTILE) in texts


async def test_members_agree_as_often_as_they_do(tmp_path: Path) -> None:
    members = {
        "ada": 'answers: ["The answer is 12."]',
        "bob": 'answers: ["The answer is 12.", "The answer is 13."]',
        "cyd": 'answers: ["Answer: 12"]',
    }
    await make_run(tmp_path / "run", 80, members)
    agreement = facts_of(tmp_path / "run").agreement
    differ = sum(b"The answer is 13." in raw for raw in output_of(tmp_path / "run"))
    assert 0 < differ < 80
    assert (agreement.rows, agreement.compared) == (80, 80)
    pair, always = agreement.pair("bob", "ada"), agreement.pair("ada", "cyd")
    assert pair is not None
    assert always is not None
    assert (pair.equal, always.equal) == (80 - differ, 80)
    assert agreement.unanimous == 80 - differ


async def test_an_interrupted_run_says_what_is_left(tmp_path: Path) -> None:
    slow = {name: script + ", delay_s: 0.02" for name, script in MEMBERS.items()}
    summary = await make_run(tmp_path / "run", 200, slow, stop_after=20)
    facts = facts_of(tmp_path / "run")
    assert summary.status == "interrupted"
    assert facts.history.succeeded == summary.succeeded
    assert facts.rest == 200 - summary.succeeded - summary.failed > 0
    begun = [row for row in facts.rows if row.tags == ("not ended",)]
    assert len(begun) == len(facts.history.open_rows)
    assert write_report(tmp_path / "run").stat().st_size > 10_000


async def test_a_report_is_never_written_over_the_run_itself(tmp_path: Path) -> None:
    await make_run(tmp_path / "run", 3)
    before = output_of(tmp_path / "run")
    with pytest.raises(InputError, match=r"output\.jsonl is there already and no \.html file"):
        write_report(tmp_path / "run", tmp_path / "run" / "output.jsonl")
    assert output_of(tmp_path / "run") == before


async def test_a_killed_run_is_read_as_far_as_its_journal_vouches(tmp_path: Path) -> None:
    await make_run(tmp_path / "run", 30)
    journal, output = tmp_path / "run" / "journal.jsonl", tmp_path / "run" / "output.jsonl"
    lines = journal.read_bytes().splitlines(keepends=True)
    ends = [place for place, raw in enumerate(lines) if raw.startswith(b'{"end":')]
    journal.write_bytes(b"".join(lines[: ends[9] + 1]) + b'{"call":29,"id":"row-2')
    output.write_bytes(output.read_bytes()[:-40])
    run = json.loads((tmp_path / "run" / "run.json").read_text()) | {"status": "running"}
    (tmp_path / "run" / "run.json").write_text(json.dumps(run))
    facts = facts_of(tmp_path / "run")
    assert facts.history.succeeded == 10
    assert sum(facts.kept.values()) == 10
    assert facts.rest == 20
    assert facts.run.problems == []


async def test_rows_run_again_count_once(tmp_path: Path) -> None:
    dead = {"ada": "fail_rate: 1.0", "bob": "fail_rate: 1.0"}
    await make_run(tmp_path / "run", 10, dead, "best-of")
    assert facts_of(tmp_path / "run").history.failed == 10
    assert facts_of(tmp_path / "run").rows[0].tags == ("failed",)
    await make_run(tmp_path / "run", 10, dead, "best-of", BatchOptions(retry_failed=True))
    facts = facts_of(tmp_path / "run")
    assert (facts.history.failed, facts.history.sessions, len(facts.rows)) == (10, 2, 10)
    assert len(facts.history.effort.timeline.breaks) == 1


@pytest.mark.parametrize("harm", ["journal gone", "journal damaged", "input gone", "input changed", "output damaged"])
async def test_harm_is_told_and_stops_nothing(tmp_path: Path, harm: str) -> None:
    await make_run(tmp_path / "run", 10)
    name, what = harm.split()
    path = {"journal": tmp_path / "run" / "journal.jsonl", "output": tmp_path / "run" / "output.jsonl"}.get(
        name, tmp_path / "run.jsonl"
    )
    if what == "gone":
        path.unlink()
    elif what == "damaged":
        path.write_bytes(b'{"x": 1}\nnonsense\n' + path.read_bytes())
    else:
        path.write_text("other\n")
    facts = facts_of(tmp_path / "run")
    assert len(facts.run.problems) >= 1
    assert facts.run.problems[0] in write_report(tmp_path / "run", tmp_path / "out.html").read_text().replace(
        "&#x27;", "'"
    )


async def test_a_large_run_is_drawn_from_and_counted_whole(tmp_path: Path) -> None:
    await make_run(tmp_path / "run", 400)
    facts = facts_of(tmp_path / "run", Choice(even=50, each=5, compared=30))
    assert 50 <= len(facts.rows) <= 50 + 4 * 5
    assert sum(facts.kept.values()) == 400
    assert facts.agreement.rows == 30
    again = facts_of(tmp_path / "run", Choice(even=50, each=5, compared=30))
    assert [row.id for row in again.rows] == [row.id for row in facts.rows]
    page = write_report(tmp_path / "run", choice=Choice(even=50, each=5, compared=30)).read_text()
    assert f"{len(facts.rows)} of 400 rows are listed" in page


async def test_rows_that_ask_for_attention_come_before_others_on_a_full_page(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(facts_module, "PAGE_CHARS", 20_000)
    rows = [json.dumps({"id": f"row-{n}", "prompt": "x" * 500}) for n in range(60)]
    (tmp_path / "run.jsonl").write_text("\n".join([*rows, *["{bad"] * 5]))
    await make_run(tmp_path / "run", 65, {"ada": 'answers: ["It is 12."]'}, "best-of")
    facts = facts_of(tmp_path / "run")
    lines = [int(row.note.split()[1]) for row in facts.rows]
    assert lines == sorted(lines)
    assert lines[-5:] == [61, 62, 63, 64, 65]
    assert 5 < len(lines) < 65
    assert facts.left_out == 65 - len(lines)
    assert max(lines[:-5]) - min(lines) > 30


def test_a_row_too_large_for_the_page_leaves_the_others(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(facts_module, "PAGE_CHARS", 2_000)
    rows = {
        line: BrowserRow(str(line), "", (), (Group("", (Part("", "x" * size),)),))
        for line, size in ((1, 10), (2, 9_000), (3, 10))
    }
    (tmp_path / "run.json").write_text('{"input": {"rows": 3}}')
    facts = Facts(open_run(tmp_path), History())
    facts_module._list(facts, rows, {2})
    assert ([row.id for row in facts.rows], facts.left_out) == (["1", "3"], 1)


async def test_of_long_prompts_only_what_is_shown_or_read_is_held(tmp_path: Path) -> None:
    (tmp_path / "run.jsonl").write_text(
        "".join(json.dumps({"id": f"row-{n}", "prompt": "x" * 60_000 + f" How much is {n}?"}) + "\n" for n in range(3))
    )
    await make_run(tmp_path / "run", 3)
    asked_of = prompts(open_run(tmp_path / "run"), {1, 2}, {2})
    assert {line: (known.id, known.text[:9]) for line, known in asked_of.items()} == {
        1: ("row-0", ""),
        2: ("row-1", "x" * 9),
    }
    assert TEXT_CHARS < len(asked_of[2].text) < TEXT_CHARS + 100
    for known in asked_of.values():
        assert len(known.question) <= 8_000
        assert known.question.endswith(f"How much is {known.id[-1]}?")
    shown = facts_of(tmp_path / "run").rows[1].groups[0].parts[0].text
    assert shown == asked_of[2].text
    assert shown.endswith("54,015 more characters in the run's folder")


async def test_a_run_whose_input_was_moved_shows_its_prompts(tmp_path: Path) -> None:
    await make_run(tmp_path / "run", 4, options=BatchOptions(limit=2))
    folder = (tmp_path / "run").rename(tmp_path / "moved")
    (tmp_path / "run.jsonl").rename(tmp_path / "moved.jsonl")
    await make_run(folder, 4)
    facts = facts_of(folder)
    assert facts.run.problems == []
    assert facts.rows[0].groups[0].parts[0].text == asked(0)


async def test_versions_of_later_sessions_are_told_beside_the_first(tmp_path: Path) -> None:
    for limit, version in ((2, "0.32"), (None, "0.33")):
        await make_run(tmp_path / "run", 4, options=BatchOptions(limit=limit, versions={"vllm": version}))
    page = write_report(tmp_path / "run").read_text()
    assert "vllm 0.32" in page
    assert re.search(r"versions of a later session</td><td>[^<]*vllm 0\.33", page)


async def test_a_limit_below_what_is_done_hides_no_row(tmp_path: Path) -> None:
    await make_run(tmp_path / "run", 5)
    await make_run(tmp_path / "run", 5, options=BatchOptions(limit=2))
    facts = facts_of(tmp_path / "run")
    assert (facts.total, facts.rest) == (5, 0)
    page = write_report(tmp_path / "run").read_text()
    assert "<title>trio: 5 rows</title>" in page
    assert "of 5 rows" in page


def test_samples_of_one_member_are_no_members_that_disagree() -> None:
    agreement = Agreement()
    responses = [{"model": "ada", "sample": n, "content": f"The answer is {12 + n % 2}."} for n in range(5)]
    assert agreement.add(asked(0), responses, "The answer is 12.") is None
    assert (agreement.rows, agreement.compared, agreement.members) == (1, 0, [])
    other = {"model": "bob", "sample": 0, "content": "It is 12."}
    assert agreement.add(asked(0), [*responses, other], "The answer is 12.") is True


async def test_without_a_journal_nothing_is_said_of_rows_that_have_begun(tmp_path: Path) -> None:
    await make_run(tmp_path / "run", 4)
    (tmp_path / "run" / "journal.jsonl").unlink()
    page = write_report(tmp_path / "run").read_text()
    assert "rows that have begun" not in page
    assert "Nothing: every row that ended has an answer" not in page
    assert "nothing of it could be read" in page


async def test_a_page_that_cannot_be_written_is_a_sentence_and_leaves_nothing(tmp_path: Path) -> None:
    await make_run(tmp_path / "run", 2)
    (tmp_path / "d.html").mkdir()
    with pytest.raises(InputError, match=r"cannot write .*d\.html: Is a directory; name another file with --out"):
        write_report(tmp_path / "run", tmp_path / "d.html")
    assert not (tmp_path / "d.html.new").exists()


def test_a_draw_is_even_and_forgets_what_is_void() -> None:
    choice = Choice(even=100, each=10, compared=50)
    for line in range(10_000):
        choice.offer(Place("a" if line % 2 else "b", line // 2, line), ["odd"] if line % 2 else [], True)
    lines = sorted(place.line for place in choice.shown)
    assert 100 <= len(lines) <= 110
    assert 25 <= sum(line < 5_000 for line in lines) <= 85
    choice.drop("a")
    assert {place.file for place in choice.shown | choice.compared} == {"b"}


def test_the_time_line_stays_small_and_keeps_every_second() -> None:
    timeline = Timeline()
    timeline.session()
    for call in range(1_000):
        timeline.add("panel", 1_000.0 + call, 2.0)
    timeline.session()
    timeline.add("guard", 90_000.0, 5.0)
    series = timeline.under_way()
    assert {len(values) for values in series.values()} <= set(range(BINS + 1))
    assert sum(series["panel"]) * timeline.width_s == pytest.approx(2_000.0)
    assert sum(series["guard"]) * timeline.width_s == pytest.approx(5.0)
    assert timeline.end_s == pytest.approx(1_006.0)
    assert timeline.breaks == [pytest.approx(1_001.0)]


@pytest.mark.parametrize(
    ("call_id", "model", "expected"),
    [
        ("r/panel/ada/0/0a", "ada", ("panel", "ada")),
        ("a/write/b/pick/org/model/1/0a", "org/model", ("pick", "org/model")),
        ("a/b/panel/org/model/1/0a", None, ("panel", "org/model")),
        ("nonsense", None, ("other", "?")),
    ],
)
def test_stage_and_member_are_read_from_a_calls_id(call_id: str, model: str | None, expected: tuple[str, str]) -> None:
    assert stage_and_model(call_id, model) == expected


def test_the_spread_finds_middle_and_tail() -> None:
    spread = Spread()
    assert spread.at(0.5) is None
    for value in range(1, 1_001):
        spread.add(float(value))
    assert spread.at(0.5) == pytest.approx(500, rel=0.1)
    assert spread.at(0.95) == pytest.approx(950, rel=0.1)


def test_a_folder_without_a_run_is_refused(tmp_path: Path) -> None:
    with pytest.raises(InputError, match=r"no run\.json"):
        write_report(tmp_path)
    (tmp_path / "run.json").write_text("{}")
    with pytest.raises(InputError, match="damaged"):
        write_report(tmp_path)
