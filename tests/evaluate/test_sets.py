"""Sets in their published forms, from small files of our own; what is wrong with a file is a sentence."""

from __future__ import annotations

import gzip
import json
from pathlib import Path
from typing import Any

import pytest
from eval_fakes import CONFIG
from typer.testing import CliRunner

from local_fusion.cli.main import app
from local_fusion.errors import InputError
from local_fusion.evaluate.sets import EvalSet, find_set, name_of, read_set
from local_fusion.evaluate.store import ABOUT, CallStore

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


@pytest.mark.parametrize(
    ("path", "name"),
    [
        ("sets/mine.jsonl", "mine"),
        ("sets/gsm8k.train.jsonl", "gsm8k.train"),
        ("sets/gsm8k.test.jsonl.gz", "gsm8k.test"),
        ("sets/mine-v1.2.json", "mine-v1.2"),
        ("sets/mine.txt", "mine.txt"),
        ("sets/gsm8k/test.jsonl", "gsm8k"),
        ("sets/gsm8k/gsm8k.parquet", "gsm8k"),
        ("sets/mt-bench/question.jsonl", "mt-bench"),
        ("sets/gsm8k/train.jsonl", "gsm8k-train"),
        ("sets/gsm8k/validation.parquet", "gsm8k-validation"),
        ("sets/gsm8k/../mmlu-pro/x/../test.jsonl", "mmlu-pro"),
        ("/test.jsonl", "test"),
    ],
)
def test_a_set_is_named_by_its_file_or_its_folder(path: str, name: str) -> None:
    assert name_of(Path(path)) == name


def test_a_file_without_a_name_of_its_own_is_named_after_where_it_is(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "gsm8k").mkdir()
    (tmp_path / "mmlu-pro").mkdir()
    written(tmp_path / "gsm8k", ROWS["gsm8k"], name="test.jsonl")
    written(tmp_path / "mmlu-pro", ROWS["mmlu-pro"], name="test.jsonl")
    written(tmp_path, ROWS["gsm8k"], name="mine.v2.jsonl")
    assert [read_set(find_set(name, tmp_path)).name for name in ("gsm8k", "mmlu-pro")] == ["gsm8k", "mmlu-pro"]
    with pytest.raises(InputError, match=r"there are: gsm8k, mine\.v2, mmlu-pro"):
        find_set("ours", tmp_path)
    monkeypatch.chdir(tmp_path / "gsm8k")
    assert read_set(Path("test.jsonl")).name == "gsm8k"


def test_a_folder_is_of_one_set_in_whatever_version(tmp_path: Path) -> None:
    folder = tmp_path / "eval"
    CallStore(folder, {"ada": "one"}).close()
    assert "set" not in json.loads((folder / ABOUT).read_text())
    CallStore(folder, {"ada": "one"}, set_name="gsm8k").close()
    CallStore(folder, {"ada": "one"}, set_name="gsm8k").close()
    CallStore(folder, {"ada": "one"}).close()
    before = (folder / ABOUT).read_bytes()
    with pytest.raises(InputError, match=r"holds the set gsm8k.* with --out"):
        CallStore(folder, {"ada": "one", "bob": "two"}, set_name="mmlu-pro")
    assert (folder / ABOUT).read_bytes() == before
    CallStore(folder, {"ada": "one"}, set_name="gsm8k").close()


def test_the_command_goes_on_with_a_longer_set_and_refuses_another(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    Path("models.yaml").write_text(CONFIG + "runtime: {hosts: local}\n")
    rows = [{"id": f"q{n}", "prompt": f"What is 2 + 2? ({n})", "expected": 4} for n in range(3)]

    def evaluated(name: str, *rows: dict[str, Any]) -> BaseException | None:
        written(tmp_path, *rows, name=name)
        command = ["eval", "--set", name, "--fusion", "trio", "--arms", "vote", "--out", "here"]
        return CliRunner().invoke(app, command).exception

    assert evaluated("mine.jsonl", *rows[:2]) is None
    assert evaluated("mine.jsonl", *rows) is None
    figures = Path("here/results.json").read_bytes()
    assert isinstance(evaluated("ours.jsonl", *rows), InputError)
    assert Path("here/results.json").read_bytes() == figures


@pytest.mark.parametrize(
    "row",
    [
        {"uid": "a1", "prompt": "2 + 2?", "match": "number", "expected": 4},
        {"question_id": 1, "turns": ["x"], "prompt": "2 + 2?", "match": "number", "expected": 4},
        {"problem": "x", "answer": "y", "messages": [{"role": "user", "content": "2 + 2?"}], "match": "number",
         "expected": 4},
    ],
)  # fmt: skip
def test_a_row_that_says_how_it_is_graded_is_an_own_one(tmp_path: Path, row: dict[str, Any]) -> None:
    found = read_set(written(tmp_path, row))
    assert found.form == "own"
    assert (found.items[0].question, found.items[0].match, found.items[0].expected) == ("2 + 2?", "number", 4)


def test_a_match_that_is_null_says_nothing(tmp_path: Path) -> None:
    assert read_set(written(tmp_path, {**ROWS["arena-hard"], "match": None})).form == "arena-hard"
    assert read_set(written(tmp_path, {**ROWS["gsm8k"], "match": "number"})).form == "gsm8k"


def test_a_turn_without_a_reference_has_none(tmp_path: Path) -> None:
    talk = {**ROWS["mt-bench"], "reference": ["r1", None]}
    assert read_set(written(tmp_path, talk)).items[0].expected == ["r1", ""]
    own = {"prompt": "p", "then": ["And?"], "match": "points", "expected": [None, "r2"]}
    assert read_set(written(tmp_path, own)).items[0].expected == ["", "r2"]


def test_two_answers_to_beat_for_one_item_are_refused(tmp_path: Path) -> None:
    said = [{"uid": "u1", "messages": [{"role": "assistant", "content": text}]} for text in ("One.", "Two.")]
    answers = written(tmp_path, *said, name="answers.jsonl")
    with pytest.raises(InputError, match=r"answers\.jsonl line 2: 'u1' is answered on an earlier line"):
        read_set(written(tmp_path, ROWS["arena-hard"]), answers)
