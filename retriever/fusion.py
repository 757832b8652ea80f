"""Several rankings of the same documents -> one, by weighted reciprocal ranks.

Cormack, Clarke and Buettcher 2009, "Reciprocal Rank Fusion outperforms Condorcet and individual rank learning methods":
score(d) = sum over rankings r of weight_r / (C + rank_r(d)), ranks from 1. What a ranking lacks gets nothing from it.
"""

from collections.abc import Hashable, Sequence
from typing import TypeVar

C = 60

T = TypeVar("T", bound=Hashable)


def fuse(rankings: Sequence[tuple[float, Sequence[T]]]) -> list[tuple[T, float]]:
    """(weight, members best first) of each ranking -> (member, score), best first.

    Ties go to what an earlier ranking has, in its order.
    """
    scores: dict[T, float] = {}
    for weight, members in rankings:
        for rank, member in enumerate(members, start=1):
            scores[member] = scores.get(member, 0.0) + weight / (C + rank)
    return sorted(scores.items(), key=lambda item: -item[1])
