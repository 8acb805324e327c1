"""Small runs on scripted engines, whole or broken, to be reported on."""

from __future__ import annotations

import asyncio
import json
from pathlib import Path

from local_fusion.batch.options import BatchOptions
from local_fusion.batch.progress import Summary
from local_fusion.batch.run import run_batch
from local_fusion.config import parse_config
from local_fusion.engines.scripted import ScriptedEngine
from local_fusion.fusion.recipe import make_recipe

HOSTILE = (
    "<script>alert(1)</script><img src=x onerror=alert(2)></script></pre>\u202egnp.exe\u2066 \x00\x1b[31m ]]> & <!-- 12"
)
MEMBERS = {
    "ada": 'answers: ["The answer is 12.", "I say it is 12."]',
    "bob": 'answers: ["The answer is 12.", "The answer is 13."]',
    "cyd": f"answers: [{json.dumps(HOSTILE)}, 'The answer is 14.'], fail_rate: 0.1",
}


async def make_run(
    folder: Path,
    rows: int,
    members: dict[str, str] = MEMBERS,
    mode: str = "merge",
    options: BatchOptions | None = None,
    stop_after: int | None = None,
) -> Summary:
    """Run `rows` prompts through three scripted members into `folder`; stop after so many rows if told to."""
    models = "".join(f"  {name}: {{engine: scripted, scripted: {{{script}}}}}\n" for name, script in members.items())
    config = parse_config(f"models:\n{models}fusions:\n  trio: {{panel: [{', '.join(members)}], mode: {mode}}}\n")
    recipe = make_recipe("trio", config.fusions["trio"], config.models)
    engines = {name: ScriptedEngine(name, config.models[name].scripted) for name in members}
    source = folder.with_suffix(".jsonl")
    if not source.exists():
        source.write_text("".join(json.dumps({"id": f"row-{n}", "prompt": asked(n)}) + "\n" for n in range(rows)))
    stop = asyncio.Event()
    options = options or BatchOptions(in_flight=16, journal_sync_s=0.0, grace_s=0.0, progress_every_s=0.001, stop=stop)

    def look(progress: object) -> None:
        if stop_after is not None and progress.done >= stop_after:  # type: ignore[attr-defined]
            stop.set()

    return await run_batch(source, folder, engines, recipe, options, look)


def asked(number: int) -> str:
    return f"How much is 3 times 4, asked the {number}. time? </script><b>bold</b>"
