"""The operating system's calls, refused one after the other: what Python code meets when a disk is full or bad.

    with Refusals(folder) as refusals:
        refusals.arm(at=3, code=errno.ENOSPC)    # the third call from now on that concerns a file below `folder`
        …
        refusals.reached                         # whether there was a third one

Calls of native libraries (SQLite, tantivy, FAISS) don't come by here.
"""

import builtins
import io
import os
from pathlib import Path
from unittest.mock import patch

CALLS = ("open", "fsync", "write", "ftruncate", "replace", "rename", "unlink", "rmdir", "mkdir")


class Refusals:
    """spared: files whose names begin so are left alone."""

    def __init__(self, folder, spared=("collection.sqlite",)):
        self.folder = folder.resolve()
        self.spared = spared
        self.count = 0
        self.what = None
        self._at = None
        self._for_ever = False
        self._code = 0

    def arm(self, *, at, code, for_ever=False):
        """Refuse the call `at`, counted from 1 and from now on, with this errno; `for_ever`: and all that follow."""
        self.count, self.what, self._at, self._code, self._for_ever = 0, None, at, code, for_ever

    def disarm(self):
        self._at = None

    @property
    def reached(self):
        return self.what is not None

    def passes(self, call, path):
        """Count a call that concerns a file below the folder; raises the error where it is its turn."""
        path = Path(path).absolute()
        if self._at is None or not path.is_relative_to(self.folder) or path.name.startswith(self.spared):
            return
        self.count += 1
        if self.count == self._at or (self._for_ever and self.count > self._at):
            self.what = self.what or f"{call} {path.relative_to(self.folder)}"
            raise OSError(self._code, os.strerror(self._code), str(path))

    def __enter__(self):
        self._patches = [patch.object(os, name, self._refusing(getattr(os, name))) for name in CALLS]
        self._patches += [patch.object(module, "open", self._opening(open)) for module in (io, builtins)]
        for one in self._patches:
            one.start()
        return self

    def __exit__(self, *_):
        for one in self._patches:
            one.stop()

    def _refusing(self, real):
        def call(target, *args, dir_fd=None, **members):
            self.passes(real.__name__, _path(target, dir_fd))
            if dir_fd is not None:
                members["dir_fd"] = dir_fd
            return real(target, *args, **members)

        return call

    def _opening(self, real):
        def call(target, mode="r", *args, **members):
            path = _path(target, None)
            self.passes(f"open({mode})", path)
            file = real(target, mode, *args, **members)
            return file if set(mode).isdisjoint("wax+") else _Written(self, file, path)

        return call


class _Written:
    """A file opened for writing, whose writes are counted too."""

    def __init__(self, refusals, file, path):
        self._refusals, self._file, self._path = refusals, file, path

    def __enter__(self):
        return self

    def __exit__(self, *_):
        self._file.close()

    def __getattr__(self, name):
        return getattr(self._file, name)

    def write(self, content):
        self._refusals.passes("write", self._path)
        return self._file.write(content)

    def truncate(self, size=None):
        self._refusals.passes("truncate", self._path)
        return self._file.truncate(size)


def _path(target, dir_fd):
    if isinstance(target, int):
        return Path(f"/proc/self/fd/{target}").readlink()
    return Path(target) if dir_fd is None else Path(f"/proc/self/fd/{dir_fd}").readlink() / target
