"""Folders of pictures: a document a picture, with its captions from an optional file."""

import contextlib
import sqlite3
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

import orjson

from retriever.documents import Document
from retriever.errors import SourceError
from retriever.languages import UNDETERMINED
from retriever.pictures import SUFFIXES
from retriever.readers.base import BadLine, Lines, Reject, document_or_reject, walk
from retriever.readers.jsonl import first_file, json_records

CAPTIONS = ["captions.jsonl", "captions.tsv"]


def read_pictures(folder: Path, captions: Path | None = None) -> Iterator[Document | Reject]:
    """The pictures in a folder and below it, one Document or Reject each; the id is the path relative to the folder.

    captions: JSONL of objects with `image` (that id) and `captions` (language -> texts), whose other members are the
    document's; or TSV of image, caption and, optionally, language; by default captions.jsonl or captions.tsv in the
    folder, where it is there. Several lines of one image add up; one without its picture is a Reject.
    Raises SourceError where the folder or the captions file can't be read.
    """
    if not folder.is_dir():
        raise SourceError(f"{folder} is not a folder", hint="pictures are read by the folder: name the one it lies in")
    captions = captions or first_file(folder, CAPTIONS)
    with contextlib.closing(_Captions()) as known:
        if captions is not None:
            yield from known.load(captions, folder)
        for found in walk(folder, SUFFIXES):
            if isinstance(found, Reject):
                yield found
            else:
                record = known.of(found.name) | {"id": found.name, "image": found.name}
                yield document_or_reject(record, found.path, None, base=folder, modality="image")


class _Captions:
    """Captions by picture, in a temporary file of SQLite's: they may come in any order and be of any number."""

    def __init__(self) -> None:
        # Whoever takes the documents may take each in another thread.
        self._store = sqlite3.connect("", check_same_thread=False)
        self._store.execute("CREATE TABLE captions (line INTEGER PRIMARY KEY, image TEXT, record BLOB)")
        self._store.execute("CREATE INDEX by_image ON captions (image)")

    def close(self) -> None:
        self._store.close()

    def load(self, file: Path, folder: Path) -> Iterator[Reject]:
        """Keep the lines of a captions file; a Reject for each that names no picture or no captions."""
        for line, record in _tsv(file) if file.suffix.lower() == ".tsv" else json_records(file):
            if isinstance(record, Reject):
                yield record
            elif reason := _why_not_captions(record, folder):
                yield Reject(str(file), line, None, reason)
            else:
                values = (line, _posix(record["image"]), orjson.dumps(record))
                self._store.execute("INSERT INTO captions VALUES (?, ?, ?)", values)

    def of(self, image: str) -> dict[str, Any]:
        """The record of a picture: the captions of its lines one after the other, of other members the last."""
        merged: dict[str, Any] = {}
        captions: dict[str, list[str]] = {}
        rows = self._store.execute("SELECT record FROM captions WHERE image = ? ORDER BY line", (image,))
        for (encoded,) in rows.fetchall():
            record = orjson.loads(encoded)
            for language, texts in record.pop("captions").items():
                captions.setdefault(language, []).extend([texts] if isinstance(texts, str) else texts)
            merged |= record
        return merged | {"captions": captions}


def _posix(image: str) -> str:
    return Path(image).as_posix()


def _why_not_captions(record: Mapping[str, Any], folder: Path) -> str | None:
    image, captions = record.get("image"), record.get("captions")
    if not isinstance(image, str) or not image:
        return "it has no image that is a path"
    if not isinstance(captions, Mapping) or not all(_is_texts(texts) for texts in captions.values()):
        return "captions must map languages to a text or a list of texts"
    if "\0" in image or not (folder / image).is_file():
        return f"there is no picture {image!r} in {folder}"
    return None


def _is_texts(value: object) -> bool:
    return isinstance(value, str) or (isinstance(value, list) and all(isinstance(text, str) for text in value))


def _tsv(file: Path) -> Iterator[tuple[int, Mapping[str, Any] | Reject]]:
    """The lines image, caption and, optionally, language. Quotes stand for themselves."""
    with Lines(file) as lines:
        while True:
            try:
                line = next(lines)
                fields = line.decode("utf-8").rstrip("\r\n").split("\t")
            except StopIteration:
                return
            except BadLine as error:
                yield lines.number, Reject(str(file), lines.number, None, str(error))
                continue
            except UnicodeDecodeError as error:
                yield lines.number, Reject(str(file), lines.number, None, f"invalid UTF-8 at byte {error.start + 1}")
                continue
            if line.strip():
                yield lines.number, _caption(fields, file, lines.number)


def _caption(fields: list[str], file: Path, line: int) -> Mapping[str, Any] | Reject:
    if len(fields) not in {2, 3}:
        reason = f"a line has an image, a caption and, optionally, a language, this one has {len(fields)} fields"
        return Reject(str(file), line, None, reason)
    language = fields[2] if len(fields) == 3 and fields[2] else UNDETERMINED
    return {"image": fields[0], "captions": {language: [fields[1]]}}
