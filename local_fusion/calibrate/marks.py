"""How good past answers were: by right answers of a set or of users, else by a user's thumb. Pure.

A right answer marks every text that was said to its prompt; a thumb marks the one text the user saw.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any

import orjson

from local_fusion.answers import Reader
from local_fusion.calibrate.past import PastPrompt
from local_fusion.errors import InputError
from local_fusion.evaluate.items import Item
from local_fusion.evaluate.scorers import PURE

Given = Callable[[str, str], bool]


class Marks:
    """Marks texts said to past prompts; None where nothing is known."""

    def __init__(
        self,
        items: Sequence[Item] = (),
        feedback: Mapping[str, Mapping[str, Any]] | None = None,
        given: Given | None = None,
    ) -> None:
        self._by_id = {item.id: item for item in items}
        self._by_question = {item.question.strip(): item for item in items}
        self._feedback = feedback or {}
        self._given = given

    def knows(self, prompt: PastPrompt) -> bool:
        """The right answer is known, so that any text can be marked."""
        return self._item(prompt) is not None or self._right(prompt) is not None

    def final(self, prompt: PastPrompt) -> float | None:
        """The mark of what was answered."""
        found = self.text(prompt, prompt.text)
        if found is not None:
            return found
        said = self._said(prompt)
        return None if said is None else float(said["rating"] == "up")

    def text(self, prompt: PastPrompt, text: str) -> float | None:
        """The mark of any text, by the right answer."""
        item = self._item(prompt)
        if item is not None:
            if item.match in PURE:
                return PURE[item.match](item, text).score
            return float(self._given(str(item.expected), text)) if self._given and item.match == "given" else None
        right = self._right(prompt)
        return None if right is None else float(same(prompt.question, right, text))

    def _item(self, prompt: PastPrompt) -> Item | None:
        by_question = self._by_question.get(prompt.question.strip())
        if by_question is not None:
            return by_question
        named = self._by_id.get(prompt.ids[0])
        return named if named is not None and named.question.strip() == prompt.question.strip() else None

    def _said(self, prompt: PastPrompt) -> Mapping[str, Any] | None:
        return next((self._feedback[name] for name in prompt.ids if name in self._feedback), None)

    def _right(self, prompt: PastPrompt) -> str | None:
        said = self._said(prompt)
        if said is None:
            return None
        answer = said.get("answer")
        return answer if isinstance(answer, str) and can_be_compared(prompt.question, answer) else None


def can_be_compared(question: str, right: str) -> bool:
    """A right answer that states a value. Against a long one every text in other words would count as wrong."""
    return bool(right.strip()) and Reader(question).compare([right]) is not None


def same(question: str, right: str, text: str) -> bool:
    """Both say the same value, as a vote would read it, or the same words. A right answer may be the bare word that a
    text has in quotation marks."""
    if " ".join(right.split()).lower() == " ".join(text.split()).lower():
        return True
    reader = Reader(question)
    found = (reader.compare([spelled, text]) for spelled in (right, f"'{right.strip()}'"))
    return any(one is not None and one.keys[0] is not None and one.keys[0] == one.keys[1] for one in found)


def refuse_ambiguous(feedback: Mapping[str, Any], prompts: Sequence[PastPrompt], marks: Marks) -> None:
    """Raises InputError where a word is of an id that different prompts have, such as a row's in several batches, or
    different answers to one prompt of which no right answer is known: it does not tell which of them it is about."""
    asked: dict[str, PastPrompt] = {}
    for prompt in prompts:
        for name in prompt.ids:
            if name not in feedback:
                continue
            first = asked.setdefault(name, prompt)
            if first.question != prompt.question:
                raise _ambiguous(name, "prompts")
            if first.text.strip() != prompt.text.strip() and not marks.knows(prompt):
                raise _ambiguous(name, "answers to one prompt")


def _ambiguous(name: str, what: str) -> InputError:
    return InputError(
        f"the feedback speaks of {name}, which is the id of different {what} in these runs; learn from one run at a "
        "time, or name answers by the id in their own body (chatcmpl-…)"
    )


def read_feedback(path: Path) -> dict[str, dict[str, Any]]:
    """The last word on each answer, by id (see the server's receipts). Raises InputError where there is none, or where
    the right answer in it is no text and no number."""
    found: dict[str, dict[str, Any]] = {}
    try:
        lines = path.read_bytes().splitlines()
    except OSError as problem:
        raise InputError(f"cannot read {path}: {problem.strerror}; name a server's feedback.jsonl") from None
    for raw in lines:
        try:
            line = orjson.loads(raw)
        except orjson.JSONDecodeError:
            continue
        if isinstance(line, dict) and isinstance(line.get("id"), str) and line.get("rating") in ("up", "down"):
            found[line["id"]] = line if line.get("answer") is None else line | {"answer": _answer_of(path, line)}
    if not found:
        raise InputError(f"{path} holds no word of a user: lines of `id` and `rating` (up or down)")
    return found


def _answer_of(path: Path, line: Mapping[str, Any]) -> str:
    answer = line["answer"]
    if isinstance(answer, bool) or not isinstance(answer, str | int | float):
        raise InputError(f"{path}: the answer in the line on {line['id']} is no text and no number; write it as a text")
    return str(answer)
