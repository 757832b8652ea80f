"""Export: a collection's documents as JSON Lines that a build reads again, and its vectors as `.npy`.

Without vectors, FILE is JSON Lines. With them it is a folder:

    documents.jsonl   the documents
    vectors.npy       float32 (U, D): a row a unit, by document in the order of documents.jsonl
    units.jsonl       a line a row: the document's id, kind, language, start, end, ordinal

Where every document is one unit (ready-made vectors, or passages "none") that is the layout of ready-made vectors.
Pictures that came without a file are written to a folder beside the documents, which name them there.
"""

import contextlib
import gzip
import hashlib
import itertools
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, BinaryIO, cast

import numpy as np
import orjson
from numpy.typing import NDArray

from retriever.documents import Document
from retriever.errors import OutputError
from retriever.files import new_folder, replace_file, replacing, sync_file, sync_folder, written_for
from retriever.reader import Reader
from retriever.readers.jsonl import ENDINGS
from retriever.store import Store

# Documents in memory at a time, with their vectors.
PAGE = 1_000


@dataclass(slots=True)
class ExportSummary:
    """What an export wrote.

    vectors: a row a unit. pictures: written beside the documents. pictures_missing: those of a path that names no file
    from there.
    """

    generation: int
    documents: int = 0
    vectors: int = 0
    pictures: int = 0
    pictures_missing: int = 0


def export(store: Store, path: Path, *, vectors: bool) -> ExportSummary:
    """Write one generation to `path`, whole or not at all. Memory doesn't grow with the collection.

    A file that is there is replaced, a folder isn't. Raises OutputError.
    """
    if vectors and path.exists():
        raise OutputError(f"{path} exists already", hint="documents with vectors become a new folder: name another")
    if path.is_dir():
        raise OutputError(f"{path} is a folder", hint="name the file that the documents go to, or add --vectors")
    with written_for(path), store.reading() as reader:
        if not vectors:
            with replacing(path) as temporary:
                pictures = _Pictures(path.parent, f"{_stem(path.name)}.pictures")
                return _write_documents(reader, path.suffix, temporary, pictures)
        with new_folder(path) as aside:
            return _write_folder(reader, aside)


def _stem(name: str) -> str:
    return next((name.removesuffix(ending) for ending in ENDINGS if name.endswith(ending)), name)


def _write_documents(reader: Reader, suffix: str, target: Path, pictures: "_Pictures") -> ExportSummary:
    summary = ExportSummary(reader.generation)
    with _compressed(suffix, target) as out:
        for keys in _pages(reader):
            for key, document in _in_order(reader.documents(keys), keys):
                out.write(orjson.dumps(_record(reader, key, document, pictures), option=orjson.OPT_APPEND_NEWLINE))
                summary.documents += 1
    pictures.finish(summary)
    return summary


def _write_folder(reader: Reader, folder: Path) -> ExportSummary:
    documents = folder / "documents.jsonl"
    summary = _write_documents(reader, documents.suffix, documents, _Pictures(folder, "pictures"))
    sync_file(documents)
    summary.vectors = _write_vectors(reader, folder)
    return summary


def _write_vectors(reader: Reader, folder: Path) -> int:
    dimension = reader.settings().dimension or 0
    shape = (reader.count()[1], dimension)
    with (folder / "vectors.npy").open("wb") as rows, (folder / "units.jsonl").open("wb") as lines:
        np.lib.format.write_array_header_2_0(rows, {"descr": "<f4", "fortran_order": False, "shape": shape})
        for keys in _pages(reader):
            for unit, vector in _units(reader, keys, dimension):
                lines.write(orjson.dumps(unit, option=orjson.OPT_APPEND_NEWLINE))
                rows.write(vector.astype("<f4").tobytes())
    for name in ("vectors.npy", "units.jsonl"):
        sync_file(folder / name)
    return shape[0]


def _pages(reader: Reader) -> Iterator[list[int]]:
    """The keys of all documents, page by page."""
    after = 0
    while page := reader.ids(after=after, limit=PAGE):
        after = page[-1][0]
        yield [key for key, _ in page]


def _in_order(documents: dict[int, Document], keys: Sequence[int]) -> Iterator[tuple[int, Document]]:
    return ((key, documents[key]) for key in keys)


def _units(reader: Reader, keys: Sequence[int], dimension: int) -> Iterator[tuple[dict[str, Any], NDArray[np.float32]]]:
    """The units of these documents, each as its line and its vector (D,)."""
    ids = reader.document_ids(keys)
    units = list(itertools.chain.from_iterable(reader.units_of(keys).values()))
    vectors = reader.vectors(np.array([unit.key for unit in units], dtype=np.int64), dimension)
    for unit, vector in zip(units, vectors, strict=True):
        line = {
            "id": ids[unit.document], "kind": unit.kind, "language": unit.language, "start": unit.start,
            "end": unit.end, "ordinal": unit.ordinal,
        }  # fmt: skip
        yield line, vector


def _record(reader: Reader, key: int, document: Document, pictures: "_Pictures") -> dict[str, Any]:
    """The record that a build reads again: a language that was identified is left to be identified."""
    record = document.to_record()
    if document.identified:
        record.pop("language", None)
    if document.image is not None:
        pictures.note(document.image)
    elif document.has_picture:
        record["image"] = pictures.write(reader, key)
    return record


class _Pictures:
    """The pictures that have no file of their own, in a folder beside the documents, each named by its content.

    A name never gets another content, so that what an earlier export wrote there stays true for its documents.
    """

    def __init__(self, base: Path, name: str) -> None:
        self._base = base
        self._name = name
        self._written = 0
        self._missing = 0

    def note(self, image: str) -> None:
        """A picture that is a file: does its path, relative to the documents, name one?"""
        self._missing += not (self._base / image).is_file()

    def write(self, reader: Reader, document: int) -> str:
        """Write the picture of a document; its path relative to the documents."""
        stored = reader.picture(document)
        assert stored is not None
        content = stored.thumbnail if stored.picture is None else stored.picture
        ending = stored.media_type.removeprefix("image/") if stored.picture is not None else "webp"
        name = f"{self._name}/{hashlib.blake2b(content, digest_size=16).hexdigest()}.{ending}"
        if not (self._base / name).exists():
            (self._base / self._name).mkdir(exist_ok=True)
            replace_file(self._base / name, content)
        self._written += 1
        return name

    def finish(self, summary: ExportSummary) -> None:
        """Note what was written."""
        if self._written:
            sync_folder(self._base)
        summary.pictures, summary.pictures_missing = self._written, self._missing


@contextlib.contextmanager
def _compressed(suffix: str, target: Path) -> Iterator[BinaryIO]:
    """A new file at `target`, compressed as the suffix says, as the readers take it."""
    match suffix.lower():
        case ".gz":
            with gzip.open(target, "wb", compresslevel=6) as out:
                yield cast("BinaryIO", out)
        case ".zst":
            import pyarrow as pa

            with pa.CompressedOutputStream(pa.OSFile(str(target), "wb"), "zstd") as stream:
                yield stream
        case _:
            with target.open("wb") as file:
                yield file
