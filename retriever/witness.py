"""The newest generation of a store, remembered beside it, so that a lost one is noticed.

After a kill SQLite takes its write-ahead log up to the first frame that is damaged or cut off, and leaves out the rest
as if it had never been committed. A store that is older than what is remembered here has lost something. The file isn't
synced, which would double the cost of a write: after a kill it is exact; after a power cut it may know less than it
should, never more than is durable.
"""

import contextlib
import os
import struct
import zlib
from pathlib import Path

# Generation, CRC-32 of it.
RECORD = struct.Struct("<QI")


def witness_path(store: Path) -> Path:
    """Where the generation of the SQLite file `store` is remembered."""
    return store.with_name(f"{store.name}-generation")


def remembered(store: Path) -> int:
    """The newest generation known to have been committed, 0 where that isn't known."""
    try:
        generation, checksum = RECORD.unpack(witness_path(store).read_bytes())
    except (FileNotFoundError, struct.error):
        return 0
    return int(generation) if checksum == _checksum(generation) else 0


def remember(store: Path, generation: int) -> None:
    """Remember a generation that was committed just now."""
    # What is committed stays committed where this can't be written: then less is known of it.
    with contextlib.suppress(OSError):
        descriptor = os.open(witness_path(store), os.O_WRONLY | os.O_CREAT | os.O_CLOEXEC, 0o644)
        try:
            os.pwrite(descriptor, RECORD.pack(generation, _checksum(generation)), 0)
        finally:
            os.close(descriptor)


def _checksum(generation: int) -> int:
    return zlib.crc32(struct.pack("<Q", generation))
