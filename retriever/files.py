"""Files that survive a power cut: replaced whole or not at all; and locks that don't survive their process."""

import contextlib
import ctypes
import errno
import fcntl
import os
import shutil
import stat
import tempfile
from collections.abc import Iterator
from pathlib import Path

from retriever.errors import OutputError, PolyseekError, StorageFailed, StorageFull


class DamagedIndex(Exception):
    """The files of a derived index don't fit together. Never shown: the keeper rebuilds it from the store."""


def in_root(path: Path) -> str:
    """A collection's file by its folder and name, which is as much of its place as clients are told."""
    return f"{path.parent.name}/{path.name}"


def sync_folder(folder: Path) -> None:
    """Make renames and new names in a folder durable."""
    descriptor = os.open(folder, os.O_RDONLY | os.O_DIRECTORY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)


def sync_file(path: Path) -> None:
    """Make a file's content durable."""
    with path.open("rb") as file:
        os.fsync(file.fileno())


def read_plain_file(path: Path) -> bytes | None:
    """The content of a file, None where there is none. A link isn't followed: it could lead anywhere.

    Raises StorageFailed.
    """
    try:
        # A pipe would be waited for.
        descriptor = os.open(path, os.O_RDONLY | os.O_CLOEXEC | os.O_NOFOLLOW | os.O_NONBLOCK)
    except FileNotFoundError:
        return None
    except OSError as error:
        reason = "it is a link" if error.errno == errno.ELOOP else error.strerror
        raise StorageFailed(f"{path.name} can't be read: {reason}", hint="check who may read it", path=path) from None
    try:
        if not stat.S_ISREG(os.fstat(descriptor).st_mode):
            raise StorageFailed(f"{path.name} can't be read: it is no file", hint="move it away", path=path)
        with open(descriptor, "rb", closefd=False) as file:
            return file.read()
    finally:
        os.close(descriptor)


def replace_file(path: Path, content: bytes) -> None:
    """Replace a file atomically and durably: readers see the old content or the new one, never less."""
    with replacing(path) as temporary:
        temporary.write_bytes(content)


@contextlib.contextmanager
def replacing(path: Path) -> Iterator[Path]:
    """Where to write a file that takes the place of `path`, atomically and durably, once the block ends."""
    temporary = path.with_name(f".{path.name}.{os.getpid()}.{os.urandom(4).hex()}")
    try:
        yield temporary
        sync_file(temporary)
        temporary.replace(path)
    except BaseException:
        temporary.unlink(missing_ok=True)
        raise
    sync_folder(path.parent)


@contextlib.contextmanager
def new_folder(folder: Path) -> Iterator[Path]:
    """Where to make a folder that gets its name once the block ends: a kill leaves no half of it behind under the name.

    What is in it is the block's to sync. Raises FileExistsError where the name is taken, also meanwhile.
    """
    if os.path.lexists(folder):
        raise FileExistsError(errno.EEXIST, "it exists already", str(folder))
    aside = folder.with_name(f".{folder.name.lstrip('.')}.{os.urandom(4).hex()}")
    aside.mkdir()
    try:
        yield aside
        sync_folder(aside)
        aside.rename(folder)
    except BaseException as error:
        shutil.rmtree(aside)
        if isinstance(error, OSError) and folder.exists():
            raise FileExistsError(errno.EEXIST, "it exists already", str(folder)) from None
        raise
    sync_folder(folder.parent)


def folder_bytes(folder: Path) -> int:
    """The size of all files below a folder; those that go meanwhile don't count."""
    total = 0
    for parent, _, names in os.walk(folder):
        for name in names:
            with contextlib.suppress(FileNotFoundError):
                total += Path(parent, name).lstat().st_size
    return total


def discard(folder: Path) -> None:
    """Remove a folder, or nothing where there is none. It is gone at once, and no half of it is left under its name."""
    aside = folder.with_name(f".{folder.name.lstrip('.')}.{os.urandom(4).hex()}")
    try:
        folder.rename(aside)
    except FileNotFoundError:
        return
    sync_folder(folder.parent)
    shutil.rmtree(aside)


# Of renameat2, which Python's library doesn't have.
_AT_FDCWD = -100
_RENAME_EXCHANGE = 2


def exchange(one: Path, other: Path) -> None:
    """Have two folders of one file system exchange their names, in one step and durably. Linux only.

    Raises PolyseekError where the system or the file system can't.
    """
    try:
        renameat2 = ctypes.CDLL(None, use_errno=True).renameat2
    except AttributeError:
        code = errno.ENOSYS
    else:
        failed = renameat2(_AT_FDCWD, os.fsencode(one), _AT_FDCWD, os.fsencode(other), _RENAME_EXCHANGE)
        code = ctypes.get_errno() if failed else 0
    if code in (errno.ENOSYS, errno.EINVAL):
        raise PolyseekError(
            f"the file system of {one.parent} can't exchange two names in one step",
            hint="keep the collections on ext4, XFS, Btrfs or tmpfs; or build under another name and move an alias",
        )
    if code:
        raise OSError(code, os.strerror(code), str(one), None, str(other))
    sync_folder(one.parent)
    if other.parent != one.parent:
        sync_folder(other.parent)


def check_exchange(folder: Path) -> None:
    """Try `exchange` in a folder, for whoever needs it at the end of long work. Raises PolyseekError."""
    with tempfile.TemporaryDirectory(dir=folder, prefix=".exchange.") as name:
        one, other = Path(name, "one"), Path(name, "other")
        one.mkdir()
        other.mkdir()
        exchange(one, other)


@contextlib.contextmanager
def written_for(path: Path) -> Iterator[None]:
    """The operating system's errors in writing what a user asked for at `path`, as OutputError."""
    try:
        yield
    except OSError as error:
        raise OutputError(
            f"{path} can't be written: {error.strerror or error}",
            hint="check the path, who may write there, and how much space is left",
        ) from error


@contextlib.contextmanager
def storage_errors(folder: Path) -> Iterator[None]:
    """What goes wrong with the files of the derived indices in a collection's folder, as StorageFailed, StorageFull."""
    try:
        yield
    except OSError as error:
        if error.errno in (errno.ENOSPC, errno.EDQUOT):
            raise StorageFull(
                f"no space left for the derived indices of {folder.name}; what was written before stays stored",
                hint=f"free space, then run: polyseek index optimize {folder.name}",
                path=folder,
            ) from error
        raise StorageFailed(
            f"a file of {folder.name} can't be read or written: {error.strerror or error}",
            hint="check the disk, the system's log, and how many files may be open; then run it again",
            path=Path(error.filename or folder),
        ) from error
    except DamagedIndex as error:
        reason = str(error).replace(f"{folder}/", "")
        raise StorageFailed(
            f"a derived index of {folder.name} can't be used, or not be made again: {reason}",
            hint="run it again: what is damaged is made anew from what is stored; else check the disk",
            path=folder,
        ) from error


@contextlib.contextmanager
def locked(path: Path, *, wait: bool) -> Iterator[bool]:
    """Hold a lock file for the block; yields whether it is held, always true with `wait`.

    The kernel frees it when the process ends, in whatever way.
    """
    descriptor = os.open(path, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o644)
    try:
        try:
            fcntl.flock(descriptor, fcntl.LOCK_EX | (0 if wait else fcntl.LOCK_NB))
        except BlockingIOError:
            yield False
            return
        os.ftruncate(descriptor, 0)
        os.write(descriptor, str(os.getpid()).encode())
        yield True
    finally:
        os.close(descriptor)
