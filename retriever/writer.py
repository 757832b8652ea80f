"""What one write transaction on a collection's SQLite file changes."""

from collections.abc import Mapping, Sequence

import apsw
import numpy as np
import orjson
from numpy.typing import NDArray

from retriever.documents import UNIT_KINDS, MetadataValue, Unit
from retriever.reader import Reader, int_array
from retriever.records import Picture, Put, Settings, encode_value, settings_json


class Writer(Reader):
    """One write transaction; what it changes belongs to the generation `next_generation`."""

    def __init__(self, connection: apsw.Connection) -> None:
        super().__init__(connection)
        self.next_generation = self.generation + 1
        self.changed = False

    def put(self, item: Put) -> None:
        """Write one document in place of the stored one of its id."""
        self.changed = True
        document = item.document
        row = (
            document.title, document.text, document.language, document.identified, document.modality, document.image,
            orjson.dumps(document.captions), orjson.dumps(document.metadata), item.digest,
        )  # fmt: skip
        sql = """INSERT INTO documents (
                id, title, text, language, identified, modality, image, captions, metadata, digest)
            VALUES (?, ?, ?, ?, ?, ?, ?, ?, ?, ?) ON CONFLICT (id) DO UPDATE SET title = excluded.title,
            text = excluded.text, language = excluded.language, identified = excluded.identified,
            modality = excluded.modality, image = excluded.image, captions = excluded.captions,
            metadata = excluded.metadata, digest = excluded.digest RETURNING key"""
        key = int(self._connection.execute(sql, (document.id, *row)).get)
        self._put_metadata(key, document.metadata)
        self._put_picture(key, item.picture)
        if item.units is not None:
            self._remove_units([key])
            for unit, vector in item.units:
                self._put_unit(key, unit, vector)

    def remove(self, documents: Sequence[int]) -> None:
        """Remove these documents with all that belongs to them."""
        if not documents:
            return
        self.changed = True
        self._remove_units(documents)
        for table, column in (("metadata", "document"), ("pictures", "document"), ("documents", "key")):
            sql = f"DELETE FROM {table} WHERE {column} IN carray(?)"  # noqa: S608 - names from the line above
            self._connection.execute(sql, (int_array(documents),))

    def change_settings(self, settings: Settings) -> None:
        """Replace the settings."""
        self.changed = True
        self._connection.execute("UPDATE state SET settings = ?", (settings_json(settings),))

    def forget_removals(self) -> None:
        """Empty the log of removed units; whoever is behind this generation reads all units anew."""
        self._connection.execute("DELETE FROM removals")
        self._connection.execute("UPDATE state SET removals_since = generation")

    @property
    def outcome(self) -> int:
        """The generation that is visible after the commit."""
        return self.next_generation if self.changed else self.generation

    def finish(self) -> None:
        """Count the generation if anything changed."""
        self._connection.execute("UPDATE state SET generation = ?", (self.outcome,))

    def _put_metadata(self, key: int, metadata: Mapping[str, MetadataValue]) -> None:
        self._connection.execute("DELETE FROM metadata WHERE document = ?", (key,))
        for name, value in metadata.items():
            for member in dict.fromkeys(value) if isinstance(value, tuple) else (value,):
                self._connection.execute("INSERT INTO metadata VALUES (?, ?, ?)", (name, encode_value(member), key))

    def _put_picture(self, key: int, picture: Picture | None) -> None:
        self._connection.execute("DELETE FROM pictures WHERE document = ?", (key,))
        if picture is not None:
            row = (key, picture.picture, picture.media_type, picture.thumbnail)
            self._connection.execute("INSERT INTO pictures VALUES (?, ?, ?, ?)", row)

    def _put_unit(self, document: int, unit: Unit, vector: NDArray[np.float32] | None) -> None:
        sql = """INSERT INTO units (document, kind, language, modality, start, end, ordinal, digest)
            VALUES (?, ?, ?, ?, ?, ?, ?, ?)"""
        row = (document, UNIT_KINDS.index(unit.kind), unit.language, unit.modality, unit.start, unit.end, unit.ordinal)
        self._connection.execute(sql, (*row, unit.digest))
        if vector is not None:
            key = self._connection.last_insert_rowid()
            self._connection.execute("INSERT INTO vectors VALUES (?, ?)", (key, vector.astype("<f4").tobytes()))

    def _remove_units(self, documents: Sequence[int]) -> None:
        keys = int_array(documents)
        self._connection.execute(
            "INSERT INTO removals SELECT ?, key FROM units WHERE document IN carray(?)", (self.next_generation, keys)
        )
        self._connection.execute(
            "DELETE FROM vectors WHERE unit IN (SELECT key FROM units WHERE document IN carray(?))", (keys,)
        )
        self._connection.execute("DELETE FROM units WHERE document IN carray(?)", (keys,))
