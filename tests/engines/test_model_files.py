"""A model folder that is cut short, corrupt or unsafe is refused before anything is loaded, in a sentence."""

from __future__ import annotations

import json
import shutil
from collections.abc import Callable
from pathlib import Path

import pytest

from local_fusion.config import ModelSettings
from local_fusion.engines.model_files import check_folder, check_model, digest
from local_fusion.errors import ModelFilesError


def safetensors(path: Path, tensors: dict[str, int]) -> None:
    """A file of zeros: tensor name to bytes."""
    header, end = {}, 0
    for name, size in tensors.items():
        header[name] = {"dtype": "U8", "shape": [size], "data_offsets": [end, end + size]}
        end += size
    text = json.dumps(header).encode()
    path.write_bytes(len(text).to_bytes(8, "little") + text + bytes(end))


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    """A whole model of two shards."""
    model = tmp_path / "model"
    model.mkdir()
    (model / "config.json").write_text('{"architectures": ["Qwen3ForCausalLM"]}')
    (model / "tokenizer.json").write_text("{}")
    safetensors(model / "model-1.safetensors", {"a": 16, "b": 4})
    safetensors(model / "model-2.safetensors", {"c": 8})
    index = {"weight_map": {"a": "model-1.safetensors", "b": "model-1.safetensors", "c": "model-2.safetensors"}}
    (model / "model.safetensors.index.json").write_text(json.dumps(index))
    return model


def test_a_whole_folder_passes(folder: Path) -> None:
    assert check_folder(folder)["architectures"] == ["Qwen3ForCausalLM"]


def cut(path: Path) -> None:
    path.write_bytes(path.read_bytes()[:-3])


def lengthened(path: Path) -> None:
    path.write_bytes(path.read_bytes() + b"xx")


def spoil_offsets(path: Path) -> None:
    text = b'{"a": {"dtype": "U8", "shape": [1], "data_offsets": [9, 2]}}'
    path.write_bytes(len(text).to_bytes(8, "little") + text)


DAMAGE: dict[str, tuple[Callable[[Path], object], str]] = {
    "no config": (lambda f: (f / "config.json").unlink(), "config.json is missing"),
    "broken config": (lambda f: (f / "config.json").write_text("{"), "not JSON"),
    "a list as config": (lambda f: (f / "config.json").write_text("[]"), "JSON object"),
    "binary config": (lambda f: (f / "config.json").write_bytes(b"\xff\xfe\x00"), "not JSON"),
    "no tokenizer": (lambda f: (f / "tokenizer.json").unlink(), "no tokenizer"),
    "missing shard": (lambda f: (f / "model-2.safetensors").unlink(), "model-2.safetensors of the index is missing"),
    "cut shard": (lambda f: cut(f / "model-2.safetensors"), "cut short"),
    "long shard": (lambda f: lengthened(f / "model-2.safetensors"), "copy it again"),
    "empty shard": (lambda f: (f / "model-1.safetensors").write_bytes(b""), "header is cut short"),
    "header too long": (
        lambda f: (f / "model-1.safetensors").write_bytes((2**60).to_bytes(8, "little")),
        "header is cut short",
    ),
    "header no JSON": (
        lambda f: (f / "model-1.safetensors").write_bytes((4).to_bytes(8, "little") + b"{{{{"),
        "not JSON",
    ),
    "offsets backwards": (lambda f: spoil_offsets(f / "model-1.safetensors"), "corrupt"),
    "git lfs": (
        lambda f: (f / "model-1.safetensors").write_text("version https://git-lfs.github.com/spec/v1\noid"),
        "git lfs pull",
    ),
    "broken index": (lambda f: (f / "model.safetensors.index.json").write_text("{}"), "weight_map"),
    "tensor elsewhere": (lambda f: safetensors(f / "model-2.safetensors", {"d": 8}), "lacks the tensor 'c'"),
    "pickle": (
        lambda f: [p.rename(p.with_suffix(".bin")) for p in f.glob("*.safetensors")],
        "convert them to safetensors",
    ),
    "no weights": (lambda f: [p.unlink() for p in f.glob("*.safetensors")], "no \\*.safetensors"),
    "all gone": (shutil.rmtree, "no such folder"),
}


@pytest.mark.parametrize("damage", DAMAGE)
def test_damage_is_named(folder: Path, damage: str) -> None:
    spoil, told = DAMAGE[damage]
    spoil(folder)
    with pytest.raises(ModelFilesError, match=told) as caught:
        check_folder(folder)
    assert str(folder) in caught.value.message


def test_dummy_weights_need_no_files(folder: Path) -> None:
    for shard in folder.glob("*.safetensors"):
        shard.unlink()
    check_model(ModelSettings(path="x", vllm={"load-format": "dummy"}), folder)


def test_code_of_the_folder_runs_only_where_trusted(folder: Path) -> None:
    (folder / "tokenizer.json").unlink()
    (folder / "tokenizer_config.json").write_text('{"auto_map": {"AutoTokenizer": ["tokenization_kimi.Kimi", null]}}')
    with pytest.raises(ModelFilesError, match="trust_remote_code"):
        check_folder(folder)
    with pytest.raises(ModelFilesError, match=r"tokenization_kimi.py, named by tokenizer_config.json, is missing"):
        check_folder(folder, remote_code=True)
    (folder / "tokenization_kimi.py").write_text("")
    check_model(ModelSettings(path="x", vllm={"trust_remote_code": True}), folder)


def test_code_from_another_repository_is_refused(folder: Path) -> None:
    (folder / "config.json").write_text('{"auto_map": {"AutoConfig": "someone/else--configuration_x.Config"}}')
    check_folder(folder)  # not trusted, so never run
    with pytest.raises(ModelFilesError, match="someone/else"):
        check_folder(folder, remote_code=True)


def test_the_digest_follows_contents_and_names_only(folder: Path, tmp_path: Path) -> None:
    first = digest(folder)
    (folder / "README.md").write_text("words")
    (folder / ".cache").mkdir()
    (folder / ".cache" / "x.json").write_text("{}")
    moved = tmp_path / "elsewhere"
    shutil.copytree(folder, moved)
    assert digest(moved) == first
    check_model(ModelSettings(path="x", digest=first), folder)
    (moved / "tokenizer.json").write_text("{ }")
    with pytest.raises(ModelFilesError, match="digest"):
        check_model(ModelSettings(path="x", digest=first), moved)
    (folder / "model-2.safetensors").rename(folder / "model-3.safetensors")
    assert digest(folder) != first
