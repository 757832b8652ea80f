"""One collection: create, open, write, search.

Writes are prepared and encoded outside any transaction, then committed by one; a batch that another writer overtook
goes round again. A search runs in one read transaction on a view of the same generation.
"""

import threading
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from types import TracebackType
from typing import Any, Literal, Self

import numpy as np
from numpy.typing import NDArray

from retriever.approximate import IndexEntry
from retriever.creation import check_index, make_settings, matching
from retriever.documents import Document
from retriever.encoder import Encoder
from retriever.errors import (
    CollectionExists,
    GenerationNotReached,
    InvalidRequest,
    PolyseekError,
    StorageFailed,
    UnknownCollection,
    UnknownDocument,
)
from retriever.export import ExportSummary, export
from retriever.files import DamagedIndex, folder_bytes, new_folder, storage_errors
from retriever.filters import Filter, as_sql, compile_filter
from retriever.pictures import open_picture, thumbnail
from retriever.queries import Query, complete, encode_queries, make_queries
from retriever.reader import Reader
from retriever.records import Picture, Settings
from retriever.requests import SearchRequest, SearchResult
from retriever.rerank import Reranker
from retriever.results import CollectionInfo, DeleteResult, IndexInfo, Page, VerifyReport, Vitals, WriteResult
from retriever.search import Searcher
from retriever.snapshots import Manifest, take
from retriever.store import FILE_NAME, Store
from retriever.units import scaled
from retriever.upkeep import Upkeep
from retriever.upsert import upsert

POLL_SECONDS = 0.01
IDS_PAGE = 10_000
MAX_QUERIES = 1_000
THUMBNAIL_SIZES = range(16, 385)


class Collection:
    """An open collection; safe to use from several threads. Make one with `create` or `open`."""

    def __init__(
        self,
        folder: Path,
        store: Store,
        upkeep: Upkeep,
        load: Callable[[], Encoder | None],
        reranker: Callable[[], Reranker] | None,
    ) -> None:
        self.folder = folder
        self.name = folder.name
        self._store = store
        self._upkeep = upkeep
        self._load = load
        self._encoder: Encoder | None = None
        self._reranker = reranker
        self._settings: Settings | None = None
        self._loading = threading.Lock()

    @classmethod
    def create(
        cls,
        path: Path | str,
        *,
        encoder: Encoder | None,
        kind: str = "auto",
        passages: Literal["split", "none"] = "split",
        recall: float = 0.95,
        language: str | None = None,
        **opening: Any,  # noqa: ANN401 - as for `open`
    ) -> Self:
        """Make an empty collection in the folder `path`, whose name is the collection's.

        encoder: None where every document brings its vector. recall: what an approximate index is tuned to, at 10.
        language: of documents that name none; None to identify it. opening: as for `open`. Raises CollectionExists or
        InvalidRequest.
        """
        folder = Path(path)
        settings = make_settings(encoder, kind, passages, recall, language)
        folder.parent.mkdir(parents=True, exist_ok=True)
        try:
            with new_folder(folder) as aside:
                Store.create(aside / FILE_NAME, settings).close()
        except FileExistsError:
            raise CollectionExists(
                f"{folder.name} exists already", hint="choose another name, or drop it first", path=folder
            ) from None
        return cls.open(folder, encoder=encoder, **opening)

    @classmethod
    def open(
        cls,
        path: Path | str,
        *,
        encoder: Encoder | None = None,
        loader: Callable[[str], Encoder] = Encoder.load,
        reranker: Callable[[], Reranker] | None = None,
        memory: int | None = None,
        gpu_memory: int | None = None,
        background: bool = True,
    ) -> Self:
        """Open a collection with its own encoder, which `loader` loads by name when it is first needed.

        reranker: gives the cross-encoder, when a search first asks for it; None where there is none.
        memory: bytes that building an index may take, None for half of what is available. background: whether a thread
        keeps the derived indices in step, and the vectors on a GPU; without it `settle` does the former. gpu_memory:
        bytes that vectors may take on the GPU, of all collections of the process together, None for half of what is
        free; with 0 nothing is done there.

        Raises UnknownCollection, EncoderMismatch (another `encoder` than it was built with), UnsupportedFormat,
        CorruptCollection.
        """
        folder = Path(path)
        try:
            store = Store.open(folder / FILE_NAME)
        except StorageFailed:
            if (folder / FILE_NAME).is_file():
                raise
            raise UnknownCollection(
                f"no collection {folder.name!r}", hint="make one: polyseek index build NAME SOURCE", path=folder
            ) from None
        with store.reading() as reader:
            settings = reader.settings()
        name = settings.encoder
        upkeep = Upkeep(folder, store, memory=memory, gpu_memory=gpu_memory, background=background)
        try:
            upkeep.drop_newer()
        except BaseException:
            store.close()
            raise
        collection = cls(folder, store, upkeep, lambda: None if name is None else loader(name), reranker)
        if encoder is not None:
            collection._encoder = matching(encoder, settings, folder.name)
        return collection

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()

    def close(self) -> None:
        """Close the files. A collection that was never closed loses nothing."""
        self._upkeep.close()
        self._store.close()

    @property
    def identity(self) -> tuple[int, int]:
        """Device and inode of its SQLite file: once its name stands for another file, it raises CollectionReplaced."""
        return self._store.identity

    @property
    def settings(self) -> Settings:
        """What the collection was created with."""
        if self._settings is None or self._settings.dimension is None:
            with self._store.reading() as reader:
                self._settings = reader.settings()
        return self._settings

    @property
    def generation(self) -> int:
        """The newest committed generation."""
        with self._store.reading() as reader:
            return reader.generation

    @property
    def encoder(self) -> Encoder | None:
        """The collection's encoder, loaded at the first use. Raises EncoderMismatch, ModelUnavailable."""
        with self._loading:
            if self._encoder is None:
                loaded = self._load()
                self._encoder = None if loaded is None else matching(loaded, self.settings, self.name)
            return self._encoder

    # -- writing

    def upsert(self, documents: Sequence[Document | Mapping[str, Any]]) -> WriteResult:
        """Put documents in place of those of the same ids; durable and visible when it returns.

        Of an id that occurs twice the last counts. What is not taken is in `rejected`; the rest is one transaction.
        """
        result = upsert(self._store, lambda: self.encoder, documents)
        self._upkeep.written()
        return result

    def delete(self, ids: Sequence[str] | None = None, filter: Filter | None = None) -> DeleteResult:  # noqa: A002 - the contract's name
        """Delete documents by ids, or all that a filter finds. Ids that aren't there are no error."""
        if (ids is None) == (filter is None):
            raise InvalidRequest("delete takes either ids or a filter")
        with self._store.writing() as writer:
            if ids is not None:
                keys = list(writer.document_keys(ids).values())
            else:
                condition = as_sql(compile_filter(filter, writer))
                keys = writer.select_documents(condition.sql, condition.bindings, after=0, limit=-1)
            writer.remove(keys)
            result = DeleteResult(len(keys), writer.outcome)
        self._upkeep.written()
        return result

    def set_queries(self, queries: Sequence[str] | NDArray[np.float32]) -> None:
        """Keep queries, texts or vectors float32 (n, D), to measure the recall of the dense index on from now on.

        Of more than 1,000 so many are taken, evenly. Raises InvalidRequest where a text can't be encoded or a vector is
        of another dimension.
        """
        chosen = [
            queries[place] for place in np.linspace(0, len(queries) - 1, min(len(queries), MAX_QUERIES), dtype=int)
        ]
        texts: list[str | None] = [None if isinstance(query, np.ndarray) else query for query in chosen]
        if isinstance(queries, np.ndarray):
            if queries.shape[1:] != (self.settings.dimension,):
                dimension = self.settings.dimension
                raise InvalidRequest(f"queries of shape {queries.shape}, the collection has {dimension} dimensions")
            vectors = np.stack([scaled(query.astype(np.float32), self.settings) for query in chosen])
        elif (encoder := self.encoder) is None:
            raise InvalidRequest(
                "the collection has no encoder for texts", hint="give queries as a .npy file of vectors"
            )
        else:
            vectors = encoder.encode_queries([str(text) for text in texts]).vectors
        with self._store.writing() as writer:
            writer.set_queries(texts, vectors)

    # -- reading

    def get(self, id: str) -> Document:  # noqa: A002 - the field's name
        """One document. Raises UnknownDocument."""
        with self._store.reading() as reader:
            key = self._key(reader, id)
            return reader.documents([key])[key]

    def picture(self, id: str) -> tuple[bytes, str]:  # noqa: A002
        """The picture of a document and its media type; its thumbnail where it came from a file."""
        stored = self._picture(id)
        return (stored.thumbnail, "image/webp") if stored.picture is None else (stored.picture, stored.media_type)

    def thumbnail(self, id: str, size: int = 384) -> bytes:  # noqa: A002
        """A WebP thumbnail of at most `size` pixels a side. Raises UnknownDocument, InvalidRequest."""
        if size not in THUMBNAIL_SIZES:
            raise InvalidRequest(
                f"a thumbnail has {THUMBNAIL_SIZES.start} to {THUMBNAIL_SIZES.stop - 1} pixels a side, not {size}"
            )
        return thumbnail(open_picture(self._picture(id).thumbnail), size)

    def _picture(self, identifier: str) -> Picture:
        with self._store.reading() as reader:
            stored = reader.picture(self._key(reader, identifier))
        if stored is None:
            raise UnknownDocument(f"document {identifier!r} of {self.name} has no picture")
        return stored

    def _key(self, reader: Reader, identifier: str) -> int:
        keys = reader.document_keys([identifier])
        if not keys:
            raise UnknownDocument(f"no document {identifier!r} in {self.name}")
        return keys[identifier]

    def ids(self) -> Iterator[str]:
        """The ids of all documents in the order in which they were first put; each page is of its own generation."""
        after = 0
        while True:
            with self._store.reading() as reader:
                page = reader.ids(after=after, limit=IDS_PAGE)
            if not page:
                return
            after = page[-1][0]
            yield from (identifier for _, identifier in page)

    def count(self, filter: Filter | None = None) -> int:  # noqa: A002
        """Number of documents, or of those that a filter finds."""
        with self._store.reading() as reader:
            if not filter:
                return reader.count()[0]
            condition = as_sql(compile_filter(filter, reader))
            return reader.count_documents(condition.sql, condition.bindings)

    def scroll(self, cursor: str | None = None, limit: int = 100, filter: Filter | None = None) -> Page:  # noqa: A002
        """Documents in the order in which they were first put, page by page."""
        if not 1 <= limit <= 1000:
            raise InvalidRequest(f"limit is 1 to 1000, got {limit}")
        if cursor is not None and not (cursor.isascii() and cursor.isdigit() and len(cursor) < 19):
            raise InvalidRequest(f"not a cursor: {cursor!r}", hint="pass on the cursor of the page before")
        with self._store.reading() as reader:
            condition = as_sql(compile_filter(filter, reader))
            keys = reader.select_documents(condition.sql, condition.bindings, after=int(cursor or 0), limit=limit + 1)
            documents = reader.documents(keys[:limit])
        return Page([documents[key] for key in keys[:limit]], str(keys[limit - 1]) if len(keys) > limit else None)

    # -- searching

    def search(self, request: SearchRequest | str, **members: Any) -> SearchResult:  # noqa: ANN401 - SearchRequest's
        """One search: a text or a request, and members of SearchRequest. Raises what `search_many` returns."""
        [result] = self.search_many([SearchRequest.of(request, members)])
        if isinstance(result, PolyseekError):
            raise result
        return result

    def search_many(self, requests: Sequence[SearchRequest]) -> list[SearchResult | PolyseekError]:
        """Many searches on one generation, encoded together; one that can't be answered is answered by its error."""
        queries = encode_queries(self.queries(requests), lambda: self.encoder)
        return self.answer([self._awaited(query) if isinstance(query, Query) else query for query in queries])

    def queries(self, requests: Sequence[SearchRequest]) -> list[Query | PolyseekError]:
        """The first step of `search_many`, for who encodes by other means: each request checked, nothing encoded.

        What a query names by `text_to_encode` and `picture_to_encode` is to be added before it is answered.
        """
        return make_queries(requests, self.settings, reranks=self._reranker is not None)

    def answer(self, queries: Sequence[Query | PolyseekError]) -> list[SearchResult | PolyseekError]:
        """The last step of `search_many`: queries with their vectors answered on one generation, errors handed on."""
        settings = self.settings
        with storage_errors(self.folder):
            mended = self._upkeep.mended
            try:
                return self._answers(queries, settings)
            except DamagedIndex:
                # A derived file broke under an open view: it is rebuilt from the store, then asked again.
                self._upkeep.mend(mended)
                return self._answers(queries, settings)

    def _answers(
        self, queries: Sequence[Query | PolyseekError], settings: Settings
    ) -> list[SearchResult | PolyseekError]:
        answers = list(queries)
        with self._upkeep.at_newest() as (view, reader):
            for place, query in enumerate(answers):
                if isinstance(query, Query):
                    try:
                        complete(query, settings, view, reader)
                    except PolyseekError as error:
                        answers[place] = error
            searcher = Searcher(self.name, settings, view, reader, self._reranker)
            found = iter(searcher.search([query for query in answers if isinstance(query, Query)]))
            return [next(found) if isinstance(query, Query) else query for query in answers]

    def _awaited(self, query: Query) -> Query | PolyseekError:
        """The query once the generation that it asks for is there, or GenerationNotReached."""
        wanted, timeout = query.request.min_generation, query.request.timeout
        if wanted is None:
            return query
        deadline = time.monotonic() + timeout
        while (newest := self.generation) < wanted:
            if time.monotonic() > deadline:
                return GenerationNotReached(
                    f"generation {wanted} was not reached within {timeout:g} s; the newest is {newest}",
                    hint="pass on the generation that the write answered, or wait longer",
                )
            time.sleep(POLL_SECONDS)
        return query

    # -- care

    @property
    def troubles(self) -> list[str]:
        """What is amiss with its derived indices, a sentence for each; empty once that is mended.

        Searches are answered rightly meanwhile, by what there was before or by comparing every vector.
        """
        return self._upkeep.troubles

    def info(self) -> CollectionInfo:
        """What there is to know about it."""
        snapshots = self._upkeep.snapshots()
        index = snapshots.index
        with self._store.reading() as reader:
            settings = reader.settings()
            documents, units = reader.count()
            return CollectionInfo(
                name=self.name, generation=reader.generation, documents=documents, units=units,
                encoder=settings.encoder, fingerprint=settings.fingerprint, dimension=settings.dimension,
                similarity=settings.similarity, towers=settings.towers,
                kind="flat" if index is None else index.entry.kind, kind_asked=settings.kind,
                recall=1.0 if index is None else index.entry.recall, recall_asked=settings.recall,
                index=None if index is None else _index_info(index.entry),
                passages=settings.passages, language=settings.language, languages=reader.languages(),
                fields=reader.metadata_names(), tail=reader.count_units(after=snapshots.dense.watermark),
                gpu=self._upkeep.gpu_rows,
                bytes=folder_bytes(self.folder),
            )  # fmt: skip

    def vitals(self) -> Vitals:
        """What of `info` costs little: no index is opened for it, and nothing mended."""
        build = self._upkeep.current()
        index = None if build is None or build.index is None else IndexEntry.of(build.index)
        with self._store.reading() as reader:
            documents, units = reader.count()
            return Vitals(
                generation=reader.generation, documents=documents, units=units,
                tail=reader.count_units(after=0 if build is None else build.last),
                kind="flat" if index is None else index.kind, recall=1.0 if index is None else index.recall,
                bytes=folder_bytes(self.folder),
            )  # fmt: skip

    def verify(self) -> VerifyReport:
        """Check everything against everything: SQLite's own check, each unit's vector, the derived indices."""
        with self._store.reading() as reader:
            settings = reader.settings()
            documents, units = reader.count()
            problems = [*reader.integrity(), *reader.vector_problems(settings.dimension or 0)]
            if not problems:
                problems += self._upkeep.problems(reader)
        return VerifyReport(problems, {"documents": documents, "units": units})

    def settle(self) -> None:
        """Bring the derived indices fully up to date, and return when they are.

        Searches see every write at once without it: it makes them fast. An open collection does the same by itself
        behind them. Raises StorageFull, StorageFailed.
        """
        self._upkeep.settle()

    def optimize(self, *, kind: str | None = None, recall: float | None = None) -> None:
        """Rebuild the derived indices and return free space to the file system.

        kind, recall: of the dense index from now on, None for those asked for before. Raises InvalidRequest.
        """
        with self._store.writing() as writer:
            settings = writer.settings()
            asked = replace(settings, kind=kind or settings.kind, recall=settings.recall if recall is None else recall)
            check_index(asked.kind, asked.recall, asked.dimension)
            if asked != settings:
                writer.change_settings(asked)
        self._settings = None
        self._upkeep.rebuild()
        self._store.compact()

    def snapshot(self, path: Path | str) -> Manifest:
        """Write all of it to one file while writers go on; `Root.restore` reads it. Raises OutputError."""
        return take(self.folder, self._store, Path(path))

    def export(self, path: Path | str, *, vectors: bool = False) -> ExportSummary:
        """Write the documents as JSON Lines, or with their vectors as a folder. Raises OutputError."""
        return export(self._store, Path(path), vectors=vectors)


def _index_info(entry: IndexEntry) -> IndexInfo:
    size = sum(file.bytes for file in entry.files.values())
    return IndexInfo(entry.factory, entry.rows, dict(entry.parameter), entry.recall_of, size)
