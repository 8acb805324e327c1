"""Reads the comparable value out of an answer, so that answers can be counted.

A table of comparers, tried in order; each reduces (question, answer) to a canonical text or to None. Invariant: two
answers get the same value only where they say the same; where in doubt they get none. Knows nothing of models.
"""

from local_fusion.answers.compare import COMPARERS, Comparer, Comparison, Reader, comparable

__all__ = ["COMPARERS", "Comparer", "Comparison", "Reader", "comparable"]
