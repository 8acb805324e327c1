"""What an evaluation found: accuracy with intervals, gain over the best member, cost, frontier. Pure.

Items that any arm could not be graded on are left out for all arms, so that every comparison is of the same items.
The gain of an arm is paired, item by item, over the best member as chosen on the other half of the items (see
`choosing`); the gain over the best member in hindsight, which flatters that member, stands beside it.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field, replace
from statistics import median

from local_fusion.evaluate.choosing import Chooser
from local_fusion.evaluate.intervals import Interval, difference, least_difference, share
from local_fusion.evaluate.items import JUDGED
from local_fusion.evaluate.plans import EQUAL, Kind
from local_fusion.evaluate.runner import Answered, Evaluated
from local_fusion.types import Tokens

FEW_ITEMS = 100
ALIKE = 0.1  # of the tokens of the fusion, by which a self arm may differ before it is said
HOUR_S = 3600.0


@dataclass(frozen=True, slots=True)
class Price:
    """What GPU time costs; `per_gpu_hour` None: unknown. Any currency."""

    per_gpu_hour: float | None = None

    def per_1000(self, gpu_s: float, answers: int) -> float | None:
        """Of a thousand answers, at so many GPU-seconds for `answers`."""
        if self.per_gpu_hour is None or not gpu_s or not answers:
            return None
        return self.per_gpu_hour * gpu_s / HOUR_S / answers * 1000


@dataclass(frozen=True)
class ArmResult:
    """One line of the table. `seconds`: median of the answers that were given, None where there is none; `gpu_s`: sum;
    `tokens`: sums over the counted items, failed ones included.

    `cost`: of 1,000 answers; `frontier`: no other arm is both cheaper and better.
    """

    name: str
    kind: Kind
    about: str
    accuracy: Interval
    gain: Interval | None
    gain_hindsight: Interval | None
    tokens: Tokens
    seconds: float | None
    gpu_s: float
    cost: float | None
    calls: int
    failed: int
    effort: float | None
    frontier: bool = False


@dataclass(frozen=True)
class Results:
    """All arms over the `counted` items of `total`. `effort`: what the x-axis of cost is, in words."""

    arms: tuple[ArmResult, ...]
    main: str
    counted: tuple[int, ...]
    total: int
    halves: tuple[str, ...]
    hindsight: str
    effort: str
    least: float | None
    warnings: tuple[str, ...]
    kinds: dict[str, dict[str, float]] = field(default_factory=dict)

    def arm(self, name: str) -> ArmResult:
        """By name. Raises KeyError."""
        for arm in self.arms:
            if arm.name == name:
                return arm
        raise KeyError(name)


def measure(evaluated: Evaluated, price: Price, grader_model: str = "") -> Results | None:
    """The results; None where not one item could be graded. `grader_model`: the judge that graded, for its warning."""
    counted = tuple(
        place
        for place in range(len(evaluated.items))
        if all(one.grades[place].score is not None for one in evaluated.arms)
    )
    if not counted:
        return None
    members = [one for one in evaluated.arms if one.arm.kind == "member"]
    items = [evaluated.items[place] for place in counted]
    chooser = Chooser(items, {one.arm.name: [one.grades[place] for place in counted] for one in members})
    baseline = [scores_of(evaluated.arm(name), [place])[0] for name, place in zip(chooser.best, counted, strict=True)]
    hindsight = scores_of(evaluated.arm(chooser.hindsight), counted)
    effort, arms = _with_frontier(
        [_result(one, counted, baseline, hindsight, price) for one in evaluated.arms], len(counted)
    )
    main = evaluated.plan.main
    least = least_difference(scores_of(evaluated.arm(main), counted), baseline) if main else None
    results = Results(
        arms=tuple(arms),
        main=main,
        counted=counted,
        total=len(evaluated.items),
        halves=chooser.halves,
        hindsight=chooser.hindsight,
        effort=effort,
        least=least,
        warnings=(),
        kinds=_by_kind(evaluated, counted),
    )
    return _warned(results, evaluated, price, grader_model)


def scores_of(answered: Answered, places: Sequence[int]) -> list[float]:
    """Scores at these items; an ungraded one counts 0."""
    return [answered.grades[place].score or 0.0 for place in places]


def _result(
    one: Answered, counted: Sequence[int], baseline: Sequence[float], hindsight: Sequence[float], price: Price
) -> ArmResult:
    scores = scores_of(one, counted)
    said = [one.said[place] for place in counted]
    given = [text.seconds for text in said if not text.failure]
    gpu_s = sum(text.gpu_s for text in said)
    tokens = sum((text.tokens for text in said), Tokens())
    is_member = one.arm.kind == "member"
    cost = price.per_1000(gpu_s, len(said))
    return ArmResult(
        name=one.arm.name,
        kind=one.arm.kind,
        about=one.arm.about,
        accuracy=share(scores),
        gain=None if is_member else difference(scores, baseline),
        gain_hindsight=None if is_member else difference(scores, hindsight),
        tokens=tokens,
        seconds=median(given) if given else None,
        gpu_s=gpu_s,
        cost=cost,
        calls=sum(len(text.calls) for text in said),
        failed=sum(1 for text in said if text.failure),
        effort=None,
    )


def _with_frontier(arms: Sequence[ArmResult], count: int) -> tuple[str, list[ArmResult]]:
    """Effort of an answer per arm: cost where it is known, else GPU-seconds, else tokens; who is on the frontier."""
    real = [arm for arm in arms if arm.kind != "oracle"]
    if real and all(arm.cost is not None for arm in real):
        effort, values = "cost of 1,000 answers", {arm.name: arm.cost or 0.0 for arm in real}
    elif real and all(arm.gpu_s > 0 for arm in real):
        effort, values = "GPU-seconds of an answer", {arm.name: arm.gpu_s / count for arm in real}
    else:
        tokens = {arm.name: arm.tokens.prompt + arm.tokens.completion for arm in real}
        effort, values = "tokens of an answer", {name: sum_ / count for name, sum_ in tokens.items()}

    def beaten(arm: ArmResult) -> bool:
        """Another is at least as good for as little, and better in one of the two."""
        here = (-arm.accuracy.value, values[arm.name])
        others = [(-other.accuracy.value, values[other.name]) for other in real if other is not arm]
        return any(there != here and there[0] <= here[0] and there[1] <= here[1] for there in others)

    placed = []
    for arm in arms:
        known = arm.name in values
        placed.append(replace(arm, effort=values[arm.name], frontier=not beaten(arm)) if known else arm)
    return effort, placed


def _by_kind(evaluated: Evaluated, counted: Sequence[int]) -> dict[str, dict[str, float]]:
    """Mean score by kind of item and arm; empty where there is but one kind."""
    kinds: dict[str, list[int]] = {}
    for place in counted:
        kinds.setdefault(evaluated.items[place].kind, []).append(place)
    if len(kinds) < 2:
        return {}
    return {
        kind: {one.arm.name: sum(scores_of(one, places)) / len(places) for one in evaluated.arms}
        for kind, places in sorted(kinds.items())
    }


def _warned(results: Results, evaluated: Evaluated, price: Price, grader_model: str) -> Results:
    told, count = [], len(results.counted)
    if results.total > count:
        told.append(
            f"{results.total - count} of {results.total} items could not be graded and are left out for all arms"
        )
    told += _missing(results, evaluated)
    told += _unlike_tokens(results, count)
    told += _still(results)
    if results.main:
        told += _power(results, count)
    elif count < FEW_ITEMS:
        told.append(f"{count} items are few: below {FEW_ITEMS} most differences between arms are chance")
    if len(set(results.halves)) > 1:
        told.append(
            f"which member is best is not clear: one half of the items says {results.halves[0]}, the other "
            f"{results.halves[1]}"
        )
    if any(item.match in JUDGED for item in evaluated.items) and grader_model == evaluated.plan.panel.judge:
        told.append(
            f"{grader_model} graded what it helped to choose or write, and judges like their own; "
            "grade with another model (--grader)"
        )
    if price.per_gpu_hour is not None and all(arm.cost is None for arm in results.arms):
        told.append("no GPU time was measured (the engines ran on the processor), so cost is left out")
    return replace(results, warnings=(*told, *evaluated.plan.notes))


def _missing(results: Results, evaluated: Evaluated) -> list[str]:
    """What failed, so that nobody takes a broken engine for a weak model."""
    told = []
    asked = evaluated.plan.panel.answers * len(evaluated.items)
    missing = asked - sum(len(answers) for answers in evaluated.panel)
    if missing:
        told.append(f"{missing:,} of {asked:,} panel answers are missing: calls failed; --retry-failed asks them again")
    failed = [f"{arm.name} {arm.failed:,}" for arm in results.arms if arm.failed]
    if failed:
        told.append(
            f"items without any answer, which count as wrong, cost what their calls cost, and have no part in the "
            f"seconds: {', '.join(failed)}"
        )
    return told


def _unlike_tokens(results: Results, count: int) -> list[str]:
    """Self-samples of other cost than the fusion's, where none of the same cost stand beside them."""
    if not results.main:
        return []
    main = results.arm(results.main)
    spent = {arm.name: arm.tokens.prompt + arm.tokens.completion for arm in results.arms if arm.kind == "self"}
    equal = EQUAL in spent
    whole = main.tokens.prompt + main.tokens.completion
    unlike = [
        f"{name} {tokens / count:,.0f}"
        for name, tokens in spent.items()
        if abs(tokens - whole) > ALIKE * whole and (name == EQUAL or not equal)
    ]
    if not unlike:
        return []
    told = f"an answer took {', '.join(unlike)} tokens, {main.name} {whole / count:,.0f}"
    if equal:
        return [f"self-samples could not be made to cost what {main.name} costs: {told}"]
    return [f"self-samples are as many answers as the panel gives, not as many tokens: {told}"]


def _still(results: Results) -> list[str]:
    """Gains that are the same on every item, whose bootstrap cannot have any width."""
    still = [(arm.name, arm.gain.value) for arm in results.arms if arm.gain and arm.gain.low == arm.gain.high]
    names = [name for name, value in still if value != 0 or name != results.main]  # that is told by `_power`
    if not names:
        return []
    return [
        f"the gain of {', '.join(names)} is the same on every item: its interval has no width, which is no certainty "
        "about other items"
    ]


def _power(results: Results, count: int) -> list[str]:
    gain, main = results.arm(results.main).gain, results.main
    if gain is None:
        return []
    if results.least is None:
        same = f"{main} and the best member scored the same on each of {count} items: nothing tells them apart"
        return [same] if gain.value == 0 else []
    if gain.low <= 0 <= gain.high:
        return [
            f"{count} items are too few to tell {main} from the best member: a difference below "
            f"{100 * results.least:.0f} points would mostly stay hidden (power 80 %, level 5 %)"
        ]
    if count < FEW_ITEMS:
        return [f"{count} items are few: a difference below {100 * results.least:.0f} points would mostly stay hidden"]
    return []
