"""langchain-openai against a server: `python langchain_client.py BASE_URL MEMBER`."""

import sys
from typing import Annotated

from langchain_core.tools import tool
from langchain_openai import ChatOpenAI
from pydantic import BaseModel, Field

BASE, MEMBER = sys.argv[1:]
QUESTION = "What is 75 + 2?"
model = ChatOpenAI(base_url=f"{BASE}/v1", api_key="local", model="demo", max_retries=0, timeout=120)

answer = model.invoke(QUESTION)
assert "77" in answer.content, answer
assert answer.usage_metadata["total_tokens"] > 0
print("ok invoke")

text = "".join(chunk.content for chunk in model.stream(QUESTION))
assert "77" in text, text
print("ok stream")


class Answer(BaseModel):
    """What was asked for."""

    answer: str = Field(max_length=24)


short = ChatOpenAI(base_url=f"{BASE}/v1", api_key="local", model="demo", max_retries=0, timeout=120, max_tokens=64)
found = short.with_structured_output(Answer, method="json_schema").invoke(QUESTION)
assert isinstance(found, Answer), found
print("ok structured output")


@tool
def note(word: Annotated[str, Field(max_length=24)]) -> str:
    """Note a word."""
    return word


called = short.bind_tools([note], tool_choice="note").invoke(QUESTION)
assert called.tool_calls[0]["name"] == "note", called
print("ok tools")

answers = model.batch([QUESTION, "What is 61 + 6?"])
assert ["77" in answers[0].content, "67" in answers[1].content] == [True, True], answers
print("ok batch")
