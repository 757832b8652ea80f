"""The BM25 index of a collection: a tantivy folder, derived from the store and replaceable at any time.

tantivy is given what `analysis` made of a text, with spaces between. A unit's key is never used twice.
"""

import errno
import shutil
import struct
import zlib
from collections.abc import Callable, Iterable, Sequence
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, NamedTuple

import numpy as np
import orjson
from crc32c import crc32c

from retriever import analysis
from retriever.bm25 import KEY, TERMS, LexicalSnapshot, damage, schema
from retriever.files import DamagedIndex, sync_folder

if TYPE_CHECKING:
    import tantivy

# What the writer gathers before it starts a new segment, in bytes (tantivy's least is 15,000,000).
_HEAP = 50_000_000
# Files beside those of the segments: what there is, and locks.
_OWN = (".json", ".lock")
# What ends each of tantivy's files.
_MAGIC = 1337


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

        with damage(folder):
            fields = [field["name"] for field in orjson.loads((folder / "meta.json").read_bytes())["schema"]]
            if fields != [TERMS, KEY]:
                raise DamagedIndex(f"{folder} holds the fields {', '.join(fields)}, not {TERMS}, {KEY}")
            return cls(folder, _ready(tantivy.Index.open(str(folder))))

    @classmethod
    def create(cls, folder: Path) -> "LexicalIndex":
        """An empty index in `folder`, in the place of whatever is there."""
        import tantivy

        with suppress(FileNotFoundError):
            shutil.rmtree(folder)
        folder.mkdir(parents=True)
        with damage(folder):
            index = _ready(tantivy.Index(schema(), path=str(folder), reuse=False))
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
        with damage(self._folder):
            content = self._committed()
            return Stamp(int(orjson.loads(content)["opstamp"]), int(crc32c(content)))

    def snapshot(self, watermark: int | None = None) -> "LexicalSnapshot":
        """The index at its newest commit, by whichever process; it stays so. Raises DamagedIndex.

        watermark: the snapshot's, where it is known: finding it takes a look at every unit.
        """
        with damage(self._folder):
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
        with damage(self._folder):
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


def in_memory(units: Sequence[LexicalUnit]) -> LexicalSnapshot:
    """A snapshot of these units alone, without a folder: the tail of a process that is behind."""
    import tantivy

    index = _ready(tantivy.Index(schema()))
    _write(index, "the index in memory", units, ())
    index.reload()
    return LexicalSnapshot(index, "the index in memory")


def _ready(index: "tantivy.Index") -> "tantivy.Index":
    import tantivy

    spaces = tantivy.TextAnalyzerBuilder(tantivy.Tokenizer.whitespace()).build()
    index.register_tokenizer(TERMS, spaces)
    index.config_reader("Manual")  # else a thread watches the folder
    return index


def _write(index: "tantivy.Index", name: str, add: Iterable[LexicalUnit], remove: Iterable[int]) -> None:
    writer = _writer(index, name)
    try:
        for key in remove:
            with damage(name):
                writer.delete_documents_by_term(KEY, int(key))  # numpy integers too
        for unit in add:
            document = _document(unit)
            with damage(name):
                writer.add_document(document)
        with damage(name):
            writer.commit()
    finally:
        # Gives the lock back, and what was not committed up. A writer dropped without it would throw merges away.
        with damage(name):
            writer.wait_merging_threads()


def _writer(index: "tantivy.Index", name: str) -> "tantivy.IndexWriter":
    with damage(name):
        try:
            return index.writer(heap_size=_HEAP, num_threads=1)
        except ValueError as error:
            if "LockBusy" in str(error):
                raise BlockingIOError(errno.EBUSY, "another writer is open", name) from error
            raise


def _document(unit: LexicalUnit) -> "tantivy.Document":
    import tantivy

    document = tantivy.Document()
    document.add_integer(KEY, unit.key)
    document.add_text(TERMS, analysis.joined_terms(unit.text, unit.language))
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
