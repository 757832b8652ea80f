"""What one write transaction on a collection's SQLite file changes."""

import itertools
from collections.abc import Iterator, Sequence
from typing import Any

import apsw
import numpy as np
import orjson
from numpy.typing import NDArray

from retriever.documents import UNIT_KINDS
from retriever.reader import Reader, int_array
from retriever.records import Put, Settings, encode_value, settings_json

# What recall is measured on; more would only make that slower.
MAX_QUERIES = 1000
# A document to write and its key, given or found.
_Keyed = tuple[int, Put]


class Writer(Reader):
    """One write transaction; what it changes belongs to the generation `next_generation`."""

    def __init__(self, connection: apsw.Connection) -> None:
        super().__init__(connection)
        self.next_generation = self.generation + 1
        self.wrote = False

    def put(self, items: Sequence[Put]) -> None:
        """Write documents, each in place of the stored one that it names; new ones have ids that aren't stored."""
        if not items:
            return
        self.wrote = True
        # Keys are given here, above all that were ever given, so that each table takes the rows of a batch in one go.
        fresh = self._unused_keys("documents")
        keyed = [(next(fresh) if item.key is None else item.key, item) for item in items]
        self._replace([(key, item) for key, item in keyed if item.key is not None])
        self._connection.executemany(
            "INSERT INTO documents VALUES (?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?)",
            ((key, item.document.id, *_columns(item)) for key, item in keyed if item.key is None),
        )
        self._connection.executemany("INSERT INTO metadata VALUES (?, ?, ?)", _metadata_rows(keyed))
        self._connection.executemany("INSERT INTO pictures VALUES (?, ?, ?, ?)", _picture_rows(keyed))
        self._put_units(keyed)

    def remove(self, documents: Sequence[int]) -> None:
        """Remove these documents with all that belongs to them."""
        if not documents:
            return
        self.wrote = True
        self._remove_units(documents)
        self._remove_from(("metadata", "pictures", "changes"), documents)
        self._connection.execute("DELETE FROM documents WHERE key IN carray(?)", (int_array(documents),))

    def change_settings(self, settings: Settings) -> None:
        """Replace the settings."""
        self.wrote = True
        self._connection.execute("UPDATE state SET settings = ?", (settings_json(settings),))

    def forget_removals(self, generation: int) -> None:
        """Shorten the log of removed units and changed documents to what came after a generation; whoever is further
        behind reads all anew.
        """
        for table in ("removals", "changes"):
            self._connection.execute(f"DELETE FROM {table} WHERE generation <= ?", (generation,))  # noqa: S608 - ours
        self._connection.execute("UPDATE state SET removals_since = max(removals_since, ?)", (generation,))

    def continue_after(self, generation: int) -> None:
        """Have this write's generation be above another collection's, whose place this one takes."""
        self.wrote = True
        self.next_generation = max(self.next_generation, generation + 1)

    def set_queries(self, texts: Sequence[str | None], vectors: NDArray[np.float32]) -> None:
        """Replace the evaluation queries; no new generation. texts: None where only the vector is known.

        vectors: float32, shape (n, d). Raises ValueError where there are more than 1,000.
        """
        if len(texts) > MAX_QUERIES:
            raise ValueError(f"{len(texts)} queries, at most {MAX_QUERIES} are kept")
        rows = zip(itertools.count(), texts, vectors.astype("<f4", copy=False), strict=False)
        self._connection.execute("DELETE FROM queries")
        self._connection.executemany(
            "INSERT INTO queries VALUES (?, ?, ?)", ((number, text, vector.tobytes()) for number, text, vector in rows)
        )

    @property
    def outcome(self) -> int:
        """The generation that is visible after the commit."""
        return self.next_generation if self.wrote else self.generation

    def finish(self) -> None:
        """Count the generation if anything changed."""
        if self.wrote:
            self._connection.execute("UPDATE state SET generation = ?", (self.outcome,))

    def _unused_keys(self, table: str) -> Iterator[int]:
        """Keys that no row of the table ever had, ascending."""
        last = self._connection.execute("SELECT seq FROM sqlite_sequence WHERE name = ?", (table,)).get
        return itertools.count((last or 0) + 1)

    def _replace(self, keyed: Sequence[_Keyed]) -> None:
        """Write these documents over the stored ones, and remove what else there is of those and isn't kept."""
        if not keyed:
            return
        self._connection.executemany(
            """UPDATE documents SET title = ?, text = ?, language = ?, identified = ?, modality = ?, image = ?,
            captions = ?, metadata = ?, digest = ? WHERE key = ?""",
            ((*_columns(item), key) for key, item in keyed),
        )
        self._remove_from(("metadata", "pictures"), [key for key, _ in keyed])
        self._remove_units([key for key, item in keyed if item.units is not None])
        self._connection.executemany(
            "INSERT OR REPLACE INTO changes VALUES (?, ?)",
            ((key, self.next_generation) for key, item in keyed if item.units is None),
        )

    def _put_units(self, keyed: Sequence[_Keyed]) -> None:
        units = [(key, unit, vector) for key, item in keyed for unit, vector in item.units or ()]
        first = next(self._unused_keys("units"))
        self._connection.executemany(
            "INSERT INTO units VALUES (?, ?, ?, ?, ?, ?, ?, ?, ?)",
            (
                (key, document, UNIT_KINDS.index(unit.kind), unit.language, unit.modality, unit.start, unit.end,
                 unit.ordinal, unit.digest)
                for key, (document, unit, _) in enumerate(units, first)
            ),
        )  # fmt: skip
        self._connection.executemany(
            "INSERT INTO vectors VALUES (?, ?)",
            ((key, vector.astype("<f4", copy=False)) for key, (_, _, vector) in enumerate(units, first)),
        )

    def _remove_from(self, tables: Sequence[str], documents: Sequence[int]) -> None:
        for table in tables:
            sql = f"DELETE FROM {table} WHERE document IN carray(?)"  # noqa: S608 - names from this file
            self._connection.execute(sql, (int_array(documents),))

    def _remove_units(self, documents: Sequence[int]) -> None:
        keys = int_array(documents)
        self._connection.execute(
            "INSERT INTO removals SELECT ?, key FROM units WHERE document IN carray(?)", (self.next_generation, keys)
        )
        self._connection.execute(
            "DELETE FROM vectors WHERE unit IN (SELECT key FROM units WHERE document IN carray(?))", (keys,)
        )
        self._connection.execute("DELETE FROM units WHERE document IN carray(?)", (keys,))


def _columns(item: Put) -> tuple[Any, ...]:
    """What the `documents` table holds beside key and id."""
    document = item.document
    return (
        document.title, document.text, document.language, document.identified, document.modality, document.image,
        orjson.dumps(document.captions), orjson.dumps(document.metadata), item.digest,
    )  # fmt: skip


def _metadata_rows(keyed: Sequence[_Keyed]) -> Iterator[tuple[Any, ...]]:
    for key, item in keyed:
        for name, value in item.document.metadata.items():
            for member in dict.fromkeys(value) if isinstance(value, tuple) else (value,):
                yield name, encode_value(member), key


def _picture_rows(keyed: Sequence[_Keyed]) -> Iterator[tuple[Any, ...]]:
    for key, item in keyed:
        if item.picture is not None:
            yield key, item.picture.picture, item.picture.media_type, item.picture.thumbnail
