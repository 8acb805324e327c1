"""`/v1/models`."""

import httpx


async def test_lists_fusions_alias_and_members(client: httpx.AsyncClient) -> None:
    body = (await client.get("/v1/models")).json()
    entries = {entry["id"]: entry for entry in body["data"]}
    assert list(entries) == ["team", "picked", "voted", "openrouter/fusion", "one", "two", "three", "judge"]
    assert entries["openrouter/fusion"]["local_fusion"]["alias_of"] == "team"
    assert entries["one"]["local_fusion"]["kind"] == "member"
    assert entries["team"]["context_length"] == 32_768
    assert entries["team"]["local_fusion"]["ready"] is True


async def test_an_unknown_model_is_a_404_in_openai_s_form(client: httpx.AsyncClient) -> None:
    answer = await client.get("/v1/models/nobody")
    assert answer.status_code == 404
    assert answer.json()["error"]["code"] == "model_not_found"


async def test_a_fusion_answers(client: httpx.AsyncClient) -> None:
    answer = await client.post("/v1/chat/completions", json={"messages": [{"role": "user", "content": "2+2?"}]})
    assert answer.status_code == 200
    assert answer.json()["choices"][0]["message"]["content"]
