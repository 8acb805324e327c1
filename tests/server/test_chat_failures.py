"""The failure table, cell by cell, as a client of the chat API sees it."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

from tests.server.conftest import make_config, serving
from tests.server.talk import ask, refused, said, streamed, text_of

BAD = "fail_rate: 1.0"
HANGS = "hang_rate: 1.0"


def config(one: str = "", two: str = "", judge: str = "", fusion: str = "") -> str:
    return f"""
models:
  one: {{engine: scripted, scripted: {{answers: ["The answer is 4."]{one and ", " + one}}}}}
  two: {{engine: scripted, scripted: {{answers: ["Five it is."]{two and ", " + two}}}}}
  judge: {{engine: scripted, scripted: {{answers: ["The final answer is 4."], prefer: "4"{judge and ", " + judge}}}}}
fusions:
  team: {{panel: [one, two], judge: judge, mode: merge{fusion and ", " + fusion}}}
default: team
runtime: {{hosts: local}}
server: {{state: STATE}}
"""


async def answer(tmp_path: Path, text: str, **body: Any) -> dict[str, Any]:
    async with serving(make_config(tmp_path, text)) as client:
        return await said(client, **body)


async def error(tmp_path: Path, text: str, **body: Any) -> tuple[int, str, str | None]:
    async with serving(make_config(tmp_path, text)) as client:
        return await refused(client, **body)


@pytest.mark.parametrize(
    ("fault", "reason", "status"),
    [(BAD, "engine_error", 502), ("empty_rate: 1.0", "empty", 502), (HANGS, "timeout", 504)],
)
async def test_a_member_that_fails_is_listed_and_the_rest_go_on(
    tmp_path: Path, fault: str, reason: str, status: int
) -> None:
    body = await answer(tmp_path, config(two=fault, fusion="member_timeout_s: 0.3"))
    (failed,) = body["fusion"]["failed_models"]
    assert (failed["model"], failed["reason"], failed["status_code"]) == ("two", reason, status)
    assert body["fusion"]["status"] == "ok"
    assert body["fusion"]["degraded"]
    assert "4" in body["choices"][0]["message"]["content"]


async def test_no_answer_at_all_is_a_503_with_the_members(tmp_path: Path) -> None:
    async with serving(make_config(tmp_path, config(one=BAD, two=BAD))) as client:
        got = await ask(client)
    assert got.status_code == 503
    assert got.json()["error"]["code"] == "all_panels_failed"
    assert {failed["model"] for failed in got.json()["error"]["failed_models"]} == {"one", "two"}


async def test_fewer_answers_than_the_quorum_is_a_503(tmp_path: Path) -> None:
    assert await error(tmp_path, config(two=BAD), fusion={"quorum": 2}) == (503, "quorum_not_met", None)


async def test_a_judge_that_fails_leaves_an_answer_without_analysis(tmp_path: Path) -> None:
    body = await answer(tmp_path, config(judge=BAD, fusion="writer: one"), fusion={"include": ["analysis", "panel"]})
    assert body["fusion"]["status"] == "ok"
    assert "analysis" not in body["fusion"]
    assert body["choices"][0]["message"]["content"] == "The answer is 4."


async def test_a_writer_that_fails_is_followed_by_the_next(tmp_path: Path) -> None:
    body = await answer(tmp_path, config(judge="empty_rate: 1.0"), fusion={"writer": ["judge", "one"]})
    assert (body["model"], body["fusion"]["writer"]) == ("one", "one")
    assert any("writer judge failed" in phrase for phrase in body["fusion"]["degraded"])


async def test_where_no_writer_writes_the_best_answer_is_given(tmp_path: Path) -> None:
    body = await answer(tmp_path, config(judge="empty_rate: 1.0"))
    assert body["choices"][0]["message"]["content"] == "The answer is 4."
    assert body["fusion"]["degraded"]


async def test_the_deadline_gives_the_best_so_far_or_a_504(tmp_path: Path) -> None:
    body = await answer(tmp_path, config(judge=HANGS), fusion={"deadline_s": 0.4})
    assert body["fusion"]["degraded"]
    assert body["choices"][0]["message"]["content"]
    slow = config(one=HANGS, two=HANGS)
    assert await error(tmp_path, slow, fusion={"deadline_s": 0.3}) == (504, "deadline_exceeded", None)


async def test_a_prompt_that_no_member_can_hold_is_the_client_s_mistake(tmp_path: Path) -> None:
    turn = {"role": "user", "content": "word " * 100}
    short = config(one="context: 20", two="context: 20", judge="context: 20")
    assert (await error(tmp_path, short, model="one", messages=[turn]))[:2] == (400, "context_exceeded")
    assert (await error(tmp_path, short, messages=[turn]))[0] in (400, 503)


async def test_a_hung_member_alone_is_a_504(tmp_path: Path) -> None:
    text = config(one=HANGS, fusion="member_timeout_s: 0.3")
    assert (await error(tmp_path, text, model="one"))[:2] == (504, "timeout")


async def test_one_failing_choice_of_several_fails_the_request_as_it_is(tmp_path: Path) -> None:
    text = config(one="fail_rate: 0.5")
    seen = set()
    async with serving(make_config(tmp_path, text)) as client:
        for seed in range(12):
            got = await ask(client, model="one", n=3, seed=seed)
            seen.add(got.status_code)
            if got.status_code != 200:
                assert got.json()["error"]["code"] == "engine_error"
        engine = client.service.engines["one"]  # type: ignore[attr-defined]
        assert engine.running == 0
    assert 503 in seen


async def test_a_failed_member_is_told_in_a_stream_too(tmp_path: Path) -> None:
    async with serving(make_config(tmp_path, config(two=BAD))) as client:
        chunks, comments = await streamed(client)
    assert ": fusion panel.failed two" in comments
    assert "4" in text_of(chunks)
    assert chunks[-1]["fusion"]["failed_models"][0]["model"] == "two"
