"""Several rankings of the same documents -> one, by weighted reciprocal ranks.

Cormack, Clarke and Buettcher 2009, "Reciprocal Rank Fusion outperforms Condorcet and individual rank learning methods":
score(d) = sum over rankings r of weight_r / (C + rank_r(d)), ranks from 1. What a ranking lacks gets nothing from it.
"""

import math
from collections.abc import Hashable, Sequence
from operator import itemgetter
from typing import TypeVar

C = 60

T = TypeVar("T", bound=Hashable)


def fuse(rankings: Sequence[tuple[float, Sequence[T]]]) -> list[tuple[T, float]]:
    """(weight, members best first) of each ranking -> (member, score), best first.

    Ties go to what an earlier ranking has, in its order.
    """
    scores: dict[T, float] = {}
    for weight, members in rankings:
        for rank, member in enumerate(members, start=C + 1):
            scores[member] = scores.get(member, 0.0) + weight / rank
    return sorted(scores.items(), key=itemgetter(1), reverse=True)


def decided_by(first: int, weight: float, others: float, least: float = 0.0) -> int | None:
    """How deep a ranking decides the first so many of a fusion, whatever the others hold; None where no depth does.

    weight: of this ranking. others: the sum of the other rankings' weights. least: what each of this ranking's members
    gets from the others at least. The first `first` of them get weight / (C + first) + least or more, those beyond a
    depth d weight / (C + d + 1) + others / (C + 1) or less.
    """
    spare = weight / (C + first) + least - others / (C + 1)
    # A rank more than that comes to, since what is compared are rounded sums; without weight it comes to none at all.
    return max(first, math.ceil(weight / spare) - C) if spare > 0 else None
