"""From sources to a collection: read, encode and commit batch by batch; run again, it goes on where it stopped.

A document whose content is unchanged is neither encoded nor written again, so that an interrupted build only costs what
was in flight.
"""

import contextlib
import itertools
import time
from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import BinaryIO, Literal

import apsw
import orjson

from retriever.collection import Collection
from retriever.documents import Document
from retriever.encoder import Encoder
from retriever.errors import CollectionBusy, EncoderMismatch, InvalidRequest, SourceError
from retriever.files import locked
from retriever.languages import canonical
from retriever.readers import Reject, read
from retriever.readers.queries import read_queries
from retriever.results import WriteResult
from retriever.root import Root

# A batch is one transaction: what a kill can lose, and what a writer beside a build may have to wait for. 256 documents
# of an encyclopedia's length are about 5 s of encoding and 20 ms of writing.
BATCH_DOCUMENTS = 256
BATCH_CHARACTERS = 500_000
# A batch holds so many times more of documents that bring their vectors: there syncing the disk takes longest. A disk
# that syncs in 4 ms took 300 us a document in batches of 256 (100 us bare inserts), 130 in batches of 4,096 (40).
READY = 16
DEFAULT_ENCODER = "multilingual"
PRUNE_BATCH = 1_000
# The options that are settings of a collection: given once, when it is made.
SETTINGS = ("kind", "passages", "language", "recall")

Source = Path | Iterable[Document]


@dataclass(frozen=True, slots=True)
class BuildOptions:
    """How to build. None: the collection's own setting, or the default where the collection is new.

    encoder: a model, or "none" for ready-made vectors. prune: remove what the sources no longer hold. strict: stop at
    the first bad record. rejects: file for the records that were left out. captions: of a folder of pictures.
    queries: file of queries to measure the recall of the dense index on.
    """

    format: str | None = None
    encoder: str | None = None
    kind: str | None = None
    passages: Literal["split", "none"] | None = None
    language: str | None = None
    recall: float | None = None
    prune: bool = False
    strict: bool = False
    rejects: Path | None = None
    captions: Path | None = None
    queries: Path | None = None


@dataclass(slots=True)
class BuildSummary:
    """What a build did; counts are of documents.

    repeated: ids that the sources gave more than once, the last one counting. truncated: texts that the encoder cut.
    pictures_unsearched: pictures that the encoder has no tower for, found by their captions only. kind, recall: of the
    dense index, as measured on recall_of: "queries" or "self-query"; None where all vectors are scanned.
    """

    collection: str
    added: int = 0
    updated: int = 0
    unchanged: int = 0
    removed: int = 0
    rejected: int = 0
    repeated: int = 0
    truncated: int = 0
    pictures_unsearched: int = 0
    generation: int = 0
    documents: int = 0
    kind: str = "flat"
    recall: float = 1.0
    recall_of: str | None = None
    seconds: float = 0.0

    @property
    def read(self) -> int:
        """Records taken from the sources so far, good and bad."""
        return self.added + self.updated + self.unchanged + self.rejected


def build(
    root: Root,
    name: str,
    sources: Sequence[Source],
    options: BuildOptions | None = None,
    progress: Callable[[BuildSummary], None] = lambda _: None,
) -> BuildSummary:
    """Create the collection or bring it up to date. A source is a path or an iterable of documents.

    progress: called after each batch. Raises SourceError where a source can't be read, or nothing of it; with `strict`
    at the first bad record; CollectionBusy where another process builds it; EncoderMismatch, InvalidRequest where the
    options contradict the collection.
    """
    options = options or BuildOptions()
    started = time.perf_counter()
    records = _records(sources, options)
    # The first record is read before anything is created: a mistyped path leaves nothing behind.
    first = next(records, None)
    with _collection(root, name, options) as collection, only_build(collection.folder):
        summary = BuildSummary(name)
        with _Rejects(options) as rejects, _Seen() as seen:
            head = [] if first is None else [first]
            for batch in _batches(_taken(itertools.chain(head, records), rejects, summary)):
                summary.repeated += seen.add(document.id for document in batch)
                _count(summary, collection.upsert(batch), batch, rejects)
                progress(summary)
            if summary.read == summary.rejected:
                raise SourceError(
                    f"nothing could be read: {summary.rejected} bad records"
                    if summary.rejected
                    else "the sources are empty",
                    hint="see the reasons with --rejects FILE, or name the layout with --format",
                )
            if options.prune:
                summary.removed = _prune(collection, seen)
            if options.queries is not None:
                collection.set_queries(read_queries(options.queries))
            collection.settle()
        info = collection.info()
        summary.generation, summary.documents = info.generation, info.documents
        summary.kind, summary.recall = info.kind, info.recall
        summary.recall_of = None if info.index is None else info.index.recall_of
    summary.seconds = time.perf_counter() - started
    return summary


def _records(sources: Sequence[Source], options: BuildOptions) -> Iterator[Document | Reject]:
    for source in sources:
        if isinstance(source, Path):
            yield from read(source, format=options.format, captions=options.captions)
        else:
            yield from source


def _taken(records: Iterable[Document | Reject], rejects: "_Rejects", summary: BuildSummary) -> Iterator[Document]:
    for record in records:
        if isinstance(record, Reject):
            rejects.write(record)
            summary.rejected += 1
        else:
            yield record


def _batches(documents: Iterable[Document]) -> Iterator[list[Document]]:
    batch: list[Document] = []
    size = characters = 0
    for document in documents:
        batch.append(document)
        weight = READY if document.vector is None else 1
        size += weight
        characters += weight * len(document.text)
        if size >= READY * BATCH_DOCUMENTS or characters >= READY * BATCH_CHARACTERS:
            yield batch
            batch, size, characters = [], 0, 0
    if batch:
        yield batch


def _count(summary: BuildSummary, result: WriteResult, batch: Sequence[Document], rejects: "_Rejects") -> None:
    summary.added += result.added
    summary.updated += result.updated
    summary.unchanged += result.unchanged
    summary.truncated += result.truncated
    summary.pictures_unsearched += result.pictures_unsearched
    for rejected in result.rejected:
        file, line = batch[rejected.index].origin or ("", None)
        rejects.write(Reject(file, line, rejected.id, rejected.reason))
        summary.rejected += 1


def _prune(collection: Collection, seen: "_Seen") -> int:
    removed = 0
    for ids in _chunks(seen.missing(collection.ids()), PRUNE_BATCH):
        removed += collection.delete(ids=ids).deleted
    return removed


def _chunks(ids: Iterable[str], size: int) -> Iterator[list[str]]:
    iterator = iter(ids)
    while chunk := list(itertools.islice(iterator, size)):
        yield chunk


@contextlib.contextmanager
def _collection(root: Root, name: str, options: BuildOptions) -> Iterator[Collection]:
    if root.exists(name):
        with root.open(name, background=False) as collection:
            _check_unchanged(collection, root, options)
            yield collection
    else:
        given = {option: value for option in SETTINGS if (value := getattr(options, option)) is not None}
        encoder = _encoder(root, options.encoder or DEFAULT_ENCODER)
        with root.create(name, encoder=encoder, background=False, **given) as collection:
            yield collection


def _encoder(root: Root, name: str) -> Encoder | None:
    return None if name == "none" else root.load_encoder(name)


def _check_unchanged(collection: Collection, root: Root, options: BuildOptions) -> None:
    """Raise where an option says otherwise than the collection was created with."""
    settings = collection.settings
    if options.encoder is not None and options.encoder != (settings.encoder or "none"):
        encoder = _encoder(root, options.encoder)
        if (encoder.fingerprint if encoder else None) != settings.fingerprint:
            raise EncoderMismatch(
                f"{collection.name} was built with {settings.encoder or 'no encoder'}, not with {options.encoder}",
                hint=f"leave --encoder out, or build another collection with {options.encoder}",
            )
    for option in SETTINGS:
        asked, has = getattr(options, option), getattr(settings, option)
        if asked is not None and asked != has and not (option == "language" and _same_language(asked, has)):
            raise InvalidRequest(
                f"{collection.name} was created with {option} {has}, not {asked}",
                hint=f"leave --{option} out, or {_way_to_change(collection.name, option, asked)}",
            )


def _way_to_change(name: str, option: str, asked: object) -> str:
    if option in ("kind", "recall"):
        return f"change it: polyseek index optimize {name} --{option} {asked}"
    return "build another collection"


def _same_language(asked: str, has: str | None) -> bool:
    try:
        return canonical(asked) == has
    except ValueError as error:
        raise InvalidRequest(f"language: {error}") from None


@contextlib.contextmanager
def only_build(folder: Path) -> Iterator[None]:
    """Be the only process that builds or migrates the collection of a folder. Raises CollectionBusy."""
    path = folder / "build.lock"
    with locked(path, wait=False) as free:
        if not free:
            raise CollectionBusy(
                f"process {path.read_text() or 'unknown'} is building or migrating {folder.name}",
                hint="wait for it to end, or stop it; what it has committed stays",
            )
        yield


class _Rejects:
    """The rejects file, JSON Lines; with `strict` the first bad record stops the build."""

    def __init__(self, options: BuildOptions) -> None:
        self._options = options
        self._file: BinaryIO | None = None

    def __enter__(self) -> "_Rejects":
        if self._options.rejects is not None:
            try:
                self._file = self._options.rejects.open("wb")
            except OSError as error:
                raise SourceError(f"{self._options.rejects} can't be written: {error.strerror}") from None
        return self

    def __exit__(self, *_: object) -> None:
        if self._file is not None:
            self._file.close()

    def write(self, reject: Reject) -> None:
        """Note one bad record."""
        if self._file is not None:
            self._file.write(orjson.dumps(reject) + b"\n")
        if self._options.strict:
            where = reject.file if reject.line is None else f"{reject.file}, line {reject.line}"
            raise SourceError(
                f"{where}: {reject.reason}", hint="mend the record, or leave --strict out to go on without it"
            )


class _Seen:
    """The ids of one build in a temporary file: memory must not grow with the input."""

    def __enter__(self) -> "_Seen":
        self._connection = apsw.Connection("")
        self._connection.execute("CREATE TABLE seen (id TEXT PRIMARY KEY) WITHOUT ROWID")
        return self

    def __exit__(self, *_: object) -> None:
        self._connection.close()

    def add(self, ids: Iterable[str]) -> int:
        """Note ids; how many of them were there already."""
        given = [(identifier,) for identifier in ids]
        before = self._connection.total_changes()
        with self._connection:
            self._connection.executemany("INSERT OR IGNORE INTO seen VALUES (?)", given)
        return len(given) - (self._connection.total_changes() - before)

    def missing(self, ids: Iterable[str]) -> Iterator[str]:
        """Those of these ids that were never added."""
        for identifier in ids:
            if self._connection.execute("SELECT 1 FROM seen WHERE id = ?", (identifier,)).get is None:
                yield identifier
