"""The units and documents that hits showed last, so that none is read and decoded again and again.

Ten documents of 24 kB: 0.17 ms from SQLite's own cache of pages, and 0.25 ms to encode their texts for the answer anew;
kept, 0.01 and 0.05 ms.
"""

import sys
from collections.abc import Collection, Iterator, Sequence

from retriever.documents import Document
from retriever.reader import Reader
from retriever.recent import Recent
from retriever.records import StoredUnit

# Bytes of documents that an open collection keeps at most; units (500 bytes each) beside them.
DOCUMENT_BYTES = 16 << 20
UNITS = 4096
# What a document takes beside its strings.
_FRAME = 1_000


class Shown:
    """What one generation shows; immutable as far as anyone can see. Safe to use from several threads.

    Hits share these documents: nobody may change what is in their metadata and captions.
    """

    def __init__(self) -> None:
        self._units: Recent[int, StoredUnit] = Recent(UNITS, lambda _key, _unit: 1)
        self._documents: Recent[int, Document] = Recent(DOCUMENT_BYTES, lambda _, document: footprint(document))

    def get(self, keys: Sequence[int], reader: Reader) -> list[tuple[StoredUnit, Document]]:
        """These units with their documents, in their order. reader: of the generation, in which all of them live."""
        units = self._units.get_all(keys, reader.units)
        documents = self._documents.get_all({unit.document for unit in units.values()}, reader.documents)
        return [(units[key], documents[units[key].document]) for key in keys]

    def after(self, changed: Collection[int]) -> "Shown":
        """What a newer generation starts from, in which these documents were changed or are gone."""
        newer = Shown()
        # Units never change, and their keys are never given again.
        newer._units = self._units
        newer._documents = self._documents.without(changed)
        return newer


def footprint(document: Document) -> int:
    """About how many bytes a document takes, with what its strings come to hold once they were encoded as JSON."""
    return _FRAME + sum(sys.getsizeof(text) + (0 if text.isascii() else 3 * len(text)) for text in _strings(document))


def _strings(document: Document) -> Iterator[str]:
    yield from (document.id, document.title, document.text)
    for group in document.captions.values():
        yield from group
    for name, value in document.metadata.items():
        yield name
        yield from value if isinstance(value, tuple) else (value,) if isinstance(value, str) else ()
