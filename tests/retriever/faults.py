"""Disks that fail, for tests: operations that are refused, power cuts that lose or tear what wasn't synced.

A `FaultyDisk` is a file layer of SQLite that stands below the checksums of a `Store`:

    with FaultyDisk() as disk:
        disk.fail(at=7)      # the seventh write or sync from now on is refused
        …                    # use a Store
        disk.log             # what it wrote and synced, from which `power_cut` makes what a disk may hold afterwards
"""

import random
from dataclasses import dataclass
from pathlib import Path

import apsw

from retriever.database import CHECKSUMS, register_checksums

NAME = "faulty"
SECTOR = 512


@dataclass(frozen=True, slots=True)
class Operation:
    """One operation on a file: "write" of `content` at `offset`, "truncate" to `offset`, "sync" or "delete"."""

    kind: str
    path: str
    offset: int = 0
    content: bytes = b""


class FaultyDisk(apsw.VFS):
    """Every operation that changes a file is logged, and refused where that was asked for."""

    def __init__(self):
        self._before = apsw.vfs_names()[0]
        super().__init__(NAME, base=self._before)
        self.log: list[Operation] = []
        self.count = 0
        self._refused = range(0)
        self._error = apsw.IOError

    def __enter__(self):
        register_checksums()
        self._stand_on(NAME)
        return self

    def __exit__(self, *_):
        self._stand_on(self._before)
        self.unregister()

    @staticmethod
    def _stand_on(layer):
        """The checksums stand on the layer that is the default when they are registered."""
        apsw.unregister_vfs(CHECKSUMS)
        apsw.set_default_vfs(layer)
        register_checksums()

    def fail(self, *, at, for_ever=False, error=apsw.IOError):
        """Refuse the operation `at`, counted from 1 and from now on, and with `for_ever` all that follow."""
        self.count = 0
        self._refused = range(at, 2**62 if for_ever else at + 1)
        self._error = error

    def heal(self):
        self._refused = range(0)

    @property
    def failed(self):
        return self.count >= self._refused.start > 0

    def xOpen(self, name, flags):  # noqa: N802 - SQLite's name
        return _FaultyFile(self, name, flags)

    def xDelete(self, filename, syncdir):  # noqa: N802
        self.change(Operation("delete", filename))
        super().xDelete(filename, syncdir)

    def change(self, operation):
        self.count += 1
        if self.count in self._refused:
            raise self._error(f"{operation.kind} {self.count} refused")
        self.log.append(operation)


class _FaultyFile(apsw.VFSFile):
    def __init__(self, disk, name, flags):
        self._disk = disk
        self._path = name.filename() if isinstance(name, apsw.URIFilename) else name
        super().__init__(disk._before, name, flags)

    def xWrite(self, data, offset):  # noqa: N802
        self._disk.change(Operation("write", self._path, offset, bytes(data)))
        super().xWrite(data, offset)

    def xTruncate(self, size):  # noqa: N802
        self._disk.change(Operation("truncate", self._path, size))
        super().xTruncate(size)

    def xSync(self, flags):  # noqa: N802
        self._disk.change(Operation("sync", self._path))
        super().xSync(flags)


def power_cut(log, rng, *, keep):
    """Path -> content that a disk may hold after the operations of `log`.

    What was synced is there; of what wasn't, each sector with the probability `keep`, each truncation likewise. What
    was deleted is gone: SQLite syncs the folder then.
    """
    files: dict[str, bytearray] = {}
    pending: dict[str, list[Operation]] = {}
    for operation in log:
        if operation.kind == "delete":
            files.pop(operation.path, None)
            pending.pop(operation.path, None)
            continue
        waiting = pending.setdefault(operation.path, [])
        if operation.kind != "sync":
            waiting.append(operation)
            continue
        for synced in waiting:
            _apply(files.setdefault(operation.path, bytearray()), synced)
        waiting.clear()
    for path, waiting in pending.items():
        for operation in waiting:
            for part in _parts(operation):
                if rng.random() < keep:
                    _apply(files.setdefault(path, bytearray()), part)
    return {path: bytes(content) for path, content in files.items()}


def _parts(operation):
    """A write in pieces that a disk writes whole or not at all."""
    if operation.kind != "write":
        yield operation
        return
    start = operation.offset
    end = start + len(operation.content)
    while start < end:
        stop = min(end, start - start % SECTOR + SECTOR)
        content = operation.content[start - operation.offset : stop - operation.offset]
        yield Operation("write", operation.path, start, content)
        start = stop


def _apply(content, operation):
    if operation.kind == "truncate":
        size = operation.offset
        del content[size:]
        content.extend(bytes(size - len(content)))
        return
    end = operation.offset + len(operation.content)
    content.extend(bytes(max(0, end - len(content))))
    content[operation.offset : end] = operation.content


def damaged(path: Path, offset: int, rng: random.Random, *, cut: bool) -> str:
    """Cut the file at an offset, or change the byte there; says what was done."""
    content = bytearray(path.read_bytes())
    if cut:
        path.write_bytes(content[:offset])
        return f"{path.name} cut at {offset} of {len(content)}"
    flip = 1 << rng.randrange(8)
    content[offset] ^= flip
    path.write_bytes(content)
    return f"{path.name} byte {offset} of {len(content)} ^ {flip}"
