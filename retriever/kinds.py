"""Which FAISS index a collection gets: the named kinds, the table behind `auto`, and what each takes of memory.

Axes: N units, D dimensions. Every approximate index holds codes or a graph alone; what it finds is ranked again by the
exact vectors of the mapped file. The figures are in docs/decisions/0007-index-kinds.md.
"""

import math
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

from retriever.dense import load_faiss
from retriever.errors import InvalidRequest

NAMES = ("auto", "flat", "rabitq", "hnsw", "ivf")

# Below so many units exact search is fast enough (20,000 x 512: 2.6 ms).
FLAT_BELOW = 20_000
# Below so many a scan of vectors is all that any kind would do.
INDEXED_FROM = 1_000
# Below so many a scan of one-bit codes is (100,000 x 512: 1.4 ms, recall 1.000), and it needs no training, so that a
# collection that changes much keeps it further.
SCAN_BELOW = 100_000
SCAN_BELOW_CHANGING = 300_000
# A collection changes much where of the units it ever had this share is gone.
CHANGING = 0.5
# k-means sees so many vectors of each list; codes without lists learn no more from more than so many.
TRAINED_PER_LIST = 64
TRAINED = 10_000
# Links of a node of HNSW's lowest level, and what the upper ones add to it.
LINKS = 32
GRAPH_BYTES = LINKS * 2 * 4 * 1.1 + 24


@dataclass(frozen=True, slots=True)
class Plan:
    """An index to build. factory: of FAISS, None where vectors are only scanned. filtered: factory of a second index
    for filtered searches, where the first knows no row sets. trained: vectors sampled for training. memory: bytes that
    building takes beside the mapped vectors.
    """

    kind: str
    factory: str | None
    trained: int = 0
    memory: int = 0
    filtered: str | None = None

    @property
    def is_exact(self) -> bool:
        """Whether there is nothing to build."""
        return self.factory is None

    def __str__(self) -> str:
        if self.factory is None:
            return "flat: every vector is scanned"
        return f"{self.kind}: {self.factory}, {self.trained:,} vectors for training, {self.memory / 2**20:,.0f} MiB"


def check_kind(kind: str, dimension: int | None) -> None:
    """Raise InvalidRequest where it is neither a name nor a factory string that FAISS takes for such vectors."""
    if kind in NAMES:
        return
    try:
        _made(kind, dimension or 64)
    except RuntimeError as error:
        reason = str(error).rsplit(": ", 1)[-1].strip()
        raise InvalidRequest(
            f"kind is one of {', '.join(NAMES)} or an index-factory string of FAISS, not {kind!r:.80}: {reason:.200}",
            hint="for example IVF1024,SQ8 or HNSW32",
        ) from None
    if "IDMap" in kind or "Refine" in kind or "RFlat" in kind:
        raise InvalidRequest(
            f"kind {kind!r:.80} maps ids or re-ranks by itself, which every index here gets anyway",
            hint="leave IDMap, RFlat and Refine out",
        )


def plans(kind: str, count: int, dimension: int, *, memory: int, gone: float = 0.0, uneven: bool = False) -> list[Plan]:
    """What would do, in the order of preference, as far as building it fits into `memory` bytes; flat comes last.

    gone: the share of the units ever given that were removed since. uneven: whether the vectors' lengths differ.
    """
    return [one for one in _candidates(kind, count, dimension, gone=gone, uneven=uneven) if one.memory <= memory]


def _candidates(kind: str, count: int, dimension: int, *, gone: float, uneven: bool) -> Iterator[Plan]:
    changing = gone > CHANGING
    if kind == "auto":
        kinds = ["ivf"] if count >= (SCAN_BELOW_CHANGING if changing else SCAN_BELOW) else []
        kinds += ["rabitq"] if count >= FLAT_BELOW else []
    else:
        # What takes less memory than what was asked for.
        kinds = {"flat": [], "rabitq": ["rabitq"], "ivf": ["ivf", "rabitq"]}.get(kind, [kind, "ivf", "rabitq"])
    if count >= INDEXED_FROM:
        yield from (named(one, count, dimension, uneven=uneven) for one in kinds)
    yield Plan("flat", None)


def named(kind: str, count: int, dimension: int, *, uneven: bool = False) -> Plan:
    """The plan of a kind for so many vectors, whatever it takes."""
    lists = inverted_file(count, dimension, uneven=uneven)
    factory = {"flat": None, "rabitq": "RaBitQ", "ivf": lists, "hnsw": f"HNSW{LINKS}"}.get(kind, kind)
    if factory is None:
        return Plan("flat", None)
    filtered = None if knows_row_sets(_made(factory, dimension)) else lists
    sizes = [_size(one, count, dimension) for one in (factory, filtered) if one is not None]
    return Plan(kind, factory, max(t for t, _ in sizes), sum(m for _, m in sizes), filtered)


def inverted_file(count: int, dimension: int, *, uneven: bool = False) -> str:
    """The factory string of an inverted file over so many vectors.

    Lists: sqrt(N) / 1.75 as a power of two. With fast-scan codes long lists cost little, and few are trained in a tenth
    of the time: 200,000 x 512, recall .95: 256 lists are built in 2.7 s and searched in 0.25 ms, 1,024 in 10.4 s
    and 0.25 ms. Codes: 4 bits for 4 components each; where these don't divide the dimension, one bit for each. Half as
    many codes are as fast, but of 1,000,000 x 384 they find .93 at best. One bit as well where the lengths of vectors
    are uneven: 4 bits for 8 components then find .69 of 200,000 (log lengths' deviation 0.3), one bit .999.
    """
    lists = 1 << max(4, round(math.log2(math.sqrt(max(count, 1)) / 1.75)))
    return f"IVF{lists},PQ{dimension // 4}x4fs" if dimension % 4 == 0 and not uneven else f"IVF{lists},RaBitQ"


def knows_row_sets(index: Any) -> bool:  # noqa: ANN401 - faiss has no types
    """Whether an index searches among given rows only, and finds among them what it would find without the others.

    Fast-scan codes without an inverted file refuse row sets; a graph obeys them, and loses its way between few rows.
    """
    faiss = load_faiss()
    inner = faiss.downcast_index(index)
    if isinstance(inner, faiss.IndexPreTransform):
        inner = faiss.downcast_index(inner.index)
    scans = (faiss.IndexFlat, faiss.IndexScalarQuantizer, faiss.IndexRaBitQ, faiss.IndexPQ)
    return isinstance(inner, (faiss.IndexIVF, *scans))


def _made(factory: str, dimension: int) -> Any:  # noqa: ANN401
    faiss = load_faiss()
    return faiss.index_factory(dimension, factory, faiss.METRIC_INNER_PRODUCT)


def _size(factory: str, count: int, dimension: int) -> tuple[int, int]:
    """Vectors for training, and bytes that building takes: the sample, the codes, ids or links, and their growth."""
    faiss = load_faiss()
    index = _made(factory, dimension)
    ivf = faiss.try_extract_index_ivf(index)
    trained = 0 if index.is_trained else min(count, TRAINED_PER_LIST * ivf.nlist if ivf is not None else TRAINED)
    try:
        code = index.sa_code_size()
    except RuntimeError:
        code = dimension * 4
    per_row = code + (8 if ivf is not None else 0) + (GRAPH_BYTES if "HNSW" in factory.split(",", maxsplit=1)[0] else 0)
    # Vectors that grow by doubling hold up to twice what is in them.
    return trained, int(trained * dimension * 4 * 2 + count * per_row * 2 + (ivf.nlist * dimension * 4 if ivf else 0))
