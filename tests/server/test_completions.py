"""The legacy completions API, and what lm-evaluation-harness needs of it."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import httpx
import pytest

from tests.server.conftest import make_config, serving
from tests.server.talk import ask, refused, streamed

PATH = "/v1/completions"
ECHO = """
models:
  one: {engine: scripted, scripted: {answers: ["seed {seed} said {prompt}"]}}
  bad: {engine: scripted, scripted: {fail_rate: 1.0}}
fusions:
  team: {panel: [one, bad]}
default: team
runtime: {hosts: local}
server: {state: STATE}
"""


async def completed(client: httpx.AsyncClient, **body: Any) -> dict[str, Any]:
    answer = await ask(client, PATH, **({"model": "one"} | body))
    assert answer.status_code == 200, answer.text
    found: dict[str, Any] = answer.json()
    return found


async def test_a_text_is_continued(client: httpx.AsyncClient) -> None:
    body = await completed(client, prompt="a b")
    assert body["object"] == "text_completion"
    assert body["id"].startswith("cmpl-")
    assert body["choices"] == [{"index": 0, "text": "The answer is 4.", "logprobs": None, "finish_reason": "stop"}]
    assert body["usage"]["prompt_tokens"] == 2


async def test_prompts_come_as_texts_or_token_ids_one_or_many(client: httpx.AsyncClient) -> None:
    tokens = (await ask(client, "/tokenize", model="one", prompt="a b c")).json()["tokens"]
    texts = [
        [choice["text"] for choice in (await completed(client, prompt=prompt, echo=True, max_tokens=0))["choices"]]
        for prompt in ("a b c", ["a b c"], tokens, [tokens], ["a b c", "d"], [tokens, tokens[:1]])
    ]
    assert texts == [["a b c"], ["a b c"], ["a b c"], ["a b c"], ["a b c", "d"], ["a b c", "a"]]


async def test_a_prompt_is_scored_as_the_harness_reads_it(client: httpx.AsyncClient) -> None:
    """lm-evaluation-harness: token ids, echo, logprobs 1, max_tokens 1; it drops what was generated."""
    words = ["the", " cat", " sat", " down"]
    tokens = [(await ask(client, "/tokenize", model="one", prompt=word)).json()["tokens"][0] for word in words]
    body = await completed(client, prompt=[tokens], temperature=0, max_tokens=1, logprobs=1, seed=1234, echo=True)
    (choice,) = body["choices"]
    scored = choice["logprobs"]
    assert scored["tokens"][:-1] == words
    assert scored["token_logprobs"][0] is None
    assert scored["top_logprobs"][0] is None
    context = 2
    continuation = sum(scored["token_logprobs"][context:-1])
    assert continuation < 0
    for token, top in zip(scored["tokens"][context:-1], scored["top_logprobs"][context:-1], strict=True):
        assert token in top
    assert [
        choice["text"][at : at + len(word)] for at, word in zip(scored["text_offset"], words, strict=False)
    ] == words


async def test_max_tokens_0_scores_only(client: httpx.AsyncClient) -> None:
    (choice,) = (await completed(client, prompt="a b", echo=True, logprobs=0, max_tokens=0))["choices"]
    assert choice["text"] == "a b"
    assert len(choice["logprobs"]["tokens"]) == 2


async def test_choices_are_numbered_prompt_by_prompt_each_with_a_seed(tmp_path: Path) -> None:
    async with serving(make_config(tmp_path, ECHO)) as client:
        body = await completed(client, prompt=["p", "q"], n=2, seed=7)
        again = await completed(client, prompt=["p", "q"], n=2, seed=7)
    texts = [choice["text"] for choice in body["choices"]]
    assert [choice["index"] for choice in body["choices"]] == [0, 1, 2, 3]
    assert [text[-1] for text in texts] == ["p", "p", "q", "q"]
    assert texts[0].startswith("seed 7 ")
    assert texts[0] != texts[1]
    assert body["choices"] == again["choices"]
    assert body["usage"]["prompt_tokens"] == 2


async def test_limits_and_stops(client: httpx.AsyncClient) -> None:
    (cut,) = (await completed(client, prompt="a", max_tokens=2))["choices"]
    assert (cut["text"], cut["finish_reason"]) == ("The answer", "length")
    (stopped,) = (await completed(client, prompt="a", stop=["answer"]))["choices"]
    assert stopped["text"] == "The "


async def test_a_stream_says_the_same(client: httpx.AsyncClient) -> None:
    chunks, _ = await streamed(
        client, PATH, model="one", prompt=["a", "b"], echo=True, stream_options={"include_usage": True}
    )
    for index, lead in ((0, "a"), (1, "b")):
        pieces = [choice for chunk in chunks for choice in chunk["choices"] if choice["index"] == index]
        assert "".join(piece["text"] for piece in pieces) == lead + "The answer is 4."
        assert [piece["finish_reason"] for piece in pieces][-1] == "stop"
    assert chunks[-1]["usage"]["prompt_tokens"] == 2


async def test_logprobs_stream_with_the_text(client: httpx.AsyncClient) -> None:
    chunks, _ = await streamed(client, PATH, model="one", prompt="a", logprobs=2)
    scored = [choice["logprobs"] for chunk in chunks for choice in chunk["choices"] if choice["logprobs"]]
    assert "".join(token for piece in scored for token in piece["tokens"]) == "The answer is 4."
    assert [piece["text_offset"][0] for piece in scored] == [0, 3, 10, 13]


async def test_fusions_have_none(client: httpx.AsyncClient) -> None:
    for model in ("team", "openrouter/fusion", "openrouter/fusion-flash"):
        assert await refused(client, PATH, model=model, prompt="a") == (400, "fusion_has_no_completions", "model")
    assert await refused(client, PATH, model="nobody", prompt="a") == (404, "model_not_found", "model")


@pytest.mark.parametrize(
    ("body", "param"),
    [
        ({"suffix": "x"}, "suffix"),
        ({"best_of": 2}, "best_of"),
        ({"logit_bias": {"1": 1}}, "logit_bias"),
        ({"logprobs": 21}, "logprobs"),
        ({"logprobs": True}, "logprobs"),
        ({"max_tokens": 0}, "max_tokens"),
        ({"prompt": []}, "prompt"),
        ({"prompt": [[]]}, "prompt"),
        ({"prompt": [1, "a"]}, "prompt"),
        ({"prompt": [-1]}, "prompt"),
        ({"prompt": None}, "prompt"),
        ({"prompt": ["a"] * 40, "n": 32}, "prompt"),
        ({"prompt": "a\0"}, "prompt"),
        ({"stream": True, "echo": True, "logprobs": 1}, "stream"),
        ({"messages": []}, "messages"),
        ({"temperature": 9}, "temperature"),
        ({"stream_options": {}}, "stream_options"),
    ],
)
async def test_what_cannot_be_honoured_is_refused_by_name(
    client: httpx.AsyncClient, body: dict[str, Any], param: str
) -> None:
    status, _, named = await refused(client, PATH, **({"model": "one", "prompt": "a"} | body))
    assert (status, named) == (400, param)


async def test_a_failure_is_a_status_and_inside_a_stream_an_error(tmp_path: Path) -> None:
    async with serving(make_config(tmp_path, ECHO)) as client:
        assert (await refused(client, PATH, model="bad", prompt="a"))[:2] == (503, "engine_error")
        answer = await ask(client, PATH, model="bad", prompt="a", stream=True)
        assert answer.status_code == 503
        assert client.service.admission.working == 0  # type: ignore[attr-defined]
