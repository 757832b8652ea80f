"""Sources of a build: which layout a file or folder has, and the documents in it, as a stream.

A record that can't be used is a Reject and reading goes on; a source that can't be read at all raises SourceError.
"""

from collections import Counter
from collections.abc import Callable, Iterator
from pathlib import Path

from retriever.documents import Document
from retriever.errors import SourceError
from retriever.pictures import SUFFIXES as PICTURE_SUFFIXES
from retriever.readers import arrow, delimited, jsonl, picture_folders, python_source, texts, vectors
from retriever.readers.base import Found, Reject, walk

__all__ = ["FORMATS", "Reject", "detect", "read"]

Reader = Callable[[Path], Iterator[Document | Reject]]


def _read_table(path: Path) -> Iterator[Document | Reject]:
    return arrow.read_arrow(path) if path.suffix.lower() in arrow.SUFFIXES else delimited.read_delimited(path)


def _read_documented(source: Path) -> Iterator[Document | Reject]:
    return python_source.read_python(source, documented=True)


_READERS: dict[str, Reader] = {
    "jsonl": jsonl.read_jsonl,
    "beir": jsonl.read_beir,
    "table": _read_table,
    "text": texts.read_texts,
    "python": python_source.read_python,
    "python-documented": _read_documented,
    "pictures": picture_folders.read_pictures,
    "vectors": vectors.read_vectors,
}
FORMATS: tuple[str, ...] = tuple(_READERS)

_HINT = f"say which it is with --format {'|'.join(FORMATS)}"
_FILE_ENDINGS = {
    "jsonl": jsonl.ENDINGS,
    "table": (*arrow.SUFFIXES, *delimited.ENDINGS),
    "text": tuple(texts.SUFFIXES),
    "python": tuple(python_source.SUFFIXES),
}
_FOLDER_SUFFIXES = {"text": texts.SUFFIXES, "python": python_source.SUFFIXES, "pictures": PICTURE_SUFFIXES}


def read(
    source: Path,
    *,
    format: str | None = None,  # noqa: A002 - the flag's name
    captions: Path | None = None,
) -> Iterator[Document | Reject]:
    """The documents of a source as a stream, in an order that doesn't change, with a Reject for each bad record.

    format: one of FORMATS, None to detect it. captions: the captions file of a folder of pictures.
    Raises SourceError at once where the source isn't there or its format can't be told, and from the iterator where it
    can't be read.
    """
    name = format or detect(source)
    if name not in _READERS:
        raise SourceError(f"{name!r} is not a format of documents", hint=f"the formats are {', '.join(FORMATS)}")
    _check_there(source)
    if captions is None:
        return _READERS[name](source)
    if name != "pictures":
        raise SourceError(f"{captions} goes with pictures, {source} is read as {name}", hint="leave the captions out")
    return picture_folders.read_pictures(source, captions)


def detect(source: Path) -> str:
    """The format of a file by its ending, of a folder by what it holds.

    A folder of files is the format of at least nine tenths of its text, Python and picture files, so that a source tree
    may have its read-me and its icons. Raises SourceError where that tells nothing.
    """
    _check_there(source)
    return _folder_format(source) if source.is_dir() else _file_format(source)


def _check_there(source: Path) -> None:
    if not source.exists():
        raise SourceError(f"there is no file or folder {source}", hint="check the path")


def _file_format(path: Path) -> str:
    name = path.name.lower()
    for format_name, endings in _FILE_ENDINGS.items():
        if name.endswith(endings):
            return format_name
    raise SourceError(f"the ending of {path} names no format of documents", hint=_HINT)


def _folder_format(folder: Path) -> str:
    if (folder / vectors.VECTORS).is_file():
        return "vectors"
    if jsonl.beir_corpus(folder):
        return "beir"
    counts: Counter[str] = Counter()
    for found in walk(folder, frozenset().union(*_FOLDER_SUFFIXES.values())):
        if isinstance(found, Found):
            suffix = found.path.suffix.lower()
            counts[next(name for name, suffixes in _FOLDER_SUFFIXES.items() if suffix in suffixes)] += 1
    if not counts:
        raise SourceError(f"{folder} holds no text, Python or picture files", hint=_HINT)
    (format_name, largest), *_ = counts.most_common()
    if largest < 0.9 * counts.total():
        held = ", ".join(f"{name}: {count:,}" for name, count in counts.most_common())
        raise SourceError(f"{folder} holds files of several formats ({held})", hint=_HINT)
    return format_name
