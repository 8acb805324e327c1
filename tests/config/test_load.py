"""models.yaml to settings: what is right loads, what is wrong is a sentence with the nearest right name."""

import json
from pathlib import Path

import jsonschema
import pytest
import yaml

import local_fusion
from local_fusion.config import load_config, parse_config
from local_fusion.config.editor import editor_schema
from local_fusion.config.load import gpus_wanted
from local_fusion.errors import ConfigError
from local_fusion.types import Sampling

PACKAGE = Path(local_fusion.__file__).parent
GOOD = """
models:
  a: {engine: scripted, scripted: {delay_s: 0.1}, sampling: {temperature: 0.3}}
  b: {engine: scripted}
fusions:
  demo: {panel: [a, {model: b, samples: 2, sampling: {max_tokens: 9}}], mode: merge, writer: b}
"""


def test_names_stand_for_members_and_writers() -> None:
    fusion = parse_config(GOOD).fusion()
    assert [(member.model, member.samples) for member in fusion.panel] == [("a", 1), ("b", 2)]
    assert fusion.judge_name == "a"
    assert fusion.writer_names == ("b",)
    assert fusion.models == ("a", "b")


def test_sampling_is_laid_over_the_level_above() -> None:
    config = parse_config(GOOD)
    base = config.models["a"].sampling.over(Sampling(max_tokens=77))
    assert (base.temperature, base.max_tokens) == (0.3, 77)
    assert config.fusion().panel[1].sampling.over(base).max_tokens == 9


@pytest.mark.parametrize(
    ("old", "new", "words"),
    [
        ("delay_s", "dely_s", ["models.a", "dely_s", "did you mean 'delay_s'"]),
        ("samples: 2", "sample: 2", ["fusions.demo", "did you mean 'samples'"]),
        ("panel: [", "panle: [", ["fusions.demo", "did you mean 'panel'"]),
        ("mode: merge", "mode: merg", ["fusions.demo.mode", "'merge'"]),
        ("writer: b", "writer: bb", ["no model is called 'bb'", "did you mean 'b'"]),
        ("merge,", "merge, quorum: 9,", ["quorum 9 can never be met"]),
        ("fusions:", "fusoins:", ["did you mean 'fusions'"]),
        ("b: {engine: scripted}", "b: {engine: vllm}", ["models.b", "needs `path`"]),
        ("b: {engine: scripted}", "b: {engine: scripted}\n  b: {engine: scripted}", ["'b' stands twice"]),
        ("models:", "models: [", ["not YAML"]),
        ("b: {engine: scripted}", "b: {path: {{ model }}}", ["cannot be a key", "line ", "quotes"]),
        ("models:", "? [1, 2]\n: 3\nmodels:", ["cannot be a key", "line 2"]),
        ("models:", "default: 2024-13-45\nmodels:", ["cannot be read as timestamp", "line 2"]),
        ("models:", "default: !!int x\nmodels:", ["cannot be read as int", "line 2"]),
        ("models:", "default: " + "[" * 3000 + "\nmodels:", ["nested too deeply"]),
        ("max_tokens: 9", "max_tokens: 0", ["panel.1.sampling.max_tokens", "greater than or equal to 1"]),
    ],
)
def test_mistakes_are_sentences(old: str, new: str, words: list[str]) -> None:
    with pytest.raises(ConfigError) as caught:
        parse_config(GOOD.replace(old, new))
    for word in words:
        assert word in caught.value.message
    assert "\n" not in caught.value.message


def test_every_shipped_yaml_loads_and_fits_the_schema() -> None:
    schema = jsonschema.Draft202012Validator(editor_schema())
    config = load_config(PACKAGE / "models.yaml")
    assert {"demo", "general-high", "general-budget", "general-fast"} <= set(config.fusions)
    schema.validate(yaml.safe_load((PACKAGE / "models.yaml").read_text()))
    for name in config.fusions:
        assert config.fusion(name).models


def test_the_committed_schema_is_fresh_and_strict() -> None:
    committed = json.loads((PACKAGE / "models.schema.json").read_text())
    assert committed == editor_schema(), "run `local-fusion schema > local_fusion/models.schema.json`"
    with pytest.raises(jsonschema.ValidationError):
        jsonschema.validate({"models": {"a": {"path": "x", "colour": 1}}}, committed)


def test_environment_in_paths(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    text = "models: {a: {path: '${PLACE_OF_MODELS}/x'}, b: {path: '${NO_SUCH_PLACE:-here}/y'}}"
    config = parse_config(text, tmp_path / "models.yaml")
    monkeypatch.setenv("PLACE_OF_MODELS", str(tmp_path))
    assert config.folder("a") == tmp_path / "x"
    assert config.folder("b") == tmp_path / "here" / "y"
    monkeypatch.delenv("PLACE_OF_MODELS")
    with pytest.raises(ConfigError, match="PLACE_OF_MODELS is not set"):
        config.folder("a")
    assert "PLACE_OF_MODELS" in (config.missing("a") or "")


def test_the_default_is_the_first_fusion_whose_models_are_here(tmp_path: Path) -> None:
    (tmp_path / "here").mkdir()
    (tmp_path / "here" / "config.json").write_text("{}")
    text = (
        "default: [{0}]\n"
        "models: {{near: {{path: here, gpus: 0}}, far: {{path: gone, gpus: 0}}}}\n"
        "fusions: {{large: {{panel: [far]}}, small: {{panel: [near]}}}}"
    )
    assert parse_config(text.format("large, small"), tmp_path / "m.yaml").default == "small"
    assert parse_config(text.format("small, large"), tmp_path / "m.yaml").default == "small"
    with pytest.raises(ConfigError, match="no fusion is called 'larg'; did you mean 'large'"):
        parse_config(text.format("large, small"), tmp_path / "m.yaml").fusion("larg")


def test_gpus_of_a_model() -> None:
    def wanted(settings: str, present: int) -> float:
        return gpus_wanted(parse_config(f"models: {{a: {{path: x, {settings}}}}}").models["a"], present)

    assert wanted("gpus: 0.2", 0) == 0
    assert wanted("gpus: 0.2", 1) == 0.2
    assert wanted("gpus: 2", 0) == 2
    assert wanted("tensor_parallel: 4, pipeline_parallel: 2", 0) == 8
    assert wanted("replicas: 2", 0) == 0
    assert wanted("replicas: 2", 4) == 1


def test_an_unreadable_file_is_a_sentence(tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match=r"cannot read .*--config"):
        load_config(tmp_path / "none.yaml")
    (tmp_path / "binary.yaml").write_bytes(b"\xff\xfe\x00")
    with pytest.raises(ConfigError, match="not UTF-8"):
        load_config(tmp_path / "binary.yaml")
