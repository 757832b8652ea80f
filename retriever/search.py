"""The one search path: a request -> candidates of each side -> fused -> hits.

A side is a ranking of documents at their best units (of units, without `group`): one for each tower of the encoder that
the collection holds units of, and one lexical. Each has a fixed window, whatever part of it is shown; of the lexical
one only what decides that part is retrieved.
"""

import time
from collections.abc import Callable, Iterable, Iterator, Sequence, Set
from dataclasses import dataclass, replace
from functools import cached_property, partial
from itertools import groupby, islice
from typing import ParamSpec, TypeVar

import numpy as np
from numpy.typing import NDArray

from retriever.analysis import highlights, marked_forms
from retriever.documents import Document, Modality
from retriever.errors import InvalidRequest, PolyseekError
from retriever.fusion import C, decided_by, fuse
from retriever.queries import Query
from retriever.reader import Reader
from retriever.records import Settings, StoredUnit, passage_content
from retriever.requests import RERANKED, Hit, HitUnit, SearchRequest, SearchResult
from retriever.rerank import Reranker
from retriever.rows import RowSet
from retriever.view import Nearest, Ranking, View

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

# Members (document keys, or slots without `group`) with the score that orders them, best first.
Ordered = list[tuple[int, float]]


@dataclass(frozen=True)
class Side:
    """One ranking. members: document keys, or slots without `group`, int64 (N,), best first; slots, scores: where each
    was found best. name: "dense" or "lexical"; a two-tower collection has two of the name "dense". complete: whether
    nothing is left that it doesn't rank. tower: which made the vectors of a dense one. gpu: where compared.
    """

    name: str
    members: NDArray[np.int64]
    slots: NDArray[np.int64]
    scores: NDArray[np.float32]
    complete: bool
    tower: Modality | None = None
    gpu: bool = False

    @cached_property
    def places(self) -> dict[int, int]:
        """Member -> its place in the ranking."""
        return dict(zip(self.members.tolist(), range(len(self.members)), strict=True))


@dataclass(frozen=True, slots=True)
class Found:
    """A query answered but for its hits. weights: of its sides, by their names. shown: the page of its members."""

    query: Query
    allowed: RowSet
    weights: dict[str, float]
    sides: list[Side]
    shown: Ordered
    slots: list[int]
    search_ms: float


@dataclass(frozen=True, slots=True)
class Searcher:
    """A view and a read transaction of the same generation, and what else a search needs.

    reranker: gives the cross-encoder where there is one.
    """

    collection: str
    settings: Settings
    view: View
    reader: Reader
    reranker: Callable[[], Reranker] | None

    def search(self, queries: Sequence[Query]) -> list[SearchResult | PolyseekError]:
        """Answer each query, in order; one that fails is answered with its error."""
        started = time.perf_counter()
        sets = [_attempt(self._allowed, query) for query in queries]
        pairs = [(q, s) for q, s in zip(queries, sets, strict=True) if not isinstance(s, PolyseekError)]
        dense = list(self._dense(pairs))
        shared_ms = (time.perf_counter() - started) * 1e3 / max(len(queries), 1)
        found = iter(
            [
                _attempt(self._found, query, allowed, sides, shared_ms)
                for (query, allowed), sides in zip(pairs, dense, strict=True)
            ]
        )
        return self._results([one if isinstance(one, PolyseekError) else next(found) for one in sets])

    def _allowed(self, query: Query) -> RowSet:
        allowed = self.view.mask(query.request.filter, self.reader)
        if query.excluded:
            units = self.reader.units_of(list(query.excluded)).values()
            keys = np.array([unit.key for group in units for unit in group], dtype=np.int64)
            allowed = allowed.without(self.view.slots(keys))
        return allowed

    def _found(self, query: Query, allowed: RowSet, sides: list[Side], shared_ms: float) -> Found:
        started = time.perf_counter()
        weights = self._weights(query)
        if query.mode in ("lexical", "hybrid"):
            sides = [*sides, self._lexical_side(query, allowed, self._lexical_depth(query, weights, sides))]
        shown, slots = self._shown(query, weights, sides)
        return Found(query, allowed, weights, sides, shown, slots, shared_ms + (time.perf_counter() - started) * 1e3)

    # -- sides

    def _dense(self, queries: Iterable[tuple[Query, RowSet]]) -> Iterator[list[Side]]:
        """The dense sides of each query. Neighbours with the same rows and window are compared in one call."""
        for _, group in groupby(queries, key=_compared_alike):
            members = list(group)
            if members[0][0].vector is None:
                yield from ([] for _ in members)
            else:
                yield from self._dense_group([query for query, _ in members], members[0][1])

    def _dense_group(self, queries: Sequence[Query], allowed: RowSet) -> list[list[Side]]:
        vectors = np.stack([query.vector for query in queries if query.vector is not None])
        sides: list[list[Side]] = [[] for _ in queries]
        request, depth = queries[0].request, queries[0].window
        count = self._first(request, depth)
        for tower, part in self.view.by_tower(allowed):
            nearest = partial(self.view.nearest, allowed=part, exact=request.exact, group=request.group)
            rankings, gpu = nearest(vectors, count)
            for place, ranking in enumerate(rankings):
                more = partial(_one_of, nearest, vectors[place : place + 1])
                side = self._side("dense", queries[place], depth, ranking, count, more)
                sides[place].append(replace(side, tower=tower, gpu=gpu))
        return sides

    def _first(self, request: SearchRequest, depth: int) -> int:
        """How many units to ask for at first, so that asking again is rare."""
        units = min(self.view.units_per_document, MOST_UNITS) if request.group else 1
        return int(depth * units) + min(depth, SLACK)

    def _lexical_side(self, query: Query, allowed: RowSet, depth: int) -> Side:
        def matching(limit: int) -> Ranking:
            return self.view.matching(query.terms, limit, allowed, self.reader)

        count = self._first(query.request, depth)
        return self._side("lexical", query, depth, matching(count), count, matching)

    def _lexical_depth(self, query: Query, weights: dict[str, float], dense: Sequence[Side]) -> int:
        """How much of the lexical window decides what is shown: of the first ten of a hybrid search 39 documents.

        With all words known; 24 where the dense side ranks all of 79. 1,656 and 216 units asked for of 1,408: 0.67 and
        0.14 ms. Of the dense sides all is asked for: what an approximate index finds first depends on how much that is.
        """
        if query.request.explain:
            return query.window
        first = RERANKED if query.request.rerank else query.request.offset + query.request.k
        if not dense:
            return first
        others = sum(weights[side.name] for side in dense)
        alone = len(dense) == 1 and dense[0].complete
        least = others / (C + len(dense[0].members)) if alone else 0.0
        depth = decided_by(first, weights["lexical"], others, least)
        return query.window if depth is None else min(depth, query.window)

    def _side(
        self, name: str, query: Query, depth: int, ranking: Ranking, count: int, more: Callable[[int], Ranking]
    ) -> Side:
        """The first `depth` members of a ranking; asks for more until they are there and no tie crosses the border."""
        deepest = TIES * query.window
        while True:
            slots, scores = ranking
            members = self.view.documents_at(slots) if query.request.group else slots
            best = _first_of_each(members)
            first = best[:depth]
            exhausted = len(slots) < count
            full = len(best) > depth
            # What scores more than the last is all there; of what ties with it some may be missing.
            if exhausted or (full and (scores[-1] < scores[first[-1]] or count >= deepest)):
                return Side(name, members[first], slots[first], scores[first], complete=exhausted and not full)
            # At last the same for every depth, so that pages agree in the longest of ties.
            count = min(4 * count, deepest) if full else 4 * count
            ranking = more(count)

    # -- order

    def _shown(self, query: Query, weights: dict[str, float], sides: list[Side]) -> tuple[Ordered, list[int]]:
        """The page that was asked for: members with the score that orders them, and the slot where each is best."""
        request = query.request
        if len(sides) == 1 and not request.rerank:
            [side] = sides
            enough = len(side.scores) if request.min_score is None else int((side.scores >= request.min_score).sum())
            page = slice(request.offset, min(request.offset + request.k, enough))
            ordered = list(zip(side.members[page].tolist(), side.scores[page].tolist(), strict=True))
            return ordered, side.slots[page].tolist()
        shown = self._ordered(query, weights, sides)[request.offset : request.offset + request.k]
        return shown, [_best_slot(sides, member) for member, _ in shown]

    def _ordered(self, query: Query, weights: dict[str, float], sides: list[Side]) -> Ordered:
        """Members with the score that orders them, best first."""
        request = query.request
        fused = len(sides) > 1
        if fused:
            ordered = fuse([(weights[side.name], side.members.tolist()) for side in sides])
        else:
            ordered = [pair for s in sides for pair in zip(s.members.tolist(), s.scores.tolist(), strict=True)]
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
        return {**WEIGHTS, "lexical": WEIGHTS["lexical"] * self.view.coverage(query.terms, self.reader) ** 2}

    def _reranked(self, query: Query, sides: list[Side], ordered: Ordered) -> Ordered:
        assert self.reranker is not None
        assert query.request.text is not None
        stored = self._stored([_best_slot(sides, member) for member, _ in ordered])
        texts = [_unit_text(unit, document) for unit, document in stored]
        scores = np.round(self.reranker().score(query.request.text, texts), 6).tolist()
        pairs = [(member, float(score)) for (member, _), score in zip(ordered, scores, strict=True)]
        return sorted(pairs, key=lambda pair: -pair[1])

    # -- hits

    def _results(self, answers: Sequence[Found | PolyseekError]) -> list[SearchResult | PolyseekError]:
        """The answers with their hits; what all of them show is fetched at once."""
        started = time.perf_counter()
        found = [answer for answer in answers if isinstance(answer, Found)]
        fetched = iter(self._stored([slot for answer in found for slot in answer.slots]))
        fetch_ms = (time.perf_counter() - started) * 1e3 / max(len(found), 1)
        return [
            self._result(answer, fetch_ms, list(islice(fetched, len(answer.slots))))
            if isinstance(answer, Found)
            else answer
            for answer in answers
        ]

    def _result(self, found: Found, fetch_ms: float, stored: Sequence[tuple[StoredUnit, Document]]) -> SearchResult:
        started = time.perf_counter()
        query, request = found.query, found.query.request
        marked = marked_forms(query.terms) if request.highlight else frozenset()
        hits = [
            self._hit(found, marked, rank, unit, document)
            for rank, (unit, document) in enumerate(stored, start=request.offset + 1)
        ]
        plan = self._plan(found) if request.explain else None
        search_ms = found.search_ms + fetch_ms + (time.perf_counter() - started) * 1e3
        timings = {
            "queue": round(query.queue_ms, 3),
            "encode": round(query.encode_ms, 3),
            "search": round(search_ms, 3),
            "total": round(query.queue_ms + query.encode_ms + search_ms, 3),
        }
        return SearchResult(
            self.collection, self.view.generation, query.mode, query.truncated, hits, timings, plan, request.fields
        )

    def _hit(self, found: Found, marked: Set[str], rank: int, unit: StoredUnit, document: Document) -> Hit:
        member, score = found.shown[rank - 1 - found.query.request.offset]
        scores: dict[str, float | None] = {"dense": None, "lexical": None}
        if len(found.sides) == 1 and not found.query.request.rerank:
            scores[found.sides[0].name] = score
        else:
            for side in found.sides:
                if scores[side.name] is None and member in side.places:
                    scores[side.name] = float(side.scores[side.places[member]])
        caption = document.captions[unit.language][unit.ordinal] if unit.kind == "caption" else None
        marks = _highlights(marked, unit, document.text if caption is None else caption)
        found_at = HitUnit(unit.kind, unit.language, unit.start, unit.end, caption)
        return Hit(rank, document.id, score, scores, document, found_at, marks)

    def _stored(self, slots: Sequence[int]) -> list[tuple[StoredUnit, Document]]:
        """The units at these slots, with their documents."""
        keys = self.view.keys_at(np.asarray(slots, dtype=np.int64)).tolist()
        return self.view.shown.get(keys, self.reader)

    def _plan(self, found: Found) -> dict[str, object]:
        """How the answer was found: `candidates` lists each side's documents in the order of their ranks.

        Each adds its weight / (`rank_constant` + rank) where there are several.
        """
        candidates = []
        for side in found.sides:
            documents = self.view.documents_at(side.slots).tolist()
            ids = self.reader.document_ids(documents)
            ranks = [
                {"rank": rank, "id": ids[document], "score": score}
                for rank, (document, score) in enumerate(zip(documents, side.scores.tolist(), strict=True), start=1)
            ]
            of = {"side": side.name, "tower": side.tower, "weight": found.weights[side.name]}
            candidates.append({**of, "documents": ranks})
        gpu = any(side.gpu for side in found.sides)
        how = self.view.how(found.allowed, exact=found.query.request.exact, gpu=gpu)
        return {**how, "rows": found.allowed.count, "rank_constant": C, "candidates": candidates}


def _first_of_each(members: NDArray[np.int64]) -> NDArray[np.int64]:
    """The places of the members that none before equals, ascending."""
    # Mostly all of them: seen in 8 us for 268 members, where sorting takes 30.
    if len(set(members.tolist())) == len(members):
        return np.arange(len(members))
    return np.sort(np.unique(members, return_index=True)[1])


def _one_of(
    nearest: Callable[[NDArray[np.float32], int], Nearest], vectors: NDArray[np.float32], count: int
) -> Ranking:
    return nearest(vectors, count).rankings[0]


def _compared_alike(item: tuple[Query, RowSet]) -> tuple[object, ...]:
    query, allowed = item
    return id(allowed), query.window, query.vector is None, query.request.exact, query.request.group


def _best_slot(sides: list[Side], member: int) -> int:
    """The slot at which the side that ranks a member best found it; the earlier side where two rank it equally."""
    place, number = min([(side.places[member], at) for at, side in enumerate(sides) if member in side.places])
    return int(sides[number].slots[place])


def _unit_text(unit: StoredUnit, document: Document) -> str:
    """What a cross-encoder reads of a unit; a picture's document speaks for it."""
    if unit.kind == "caption":
        return document.captions[unit.language][unit.ordinal]
    return passage_content(document.title, document.text[unit.start : unit.end])


def _highlights(marked: Set[str], unit: StoredUnit, text: str) -> list[tuple[int, int]]:
    if not marked or unit.kind == "image":
        return []
    spans = highlights(text[unit.start : unit.end], unit.language, marked)
    return [(start + unit.start, end + unit.start) for start, end in spans]


def _attempt(step: Callable[P, T], *args: P.args, **kwargs: P.kwargs) -> T | PolyseekError:
    """What the step returns, or the error that belongs to one query alone."""
    try:
        return step(*args, **kwargs)
    except PolyseekError as error:
        return error
