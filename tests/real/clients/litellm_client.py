"""litellm against a server: `python litellm_client.py BASE_URL MEMBER`."""

import asyncio
import sys

import litellm

BASE, MEMBER = sys.argv[1:]
ASK = [{"role": "user", "content": "What is 75 + 2?"}]
WHERE = {"api_base": f"{BASE}/v1", "api_key": "local", "num_retries": 0, "timeout": 120}

done = litellm.completion(model="openai/demo", messages=ASK, **WHERE)
assert "77" in done.choices[0].message.content, done
assert done.usage.total_tokens > 0
print("ok completion")

text = "".join(
    chunk.choices[0].delta.content or ""
    for chunk in litellm.completion(model="openai/demo", messages=ASK, stream=True, **WHERE)
)
assert "77" in text, text
print("ok stream")


async def several() -> None:
    calls = [litellm.acompletion(model=f"openai/{name}", messages=ASK, **WHERE) for name in ("demo", MEMBER)]
    for answer in await asyncio.gather(*calls):
        assert "77" in answer.choices[0].message.content, answer


asyncio.run(several())
print("ok acompletion")
