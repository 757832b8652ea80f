"""The one search path: a request -> candidates of each side -> fused -> hits.

A side is a ranking of documents at their best units (of units, without `group`): one for each tower of the encoder that
the collection holds units of, and one lexical. Each retrieves a fixed window, whatever part of it is shown.
"""

import time
from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass
from functools import partial
from itertools import groupby
from typing import ParamSpec, TypeVar

import numpy as np
from numpy.typing import NDArray

from retriever.analysis import highlights
from retriever.documents import Document
from retriever.errors import InvalidRequest, PolyseekError
from retriever.fusion import fuse
from retriever.queries import Query
from retriever.reader import Reader
from retriever.records import Settings, StoredUnit, passage_content
from retriever.requests import RERANKED, Hit, HitUnit, SearchResult
from retriever.rerank import Reranker
from retriever.view import Mask, Ranking, View

P = ParamSpec("P")
T = TypeVar("T")

# nDCG@10 at a lexical share of .5 / .7 / .8 / .9, with `multilingual`: tldr's development queries (many languages)
# .426 / .422 / .416 / .405, SciFact's training queries .608 / .656 / .677 / .705. benchmarks/hybrid.py
WEIGHTS = {"dense": 0.2, "lexical": 0.8}
# Asked for beyond the window, so that ties and further units of a document at its border are seen at the first try.
SLACK = 56
# Documents of more units than this are rare enough to ask again for.
MOST_UNITS = 8
# So many windows deep a tie at the border is followed, to break it by key; beyond, the index's own order stands.
TIES = 16

# A side: member (document key, or slot without `group`) -> its best slot and score, best member first.
Side = dict[int, tuple[int, float]]
# A side's name, "dense" or "lexical", and the side. A two-tower collection has two of the name "dense".
Sides = list[tuple[str, Side]]
Ordered = list[tuple[int, float]]


@dataclass(frozen=True, slots=True)
class Searcher:
    """A view and a read transaction of the same generation, and what else a search needs."""

    collection: str
    settings: Settings
    view: View
    reader: Reader
    reranker: Reranker | None

    def search(self, queries: Sequence[Query]) -> list[SearchResult | PolyseekError]:
        """Answer each query, in order; one that fails is answered with its error."""
        started = time.perf_counter()
        masks = [_attempt(self._mask, query) for query in queries]
        pairs = [(q, m) for q, m in zip(queries, masks, strict=True) if not isinstance(m, PolyseekError)]
        dense = list(self._dense(pairs))
        shared_ms = (time.perf_counter() - started) * 1e3 / max(len(queries), 1)
        answers = iter(
            [
                _attempt(self._answer, query, mask, sides, shared_ms)
                for (query, mask), sides in zip(pairs, dense, strict=True)
            ]
        )
        return [mask if isinstance(mask, PolyseekError) else next(answers) for mask in masks]

    def _mask(self, query: Query) -> Mask:
        mask = self.view.mask(query.request.filter, self.reader)
        if query.excluded:
            mask = mask & ~np.isin(self.view.documents, list(query.excluded))
        return mask

    def _answer(self, query: Query, mask: Mask, sides: Sides, shared_ms: float) -> SearchResult:
        started = time.perf_counter()
        if query.mode in ("lexical", "hybrid"):
            sides = [*sides, ("lexical", self._lexical_side(query, mask))]
        ordered = self._ordered(query, sides)
        request = query.request
        hits = self._hits(query, sides, ordered[request.offset : request.offset + request.k])
        plan = self._plan(query, mask, sides) if request.explain else None
        search_ms = shared_ms + (time.perf_counter() - started) * 1e3
        timings = {
            "encode": round(query.encode_ms, 3),
            "search": round(search_ms, 3),
            "total": round(query.encode_ms + search_ms, 3),
        }
        return SearchResult(
            self.collection, self.view.generation, query.mode, query.truncated, hits, timings, plan, request.fields
        )

    # -- sides

    def _dense(self, queries: Iterable[tuple[Query, Mask]]) -> Iterator[Sides]:
        """The dense sides of each query. Neighbours with the same mask and window are compared in one call."""
        for _, group in groupby(queries, key=lambda item: (id(item[1]), item[0].window, item[0].vector is None)):
            members = list(group)
            if members[0][0].vector is None:
                yield from ([] for _ in members)
            else:
                yield from self._dense_group([query for query, _ in members], members[0][1])

    def _dense_group(self, queries: Sequence[Query], mask: Mask) -> list[Sides]:
        vectors = np.stack([query.vector for query in queries if query.vector is not None])
        sides: list[Sides] = [[] for _ in queries]
        for allowed in self._by_tower(mask):
            count = self._first(queries[0])
            for place, ranking in enumerate(self.view.nearest(vectors, count, allowed)):
                more = partial(self._nearest_one, vectors[place : place + 1], allowed)
                sides[place].append(("dense", self._side(queries[place], ranking, count, more)))
        return sides

    def _nearest_one(self, vectors: NDArray[np.float32], allowed: Mask, count: int) -> Ranking:
        return self.view.nearest(vectors, count, allowed)[0]

    def _by_tower(self, mask: Mask) -> list[Mask]:
        """The mask parted by the tower that made the vectors: their scores aren't comparable."""
        pictures = self.view.of_kind("image")
        parts = [part for part in (mask & ~pictures, mask & pictures) if part.any()]
        return parts if len(parts) > 1 else [mask]

    def _first(self, query: Query) -> int:
        """How many units to ask for at first, so that asking again is rare."""
        units = min(self.view.units_per_document, MOST_UNITS) if query.request.group else 1
        return int(query.window * units) + SLACK

    def _lexical_side(self, query: Query, mask: Mask) -> Side:
        def matching(limit: int) -> Ranking:
            return self.view.matching(query.terms, limit, mask)

        count = self._first(query)
        return self._side(query, matching(count), count, matching)

    def _side(self, query: Query, ranking: Ranking, count: int, more: Callable[[int], Ranking]) -> Side:
        """The first members of a ranking; asks for more until the window is full and no tie crosses its border."""
        while True:
            slots, scores = ranking
            members = slots if not query.request.group else self.view.documents[slots]
            side: Side = {}
            for member, slot, score in zip(members.tolist(), slots.tolist(), scores.tolist(), strict=True):
                side.setdefault(member, (slot, score))
            first = dict(list(side.items())[: query.window])
            exhausted = len(slots) < count
            full = len(side) > query.window
            if exhausted or (full and (scores[-1] < min(s for _, s in first.values()) or count > TIES * query.window)):
                return first
            count *= 4
            ranking = more(count)

    # -- order

    def _ordered(self, query: Query, sides: Sides) -> Ordered:
        """Members with the score that orders them, best first."""
        request = query.request
        fused = len(sides) > 1
        if fused:
            weights = self._weights(query)
            ordered: Ordered = fuse([(weights[name], list(side)) for name, side in sides])
        else:
            ordered = [(member, score) for _, side in sides for member, (_, score) in side.items()]
        if request.rerank:
            ordered = self._reranked(query, sides, ordered[:RERANKED])
        elif request.min_score is not None and fused:
            raise InvalidRequest(
                "min_score doesn't go with a fused score, which says nothing about how well a document matches",
                hint="use mode dense or lexical, or rerank",
            )
        if request.min_score is not None:
            ordered = [(member, score) for member, score in ordered if score >= request.min_score]
        return ordered

    def _weights(self, query: Query) -> dict[str, float]:
        """The sides' weights: the lexical one by the square of the share of the query's words that the collection has.

        A query in another language still shares names and a few short words. XQuAD, German questions over English
        paragraphs, nDCG@10: .695 without it, .756 by the share, .841 by its square (dense alone .883); English .975.
        """
        return {**WEIGHTS, "lexical": WEIGHTS["lexical"] * self.view.coverage(query.terms) ** 2}

    def _reranked(self, query: Query, sides: Sides, ordered: Ordered) -> Ordered:
        assert self.reranker is not None
        assert query.request.text is not None
        best = _best_slots(sides)
        units, documents = self._stored([best[member] for member, _ in ordered])
        texts = [_unit_text(unit, documents[unit.document]) for unit in units]
        scores = np.round(self.reranker.score(query.request.text, texts), 6).tolist()
        pairs = [(member, float(score)) for (member, _), score in zip(ordered, scores, strict=True)]
        return sorted(pairs, key=lambda pair: -pair[1])

    # -- hits

    def _hits(self, query: Query, sides: Sides, shown: Ordered) -> list[Hit]:
        best = _best_slots(sides)
        units, documents = self._stored([best[member] for member, _ in shown])
        return [
            self._hit(query, sides, member, score, rank, unit, documents[unit.document])
            for rank, ((member, score), unit) in enumerate(
                zip(shown, units, strict=True), start=query.request.offset + 1
            )
        ]

    def _hit(
        self, query: Query, sides: Sides, member: int, score: float, rank: int, unit: StoredUnit, document: Document
    ) -> Hit:
        scores: dict[str, float | None] = {"dense": None, "lexical": None}
        for name, side in sides:
            if member in side and scores[name] is None:
                scores[name] = side[member][1]
        caption = document.captions[unit.language][unit.ordinal] if unit.kind == "caption" else None
        marks = _highlights(query, unit, document.text if caption is None else caption)
        found_at = HitUnit(unit.kind, unit.language, unit.start, unit.end, caption)
        return Hit(rank, document.id, score, scores, document, found_at, marks)

    def _stored(self, slots: Sequence[int]) -> tuple[list[StoredUnit], dict[int, Document]]:
        """The units at these slots, and their documents by key."""
        keys = self.view.keys[np.asarray(slots, dtype=np.int64)].tolist()
        units = self.reader.units(keys)
        documents = self.reader.documents(list({unit.document for unit in units.values()}))
        return [units[key] for key in keys], documents

    def _plan(self, query: Query, mask: Mask, sides: Sides) -> dict[str, object]:
        """How the answer was found: `candidates` lists each side's documents in the order of their ranks."""
        candidates = []
        weights = self._weights(query)
        for name, side in sides:
            documents = self.view.documents[[slot for slot, _ in side.values()]].tolist()
            ids = self.reader.document_ids(documents)
            ranks = [
                {"rank": rank, "id": ids[document], "score": score}
                for rank, (document, (_, score)) in enumerate(zip(documents, side.values(), strict=True), start=1)
            ]
            candidates.append({"side": name, "weight": weights[name], "documents": ranks})
        # The flat index is exact: its recall isn't measured but known.
        return {"kind": "flat", "exact": True, "recall": 1.0, "rows": int(mask.sum()), "candidates": candidates}


def _best_slots(sides: Sides) -> dict[int, int]:
    """Member -> the slot at which the side that ranks it best found it; the earlier side where two rank it equally."""
    found = [(rank, member, slot) for _, side in sides for rank, (member, (slot, _)) in enumerate(side.items())]
    best: dict[int, int] = {}
    for _, member, slot in sorted(found, key=lambda item: item[0]):
        best.setdefault(member, slot)
    return best


def _unit_text(unit: StoredUnit, document: Document) -> str:
    """What a cross-encoder reads of a unit; a picture's document speaks for it."""
    if unit.kind == "caption":
        return document.captions[unit.language][unit.ordinal]
    return passage_content(document.title, document.text[unit.start : unit.end])


def _highlights(query: Query, unit: StoredUnit, text: str) -> list[tuple[int, int]]:
    if not query.request.highlight or not query.terms or unit.kind == "image":
        return []
    spans = highlights(text[unit.start : unit.end], unit.language, query.terms)
    return [(start + unit.start, end + unit.start) for start, end in spans]


def _attempt(step: Callable[P, T], *args: P.args, **kwargs: P.kwargs) -> T | PolyseekError:
    """What the step returns, or the error that belongs to one query alone."""
    try:
        return step(*args, **kwargs)
    except PolyseekError as error:
        return error
