"""The BM25 index of a collection: a tantivy folder, derived from the store and replaceable at any time.

tantivy sees terms only, what `analysis` made of a text with spaces between; a user's text is never query syntax. It
scores by its fixed BM25, k1 = 1.2 and b = 0.75. A unit's key is never used twice.
"""

import errno
import math
import os
import re
import shutil
import struct
import zlib
from collections import Counter
from collections.abc import Callable, Iterable, Iterator, Sequence
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from functools import cache, cached_property, lru_cache, partial
from pathlib import Path
from typing import TYPE_CHECKING, NamedTuple

import numpy as np
import orjson
from crc32c import crc32c
from numpy.typing import NDArray

from retriever import analysis
from retriever.analysis import Word
from retriever.files import DamagedIndex, sync_folder

if TYPE_CHECKING:
    import tantivy

# An index made by other rules of analysis lacks this field, and so is damaged: it is made anew.
_TERMS = f"terms_{analysis.VERSION}"
_KEY = "key"
# What the writer gathers before it starts a new segment, in bytes (tantivy's least is 15,000,000).
_HEAP = 50_000_000
# Files beside those of the segments: what there is, and locks.
_OWN = (".json", ".lock")
# What ends each of tantivy's files.
_MAGIC = 1337
# As Rust prints an error of the operating system, for people and for programmers.
_OS_ERROR = re.compile(r"(?:os error |Os \{ code: )(\d+)")
# What naming a unit in a query costs, in hits looked at: 7 us and 0.4.
_KEY_COST = 16
# Queries of no more words than these are kept for when they come again: 512, 1 MB.
_CACHED_WORDS = 32
# A share of the units below which it pays to know how many hits there can be.
_SPARSE = 0.1


@dataclass(frozen=True, slots=True)
class LexicalUnit:
    """What is indexed of one unit: its text with its title before it, analysed by its canonical language."""

    key: int
    text: str
    language: str


class Stamp(NamedTuple):
    """What tells commits apart. commit: raised by each. checksum: of the file that names what was committed; merges of
    an update that is under way change it too.
    """

    commit: int
    checksum: int


class LexicalIndex:
    """One folder with an index. One process at a time updates it, any number read it.

    Safe to use from one thread at a time; its snapshots from several.
    """

    def __init__(self, folder: Path, index: "tantivy.Index") -> None:
        self._folder = folder
        self._index = index
        self._whole: set[str] = set()

    @classmethod
    def open(cls, folder: Path) -> "LexicalIndex":
        """The index in `folder`. Raises FileNotFoundError where there is none, DamagedIndex where it is unreadable."""
        import tantivy

        with _damage(folder):
            fields = [field["name"] for field in orjson.loads((folder / "meta.json").read_bytes())["schema"]]
            if fields != [_TERMS, _KEY]:
                raise DamagedIndex(f"{folder} holds the fields {', '.join(fields)}, not {_TERMS}, {_KEY}")
            return cls(folder, _ready(tantivy.Index.open(str(folder))))

    @classmethod
    def create(cls, folder: Path) -> "LexicalIndex":
        """An empty index in `folder`, in the place of whatever is there."""
        import tantivy

        with suppress(FileNotFoundError):
            shutil.rmtree(folder)
        folder.mkdir(parents=True)
        with _damage(folder):
            index = _ready(tantivy.Index(_schema(), path=str(folder), reuse=False))
        sync_folder(folder)
        sync_folder(folder.parent)
        return cls(folder, index)

    def update(self, add: Iterable[LexicalUnit], remove: Iterable[int]) -> None:
        """Remove keys (absent ones are ignored) and add units as one commit, durable when this returns.

        add: keys ascend and are above the watermark, so that an update repeated after a crash adds nothing twice; it is
        read once, and memory stays bounded whatever its length. Raises DamagedIndex, and BlockingIOError where another
        process updates this index; then, and if `add` raises, nothing was changed.
        """
        # A file that a killed update left behind may have the name of one that this one writes.
        self.sweep()
        _write(self._index, str(self._folder), add, remove)
        sync_folder(self._folder)

    def stamp(self) -> Stamp:
        """Of the newest commit. Raises DamagedIndex."""
        with _damage(self._folder):
            content = self._committed()
            return Stamp(int(orjson.loads(content)["opstamp"]), int(crc32c(content)))

    def snapshot(self, watermark: int | None = None) -> "LexicalSnapshot":
        """The index at its newest commit, by whichever process; it stays so. Raises DamagedIndex.

        watermark: the snapshot's, where it is known: finding it takes a look at every unit.
        """
        with _damage(self._folder):
            while True:
                committed = self._committed()
                self._check()
                self._index.reload()
                # Else there may be files in it that weren't checked.
                if self._committed() == committed:
                    return LexicalSnapshot(self._index, str(self._folder), watermark)

    def _check(self) -> None:
        """Compare the checksums of the files that weren't checked before; they never change. Raises DamagedIndex.

        tantivy looks at the ends of its files alone. 1,000,000 short texts are 66 MB, which take 0.03 s.
        """
        files = self._files()
        if damaged := [file.name for file in files if file.name not in self._whole and not _is_whole(file)]:
            raise DamagedIndex(f"{self._folder}: {', '.join(damaged)} differ from their checksums")
        self._whole = {file.name for file in files}

    def damaged_files(self) -> list[str]:
        """The names of the index's files that differ from the checksums written with them; reads every byte.

        No other process may update the index meanwhile.
        """
        return [file.name for file in self._files() if not _is_whole(file)]

    def sweep(self) -> None:
        """Remove what killed updates left behind. No other process may update the index meanwhile."""
        with _damage(self._folder):
            names = self._names()
            left = [file for file in self._folder.iterdir() if not names(file)]
            if any(not file.name.startswith(".tmp") for file in left):
                # By tantivy, which knows whether somebody is opening them just now.
                writer = _writer(self._index, str(self._folder))
                writer.garbage_collect_files()
                writer.wait_merging_threads()
            for file in left:
                file.unlink(missing_ok=True)

    def _committed(self) -> bytes:
        return (self._folder / "meta.json").read_bytes()

    def _files(self) -> list[Path]:
        """The files of the newest commit, without those that say which files there are."""
        names = self._names()
        return sorted(file for file in self._folder.iterdir() if names(file) and file.suffix not in _OWN)

    def _names(self) -> Callable[[Path], bool]:
        """Whether a file belongs to the newest commit."""
        segments = {one["segment_id"].replace("-", ""): one for one in orjson.loads(self._committed())["segments"]}

        def belongs(file: Path) -> bool:
            segment = segments.get(file.name.split(".")[0])
            if segment is None or file.suffix != ".del":
                return segment is not None or file.suffix in _OWN
            return bool(segment["deletes"] and file.name.split(".")[1] == str(segment["deletes"]["opstamp"]))

        return belongs


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
        with _damage(self._name):
            last = self._searcher.search(tantivy.Query.all_query(), limit=1, count=False, order_by_field=_KEY).hits
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
        with _damage(self._name):
            places, scores = self._ranked(query, limit, within)
        order = np.lexsort((places, -scores))[:limit]
        return places[order], scores[order]

    def known(self, words: Iterable[Word]) -> set[Word]:
        """Those of which some unit holds one of their alternative forms."""
        with _damage(self._name):
            frequency = partial(self._searcher.doc_freq, _TERMS)
            return {word for word in words if any(map(frequency, word.forms))}

    def keys(self) -> NDArray[np.int64]:
        """All keys, ascending."""
        import tantivy

        with _damage(self._name):
            hits = self._searcher.search(
                tantivy.Query.all_query(),
                limit=max(1, self._searcher.num_docs),
                count=False,
                order_by_field=_KEY,
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
        return min(self._searcher.num_docs, sum(self._searcher.doc_freq(_TERMS, form) for form in forms))

    def _hits(self, query: "tantivy.Query", limit: int) -> tuple[NDArray[np.int64], NDArray[np.float32]]:
        hits = self._searcher.search(query, limit=limit, count=False).hits
        keys = self._searcher.fast_field_values(_KEY, [address for _, address in hits])
        return np.fromiter(keys, np.int64, len(hits)), np.fromiter([score for score, _ in hits], np.float32, len(hits))

    def _among(self, query: "tantivy.Query", keys: NDArray[np.int64]) -> "tantivy.Query":
        """The query among these units alone, with the same scores."""
        import tantivy

        # One term each: tantivy's set of terms took three times as long (1,000 of 1,000,000: 25 and 8 ms).
        one = [(tantivy.Occur.Should, tantivy.Query.term_query(_schema(), _KEY, key)) for key in keys.tolist()]
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
        forms = [tantivy.Query.term_query(_schema(), _TERMS, form, index_option="freq") for form in word.forms]
        best = forms[0] if len(forms) == 1 else tantivy.Query.disjunction_max_query(forms)
        clauses.append((tantivy.Occur.Should, tantivy.Query.boost_query(best, word.weight * count)))
    return tantivy.Query.boolean_query(clauses)


def _window(limit: int, share: float) -> int:
    """So many hits hold `limit` that count where this share does, but for three standard deviations of bad luck."""
    return int((limit + 3 * math.sqrt(limit * (1 - share))) / share) + 1


def in_memory(units: Sequence[LexicalUnit]) -> LexicalSnapshot:
    """A snapshot of these units alone, without a folder: the tail of a process that is behind."""
    import tantivy

    index = _ready(tantivy.Index(_schema()))
    _write(index, "the index in memory", units, ())
    index.reload()
    return LexicalSnapshot(index, "the index in memory")


@cache
def _schema() -> "tantivy.Schema":
    import tantivy

    builder = tantivy.SchemaBuilder()
    builder.add_text_field(_TERMS, tokenizer_name=_TERMS, index_option="freq")
    # Signed: tantivy-py 0.27 deletes by a signed term, which matches nothing in an unsigned field, silently.
    builder.add_integer_field(_KEY, indexed=True, fast=True)
    return builder.build()


def _ready(index: "tantivy.Index") -> "tantivy.Index":
    import tantivy

    spaces = tantivy.TextAnalyzerBuilder(tantivy.Tokenizer.whitespace()).build()
    index.register_tokenizer(_TERMS, spaces)
    index.config_reader("Manual")  # else a thread watches the folder
    return index


def _write(index: "tantivy.Index", name: str, add: Iterable[LexicalUnit], remove: Iterable[int]) -> None:
    writer = _writer(index, name)
    try:
        for key in remove:
            with _damage(name):
                writer.delete_documents_by_term(_KEY, int(key))  # numpy integers too
        for unit in add:
            document = _document(unit)
            with _damage(name):
                writer.add_document(document)
        with _damage(name):
            writer.commit()
    finally:
        # Gives the lock back, and what was not committed up. A writer dropped without it would throw merges away.
        with _damage(name):
            writer.wait_merging_threads()


def _writer(index: "tantivy.Index", name: str) -> "tantivy.IndexWriter":
    with _damage(name):
        try:
            return index.writer(heap_size=_HEAP, num_threads=1)
        except ValueError as error:
            if "LockBusy" in str(error):
                raise BlockingIOError(errno.EBUSY, "another writer is open", name) from error
            raise


def _document(unit: LexicalUnit) -> "tantivy.Document":
    import tantivy

    document = tantivy.Document()
    document.add_integer(_KEY, unit.key)
    document.add_text(_TERMS, analysis.joined_terms(unit.text, unit.language))
    return document


def _is_whole(file: Path) -> bool:
    """Whether a tantivy file is what was written: body, a JSON footer with the body's CRC-32, its length, a magic."""
    try:
        content = np.memmap(file, dtype=np.uint8, mode="r").data
        length, magic = struct.unpack("<II", content[-8:])
        checksum = orjson.loads(content[-8 - length : -8])["crc"]
    except FileNotFoundError:
        # Of a commit that another process replaced meanwhile; tantivy itself misses any other.
        return True
    except (ValueError, struct.error, KeyError, TypeError):
        return False
    return bool(magic == _MAGIC and checksum == zlib.crc32(content[: -8 - length]))


@contextmanager
def _damage(name: Path | str) -> Iterator[None]:
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
