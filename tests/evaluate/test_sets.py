"""Sets in their published forms, from small files of our own; what is wrong with a file is a sentence."""

from __future__ import annotations

import gzip
import json
from pathlib import Path
from typing import Any

import pytest

from local_fusion.errors import InputError
from local_fusion.evaluate.sets import EvalSet, find_set, read_set

RUBRIC = {
    "id": "r",
    "sections": [
        {"id": "facts", "title": "Facts", "criteria": [{"id": "a", "weight": 4, "requirement": "Names the river."}]},
        {
            "id": "more",
            "title": "More",
            "criteria": [],
            "sections": [{"id": "deep", "criteria": [{"id": "b", "weight": -2, "requirement": "Names a lake."}]}],
        },
    ],
}
ROWS: dict[str, dict[str, Any]] = {
    "gsm8k": {
        "question": "Ida has 3 nets of 400 fish. How many fish?",
        "answer": "3*400=<<3*400=1200>>1200\n#### 1,200",
    },
    "mmlu-pro": {
        "question_id": 7,
        "question": "Which gas do plants take in?",
        "options": ["Helium", "Carbon dioxide", "Neon", "N/A"],
        "answer": "B",
        "answer_index": 1,
        "cot_content": "",
        "category": "biology",
        "src": "own",
    },
    "ifeval": {
        "key": 12,
        "prompt": "Name two rivers, without any comma.",
        "instruction_id_list": ["punctuation:no_comma", "length_constraints:number_words"],
        "kwargs": [{"num_words": None}, {"relation": "at least", "num_words": 2, "keyword": None}],
    },
    "humaneval": {
        "task_id": "Own/0",
        "prompt": 'def half(n):\n    """Half of n."""\n',
        "canonical_solution": "    return n / 2\n",
        "test": "def check(candidate):\n    assert candidate(4) == 2\n",
        "entry_point": "half",
    },
    "mt-bench": {
        "question_id": 81,
        "category": "writing",
        "turns": ["Write a line.", "Now rhyme it."],
        "reference": ["x"],
    },
    "arena-hard": {"uid": "u1", "category": "hard", "subcategory": "code", "prompt": "Sort it."},
    "draco": {"id": "d1", "domain": "Geography", "problem": "Tell of the river.", "answer": json.dumps(RUBRIC)},
    "own": {"id": "mine", "prompt": "What is 2 + 2?", "expected": 4, "kind": "sums"},
}


def written(folder: Path, *rows: dict[str, Any], name: str = "set.jsonl") -> Path:
    path = folder / name
    path.write_text("".join(json.dumps(row) + "\n" for row in rows))
    return path


def one(folder: Path, form: str) -> Any:
    found = read_set(written(folder, ROWS[form]))
    assert found.form == form
    assert len(found.items) == 1
    return found.items[0]


def test_gsm8k(tmp_path: Path) -> None:
    item = one(tmp_path, "gsm8k")
    assert (item.match, item.expected) == ("number", "1200")
    assert item.question.startswith("Ida has 3 nets")
    assert "1200" not in item.question


def test_mmlu_pro(tmp_path: Path) -> None:
    item = one(tmp_path, "mmlu-pro")
    assert (item.id, item.match, item.expected, item.kind) == ("mmlu-pro-7", "choice", "B", "biology")
    assert "(B) Carbon dioxide" in item.question
    assert "N/A" not in item.question


def test_ifeval(tmp_path: Path) -> None:
    item = one(tmp_path, "ifeval")
    assert item.question == ROWS["ifeval"]["prompt"]
    assert item.expected == [
        {"id": "punctuation:no_comma", "arguments": {}},
        {"id": "length_constraints:number_words", "arguments": {"relation": "at least", "num_words": 2}},
    ]


def test_human_eval(tmp_path: Path) -> None:
    item = one(tmp_path, "humaneval")
    assert (item.id, item.match, item.details["entry_point"]) == ("Own-0", "code", "half")
    assert "return n / 2" not in item.question


def test_mt_bench_has_two_turns_and_references(tmp_path: Path) -> None:
    item = one(tmp_path, "mt-bench")
    assert (item.match, item.then, item.expected) == ("points", ("Now rhyme it.",), ["x"])


def test_arena_hard_old_and_new(tmp_path: Path) -> None:
    assert one(tmp_path, "arena-hard").question == "Sort it."
    old = {"question_id": "q", "category": "arena", "cluster": "c", "turns": [{"content": "Sort it."}]}
    found = read_set(written(tmp_path, old))
    assert (found.form, found.items[0].question, found.items[0].match) == ("arena-hard", "Sort it.", "pair")


def test_draco_reads_nested_sections_and_negative_weights(tmp_path: Path) -> None:
    item = one(tmp_path, "draco")
    assert [(criterion["id"], criterion["weight"]) for criterion in item.expected] == [("a", 4.0), ("b", -2.0)]
    as_object = {**ROWS["draco"], "answer": RUBRIC}
    assert read_set(written(tmp_path, as_object)).items[0].expected == item.expected


@pytest.mark.parametrize(
    ("row", "match"),
    [
        ({"prompt": "p", "expected": 4}, "number"),
        ({"prompt": "p", "expected": "four"}, "exact"),
        ({"prompt": "p"}, "points"),
        ({"prompt": "p", "match": "regex", "expected": "f.*r"}, "regex"),
        ({"prompt": "p", "match": "json", "expected": {"a": 1}}, "json"),
        ({"prompt": "p", "match": "choice", "expected": "B"}, "choice"),
        ({"prompt": "p", "match": "pair", "expected": "To beat."}, "pair"),
        ({"prompt": "p", "match": "rubric", "expected": [{"weight": 2, "requirement": "Short."}]}, "rubric"),
        ({"prompt": "p", "match": "code", "expected": "def check(c): pass", "entry_point": "f"}, "code"),
        ({"messages": [{"role": "system", "content": "s"}, {"role": "user", "content": "p"}], "expected": 1}, "number"),
    ],
)
def test_own_rows(tmp_path: Path, row: dict[str, Any], match: str) -> None:
    item = read_set(written(tmp_path, row)).items[0]
    assert item.match == match
    assert item.question == "p"


@pytest.mark.parametrize(
    ("rows", "told"),
    [
        ([], "no items"),
        ([{"text": "p"}], "fields are those of no set"),
        ([{"prompt": "p", "match": "magic"}], "match must be one of"),
        ([{"prompt": "p", "match": "number"}], "expected is missing"),
        ([{"prompt": " "}], "prompt must be text"),
        ([{"id": "a", "prompt": "p"}, {"id": "a", "prompt": "q"}], "earlier line's"),
        ([{"question": "q", "answer": "no mark"}], "####"),
        ([{"question": "q", "options": ["a", "b"], "answer": "Z"}], "letter of one"),
        ([{"id": "d", "problem": "p", "answer": "not json"}], "not a rubric"),
        ([{"prompt": "p", "instruction_id_list": ["a:b"], "kwargs": [{}, {}]}], "differ in length"),
        ([{"prompt": "p", "expected": 4, "then": "And why?"}], "then must be a list"),
        ([{"question_id": 81, "turns": ["p", "q"], "reference": "text"}], "reference must be a list"),
        (
            [{"prompt": "p", "match": "instructions", "expected": ["punctuation:no_comma"]}],
            "expected must be a list of",
        ),
    ],
)
def test_what_is_wrong_is_a_sentence(tmp_path: Path, rows: list[dict[str, Any]], told: str) -> None:
    with pytest.raises(InputError, match=told) as caught:
        read_set(written(tmp_path, *rows))
    assert "set.jsonl" in caught.value.message


@pytest.mark.parametrize("text", ["not json\n", "[1]\n", '{"prompt": \n'])
def test_lines_that_are_no_objects(tmp_path: Path, text: str) -> None:
    (tmp_path / "set.jsonl").write_text(text)
    with pytest.raises(InputError, match="line 1"):
        read_set(tmp_path / "set.jsonl")


def test_gzip_json_lists_and_parquet(tmp_path: Path) -> None:
    with gzip.open(tmp_path / "set.jsonl.gz", "wt") as lines:
        lines.write(json.dumps(ROWS["humaneval"]) + "\n")
    assert read_set(tmp_path / "set.jsonl.gz").form == "humaneval"
    (tmp_path / "set.json").write_text(json.dumps([ROWS["own"]]))
    assert read_set(tmp_path / "set.json").items[0].id == "mine"
    (tmp_path / "set.parquet").write_bytes(b"PAR1")
    with pytest.raises(InputError, match="pyarrow"):
        read_set(tmp_path / "set.parquet")


def test_a_set_is_found_by_file_by_name_and_by_variable(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("LOCAL_FUSION_SETS", raising=False)
    path = written(tmp_path, ROWS["own"], name="mine.jsonl")
    assert find_set(str(path), None) == path
    assert find_set("mine", tmp_path) == path
    (tmp_path / "gsm8k").mkdir()
    test = written(tmp_path / "gsm8k", ROWS["gsm8k"], name="test.jsonl")
    monkeypatch.setenv("LOCAL_FUSION_SETS", str(tmp_path))
    assert find_set("gsm8k", None) == test
    with pytest.raises(InputError, match="there are: gsm8k, mine"):
        find_set("ours", None)
    monkeypatch.delenv("LOCAL_FUSION_SETS")
    with pytest.raises(InputError, match="--sets"):
        find_set("ours", None)


def test_a_baseline_makes_pairs_of_all_items_turn_by_turn(tmp_path: Path) -> None:
    questions = written(tmp_path, ROWS["arena-hard"], {**ROWS["arena-hard"], "uid": "u2"})

    def arena(uid: str) -> dict[str, Any]:
        turns = [
            {"role": "user", "content": "Sort it."},
            {"role": "assistant", "content": {"answer": f"Sorted {uid}."}},
        ]
        return {"uid": uid, "model": "m", "messages": turns}

    found = read_set(questions, written(tmp_path, arena("u1"), arena("u2"), name="answers.jsonl"))
    assert [item.details["baseline"] for item in found.items] == [("Sorted u1.",), ("Sorted u2.",)]
    talks = written(tmp_path, ROWS["mt-bench"])
    own = {"question_id": 81, "choices": [{"index": 0, "turns": ["a", "b"]}]}
    pair = read_set(talks, written(tmp_path, own, name="answers.jsonl")).items[0]
    assert (pair.match, pair.details["baseline"]) == ("pair", ("a", "b"))


def test_a_baseline_that_does_not_fit_is_refused(tmp_path: Path) -> None:
    questions = written(tmp_path, ROWS["arena-hard"], {**ROWS["arena-hard"], "uid": "u2"})
    first = {"uid": "u1", "messages": [{"role": "assistant", "content": "Sorted."}]}
    answers = written(tmp_path, first, name="answers.jsonl")
    with pytest.raises(InputError, match="only 1 of 2 items"):
        read_set(questions, answers)
    assert read_set(questions, answers, limit=1).items[0].details["baseline"] == ("Sorted.",)
    other = {"question_id": 999, "choices": [{"index": 0, "turns": ["a", "b"]}]}
    with pytest.raises(InputError, match="none of the items"):
        read_set(questions, written(tmp_path, other, name="answers.jsonl"))
    short = {"question_id": 81, "choices": [{"index": 0, "turns": ["a"]}]}
    with pytest.raises(InputError, match="has 2 turns and the answer to beat 1"):
        read_set(written(tmp_path, ROWS["mt-bench"]), written(tmp_path, short, name="answers.jsonl"))
    mixed = [{"prompt": "p", "match": "pair", "expected": "To beat."}, {"prompt": "q", "match": "pair"}]
    with pytest.raises(InputError, match="1 of 2 items to compare in pairs"):
        read_set(written(tmp_path, *mixed))
    talk = {"prompt": "p", "then": ["And?"], "match": "pair", "expected": ["One.", "Two."]}
    assert read_set(written(tmp_path, talk)).items[0].details["baseline"] == ("One.", "Two.")


def test_ids_never_hold_a_slash_and_the_first_are_the_first(tmp_path: Path) -> None:
    rows = [{"id": f"a/{n}", "prompt": "p", "expected": n} for n in range(5)]
    found: EvalSet = read_set(written(tmp_path, *rows))
    assert len({item.id for item in found.items}) == 5
    assert not any("/" in item.id for item in found.items)
    assert [item.expected for item in found.first(2).items] == [0, 1]
