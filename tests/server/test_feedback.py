"""Receipts of answers, and `/v1/feedback` beside them."""

from __future__ import annotations

import json
import os
import stat
from pathlib import Path
from typing import Any

import httpx
import pytest

from local_fusion.config import parse_config
from local_fusion.errors import RequestError
from local_fusion.openai_api.feedback import Feedback, parse_feedback
from local_fusion.server.problems import Overloaded
from local_fusion.server.stored.disk import StorageProblem
from local_fusion.server.stored.receipts import Receipts, read_feedback
from local_fusion.types import Fused, Message, Receipt, ToolCall
from tests.server.conftest import CONFIG, serving

DAY_S = 86_400
ASKED = (Message("user", "2+2?"),)


def fused(text: str = "4") -> Fused:
    return Fused("id", text, "one", "stop", Receipt("team", "merge", "asked for"))


def lines(path: Path) -> list[dict[str, Any]]:
    return [json.loads(line) for line in path.read_text("utf-8").splitlines()]


async def ask(client: httpx.AsyncClient, **body: Any) -> str:
    """The id of an answer."""
    given = {"messages": [{"role": "user", "content": "2+2?"}]} | body
    answer = await client.post("/v1/chat/completions", json=given)
    assert answer.status_code == 200
    if body.get("stream"):
        return str(json.loads(answer.text.partition("data: ")[2].partition("\n")[0])["id"])
    return str(answer.json()["id"])


async def test_every_answer_of_a_fusion_can_be_rated(client: httpx.AsyncClient) -> None:
    ids = [await ask(client), await ask(client, stream=True, model="voted")]
    for answer_id in ids:
        said = {"id": answer_id, "rating": "down", "answer": "4", "comment": "not five"}
        answer = await client.post("/v1/feedback", json=said)
        assert answer.json() == {"id": answer_id, "object": "feedback", "rating": "down"}
    await client.post("/v1/feedback", json={"id": ids[0], "rating": "up"})
    state = client.service.state  # type: ignore[attr-defined]
    kept = [line for path in state.receipts.glob("*.jsonl") for line in lines(path)]
    assert [line["id"] for line in kept] == ids
    assert kept[0]["messages"] == [{"role": "user", "content": "2+2?"}]
    assert kept[0]["receipt"]["fusion"] == "team"
    assert {one["model"] for one in kept[0]["receipt"]["responses"]} == {"one", "two", "three"}
    assert kept[0]["text"]
    assert len(lines(state.feedback)) == 3
    found = read_feedback(state.feedback)
    assert {answer_id: word["rating"] for answer_id, word in found.items()} == {ids[0]: "up", ids[1]: "down"}
    assert found[ids[1]]["answer"] == "4"
    for path in (state.feedback, *state.receipts.iterdir()):
        assert stat.S_IMODE(path.stat().st_mode) == 0o600


async def test_an_answer_of_a_member_can_be_rated(client: httpx.AsyncClient) -> None:
    ids = [await ask(client, model="one"), await ask(client, model="one", stream=True)]
    ids.append((await client.post("/v1/responses", json={"model": "one", "input": "2+2?"})).json()["id"])
    for answer_id in ids:
        answer = await client.post("/v1/feedback", json={"id": answer_id, "rating": "up"})
        assert answer.status_code == 200, answer.text
    state = client.service.state  # type: ignore[attr-defined]
    assert list(state.receipts.glob("*.jsonl")) == []


async def test_what_is_not_stored_or_deleted_leaves_no_word(client: httpx.AsyncClient) -> None:
    kept = (await client.post("/v1/responses", json={"input": "What of KEPT?"})).json()["id"]
    for secret, more in (("UNSTORED", {"store": False}), ("DELETED", {}), ("DISCARDED", {})):
        answer = await client.post("/v1/responses", json={"input": f"What of {secret}?", **more})
        assert answer.status_code == 200, answer.text
        answer_id = answer.json()["id"]
        if not more:
            await client.delete(f"/v1/responses/{answer_id}")
        rated = await client.post("/v1/feedback", json={"id": answer_id, "rating": "up"})
        assert rated.status_code == (200 if more else 404)
    state = client.service.state  # type: ignore[attr-defined]
    (path,) = state.receipts.glob("*.jsonl")
    text = path.read_text()
    for secret in ("UNSTORED", "DELETED", "DISCARDED"):
        assert secret not in text
    found = [json.loads(line) for line in text.splitlines() if line.strip()]
    assert [line["id"] for line in found] == [kept]
    assert (await client.post("/v1/feedback", json={"id": kept, "rating": "up"})).status_code == 200


async def test_unknown_ids_are_a_404(client: httpx.AsyncClient) -> None:
    await ask(client)
    answer = await client.post("/v1/feedback", json={"id": "chatcmpl-none", "rating": "up"})
    assert answer.status_code == 404
    assert answer.json()["error"]["param"] == "id"


async def test_without_receipts_there_is_nothing_to_rate(tmp_path: Path) -> None:
    text = CONFIG.replace("heartbeat_s", "receipt_days: 0, heartbeat_s").replace("STATE", str(tmp_path / "state"))
    async with serving(parse_config(text)) as client:
        answer_id = await ask(client)
        answer = await client.post("/v1/feedback", json={"id": answer_id, "rating": "up"})
        assert answer.status_code == 404
        assert "no receipts are kept" in answer.json()["error"]["message"]
        assert list(client.service.state.receipts.iterdir()) == []  # type: ignore[attr-defined]


@pytest.mark.parametrize(
    ("body", "param"),
    [
        ({"rating": "up"}, "id"),
        ({"id": "x"}, "rating"),
        ({"id": "x", "rating": "sideways"}, "rating"),
        ({"id": 7, "rating": "up"}, "id"),
        ({"id": "x" * 200, "rating": "up"}, "id"),
        ({"id": "a\nb", "rating": "up"}, "id"),
        ({"id": "x", "rating": "up", "answer": 4}, "answer"),
        ({"id": "x", "rating": "up", "comment": "c" * 40_000}, "comment"),
        ({"id": "x", "rating": "up", "stars": 5}, "stars"),
    ],
)
def test_wrong_bodies_are_refused(body: dict[str, Any], param: str) -> None:
    with pytest.raises(RequestError) as caught:
        parse_feedback(body)
    assert caught.value.param == param


class Clock:
    def __init__(self) -> None:
        self.now = 1_800_000_000.0

    def __call__(self) -> float:
        return self.now


def receipts(tmp_path: Path, clock: Clock, days: float = 30.0) -> Receipts:
    (tmp_path / "receipts").mkdir(exist_ok=True)
    return Receipts(tmp_path / "receipts", tmp_path / "feedback.jsonl", days, clock)


async def test_a_key_rates_its_own_answers_only(tmp_path: Path) -> None:
    kept = receipts(tmp_path, Clock())
    kept.keep("chatcmpl-12", "anna", ASKED, fused())
    for key, answer_id in (("bert", "chatcmpl-12"), ("anna", "chatcmpl-1"), ("anna", "12"), ("anna", "mpl-12")):
        with pytest.raises(RequestError, match="no answer of that id"):
            await kept.rate(key, Feedback(answer_id, "up"))
    await kept.rate("anna", Feedback("chatcmpl-12", "up"))


async def test_old_days_are_swept_with_their_feedback(tmp_path: Path) -> None:
    clock = Clock()
    kept = receipts(tmp_path, clock, 2.0)
    for answer_id in ("old", "new"):
        kept.keep(answer_id, "anna", ASKED, fused())
        await kept.rate("anna", Feedback(answer_id, "up"))
        await kept.sweep()
        clock.now += 1.5 * DAY_S
    assert read_feedback(tmp_path / "feedback.jsonl").keys() == {"old", "new"}
    clock.now += 0.1 * DAY_S
    await kept.sweep()
    assert read_feedback(tmp_path / "feedback.jsonl").keys() == {"new"}
    assert len(list((tmp_path / "receipts").glob("*.jsonl"))) == 1
    with pytest.raises(RequestError):
        await kept.rate("anna", Feedback("old", "up"))


def test_a_huge_conversation_is_left_out_of_its_receipt(tmp_path: Path) -> None:
    kept = receipts(tmp_path, Clock())
    call = ToolCall("c", "look", "{}")
    turns = (
        Message("user", "x" * 2_000_000),
        Message("assistant", "", tool_calls=(call,)),
        Message("tool", "y", tool_call_id="c"),
    )
    kept.keep("a", "anna", turns, fused("long"))
    kept.keep("b", "anna", turns[1:], fused("\ud800"))
    first, second = lines(next((tmp_path / "receipts").glob("*.jsonl")))
    assert (first["messages"], first["cut"], first["text"]) == ([], True, "long")
    assert second["messages"][0]["tool_calls"][0]["function"]["name"] == "look"
    assert second["messages"][1] == {"role": "tool", "content": "y", "tool_call_id": "c"}


async def test_what_is_forgotten_is_overwritten_in_place(tmp_path: Path) -> None:
    kept = receipts(tmp_path, Clock())
    for answer_id, text in (("a", "first"), ("ab", "\ud800"), ("b", "third")):
        kept.keep(answer_id, "anna#01", ASKED, fused(text))
    (path,) = (tmp_path / "receipts").glob("*.jsonl")
    size = path.stat().st_size
    await kept.forget("anna#02", "a")
    await kept.forget("anna#01", "none")
    assert path.read_text().count("2+2?") == 3
    await kept.forget("anna#01", "ab")
    await kept.forget("anna#01", "a")
    assert path.stat().st_size == size
    assert [json.loads(line)["id"] for line in path.read_text().splitlines() if line.strip()] == ["b"]
    await kept.rate("anna#01", Feedback("b", "up"))
    with pytest.raises(RequestError):
        await kept.rate("anna#01", Feedback("a", "up"))


def test_torn_feedback_is_skipped(tmp_path: Path) -> None:
    (tmp_path / "f").write_bytes(b'{"id": "a", "rating": "up"}\n[]\n{"id": "b"}\n{"id": "a", "rating": "do')
    assert read_feedback(tmp_path / "f") == {"a": {"id": "a", "rating": "up"}}


async def test_a_key_adds_so_much_in_a_day(tmp_path: Path) -> None:
    clock = Clock()
    (tmp_path / "receipts").mkdir()
    kept = Receipts(tmp_path / "receipts", tmp_path / "feedback.jsonl", 30.0, clock, (5000, 1000))
    for number in range(100):
        kept.keep(f"a{number}", "anna", ASKED, fused())
    day = next((tmp_path / "receipts").glob("*.jsonl"))
    assert 4000 < day.stat().st_size <= 5000
    said = Feedback("a99", "up", comment="c" * 400)
    await kept.rate("anna", said)  # an answer without a receipt may be rated too
    await kept.rate("anna", said)
    with pytest.raises(Overloaded):
        await kept.rate("anna", said)
    kept.keep("b", "bert", ASKED, fused())
    await kept.rate("bert", Feedback("b", "up"))
    assert "bert" in day.read_text()
    clock.now += DAY_S
    await kept.rate("anna", said)


async def test_a_disk_that_fills_up_within_a_line_takes_no_other_line_along(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    kept = receipts(tmp_path, Clock())
    kept.keep("a", "anna", ASKED, fused())
    write = os.write
    with monkeypatch.context() as patch:
        patch.setattr(os, "write", lambda handle, data: write(handle, data[:10]))
        kept.keep("b", "anna", ASKED, fused())
        with pytest.raises(StorageProblem):
            await kept.rate("anna", Feedback("a", "down"))
    kept.keep("c", "anna", ASKED, fused())
    await kept.rate("anna", Feedback("c", "up"))
    day = next((tmp_path / "receipts").glob("*.jsonl"))
    assert [line["id"] for line in lines(day)] == ["a", "c"]
    assert list(read_feedback(tmp_path / "feedback.jsonl")) == ["c"]
