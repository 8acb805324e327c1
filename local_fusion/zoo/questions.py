"""Generated questions with one right answer each, split by content into trained and held-out.

Four skills in equal shares: `numbers`, `words` and `lists` each belong to one specialist; `dates` is shared by all
three. A question's split follows from a hash of its content (operands, not wording), so a held-out question has never
been trained on in any phrasing, whatever seed drew it. Knows nothing of models.
"""

from __future__ import annotations

import hashlib
import random
from collections.abc import Callable, Iterator
from dataclasses import dataclass

SKILLS = ("numbers", "words", "lists", "dates")
SPLITS = ("train", "heldout")
MONTHS = (
    "January", "February", "March", "April", "May", "June",
    "July", "August", "September", "October", "November", "December",
)  # fmt: skip
LETTERS = "abcdefghijklmnopqrstuvwxyz"
LIST_LETTERS = LETTERS[:8]
LAST_DAY = 28
_TRIES = 5000


@dataclass(frozen=True)
class Question:
    """A prompt, the value a right answer must state, and a natural sentence that states it."""

    prompt: str
    expected: str
    answer: str
    skill: str
    kind: str
    content: str
    """What is asked, without the wording: decides the split."""
    month: int = -1
    """For dates, the month asked about (0 to 11), else -1."""


def split_of(content: str) -> str:
    """`heldout` for one content in five, `train` for the others."""
    return "heldout" if hashlib.sha256(content.encode()).digest()[0] % 5 == 0 else "train"


def _add(draw: random.Random) -> Question:
    left, right = draw.randint(10, 99), draw.randint(2, 9)
    prompt = draw.choice((f"What is {left} + {right}?", f"How much is {left} plus {right}?", f"Add {right} to {left}."))
    total = str(left + right)
    return Question(prompt, total, f"The sum is {total}.", "numbers", "add", f"add {left} {right}")


def _subtract(draw: random.Random) -> Question:
    left, right = draw.randint(10, 99), draw.randint(2, 9)
    prompt = draw.choice(
        (f"What is {left} - {right}?", f"How much is {left} minus {right}?", f"Subtract {right} from {left}.")
    )
    rest = str(left - right)
    return Question(prompt, rest, f"The difference is {rest}.", "numbers", "subtract", f"subtract {left} {right}")


def _reverse(draw: random.Random) -> Question:
    word = "".join(draw.choice(LETTERS) for _ in range(draw.randint(3, 6)))
    prompt = draw.choice(
        (f"Reverse the word '{word}'.", f"Write '{word}' backwards.", f"What is '{word}' spelled backwards?")
    )
    back = word[::-1]
    return Question(prompt, back, f"Backwards it is '{back}'.", "words", "reverse", f"word {word}")


def _letter(draw: random.Random) -> Question:
    word = "".join(draw.choice(LETTERS) for _ in range(draw.randint(3, 6)))
    which = draw.choice(("first", "last"))
    prompt = draw.choice(
        (f"What is the {which} letter of '{word}'?", f"Which letter comes {which} in the word '{word}'?")
    )
    letter = word[0 if which == "first" else -1]
    return Question(prompt, letter, f"The {which} letter is '{letter}'.", "words", "letter", f"word {word}")


def _sort(draw: random.Random) -> Question:
    of = draw.choice(("numbers", "letters"))
    items = draw.sample("123456789" if of == "numbers" else LIST_LETTERS, draw.randint(3, 4))
    listed = ", ".join(items)
    prompt = draw.choice((f"Sort the {of} {listed}.", f"Put the {of} {listed} in order."))
    ordered = ", ".join(sorted(items))
    return Question(prompt, ordered, f"In order they are {ordered}.", "lists", "sort", f"sort {listed}")


def _extreme(draw: random.Random) -> Question:
    items = draw.sample(range(10, 100), 3)
    which = draw.choice(("largest", "smallest"))
    listed = ", ".join(map(str, items))
    prompt = draw.choice((f"What is the {which} of {listed}?", f"Which number is the {which} in the list {listed}?"))
    value = str(max(items) if which == "largest" else min(items))
    return Question(prompt, value, f"The {which} is {value}.", "lists", "extreme", f"{which} {listed}")


def _date(draw: random.Random) -> Question:
    month, days = draw.randrange(12), draw.randint(2, 7)
    start = draw.randint(1, LAST_DAY - days)
    name = MONTHS[month]
    prompt = draw.choice(
        (f"What date is {days} days after {name} {start}?", f"Which day comes {days} days after {name} {start}?")
    )
    value = f"{name} {start + days}"
    content = f"date {name} {start} after {days}"
    return Question(prompt, value, f"It is {value}.", "dates", "date", content, month)


_MAKERS: dict[str, tuple[Callable[[random.Random], Question], ...]] = {
    "numbers": (_add, _subtract),
    "words": (_reverse, _letter),
    "lists": (_sort, _extreme),
    "dates": (_date,),
}


def draw_question(draw: random.Random, skill: str, split: str) -> Question:
    """One question of `skill` whose content belongs to `split`."""
    while True:
        question = draw.choice(_MAKERS[skill])(draw)
        if split_of(question.content) == split:
            return question


def questions(seed: int, count: int, split: str, skills: tuple[str, ...] = SKILLS) -> list[Question]:
    """`count` distinct questions of one split, the skills in equal shares and shuffled; the same for the same seed."""
    draw = random.Random(f"{split} {seed}")
    seen: set[str] = set()
    drawn = list(_distinct(draw, split, count, skills, seen))
    draw.shuffle(drawn)
    return drawn


def _distinct(
    draw: random.Random, split: str, count: int, skills: tuple[str, ...], seen: set[str]
) -> Iterator[Question]:
    for index in range(count):
        skill = skills[index % len(skills)]
        for _ in range(_TRIES):
            question = draw_question(draw, skill, split)
            if question.content not in seen:
                break
        else:
            raise ValueError(f"there are not {count} different {split} questions: {skill} ran out; ask for fewer")
        seen.add(question.content)
        yield question


def as_row(index: int, question: Question) -> dict[str, str]:
    """The JSONL row of a question, as the demo reads it."""
    return {
        "id": f"{index:04d}-{question.skill}",
        "prompt": question.prompt,
        "expected": question.expected,
        "skill": question.skill,
    }
