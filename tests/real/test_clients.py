"""Programs as their users install them, pointed at a server by its address alone. Nothing of theirs is changed."""

from __future__ import annotations

import asyncio
import json
import os
import shutil
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[2]
PROGRAMS = ROOT / ".venv-clients" / "bin"
SCRIPTS = Path(__file__).parent / "clients"
MEMBER = "qwen-numbers"

pytestmark = [
    pytest.mark.vllm,
    pytest.mark.skipif(not PROGRAMS.is_dir(), reason="the clients are not installed; `make test` installs them"),
]


async def run(folder: Path, *command: str | Path, **environment: str) -> str:
    """Run a client's program; its output, or a failure with all it said."""
    quiet = {
        "HF_HUB_OFFLINE": "1",
        "HF_DATASETS_OFFLINE": "1",
        "DO_NOT_TRACK": "1",
        "LITELLM_LOCAL_MODEL_COST_MAP": "True",
    }
    # Ray collects the children of this process before asyncio sees their exit code: the shell tells it instead.
    process = await asyncio.create_subprocess_exec(
        "sh",
        "-c",
        '"$@"; echo "exit code $?"',
        "sh",
        *map(str, command),
        cwd=folder,
        env=os.environ | quiet | {"HOME": str(folder), "OPENAI_API_KEY": "local"} | environment,
        stdout=asyncio.subprocess.PIPE,
        stderr=asyncio.subprocess.STDOUT,
    )
    try:
        out, _ = await asyncio.wait_for(process.communicate(), 400)
    finally:
        if process.returncode is None:
            process.kill()
    said = out.decode()
    assert said.rstrip().endswith("exit code 0"), said
    return said


@pytest.mark.parametrize("script", ["openai_sdk", "litellm_client", "langchain_client"])
async def test_a_library_works_unchanged(script: str, served: str, tmp_path: Path) -> None:
    said = await run(tmp_path, PROGRAMS / "python", SCRIPTS / f"{script}.py", served, MEMBER)
    assert said.count("ok ") >= 3


async def test_llm_works_unchanged(served: str, tmp_path: Path) -> None:
    models = [{"model_id": "local", "model_name": "demo", "api_base": f"{served}/v1"}]
    (tmp_path / "extra-openai-models.yaml").write_text(json.dumps(models))
    for options in ([], ["--no-stream"]):
        said = await run(
            tmp_path, PROGRAMS / "llm", "-m", "local", "What is 75 + 2?", *options, LLM_USER_PATH=str(tmp_path)
        )
        assert "77" in said


async def test_lm_evaluation_harness_reads_log_probabilities_and_answers(served: str, tmp_path: Path) -> None:
    tasks = tmp_path / "tasks"
    tasks.mkdir()
    for source in (SCRIPTS / "lm_eval_tasks").glob("*.yaml"):
        (tasks / source.name).write_text(source.read_text().replace("DATA", str(tmp_path)))
    sums = [(75, 2), (80, 9), (61, 6), (56, 5)]
    opening = "<|im_start|>user\nWhat is {} + {}?<|im_end|>\n<|im_start|>assistant\n"
    _write(
        tmp_path / "sums_choice.jsonl",
        [
            {
                "question": opening.format(a, b),
                "choices": [f"The sum is {a + b + off}." for off in (0, 1, 10)],
                "right": 0,
            }
            for a, b in sums
        ],
    )
    _write(tmp_path / "sums_said.jsonl", [{"question": f"What is {a} + {b}?", "answer": str(a + b)} for a, b in sums])
    weights = ROOT / "local_fusion" / "zoo" / "weights" / MEMBER
    common = ["--include_path", tasks, "--output_path", tmp_path / "out"]
    await run(
        tmp_path, PROGRAMS / "lm_eval", "run", "--model", "local-completions", "--tasks", "sums_choice", *common,
        "--model_args", f"model={MEMBER},base_url={served}/v1/completions,tokenizer={weights}",
    )  # fmt: skip
    await run(
        tmp_path, PROGRAMS / "lm_eval", "run", "--model", "local-chat-completions", "--tasks", "sums_said", *common,
        "--apply_chat_template", "--model_args", f"model=demo,base_url={served}/v1/chat/completions",
    )  # fmt: skip
    scores = {}
    for found in (tmp_path / "out").rglob("results_*.json"):
        scores |= json.loads(found.read_text())["results"]
    assert scores["sums_choice"]["acc,none"] >= 0.75
    assert scores["sums_said"]["exact_match,number"] >= 0.75


async def test_inspect_works_unchanged(served: str, tmp_path: Path) -> None:
    shutil.copy(SCRIPTS / "inspect_task.py", tmp_path)
    said = await run(
        tmp_path, PROGRAMS / "inspect", "eval", "inspect_task.py", "--model", "openai-api/local/demo",
        "--display", "plain", "--log-dir", tmp_path / "logs", "--log-format", "json",
        LOCAL_BASE_URL=f"{served}/v1", LOCAL_API_KEY="local",
    )  # fmt: skip
    (log,) = (tmp_path / "logs").glob("*.json")
    results = json.loads(log.read_text())["results"]["scores"][0]["metrics"]
    assert results["accuracy"]["value"] >= 0.75, said


def _write(place: Path, rows: list[dict[str, object]]) -> None:
    place.write_text("".join(json.dumps(row) + "\n" for row in rows))
