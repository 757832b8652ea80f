"""Snapshots: a collection in one file, taken while writers go on, and restored under any root and name.

A snapshot is an uncompressed tar, which any tar lists and unpacks:

    manifest.json        format, release, name, generation, documents; size and SHA-256 of every member, in their order
    collection.sqlite    the store at one generation
    dense/… lexical/…    the derived indices of the same generation or an older one, so that a restored collection
                         answers as the first one did, from approximate indices too, and at once
"""

import contextlib
import hashlib
import io
import os
import re
import tarfile
import tempfile
import time
from collections.abc import Iterator
from dataclasses import asdict, dataclass
from importlib.metadata import version
from pathlib import Path
from typing import Any, BinaryIO, Protocol

import orjson

from retriever.errors import CollectionExists, InvalidSnapshot, OutputError, PolyseekError, UnsupportedFormat
from retriever.files import locked, new_folder, replacing, sync_folder, written_for
from retriever.store import FILE_NAME, Store

FORMAT = 1
MANIFEST = "manifest.json"
# A manifest takes about 120 bytes a member; a lexical index has some hundred files at most.
MANIFEST_BYTES = 16 * 2**20
# Names as the indices give them; nothing that leaves the folder.
NAME = re.compile(r"\.?\w[\w.-]*(/\.?\w[\w.-]*)*", re.ASCII)
BUFFER = 2**20
SMALL = 2**12
UNKNOWN_SHA256 = "0" * 64


@dataclass(frozen=True, slots=True)
class Member:
    """One file of a snapshot: its path in the collection's folder, its size in bytes, its SHA-256 in hex."""

    name: str
    bytes: int
    sha256: str


@dataclass(frozen=True, slots=True)
class Manifest:
    """What a snapshot holds. name: of the collection that it was taken of."""

    polyseek: str
    name: str
    generation: int
    documents: int
    members: list[Member]

    @classmethod
    def from_json(cls, content: bytes) -> "Manifest":
        """The manifest as `json` wrote it. Raises InvalidSnapshot, UnsupportedFormat."""
        try:
            values = orjson.loads(content)
            format_, release = values.pop("polyseek_snapshot"), values["polyseek"]
            if format_ == FORMAT:
                manifest = cls(**{**values, "members": [Member(**member) for member in values["members"]]})
        except (ValueError, KeyError, TypeError, AttributeError) as error:
            raise InvalidSnapshot(f"the manifest can't be read: {error}", hint=_HINT) from None
        if format_ != FORMAT:
            raise UnsupportedFormat(
                f"the snapshot has format {format_}, this release reads format {FORMAT}",
                hint=f"restore it with polyseek {release}, which took it",
            )
        names = [member.name for member in manifest.members]
        if FILE_NAME not in names or len(set(names)) < len(names) or not all(map(NAME.fullmatch, names)):
            raise InvalidSnapshot("its members are not those of a collection", hint=_HINT)
        return manifest

    def json(self) -> bytes:
        """The manifest as it stands in the file."""
        return orjson.dumps({"polyseek_snapshot": FORMAT, **asdict(self)}, option=orjson.OPT_INDENT_2)


_HINT = "take another snapshot, or restore an older one"


class _Readable(Protocol):
    def read(self, size: int = -1, /) -> bytes: ...


@dataclass(frozen=True, slots=True)
class _Part:
    """A file, of which the first `bytes` go into the snapshot: what is appended meanwhile doesn't."""

    name: str
    file: BinaryIO
    bytes: int


def take(folder: Path, store: Store, path: Path) -> Manifest:
    """Write a snapshot of the collection in `folder` to `path`, whole or not at all; a file that is there is replaced.

    The derived indices are opened before the store is copied, so that the store is at least as new. Raises OutputError.
    """
    if path.is_dir():
        raise OutputError(f"{path} is a folder", hint="name the file that the snapshot becomes")
    with written_for(path), contextlib.ExitStack() as stack:
        # Beside the file that it becomes: the copy takes as much space as the snapshot itself.
        aside = stack.enter_context(tempfile.TemporaryDirectory(dir=path.absolute().parent, prefix=f".{path.name}."))
        parts = _opened(folder, stack)
        copy = Path(aside, FILE_NAME)
        store.backup(copy)
        generation, documents = _state(copy)
        parts.insert(0, _part(copy, FILE_NAME, stack))
        members = [Member(part.name, part.bytes, UNKNOWN_SHA256) for part in parts]
        manifest = Manifest(version("polyseek"), folder.name, generation, documents, members)
        with replacing(path) as temporary:
            return _write(temporary, manifest, parts)


def _opened(folder: Path, stack: contextlib.ExitStack) -> list[_Part]:
    """The files of the derived indices as of one moment.

    The keeper is kept out only while they are opened. What it does afterwards leaves them as they are: it appends to
    them, or writes new files and unlinks these. Small files are read at once: some are written over.
    """
    with locked(folder / "keeper.lock", wait=True):
        return [_part(path, path.relative_to(folder).as_posix(), stack) for path in _derived_files(folder)]


def _derived_files(folder: Path) -> Iterator[Path]:
    # Hidden folders are work that is under way, or was left.
    for top in (path for path in sorted(folder.iterdir()) if not path.name.startswith(".")):
        for path in (top, *sorted(top.rglob("*"))):
            if path.is_file() and not path.name.startswith(FILE_NAME) and path.suffix != ".lock":
                yield path


def _part(path: Path, name: str, stack: contextlib.ExitStack) -> _Part:
    file = stack.enter_context(path.open("rb", buffering=0))
    size = os.fstat(file.fileno()).st_size
    if size > SMALL:
        return _Part(name, file, size)
    content = file.read()
    return _Part(name, io.BytesIO(content), len(content))


def _state(copy: Path) -> tuple[int, int]:
    """Generation and number of documents of a store's copy."""
    store = Store.open(copy)
    with store.reading() as reader:
        state = reader.generation, reader.count()[0]
    store.close()
    return state


def _write(path: Path, manifest: Manifest, parts: list[_Part]) -> Manifest:
    """Write the parts behind a manifest whose checksums are filled in afterwards: each part is read once."""
    with tarfile.open(path, "w") as archive:
        placeholder = manifest.json()
        _add(archive, MANIFEST, io.BytesIO(placeholder), len(placeholder))
        members = []
        for part in parts:
            source = _Hashed(part.file)
            _add(archive, part.name, source, part.bytes)
            members.append(Member(part.name, part.bytes, source.sha256.hexdigest()))
    done = Manifest(manifest.polyseek, manifest.name, manifest.generation, manifest.documents, members)
    with tarfile.open(path, "r:") as archive:
        first = archive.next()
    assert first is not None
    with path.open("r+b") as file:
        file.seek(first.offset_data)
        file.write(done.json())
    return done


def _add(archive: tarfile.TarFile, name: str, source: Any, size: int) -> None:  # noqa: ANN401 - whatever reads
    entry = tarfile.TarInfo(name)
    entry.size, entry.mtime = size, int(time.time())
    archive.addfile(entry, source)


class _Hashed:
    """A file that is hashed as it is read."""

    def __init__(self, file: _Readable) -> None:
        self._file = file
        self.sha256 = hashlib.sha256()

    def read(self, size: int) -> bytes:
        """The next bytes."""
        content = self._file.read(size)
        self.sha256.update(content)
        return content


def restore(path: Path, folder: Path) -> Manifest:
    """Make the collection of a snapshot in `folder`. Nothing is left behind where it can't be.

    Raises CollectionExists, InvalidSnapshot (no snapshot, or damaged), UnsupportedFormat, OutputError.
    """
    with _read(path) as (archive, manifest):
        try:
            with written_for(folder), new_folder(folder) as aside:
                for member in manifest.members:
                    _extract(archive, member, aside)
                if archive.next() is not None:
                    raise InvalidSnapshot("there is more in it than its manifest names", hint=_HINT)
                _check_store(aside / FILE_NAME, manifest)
                for inner in (path for path in aside.rglob("*") if path.is_dir()):
                    sync_folder(inner)
        except PolyseekError as error:
            if isinstance(error.__cause__, FileExistsError):
                raise CollectionExists(
                    f"{folder} exists already", hint="choose another name, or drop it first"
                ) from None
            raise
    return manifest


@contextlib.contextmanager
def _read(path: Path) -> Iterator[tuple[tarfile.TarFile, Manifest]]:
    """The archive behind its manifest; what is wrong with it, in the block too, is said with the file's name."""
    try:
        with tarfile.open(path, "r:") as archive:
            yield archive, _manifest(archive)
    except (InvalidSnapshot, UnsupportedFormat) as error:
        raise type(error)(f"{path} can't be restored: {error}", hint=error.hint) from error
    except (tarfile.TarError, EOFError) as error:
        raise InvalidSnapshot(
            f"{path} is no snapshot: {error}", hint="name a file of `polyseek index snapshot`"
        ) from None
    except OSError as error:
        raise InvalidSnapshot(f"{path} can't be read: {error.strerror or error}", hint="check the path") from None


def _manifest(archive: tarfile.TarFile) -> Manifest:
    entry = archive.next()
    if entry is None or entry.name != MANIFEST or not entry.isreg() or entry.size > MANIFEST_BYTES:
        raise InvalidSnapshot(f"it doesn't begin with {MANIFEST}", hint="name a file of `polyseek index snapshot`")
    file = archive.extractfile(entry)
    assert file is not None
    return Manifest.from_json(file.read())


def _extract(archive: tarfile.TarFile, member: Member, folder: Path) -> None:
    """Write one member and check it. The names come from the checked manifest, never from the archive alone."""
    entry = archive.next()
    if entry is None or (entry.name, entry.size, entry.isreg()) != (member.name, member.bytes, True):
        raise InvalidSnapshot(f"{member.name} is missing, or isn't the {member.bytes:,} bytes that it was", hint=_HINT)
    file = archive.extractfile(entry)
    assert file is not None
    source = _Hashed(file)
    target = folder / member.name
    target.parent.mkdir(parents=True, exist_ok=True)
    with target.open("xb") as out:
        while content := source.read(BUFFER):
            out.write(content)
        out.flush()
        os.fsync(out.fileno())
    if source.sha256.hexdigest() != member.sha256:
        raise InvalidSnapshot(f"{member.name} is damaged: its checksum is another one", hint=_HINT)


def _check_store(copy: Path, manifest: Manifest) -> None:
    if (state := _state(copy)) != (manifest.generation, manifest.documents):
        raise InvalidSnapshot(
            f"{FILE_NAME} holds {state[1]:,} documents of generation {state[0]}, its manifest says "
            f"{manifest.documents:,} of {manifest.generation}",
            hint=_HINT,
        )
