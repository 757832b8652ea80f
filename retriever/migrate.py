"""To another encoder: the stored documents are encoded anew in a sibling, which then takes the collection's name.

    <root>/<name>               answers searches and takes writes all the while
    <root>/.<name>.migrating    the sibling; a run that was stopped leaves it, and the next one goes on from there

The sibling is brought in step by comparing the digests of all documents, so that it doesn't matter what was written,
by whom, or how often the migration was stopped. The last comparison is made while writers are kept out; then the two
folders exchange their names in one step. Whoever has the old collection open meets CollectionReplaced at its next
transaction, and opens the new one.
"""

import contextlib
import logging
import time
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from statistics import mean, median

import numpy as np
from numpy.typing import NDArray

from retriever.build import only_build
from retriever.collection import Collection
from retriever.encoder import Encoder
from retriever.errors import CorruptCollection, InvalidRequest, UnsupportedFormat
from retriever.files import check_exchange, discard, exchange, new_folder
from retriever.records import Picture, Settings
from retriever.requests import Mode, SearchRequest
from retriever.results import WriteResult
from retriever.root import Root, alone, sibling_of
from retriever.store import FILE_NAME, Store
from retriever.units import Draft
from retriever.upsert import put_drafts

# Documents of one transaction: what a kill can cost; and documents removed by one.
BATCH = 256
PAGE = 10_000
# As many documents may be left to encode while writers are kept out: some seconds.
LAST_BATCH = 64
# Against writers that are as fast as the migration: after so many rounds the last one is made all the same.
ROUNDS = 20
COMPARED_AT = 10
COMPARED_QUERIES = 1_000
MODES: tuple[Mode, ...] = ("dense", "hybrid")

log = logging.getLogger(__name__)


@dataclass(frozen=True, slots=True)
class Side:
    """One of the two collections compared. milliseconds: of one search with its encoding, the median."""

    encoder: str | None
    dimension: int | None
    bytes: int
    milliseconds: float


@dataclass(frozen=True, slots=True)
class Comparison:
    """How the answers changed, by mode.

    overlap: of the first 10 documents of one collection, the mean share that is among the first 10 of the other.
    same_first: the share of queries whose first document stays first.
    """

    queries: int
    overlap: dict[str, float]
    same_first: dict[str, float]
    old: Side
    new: Side


@dataclass(slots=True)
class MigrateSummary:
    """What a migration did; counts are of documents, and of this run alone.

    copied: encoded into the sibling; removed: out of it again, since they were deleted meanwhile. truncated,
    pictures_unsearched: as in BuildSummary. pictures_from_thumbnails: pictures that the collection keeps as a path and
    a thumbnail, which the encoder saw instead. queries_dropped: stored queries that were vectors of the old encoder.
    """

    collection: str
    encoder: str
    old_encoder: str | None
    total: int
    copied: int = 0
    removed: int = 0
    documents: int = 0
    truncated: int = 0
    pictures_unsearched: int = 0
    pictures_from_thumbnails: int = 0
    queries_dropped: int = 0
    generation: int = 0
    seconds: float = 0.0
    comparison: Comparison | None = None


def migrate(
    root: Root,
    name: str,
    encoder: str,
    *,
    queries: Sequence[str] | None = None,
    progress: Callable[[MigrateSummary], None] = lambda _: None,
) -> MigrateSummary:
    """Have the collection `name` use another encoder. Run again, it goes on where it was stopped.

    queries: texts that both collections answer before the switch. progress: called after each batch. Raises
    CollectionBusy where another process builds or migrates it; InvalidRequest where documents hold nothing that the
    encoder can encode, or the queries can't be compared by; PolyseekError where the file system can't exchange names.
    """
    started = time.perf_counter()
    if encoder == "none":
        raise InvalidRequest("a migration needs an encoder", hint="name a model: polyseek models")
    target = root.load_encoder(encoder)
    name = root.resolve(name)
    folder, sibling = root.path / name, sibling_of(root.path / name)
    check_exchange(root.path)
    with contextlib.closing(Store.open(folder / FILE_NAME)) as store, only_build(folder):
        with store.reading() as reader:
            settings, total = reader.settings(), reader.count()[0]
        summary = MigrateSummary(name, target.name, settings.encoder, total)
        if settings.fingerprint == target.fingerprint:
            # Either nothing to do, or a run that was stopped after its switch.
            discard(sibling)
        else:
            _Migration(root, folder, sibling, store, target, summary, progress).run(settings, queries)
    with root.open(name) as collection:
        summary.documents, summary.generation = collection.count(), collection.generation
    summary.seconds = time.perf_counter() - started
    return summary


@dataclass(slots=True)
class _Migration:
    """One run. rejected: id -> why the encoder can't take a document."""

    root: Root
    folder: Path
    sibling: Path
    source: Store
    encoder: Encoder
    summary: MigrateSummary
    progress: Callable[[MigrateSummary], None]
    rejected: dict[str, str] = field(default_factory=dict)

    def run(self, settings: Settings, queries: Sequence[str] | None) -> None:
        """Make the sibling or go on with it, bring it in step, compare, switch."""
        if queries is not None:
            self._check_comparable(settings)
        _prepare_sibling(self.sibling, self._wanted(settings))
        # Its lock as well: it is the one that counts once the names are exchanged.
        with only_build(self.sibling), contextlib.closing(Store.open(self.sibling / FILE_NAME)) as target:
            self._approach(target)
            self._set_queries(target)
            with Collection.open(self.sibling, encoder=self.encoder, background=False) as new:
                new.optimize()
                if queries is not None:
                    self.summary.comparison = self._compared(new, queries[:COMPARED_QUERIES])
            self._approach(target)
            with alone(self.folder, self.source):
                self._round(target)
                self._refuse_rejected()
                self._finish(target)
                target.close()
                exchange(self.folder, self.sibling)
            discard(self.sibling)

    def _finish(self, target: Store) -> None:
        """What isn't documents, as it is at the switch."""
        self._set_queries(target)
        with self.source.reading() as reader, target.writing() as writer:
            writer.change_settings(self._wanted(reader.settings()))
            # A client that waits for a generation that it was answered must find it reached.
            writer.continue_after(reader.generation)

    def _wanted(self, settings: Settings) -> Settings:
        """The source's settings, under the new encoder."""
        encoder = self.encoder
        return replace(
            settings, encoder=encoder.name, fingerprint=encoder.fingerprint, dimension=encoder.dimension,
            similarity=encoder.similarity, towers=tuple(sorted(encoder.modalities)),
        )  # fmt: skip

    def _check_comparable(self, settings: Settings) -> None:
        """Load the old encoder, for what is wrong with it to be known before hours of encoding."""
        if settings.encoder is None:
            raise InvalidRequest(
                f"{self.summary.collection} has no encoder whose answers could be compared", hint="leave --queries out"
            )
        self.root.load_encoder(settings.encoder)

    def _approach(self, target: Store) -> None:
        """Rounds until hardly anything is left to do."""
        for _ in range(ROUNDS):
            if self._round(target) <= LAST_BATCH:
                break
        self._refuse_rejected()

    def _refuse_rejected(self) -> None:
        if self.rejected:
            some = ", ".join(list(self.rejected)[:5])
            raise InvalidRequest(
                f"{len(self.rejected):,} documents of {self.summary.collection} hold nothing that {self.encoder.name} "
                f"can encode, nothing was switched: {some}",
                hint="delete them, or take an encoder that sees pictures; run again, it goes on from here",
            )

    def _round(self, target: Store) -> int:
        """Make the sibling what the source is; the number of documents that were put or removed."""
        self.rejected.clear()
        before = self.summary.copied + self.summary.removed
        with self.source.reading() as reader, target.reading() as there:
            (keys, wanted), (held, has) = reader.digests(), there.digests()
        changed, gone = keys[_absent(wanted, has)], held[_absent(has, wanted)]
        for batch in _batches(changed, BATCH):
            self._copy(batch, target)
        for batch in _batches(gone, PAGE):
            self._remove(batch, target)
        return self.summary.copied + self.summary.removed - before

    def _copy(self, keys: Sequence[int], target: Store) -> None:
        drafts = self._drafts(keys)
        result = put_drafts(target, lambda: self.encoder, {d.document.id: (i, d) for i, d in enumerate(drafts)})
        for rejected in result.rejected:
            self.rejected[str(rejected.id)] = rejected.reason
        self._count(result, drafts)
        self.progress(self.summary)

    def _drafts(self, keys: Sequence[int]) -> list[Draft]:
        """Those of these documents that are still there as they were put, without the vectors that they brought."""
        with self.source.reading() as reader:
            documents = reader.documents(keys)
            digests = reader.stored_documents([document.id for document in documents.values()])
            pictures = {key: reader.picture(key) for key, document in documents.items() if document.has_picture}
        drafts = []
        # In their order, so that the sibling lists its documents in the same one.
        for key in sorted(documents):
            document, picture = documents[key], pictures.get(key)
            if not document.has_content:
                self.rejected[document.id] = "its vector was all that it had"
                continue
            digest = digests[document.id].digest
            if document.identified:
                document = replace(document, language=None, identified=False)
            drafts.append(Draft(document, _seen(picture), digest, picture))
        return drafts

    def _count(self, result: WriteResult, drafts: Sequence[Draft]) -> None:
        self.summary.copied += result.added + result.updated
        self.summary.truncated += result.truncated
        self.summary.pictures_unsearched += result.pictures_unsearched
        if "image" in self.encoder.modalities:
            self.summary.pictures_from_thumbnails += sum(
                draft.kept is not None and draft.kept.picture is None for draft in drafts
            )

    def _remove(self, keys: Sequence[int], target: Store) -> None:
        """Remove those of the sibling's documents that the source no longer holds under any content."""
        with target.reading() as reader:
            ids = reader.document_ids(keys)
        with self.source.reading() as reader:
            kept = reader.document_keys(list(ids.values()))
        gone = [key for key, id_ in ids.items() if id_ not in kept]
        if gone:
            with target.writing() as writer:
                writer.remove(gone)
            self.summary.removed += len(gone)

    def _set_queries(self, target: Store) -> None:
        """The stored queries, encoded anew."""
        with self.source.reading() as reader:
            stored, _ = reader.queries()
        texts = [text for text in stored if text is not None]
        self.summary.queries_dropped = len(stored) - len(texts)
        with target.reading() as reader:
            if reader.queries()[0] == texts:
                return
        vectors = self.encoder.encode_queries(texts).vectors
        with target.writing() as writer:
            writer.set_queries(texts, vectors)

    def _compared(self, new: Collection, queries: Sequence[str]) -> Comparison:
        overlap: dict[str, float] = {}
        same_first: dict[str, float] = {}
        seconds: tuple[list[float], list[float]] = ([], [])
        with self.root.open(self.summary.collection) as old:
            for mode in MODES:
                pairs = [_answers(old, new, query, mode, seconds) for query in queries]
                overlap[mode] = mean(len(set(a) & set(b)) / max(len(a), len(b), 1) if a or b else 1 for a, b in pairs)
                same_first[mode] = mean(a[:1] == b[:1] for a, b in pairs)
            sides = [_side(each, taken) for each, taken in zip((old, new), seconds, strict=True)]
        return Comparison(len(queries), overlap, same_first, *sides)


def _absent(digests: NDArray[np.uint64], among: NDArray[np.uint64]) -> NDArray[np.bool_]:
    """Which of these digests (N, 2) aren't among others (M, 2): bool (N,).

    They are looked up by their first words. Where two others share theirs, one of them counts as absent: comparing it
    once more finds it unchanged.
    """
    if not len(among):
        return np.ones(len(digests), dtype=np.bool_)
    order = np.argsort(among[:, 0])
    places = np.searchsorted(among[:, 0], digests[:, 0], sorter=order).clip(max=len(among) - 1)
    different: NDArray[np.bool_] = (among[order[places]] != digests).any(axis=1)
    return different


def _batches(keys: NDArray[np.int64], size: int) -> Iterator[list[int]]:
    for start in range(0, len(keys), size):
        yield keys[start : start + size].tolist()


def _seen(picture: Picture | None) -> bytes | None:
    """What the encoder is shown of a picture."""
    if picture is None:
        return None
    return picture.thumbnail if picture.picture is None else picture.picture


def _answers(
    old: Collection, new: Collection, query: str, mode: Mode, seconds: tuple[list[float], list[float]]
) -> tuple[list[str], list[str]]:
    """The ids that each of the two finds, in order; the time that each took is added to `seconds`."""
    found = []
    for collection, taken in zip((old, new), seconds, strict=True):
        started = time.perf_counter()
        result = collection.search(SearchRequest(text=query, mode=mode, k=COMPARED_AT))
        taken.append(time.perf_counter() - started)
        found.append([hit.id for hit in result.hits])
    return found[0], found[1]


def _side(collection: Collection, seconds: Sequence[float]) -> Side:
    info = collection.info()
    return Side(info.encoder, info.dimension, info.bytes, round(1000 * median(seconds), 3))


def _prepare_sibling(sibling: Path, wanted: Settings) -> None:
    """The sibling of an earlier run, if it is of the same migration; else an empty one."""
    found = _settings_of(sibling)
    # Kind and recall may have been changed since; they are set at the switch.
    if found is not None and replace(found, kind=wanted.kind, recall=wanted.recall) == wanted:
        return
    discard(sibling)
    with new_folder(sibling) as aside:
        Store.create(aside / FILE_NAME, wanted).close()


def _settings_of(sibling: Path) -> Settings | None:
    """The settings of the sibling, None where there is none that could be gone on with."""
    if not (sibling / FILE_NAME).is_file():
        return None
    try:
        with contextlib.closing(Store.open(sibling / FILE_NAME)) as store, store.reading() as reader:
            return reader.settings()
    except (CorruptCollection, UnsupportedFormat) as error:
        log.info("%s can't be gone on with, it is made anew: %s", sibling, error)
        return None
