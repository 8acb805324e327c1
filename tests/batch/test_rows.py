"""Every line that is not blank is exactly one row or one bad row, and says what is wrong in a sentence."""

from __future__ import annotations

import gzip
import json
import os

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from local_fusion.batch.ids import IdSet, LineSet
from local_fusion.batch.lines import read_lines, survey
from local_fusion.batch.rows import BadRow, Row, Terms, read_row, read_rows
from local_fusion.errors import InputError
from local_fusion.types import Message, Sampling

TERMS = Terms("trio", 7, Sampling(max_tokens=64, temperature=0.0), "in.jsonl")


def one(data: object) -> Row | BadRow:
    raw = data if isinstance(data, bytes) else json.dumps(data).encode()
    return read_row(3, raw, TERMS)


def batch_line(**body: object) -> dict:
    body = {"messages": [{"role": "user", "content": "hi"}]} | body
    return {"custom_id": "a", "method": "POST", "url": "/v1/chat/completions", "body": body}


def test_the_four_forms():
    prompt = one({"id": "a", "prompt": "hi"})
    talk = one({"id": 5, "messages": [{"role": "system", "content": "be short"}, {"role": "user", "content": "hi"}]})
    line = one(batch_line(model="trio"))
    plain = one(b'"hi" she said')
    assert isinstance(prompt, Row)
    assert prompt.request.messages == (Message("user", "hi"),)
    assert prompt.request.seed == 7
    assert isinstance(talk, Row)
    assert talk.id == "5"
    assert talk.request.messages[0] == Message("system", "be short")
    assert isinstance(line, Row)
    assert line.id == line.request.id == "a"
    assert isinstance(plain, Row)
    assert (plain.id, plain.request.messages) == ("line-3", (Message("user", '"hi" she said'),))


def test_a_row_without_an_id_is_called_by_its_line():
    row = one({"prompt": "hi"})
    assert isinstance(row, Row)
    assert row.id == "line-3"


def test_fields_of_a_row_go_over_the_sampling_of_the_final_answer():
    row = one({"id": "a", "prompt": "hi", "temperature": 0.3, "max_completion_tokens": 9, "stop": "END", "seed": 11})
    assert isinstance(row, Row)
    assert row.request.sampling == Sampling(max_tokens=9, temperature=0.3, stop=("END",))
    assert row.request.seed == 11


def test_a_schema_and_tools_reach_the_request():
    schema = {"type": "object", "properties": {"n": {"type": "integer"}}}
    tool = {"type": "function", "function": {"name": "add", "parameters": {"type": "object"}}}
    row = one(
        batch_line(
            response_format={"type": "json_schema", "json_schema": {"name": "x", "schema": schema}},
            tools=[tool],
            tool_choice="required",
        )
    )
    assert isinstance(row, Row)
    assert row.request.json_schema == schema
    assert row.request.tools == (tool,)


@pytest.mark.parametrize(
    ("data", "code", "param"),
    [
        (b'{"id": "a", "prompt": ', "invalid_json", None),
        (b"{}", "missing_field", "prompt"),
        (b"[1, 2]", "invalid_json", None),
        (b'{"id": "a", "prompt": "\xff"}', "invalid_utf8", None),
        (b"plain \xff text", "invalid_utf8", None),
        (b"plain \x00 text", "nul_character", None),
        (b'{"id": "a", "prompt": "\x00"}', "nul_character", None),
        ({"id": "a", "prompt": "a\0b"}, "nul_character", "prompt"),
        ({"id": "a", "prompt": 5}, "invalid_field", "prompt"),
        ({"id": "a", "prompt": "  "}, "invalid_field", "prompt"),
        ({"id": "a", "prompt": "hi", "messages": []}, "invalid_field", "prompt"),
        ({"id": "a", "promt": "hi"}, "missing_field", "prompt"),
        ({"id": "a", "prompt": "hi", "colour": "red"}, "unknown_field", "colour"),
        ({"id": "", "prompt": "hi"}, "invalid_field", "id"),
        ({"id": ["a"], "prompt": "hi"}, "invalid_field", "id"),
        ({"id": True, "prompt": "hi"}, "invalid_field", "id"),
        ({"id": "x" * 600, "prompt": "hi"}, "invalid_field", "id"),
        ({"id": "a\nb", "prompt": "hi"}, "invalid_field", "id"),
        ({"id": "a", "messages": []}, "invalid_field", "messages"),
        ({"id": "a", "messages": "hi"}, "invalid_field", "messages"),
        ({"id": "a", "messages": [{"role": "boss", "content": "hi"}]}, "invalid_field", "messages.0.role"),
        ({"id": "a", "messages": [{"role": "user"}]}, "missing_field", "messages.0.content"),
        ({"id": "a", "messages": [{"role": "assistant", "content": "hi"}]}, "invalid_field", "messages"),
        ({"custom_id": "a", "prompt": "hi"}, "unknown_field", "prompt"),
        (batch_line() | {"custom_id": None}, "missing_field", "custom_id"),
        (batch_line() | {"url": "/v1/embeddings"}, "invalid_field", "url"),
        (batch_line() | {"method": "GET"}, "invalid_field", "method"),
        (batch_line() | {"body": "hi"}, "invalid_field", "body"),
        (batch_line(model="gpt-4o"), "unknown_model", "model"),
        (batch_line(stream=True), "unsupported_field", "stream"),
        (batch_line(temperature="0.5"), "invalid_field", "temperature"),
        (batch_line(temperature=3), "invalid_field", "temperature"),
        (batch_line(n=2), "unsupported_field", "n"),
        (batch_line(logprobs=True), "unsupported_field", "logprobs"),
        (batch_line(colour="red"), "unknown_field", "colour"),
        (batch_line(fusion={"mode": "vote"}), "unsupported_field", "fusion"),
        (batch_line(plugins=[{"id": "fusion"}]), "unsupported_field", "plugins"),
        (batch_line(parallel_tool_calls=False), "unsupported_field", "parallel_tool_calls"),
        (batch_line(max_tokens=0), "invalid_field", "max_tokens"),
        (batch_line(max_tokens=5, max_completion_tokens=6), "invalid_field", "max_completion_tokens"),
        (batch_line(tool_choice="required"), "invalid_field", "tool_choice"),
        (batch_line(metadata={"a": {"b": 1}}), "invalid_field", "metadata"),
    ],
)
def test_a_bad_line_names_code_field_line_and_file(data, code, param):
    row = one(data)
    assert isinstance(row, BadRow)
    assert (row.code, row.param) == (code, param)
    assert row.message.startswith("in.jsonl line 3: ")
    assert "\n" not in row.message


def test_no_part_of_a_prompt_is_in_a_message():
    secret = "swordfish"
    for data in (
        b'{"id": "a", "prompt": "swordfish"',
        {"id": "a", "prompt": [secret]},
        {"id": "a", "messages": [{"role": "user", "content": [{"type": "image_url", "text": secret}]}]},
        {"id": "a", "messages": [{"role": "user", "content": {"x": secret}}]},
        batch_line(messages=[{"role": "user", "content": f"{secret}\0"}]),
    ):
        row = one(data)
        assert isinstance(row, BadRow)
        assert secret not in row.message


def test_text_parts_are_joined_and_other_parts_refused():
    parts = [{"type": "text", "text": "one"}, {"type": "text", "text": "two"}]
    row = one(batch_line(messages=[{"role": "user", "content": parts}]))
    assert isinstance(row, Row)
    assert row.request.messages[0].content == "one\ntwo"
    image = [{"type": "image_url", "image_url": {"url": "http://127.0.0.1/x"}}]
    bad = one(batch_line(messages=[{"role": "user", "content": image}]))
    assert isinstance(bad, BadRow)
    assert bad.param == "messages.0.content"


def rows_of(path, limit=None, done=None):
    return list(read_rows(path, TERMS, done or LineSet(), IdSet(), limit))


def test_duplicates_are_errors_of_the_later_line(tmp_path):
    path = tmp_path / "in.jsonl"
    path.write_text('{"id":"a","prompt":"1"}\n\n{"id":"b","prompt":"2"}\n{"id":"a","prompt":"3"}\n')
    rows = rows_of(path)
    assert [(row.line, row.id) for row in rows] == [(1, "a"), (3, "b"), (4, "a")]
    assert isinstance(rows[2], BadRow)
    assert (rows[2].code, rows[2].owns_id) == ("duplicate_id", False)
    assert "line 4" in rows[2].message


def test_gzip_is_known_by_its_content_and_limit_counts_rows(tmp_path):
    path = tmp_path / "in.txt"
    path.write_bytes(gzip.compress(b"one\n\n\ntwo\r\nthree"))
    assert [row.request.messages[0].content for row in rows_of(path)] == ["one", "two", "three"]
    assert [row.line for row in rows_of(path, limit=2)] == [1, 4]
    assert survey(path).rows == 3


def test_a_byte_order_mark_is_no_part_of_the_first_row(tmp_path):
    path = tmp_path / "in.jsonl"
    path.write_bytes(b'\xef\xbb\xbf{"id":"a","prompt":"1"}\n')
    assert isinstance(rows_of(path)[0], Row)


def test_a_byte_order_mark_within_files_joined_is_no_part_of_a_row(tmp_path):
    path = tmp_path / "in.jsonl"
    path.write_bytes(b'{"id":"a","prompt":"1"}\n\xef\xbb\xbf{"id":"b","prompt":"2"}\n\xef\xbb\xbf\n\xef\xbb\xbfplain\n')
    assert [(row.line, row.id) for row in rows_of(path)] == [(1, "a"), (2, "b"), (4, "line-4")]
    assert rows_of(path)[2].request.messages == (Message("user", "plain"),)
    assert survey(path).rows == 3


def test_a_line_over_the_cap_is_one_bad_row_and_the_rest_goes_on(tmp_path):
    path = tmp_path / "in.txt"
    path.write_bytes(b"short\n" + b"x" * 3_000 + b"\nshort too\n" + b"y" * 2_000)
    assert list(read_lines(path, max_bytes=1_000)) == [(1, b"short"), (2, None), (3, b"short too"), (4, None)]
    row = read_row(2, None, TERMS)
    assert isinstance(row, BadRow)
    assert row.code == "line_too_long"


def test_a_first_line_over_the_cap_is_one_bad_row_behind_a_byte_order_mark_too(tmp_path):
    path = tmp_path / "in.txt"
    path.write_bytes(b"\xef\xbb\xbf" + b"x" * 3_000 + b"\nshort\n")
    assert list(read_lines(path, max_bytes=1_000)) == [(1, None), (2, b"short")]


def test_a_line_of_exactly_the_cap_is_kept(tmp_path):
    path = tmp_path / "in.txt"
    path.write_bytes(b"x" * 10 + b"\n" + b"y" * 10)
    assert list(read_lines(path, max_bytes=10)) == [(1, b"x" * 10), (2, b"y" * 10)]


@pytest.mark.parametrize("content", [b"", b"\n \n\t\r\n"])
def test_an_input_without_rows_is_refused(tmp_path, content):
    path = tmp_path / "in.jsonl"
    path.write_bytes(content)
    with pytest.raises(InputError, match="has no rows; write one prompt"):
        survey(path)


def test_a_torn_gzip_file_is_refused(tmp_path):
    path = tmp_path / "in.jsonl.gz"
    path.write_bytes(gzip.compress(b"some text\n" * 2_000)[:-20])
    with pytest.raises(InputError, match="not a whole gzip file"):
        survey(path)


def test_missing_input_and_folder_as_input(tmp_path):
    with pytest.raises(InputError, match="No such file or directory; name a readable file"):
        survey(tmp_path / "none.jsonl")
    with pytest.raises(InputError, match="Is a directory; name a file of prompts"):
        survey(tmp_path)


def test_a_pipe_is_refused_before_it_blocks(tmp_path):
    os.mkfifo(tmp_path / "pipe")
    with pytest.raises(InputError, match="cannot be read twice; write it to a file"):
        survey(tmp_path / "pipe")


@settings(deadline=None)
@given(st.binary(max_size=200))
def test_any_bytes_are_one_row_each(tmp_path_factory, content):
    path = tmp_path_factory.mktemp("fuzz") / "in.jsonl"
    path.write_bytes(content)
    expected = [
        number
        for number, line in enumerate(content.split(b"\n"), 1)
        if line.removeprefix(b"\xef\xbb\xbf").strip(b" \t\r\n")
    ]
    if content[:2] != b"\x1f\x8b":
        assert [row.line for row in rows_of(path)] == expected


_JSON = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | st.text(),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(max_size=8), inner, max_size=3),
    max_leaves=8,
)
_NAMES = st.sampled_from(
    ["id", "prompt", "messages", "custom_id", "method", "url", "body", "stop", "tools", "tool_choice", "model",
     "response_format", "metadata", "temperature", "max_tokens", "seed", "stream", "n"]
)  # fmt: skip


@settings(deadline=None, max_examples=60)
@given(st.dictionaries(_NAMES, _JSON, max_size=5), st.dictionaries(_NAMES, _JSON, max_size=5))
def test_any_object_is_a_row_or_a_sentence(outer, inner):
    messages = [{"role": "user", "content": "hi"}]
    for data in (outer, outer | {"prompt": "hi"}, batch_line(**inner), outer | {"body": inner, "messages": messages}):
        row = one(data)
        assert isinstance(row, Row | BadRow)
        if isinstance(row, BadRow):
            assert row.code
            assert row.message.startswith("in.jsonl line 3: ")
