"""`python -m local_fusion.zoo`: train the shipped models, or write generated questions as JSONL."""

from __future__ import annotations

import argparse
import json
import sys
from pathlib import Path

from local_fusion.zoo.questions import SPLITS, as_row, questions

WEIGHTS = Path(__file__).parent / "weights"


def main(arguments: list[str] | None = None) -> int:
    """Parse and run; heavy imports wait until training is asked for."""
    parser = argparse.ArgumentParser(prog="python -m local_fusion.zoo", description=__doc__)
    commands = parser.add_subparsers(dest="command", required=True)
    asking = commands.add_parser("questions", help="write generated questions to standard output")
    asking.add_argument("--count", type=int, default=400, help="how many, the skills in equal shares")
    asking.add_argument("--seed", type=int, required=True)
    asking.add_argument("--split", choices=SPLITS, default="heldout")
    training = commands.add_parser("train", help="train the specialists, then the judge")
    training.add_argument("--only", help="one model's name")
    training.add_argument("--out", type=Path, default=WEIGHTS)
    training.add_argument("--device", choices=("cpu", "cuda"), default="cpu")
    chosen = parser.parse_args(arguments)
    if chosen.command == "questions":
        try:
            drawn = questions(chosen.seed, chosen.count, chosen.split)
        except ValueError as problem:
            sys.stderr.write(f"--count: {problem}\n")
            return 2
        for index, question in enumerate(drawn):
            sys.stdout.write(json.dumps(as_row(index, question)) + "\n")
        return 0
    return _train(chosen.only, chosen.out, chosen.device)


def _train(only: str | None, out: Path, device: str) -> int:
    """Each specialist alone, then all of them with others' answers before them, then the judge on what they say."""
    from local_fusion.zoo.train_judge import NAME, train_judge
    from local_fusion.zoo.train_others import second_term
    from local_fusion.zoo.train_specialists import SPECIALISTS, train_specialist

    names = [*(specialist.name for specialist in SPECIALISTS), NAME]
    if only is not None and only not in names:
        sys.stderr.write(f"no model named {only}; there are {', '.join(names)}\n")
        return 2

    def report(line: str) -> None:
        print(line, flush=True)

    for specialist in SPECIALISTS:
        if only in (None, specialist.name):
            train_specialist(specialist, out, device, report)
            second_term(specialist, out, device, report)
    if only in (None, NAME):
        train_judge(out, device, report)
    return 0


if __name__ == "__main__":
    sys.exit(main())
