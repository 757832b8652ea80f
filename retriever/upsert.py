"""Documents in: what is new or changed is prepared, encoded, and committed by one transaction.

Nothing is encoded inside the transaction, so that writers only wait for each other's commits. Where another writer
changed one of the documents between reading and writing, nothing is written and the batch goes round again, with the
vectors that it has.
"""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any

import numpy as np
from numpy.typing import NDArray

from retriever.documents import Document, Unit, record_id
from retriever.encoder import Encoder
from retriever.errors import InvalidDocument
from retriever.reader import Reader
from retriever.records import Put, Settings, StoredDocument, StoredUnit
from retriever.results import Rejected, WriteResult
from retriever.store import Store
from retriever.units import Draft, Prepared, encode_units, prepare
from retriever.writer import Writer

# Id -> place in the batch, and the document.
Drafts = dict[str, tuple[int, Draft]]


def upsert(
    store: Store, encoder: Callable[[], Encoder | None], documents: Sequence[Document | Mapping[str, Any]]
) -> WriteResult:
    """Put documents in place of those of the same ids. `encoder` is only called when something must be encoded."""
    drafts: Drafts = {}
    unreadable = []
    for index, given in enumerate(documents):
        try:
            draft = Draft.of(given if isinstance(given, Document) else Document.from_record(given))
        except InvalidDocument as error:
            unreadable.append(Rejected(index, _id(given), str(error)))
        else:
            drafts[draft.document.id] = (index, draft)
    return put_drafts(store, encoder, drafts, unreadable)


def put_drafts(
    store: Store, encoder: Callable[[], Encoder | None], drafts: Drafts, rejected: Sequence[Rejected] = ()
) -> WriteResult:
    """Put drafts whose digests aren't those that are stored. rejected: what the result names beside what it rejects."""
    made: dict[bytes, NDArray[np.float32]] = {}
    cut = 0
    while True:
        result = WriteResult(rejected=list(rejected))
        try:
            _Round(store, encoder, made, result).run(drafts)
        except _Overtaken:
            cut += result.truncated
            continue
        result.truncated += cut
        return result


class _Overtaken(Exception):
    """Another writer changed a document of the batch between reading and writing."""


def _id(given: Document | Mapping[str, Any]) -> str | None:
    if isinstance(given, Document):
        return given.id
    return record_id(given) if isinstance(given, Mapping) else None


@dataclass(frozen=True, slots=True)
class _Round:
    """One try: read, prepare, encode, write. made: the vectors of earlier tries by digest."""

    store: Store
    encoder: Callable[[], Encoder | None]
    made: dict[bytes, NDArray[np.float32]]
    result: WriteResult

    def run(self, drafts: Drafts) -> None:
        """Write what is new or changed. Raises _Overtaken."""
        with self.store.reading() as reader:
            settings = reader.settings()
            stored = reader.stored_documents(list(drafts))
            self.result.generation = generation = reader.generation
        changed = {id_: item for id_, item in drafts.items() if not _is(stored.get(id_), item[1])}
        self.result.unchanged = len(drafts) - len(changed)
        settings = _with_dimension(settings, changed)
        ready = self._prepared(changed, settings)
        if not ready:
            return
        with self.store.reading() as reader:
            units = reader.units_of([stored[item.document.id].key for item in ready if item.document.id in stored])
            self.made.update(_known_vectors(reader, units))
        vectors, self.result.truncated = encode_units(ready, self.made, settings, self.encoder)
        self.made.update(vectors)
        with self.store.writing() as writer:
            # Every change counts a generation; looking up the documents again is for when there was one.
            if writer.generation != generation and writer.stored_documents(list(changed)) != {
                id_: was for id_, was in stored.items() if id_ in changed
            }:
                raise _Overtaken
            _settle_dimension(writer, settings)
            writer.put([self._put(item, stored.get(item.document.id), units) for item in ready])
            self.result.generation = writer.outcome

    def _prepared(self, changed: Drafts, settings: Settings) -> list[Prepared]:
        drafts = [draft for _, draft in changed.values()]
        encoder = self.encoder() if any(draft.document.vector is None for draft in drafts) else None
        ready = []
        for (index, draft), item in zip(changed.values(), prepare(drafts, settings, encoder), strict=True):
            if isinstance(item, InvalidDocument):
                self.result.rejected.append(Rejected(index, draft.document.id, str(item)))
                continue
            ready.append(item)
            self.result.pictures_unsearched += draft.picture is not None and "image" not in settings.towers
        return ready

    def _put(self, item: Prepared, was: StoredDocument | None, stored: Mapping[int, Sequence[StoredUnit]]) -> Put:
        """How to write one document; its units only where they changed, so that metadata alone gives no new keys."""
        if was is None:
            self.result.added += 1
        else:
            self.result.updated += 1
        keep = was is not None and [_place(unit) for unit in stored[was.key]] == [_place(unit) for unit in item.units]
        units = None if keep else [(unit, self.made[unit.digest]) for unit in item.units]
        return Put(None if was is None else was.key, item.document, item.digest, item.picture, units)


def _is(stored: StoredDocument | None, draft: Draft) -> bool:
    return stored is not None and stored.digest == draft.digest


def _place(unit: Unit | StoredUnit) -> tuple[Any, ...]:
    return (unit.kind, unit.language, unit.modality, unit.start, unit.end, unit.ordinal, unit.digest)


def _known_vectors(reader: Reader, units: Mapping[int, Sequence[StoredUnit]]) -> dict[bytes, NDArray[np.float32]]:
    """Digest -> vector of these stored units."""
    digests = {unit.key: unit.digest for group in units.values() for unit in group}
    return {digests[key]: vector for key, vector in reader.existing_vectors(list(digests)).items()}


def _with_dimension(settings: Settings, changed: Drafts) -> Settings:
    """The settings, their dimension that of the first vector where a collection without encoder has none yet."""
    if settings.dimension is not None:
        return settings
    vectors = [draft.document.vector for _, draft in changed.values() if draft.document.vector is not None]
    return replace(settings, dimension=vectors[0].size) if vectors else settings


def _settle_dimension(writer: Writer, settings: Settings) -> None:
    """Store a dimension that this batch brought. Raises InvalidDocument where another writer brought another one."""
    stored = writer.settings().dimension
    if stored is None and settings.dimension is not None:
        writer.change_settings(settings)
    elif stored != settings.dimension:
        raise InvalidDocument(f"vectors have {settings.dimension} dimensions, the collection's have {stored}")
