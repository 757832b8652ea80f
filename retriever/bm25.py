"""BM25 over the units of one commit of a tantivy index: which hold a query's words, best first.

tantivy scores by its fixed BM25, k1 = 1.2 and b = 0.75. It sees terms only; a user's text is never query syntax.
"""

import math
import os
import re
from collections import Counter
from collections.abc import Callable, Iterable, Iterator, Sequence
from contextlib import contextmanager
from functools import cache, cached_property, lru_cache, partial
from pathlib import Path
from typing import TYPE_CHECKING, NamedTuple

import numpy as np
from numpy.typing import NDArray

from retriever import analysis
from retriever.analysis import Word
from retriever.files import DamagedIndex

if TYPE_CHECKING:
    import tantivy

# An index made by other rules of analysis lacks this field, and so is damaged: it is made anew.
TERMS = f"terms_{analysis.VERSION}"
KEY = "key"
# As Rust prints an error of the operating system, for people and for programmers.
_OS_ERROR = re.compile(r"(?:os error |Os \{ code: )(\d+)")
# What naming a unit in a query costs, in hits looked at: 7 us and 0.4.
_KEY_COST = 16
# Queries of no more words than these are kept for when they come again: 512, 1 MB.
_CACHED_WORDS = 32
# A share of the units below which it pays to know how many hits there can be.
_SPARSE = 0.1


class Within(NamedTuple):
    """Which units count in a search.

    number: how many there are, at least one. share: of all units, as far as is known. places: what these units are to
    the caller, negative where one doesn't count; they ascend as keys do. keys: those that count.
    """

    number: int
    share: float
    places: Callable[[NDArray[np.int64]], NDArray[np.int64]]
    keys: Callable[[], NDArray[np.int64]]


class LexicalSnapshot:
    """An index as it was at one commit. All of it raises DamagedIndex."""

    def __init__(self, index: "tantivy.Index", name: str, watermark: int | None = None) -> None:
        self._searcher = index.searcher()
        self._name = name
        self._watermark = watermark

    @cached_property
    def watermark(self) -> int:
        """A key that it holds no larger one than, below which it lacks none; 0 when it is empty."""
        import tantivy

        if self._watermark is not None:
            return self._watermark
        with damage(self._name):
            last = self._searcher.search(tantivy.Query.all_query(), limit=1, count=False, order_by_field=KEY).hits
        return int(last[0][0]) if last else 0

    def search(
        self, query: Sequence[Word], limit: int, within: Within | None = None
    ) -> tuple[NDArray[np.int64], NDArray[np.float32]]:
        """The places and BM25 scores of the best `limit` units: score descending, ties by place ascending.

        query: from `analysis.query_terms`; a word counts by its best alternative times its weight, as often as it is
        given, and units that hold any word are found. within: units that count, None for all, whose places are their
        keys. Where units tie at the end of the ranking, which of them are found is left to the index. Raises ValueError
        if limit < 1.
        """
        if limit < 1:
            raise ValueError(f"limit must be at least 1, got {limit}")
        with damage(self._name):
            places, scores = self._ranked(query, limit, within)
        order = np.lexsort((places, -scores))[:limit]
        return places[order], scores[order]

    def known(self, words: Iterable[Word]) -> set[Word]:
        """Those of which some unit holds one of their alternative forms."""
        with damage(self._name):
            frequency = partial(self._searcher.doc_freq, TERMS)
            return {word for word in words if any(map(frequency, word.forms))}

    def keys(self) -> NDArray[np.int64]:
        """All keys, ascending."""
        import tantivy

        with damage(self._name):
            hits = self._searcher.search(
                tantivy.Query.all_query(),
                limit=max(1, self._searcher.num_docs),
                count=False,
                order_by_field=KEY,
                order=tantivy.Order.Asc,
            ).hits
        return np.array([key for key, _ in hits], dtype=np.int64)

    def _ranked(
        self, query: Sequence[Word], limit: int, within: Within | None
    ) -> tuple[NDArray[np.int64], NDArray[np.float32]]:
        """At least the best `limit` units that count."""
        words = _any_of(query)
        share = 1.0 if within is None else within.share
        window = _window(limit, share)
        # Looked up where it can save more than it costs, 0.3 ms.
        matches = self._most_matches(query) if share < _SPARSE else self._searcher.num_docs
        while True:
            if within is not None and within.number * _KEY_COST < min(window, matches):
                words, window = self._among(words, within.keys()), limit
            window = min(window, matches + 1)
            keys, scores = self._hits(words, window)
            places, looked_at = keys if within is None else within.places(keys), len(keys)
            passing = places >= 0
            places, scores = places[passing], scores[passing]
            if len(places) >= limit or looked_at < window:
                return places, scores
            window = max(2 * window, _window(limit, max(len(places), 1) / window))

    def _most_matches(self, query: Sequence[Word]) -> int:
        """At least how many units hold any of the words."""
        forms = {form for word in query for form in word.forms}
        return min(self._searcher.num_docs, sum(self._searcher.doc_freq(TERMS, form) for form in forms))

    def _hits(self, query: "tantivy.Query", limit: int) -> tuple[NDArray[np.int64], NDArray[np.float32]]:
        hits = self._searcher.search(query, limit=limit, count=False).hits
        keys = self._searcher.fast_field_values(KEY, [address for _, address in hits])
        return np.fromiter(keys, np.int64, len(hits)), np.fromiter([score for score, _ in hits], np.float32, len(hits))

    def _among(self, query: "tantivy.Query", keys: NDArray[np.int64]) -> "tantivy.Query":
        """The query among these units alone, with the same scores."""
        import tantivy

        # One term each: tantivy's set of terms took three times as long (1,000 of 1,000,000: 25 and 8 ms).
        one = [(tantivy.Occur.Should, tantivy.Query.term_query(schema(), KEY, key)) for key in keys.tolist()]
        these = tantivy.Query.const_score_query(tantivy.Query.boolean_query(one), 0.0)
        return tantivy.Query.boolean_query([(tantivy.Occur.Must, query), (tantivy.Occur.Must, these)])


def _any_of(query: Sequence[Word]) -> "tantivy.Query":
    return _cached_any_of(tuple(query)) if len(query) <= _CACHED_WORDS else _made_any_of(query)


@lru_cache(maxsize=512)
def _cached_any_of(query: tuple[Word, ...]) -> "tantivy.Query":
    return _made_any_of(query)


def _made_any_of(query: Sequence[Word]) -> "tantivy.Query":
    import tantivy

    clauses = []
    for word, count in Counter(query).items():
        forms = [tantivy.Query.term_query(schema(), TERMS, form, index_option="freq") for form in word.forms]
        best = forms[0] if len(forms) == 1 else tantivy.Query.disjunction_max_query(forms)
        clauses.append((tantivy.Occur.Should, tantivy.Query.boost_query(best, word.weight * count)))
    return tantivy.Query.boolean_query(clauses)


def _window(limit: int, share: float) -> int:
    """So many hits hold `limit` that count where this share does, but for three standard deviations of bad luck."""
    return int((limit + 3 * math.sqrt(limit * (1 - share))) / share) + 1


@cache
def schema() -> "tantivy.Schema":
    """The fields of every index, of which the queries are made too."""
    import tantivy

    builder = tantivy.SchemaBuilder()
    builder.add_text_field(TERMS, tokenizer_name=TERMS, index_option="freq")
    # Signed: tantivy-py 0.27 deletes by a signed term, which matches nothing in an unsigned field, silently.
    builder.add_integer_field(KEY, indexed=True, fast=True)
    return builder.build()


@contextmanager
def damage(name: Path | str) -> Iterator[None]:
    """Turn what tantivy raises on a damaged folder into DamagedIndex, its panics too (they are BaseExceptions).

    What the operating system refused to it is an OSError: there is no reason then to make the index again.
    """
    try:
        yield
    except (DamagedIndex, OSError):
        raise
    except Exception as error:
        if code := _OS_ERROR.search(str(error)):
            raise OSError(int(code[1]), os.strerror(int(code[1])), str(name)) from error
        raise DamagedIndex(f"{name}: {error}") from error
    except BaseException as error:
        if type(error).__name__ != "PanicException":
            raise
        raise DamagedIndex(f"{name}: {error}") from error
