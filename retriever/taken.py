"""What the lexical index of a collection has taken in of its store, noted in a small file beside it."""

import struct
from dataclasses import dataclass
from pathlib import Path

from crc32c import crc32c

from retriever.lexical import Stamp

_TAKEN = struct.Struct("<QIQQI")
# Instead of a stamp's checksum while an update is under way.
CHANGING = 0


@dataclass(frozen=True, slots=True)
class Taken:
    """stamp: of the commit that this is true of. generation: of the store. watermark: the largest key."""

    stamp: Stamp
    generation: int
    watermark: int

    @classmethod
    def read(cls, path: Path) -> "Taken | None":
        """What is noted, None where nothing readable is: then it is found out again, which costs time and no more."""
        try:
            *values, checksum = _TAKEN.unpack(path.read_bytes())
        except (FileNotFoundError, struct.error):
            return None
        commit, named, generation, watermark = values
        noted = cls(Stamp(commit, named), generation, watermark)
        return noted if checksum == crc32c(_TAKEN.pack(*values, 0)) else None

    def write(self, path: Path) -> None:
        """Note it, not durably: see `read`."""
        values = (*self.stamp, self.generation, self.watermark)
        path.write_bytes(_TAKEN.pack(*values, crc32c(_TAKEN.pack(*values, 0))))
