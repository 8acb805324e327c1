"""A task for Inspect AI: sums, graded by the number that is stated."""

from inspect_ai import Task, task
from inspect_ai.dataset import Sample
from inspect_ai.scorer import includes
from inspect_ai.solver import generate


@task
def sums() -> Task:
    pairs = [(75, 2), (80, 9), (61, 6), (56, 5)]
    samples = [Sample(input=f"What is {a} + {b}?", target=str(a + b)) for a, b in pairs]
    return Task(dataset=samples, solver=generate(), scorer=includes())
