"""Sorts prompts into kinds by their words: kinds that are given, or clusters that are found. No model, no download.

The words are those of `config.kinds`, so that a prompt is sorted later exactly as it was here. Invariant: the same
prompts in the same order give the same kinds. A word enters the table only where several prompts hold it.
"""

from __future__ import annotations

import math
from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from local_fusion.config.kinds import KindTable, kind_of, terms, vector_of
from local_fusion.errors import InputError

FEWEST_PROMPTS = 3
"""Prompts a word must occur in."""
MOST_WORDS, MOST_OF_KIND = 2000, 200
MOST_KINDS = 12
MOST_CLUSTERED = 20_000
SILHOUETTE_OF = 2000
LEAST_COSINE = 0.1
STRANGERS = 0.05
"""Share of the prompts behind a table that are farther from their centre than the table allows."""
_DIGITS = 4

Vector = dict[str, float]


@dataclass(frozen=True)
class Sorted:
    """Prompts in kinds. `label`: per prompt, the name of its kind; `centre`: per kind; `recovered`: share of prompts
    that the table itself puts into their kind."""

    label: tuple[str, ...]
    centre: Mapping[str, Vector]
    rarity: Mapping[str, float]
    least: float
    recovered: float


def by_given(texts: Sequence[str], given: Sequence[str]) -> Sorted:
    """Kinds as the set names them."""
    rarity = rarity_of(texts)
    vectors = [vector_of(text, rarity) for text in texts]
    return _sorted(texts, vectors, given, rarity)


def by_likeness(texts: Sequence[str], least: int) -> Sorted:
    """Clusters of at least about `least` prompts, their number by silhouette; one kind where nothing parts them.

    Euclidean k-means on TF-IDF vectors of length 1; silhouette by cosine: Rousseeuw, 1987.
    """
    rarity = rarity_of(texts)
    vectors = [vector_of(text, rarity) for text in texts]
    distinct = len({tuple(vector.items()) for vector in vectors})
    most = min(MOST_KINDS, distinct, len(texts) // max(1, least))
    labels = [0] * len(texts) if most < 2 or not rarity else _clusters(vectors, list(rarity), most)
    order = [number for number, _ in Counter(labels).most_common()]
    return _sorted(texts, vectors, [f"kind-{order.index(label) + 1}" for label in labels], rarity)


def rarity_of(texts: Sequence[str]) -> dict[str, float]:
    """Smoothed inverse document frequency of the words that several prompts hold, the commonest first."""
    counts = Counter(word for text in texts for word in set(terms(text)))
    common = sorted(counts, key=lambda word: (-counts[word], word))[:MOST_WORDS]
    return {
        word: round(math.log((1 + len(texts)) / (1 + counts[word])) + 1, _DIGITS)
        for word in common
        if counts[word] >= FEWEST_PROMPTS
    }


def _sorted(texts: Sequence[str], vectors: Sequence[Vector], labels: Sequence[str], rarity: Vector) -> Sorted:
    groups: dict[str, list[Vector]] = {}
    for label, vector in zip(labels, vectors, strict=True):
        groups.setdefault(label, []).append(vector)
    centre = {label: _centre(members) for label, members in groups.items()}
    near = sorted(
        sum(weight * centre[label].get(word, 0.0) for word, weight in vector.items())
        for label, vector in zip(labels, vectors, strict=True)
    )
    least = max(LEAST_COSINE, math.floor(near[int(STRANGERS * len(near))] * 1000) / 1000)
    table = table_of(Sorted((), centre, rarity, least, 0.0), {label: ({}, 1, "") for label in centre}, 1)
    found = [kind_of(table, text) for text in texts]
    same = sum(one is not None and one.kind.name == label for one, label in zip(found, labels, strict=True))
    return Sorted(tuple(labels), centre, rarity, least, same / len(texts))


def table_of(
    kinds: Sorted,
    recipes: Mapping[str, tuple[dict[str, Any], int, str]],
    version: int,
    otherwise: dict[str, Any] | None = None,
) -> KindTable:
    """The table of those kinds that have a recipe: settings, prompts behind them, why."""
    return KindTable.model_validate(
        {
            "version": version,
            "rarity": kinds.rarity,
            "least": kinds.least,
            "kinds": [
                {"name": name, "recipe": recipe, "words": kinds.centre[name], "prompts": prompts, "why": why}
                for name, (recipe, prompts, why) in recipes.items()
            ],
            "otherwise": otherwise,
        }
    )


def _centre(vectors: Sequence[Vector]) -> Vector:
    total: Counter[str] = Counter()
    for vector in vectors:
        total.update(vector)
    heaviest = sorted(total, key=lambda word: (-total[word], word))[:MOST_OF_KIND]
    length = math.sqrt(sum(total[word] ** 2 for word in heaviest)) or 1.0
    return {word: round(total[word] / length, _DIGITS) for word in heaviest}


def _clusters(vectors: Sequence[Vector], words: Sequence[str], most: int) -> list[int]:
    """The cluster of each vector; those beyond the first many go to the nearest centre."""
    try:
        import numpy as np
        from scipy.sparse import csr_matrix  # type: ignore[import-untyped]
        from sklearn.cluster import KMeans
        from sklearn.metrics import silhouette_score
    except ImportError:
        raise InputError("sorting prompts into kinds needs the package scikit-learn; install it") from None
    place = {word: number for number, word in enumerate(words)}
    ends = np.cumsum([0] + [len(vector) for vector in vectors])
    columns = [place[word] for vector in vectors for word in vector]
    weights = [weight for vector in vectors for weight in vector.values()]
    matrix = csr_matrix((weights, columns, ends), shape=(len(vectors), len(words)))
    learnt = matrix[:MOST_CLUSTERED]
    best, best_score = None, 0.0
    for count in range(2, most + 1):
        model = KMeans(n_clusters=count, n_init=4, random_state=0).fit(learnt)
        if len(set(model.labels_)) < 2:
            break
        size = min(SILHOUETTE_OF, learnt.shape[0])
        score = silhouette_score(learnt, model.labels_, metric="cosine", sample_size=size, random_state=0)
        if score > best_score:
            best, best_score = model, float(score)
    if best is None:
        return [0] * len(vectors)
    return [int(label) for label in best.predict(matrix)]
