"""Evaluates forty items on slow scripted engines: `eval_program.py FOLDER LOG`. For a test that kills it."""

import asyncio
import sys
from pathlib import Path

from eval_fakes import CONFIG, config_of, engines_of, order_of, recipe_of, run, sums


def main() -> None:
    folder, log = map(Path, sys.argv[1:3])
    config = config_of(CONFIG.replace("scripted: {answers", "scripted: {delay_s: 0.01, answers"))
    order = order_of(folder, sums(40), recipe_of(config), ("vote", "best-of", "merge", "debate"), in_flight=8)
    asyncio.run(run(order, engines_of(config, log)))


if __name__ == "__main__":
    main()
