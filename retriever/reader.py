"""What one read transaction on a collection's SQLite file answers."""

import itertools
from collections.abc import Iterator, Sequence
from typing import Any, NamedTuple

import apsw
import numpy as np
import orjson
from numpy.typing import NDArray

from retriever.documents import UNIT_KINDS, Document
from retriever.errors import CorruptCollection
from retriever.files import DamagedIndex
from retriever.records import Picture, Settings, StoredDocument, StoredUnit, passage_content

BATCH = 10_000
# What `_unit` and `_document` take, of the tables `units AS u`, `documents AS d` and `pictures`.
_UNIT = "u.key, u.document, u.kind, u.language, u.modality, u.start, u.end, u.ordinal, u.digest"
_DOCUMENT = (
    "d.id, d.title, d.text, d.language, d.identified, d.modality, d.image, d.captions, d.metadata, "
    "pictures.document IS NOT NULL"
)


class UnitRows(NamedTuple):
    """Units in the order of their keys: keys, documents int64 (N,), kinds uint8 (N,), vectors float32 (N, D)."""

    keys: NDArray[np.int64]
    documents: NDArray[np.int64]
    kinds: NDArray[np.uint8]
    vectors: NDArray[np.float32]

    @classmethod
    def none(cls, dimension: int) -> "UnitRows":
        """No units."""
        keys = np.empty(0, dtype=np.int64)
        return cls(keys, keys, np.empty(0, dtype=np.uint8), np.empty((0, dimension), dtype=np.float32))

    @classmethod
    def joined(cls, parts: Sequence["UnitRows"]) -> "UnitRows":
        """Some after the others."""
        return cls(
            np.concatenate([part.keys for part in parts]),
            np.concatenate([part.documents for part in parts]),
            np.concatenate([part.kinds for part in parts]),
            np.concatenate([part.vectors for part in parts]),
        )


class UnitTable(NamedTuple):
    """Units in the order of their keys: keys, documents int64 (N,), kinds uint8 (N,)."""

    keys: NDArray[np.int64]
    documents: NDArray[np.int64]
    kinds: NDArray[np.uint8]


class Reader:
    """One read transaction: everything it answers belongs to one generation."""

    def __init__(self, connection: apsw.Connection) -> None:
        self._connection = connection
        row = connection.execute("SELECT generation, removals_since FROM state").get
        self.generation, self.removals_since = int(row[0]), int(row[1])

    def settings(self) -> Settings:
        """The collection's settings."""
        return Settings.from_json(self._connection.execute("SELECT settings FROM state").get)

    def count(self) -> tuple[int, int]:
        """Number of documents and of units."""
        documents, units = self._connection.execute(
            "SELECT (SELECT count(*) FROM documents), (SELECT count(*) FROM units)"
        ).get
        return int(documents), int(units)

    def count_units(self, *, after: int) -> int:
        """Number of units with a key above `after`."""
        return int(self._connection.execute("SELECT count(*) FROM units WHERE key > ?", (after,)).get)

    def last_unit(self) -> int:
        """The largest unit key ever given, 0 before the first."""
        return int(self._connection.execute("SELECT max(seq) FROM sqlite_sequence WHERE name = 'units'").get or 0)

    def languages(self) -> dict[str, int]:
        """Number of units by language, most frequent first."""
        return dict(
            self._connection.execute(
                "SELECT language, count(*) AS n FROM units GROUP BY language ORDER BY n DESC, language"
            )
        )

    def language_names(self) -> list[str]:
        """Every language in use, by a walk that skips from one to the next along the index."""
        sql = """WITH RECURSIVE names(name) AS (
            SELECT min(language) FROM units
            UNION ALL SELECT (SELECT min(language) FROM units WHERE language > names.name) FROM names
            WHERE names.name IS NOT NULL) SELECT name FROM names WHERE name IS NOT NULL"""
        return [name for (name,) in self._connection.execute(sql)]

    def metadata_names(self) -> list[str]:
        """Every metadata name in use, by a walk that skips from name to name along the index."""
        sql = """WITH RECURSIVE names(name) AS (
            SELECT min(name) FROM metadata
            UNION ALL SELECT (SELECT min(name) FROM metadata WHERE metadata.name > names.name) FROM names
            WHERE names.name IS NOT NULL) SELECT name FROM names WHERE name IS NOT NULL"""
        return [name for (name,) in self._connection.execute(sql)]

    def unit_batches(self, dimension: int, *, after: int = 0) -> Iterator[UnitRows]:
        """The units with a key above `after` that have a vector, in batches, keys ascending."""
        sql = """SELECT unit, document, kind, vector FROM vectors JOIN units ON units.key = unit
            WHERE unit > ? ORDER BY unit"""
        rows = self._connection.execute(sql, (after,))
        while batch := list(itertools.islice(rows, BATCH)):
            keys, documents, kinds, vectors = zip(*batch, strict=True)
            if len(vectors[0]) != 4 * dimension:
                # The first vectors of a collection came in just now, which had no dimension before.
                raise DamagedIndex(f"there are vectors of {len(vectors[0]) // 4} dimensions, not {dimension}")
            yield UnitRows(
                np.array(keys, dtype=np.int64),
                np.array(documents, dtype=np.int64),
                np.array(kinds, dtype=np.uint8),
                np.frombuffer(b"".join(vectors), dtype="<f4").reshape(len(batch), dimension),
            )

    def unit_rows(self, dimension: int, *, after: int) -> UnitRows:
        """The same as one batch."""
        return UnitRows.joined([UnitRows.none(dimension), *self.unit_batches(dimension, after=after)])

    def removed(self, since: int) -> NDArray[np.int64] | None:
        """Keys of the units removed after generation `since`; None where the log doesn't reach so far back."""
        if since < self.removals_since:
            return None
        return self._integers("SELECT unit FROM removals WHERE generation > ?", (since,))

    def changed(self, since: int) -> NDArray[np.int64] | None:
        """Keys of the documents changed after generation `since` that kept their units; None as `removed`."""
        if since < self.removals_since:
            return None
        return self._integers("SELECT document FROM changes WHERE generation > ?", (since,))

    def unit_keys(self) -> NDArray[np.int64]:
        """Keys of all units, ascending."""
        return np.sort(self._integers("SELECT key FROM units", ()))

    def units_in(self, documents: NDArray[np.int64]) -> UnitTable:
        """The units of these documents."""
        sql = "SELECT key, document, kind FROM units WHERE document IN carray(?) ORDER BY key"
        rows = list(self._connection.execute(sql, (int_array(documents),)))
        keys, owners, kinds = zip(*rows, strict=True) if rows else ((), (), ())
        return UnitTable(np.array(keys, np.int64), np.array(owners, np.int64), np.array(kinds, np.uint8))

    def units_where(
        self, test: str, values: Sequence[Any], *, among: NDArray[np.int64] | None = None
    ) -> NDArray[np.int64]:
        """Keys of the units for which a test over `language` and `modality` holds, in any order.

        among: only units of these documents; None for all.
        """
        if among is None:
            return self._integers(f"SELECT key FROM units WHERE {test}", values)  # noqa: S608 - built by filters.py
        sql = f"SELECT key FROM units INDEXED BY units_document WHERE document IN carray(?) AND ({test})"  # noqa: S608
        return self._integers(sql, (int_array(among), *values))

    def documents_where(
        self, name: str, test: str, values: Sequence[Any], *, among: NDArray[np.int64] | None = None
    ) -> NDArray[np.int64]:
        """Keys of the documents with a metadata `value` of this name for which a test holds, in any order, repeated.

        among: only these documents; None for all.
        """
        if among is None:
            return self._integers(f"SELECT document FROM metadata WHERE name = ? AND {test}", (name, *values))  # noqa: S608
        sql = f"""SELECT document FROM metadata INDEXED BY metadata_document
            WHERE document IN carray(?) AND name = ? AND {test}"""  # noqa: S608
        return self._integers(sql, (int_array(among), name, *values))

    def _integers(self, sql: str, bindings: Sequence[Any]) -> NDArray[np.int64]:
        """What a query of one column of integers answers, in any order."""
        # Joined by SQLite and parsed by numpy: 500,000 took 76 ms, row by row through Python 172.
        joined = self._connection.execute(f"WITH found(n) AS ({sql}) SELECT group_concat(n) FROM found", bindings).get  # noqa: S608
        return np.fromstring(joined or "", dtype=np.int64, sep=",")

    def select_documents(self, condition: str, bindings: Sequence[Any], *, after: int, limit: int) -> list[int]:
        """Keys of documents above `after` with a unit for which the condition holds, ascending, at most `limit`."""
        sql = f"""SELECT key FROM documents WHERE key > ? AND EXISTS (
            SELECT 1 FROM units WHERE units.document = documents.key AND ({condition})) ORDER BY key LIMIT ?"""  # noqa: S608
        return [key for (key,) in self._connection.execute(sql, (after, *bindings, limit))]

    def count_documents(self, condition: str, bindings: Sequence[Any]) -> int:
        """Number of documents with a unit for which the condition holds."""
        sql = f"SELECT count(DISTINCT document) FROM units WHERE {condition}"  # noqa: S608
        return int(self._connection.execute(sql, tuple(bindings)).get)

    def vectors(self, keys: NDArray[np.int64], dimension: int) -> NDArray[np.float32]:
        """The vectors of these units, shape (n, d), in their order; raises CorruptCollection where one is missing."""
        found = self.existing_vectors(keys.tolist())
        if len(found) != len(keys):
            raise CorruptCollection(f"{len(keys) - len(found)} of {len(keys)} units have no vector")
        return np.stack([found[key] for key in keys.tolist()]) if len(keys) else np.empty((0, dimension), np.float32)

    def existing_vectors(self, keys: Sequence[int]) -> dict[int, NDArray[np.float32]]:
        """Key -> vector float32 (d,) of those of these units that are stored."""
        rows = self._connection.execute("SELECT unit, vector FROM vectors WHERE unit IN carray(?)", (int_array(keys),))
        return {key: np.frombuffer(blob, dtype="<f4") for key, blob in rows}

    def queries(self) -> tuple[list[str | None], NDArray[np.float32]]:
        """The evaluation queries: texts (None where only the vector is known), vectors (n, d); (0, 0) without any."""
        rows: list[tuple[Any, ...]] = self._connection.execute(
            "SELECT text, vector FROM queries ORDER BY number"
        ).fetchall()
        if not rows:
            return [], np.empty((0, 0), np.float32)
        return [text for text, _ in rows], np.stack([np.frombuffer(vector, dtype="<f4") for _, vector in rows])

    def text_units(self, after: int) -> Iterator[tuple[int, str, str]]:
        """Key, language and text (the title before it) of every passage and caption above `after`, keys ascending."""
        sql = """SELECT u.key, u.language, u.kind, u.start, u.end, u.ordinal, d.title, d.text, d.captions
            FROM units u JOIN documents d ON d.key = u.document WHERE u.key > ? AND u.kind != ? ORDER BY u.key"""
        rows = self._connection.execute(sql, (after, UNIT_KINDS.index("image")))
        for key, language, kind, start, end, ordinal, title, text, captions in rows:
            if UNIT_KINDS[kind] == "caption":
                yield key, language, orjson.loads(captions)[language][ordinal]
            else:
                yield key, language, passage_content(title, text[start:end])

    def digests(self) -> tuple[NDArray[np.int64], NDArray[np.uint64]]:
        """Key and digest of every document, keys ascending: (N,) and (N, 2), the digest as two words."""
        rows = self._connection.execute("SELECT key, digest FROM documents ORDER BY key")
        keys, digests = [np.empty(0, np.int64)], [b""]
        while batch := list(itertools.islice(rows, BATCH)):
            keys.append(np.array([key for key, _ in batch], dtype=np.int64))
            digests.append(b"".join(digest for _, digest in batch))
        return np.concatenate(keys), np.frombuffer(b"".join(digests), dtype=np.uint64).reshape(-1, 2)

    def stored_documents(self, ids: Sequence[str]) -> dict[str, StoredDocument]:
        """Key and digest of those of these documents that are stored."""
        rows = self._connection.execute(
            "SELECT id, key, digest FROM documents WHERE id IN carray(?)", (_text_array(ids),)
        )
        return {identifier: StoredDocument(key, digest) for identifier, key, digest in rows}

    def document_keys(self, ids: Sequence[str]) -> dict[str, int]:
        """Id -> key of those of these documents that are stored."""
        return {identifier: stored.key for identifier, stored in self.stored_documents(ids).items()}

    def ids(self, *, after: int, limit: int) -> list[tuple[int, str]]:
        """(key, id) of at most `limit` documents with a key above `after`, keys ascending."""
        sql = "SELECT key, id FROM documents WHERE key > ? ORDER BY key LIMIT ?"
        return list(self._connection.execute(sql, (after, limit)))

    def document_ids(self, keys: Sequence[int]) -> dict[int, str]:
        """Key -> id."""
        return dict(
            self._connection.execute("SELECT key, id FROM documents WHERE key IN carray(?)", (int_array(keys),))
        )

    def documents(self, keys: Sequence[int]) -> dict[int, Document]:
        """Key -> document, without picture and vectors."""
        sql = f"""SELECT d.key, {_DOCUMENT}
            FROM documents AS d LEFT JOIN pictures ON pictures.document = d.key WHERE d.key IN carray(?)"""  # noqa: S608 - ours
        return {key: _document(row) for key, *row in self._connection.execute(sql, (int_array(keys),))}

    def units(self, keys: Sequence[int]) -> dict[int, StoredUnit]:
        """Key -> unit."""
        sql = f"SELECT {_UNIT} FROM units AS u WHERE u.key IN carray(?)"  # noqa: S608 - ours
        return {row[0]: _unit(row) for row in self._connection.execute(sql, (int_array(keys),))}

    def units_of(self, documents: Sequence[int]) -> dict[int, list[StoredUnit]]:
        """Document key -> its units in the order of their keys."""
        result: dict[int, list[StoredUnit]] = {key: [] for key in documents}
        sql = f"SELECT {_UNIT} FROM units AS u WHERE u.document IN carray(?) ORDER BY u.key"  # noqa: S608 - ours
        for row in self._connection.execute(sql, (int_array(documents),)):
            result[row[1]].append(_unit(row))
        return result

    def picture(self, document: int) -> Picture | None:
        """The stored picture of a document."""
        sql = "SELECT picture, media_type, thumbnail FROM pictures WHERE document = ?"
        row = self._connection.execute(sql, (document,)).fetchone()
        return None if row is None else Picture(*row)

    def vector_problems(self, dimension: int) -> list[str]:
        """What is wrong with the units' vectors: missing, of another size, not finite; empty when nothing is."""
        problems = []
        missing = self._connection.execute("SELECT count(*) FROM units WHERE key NOT IN (SELECT unit FROM vectors)").get
        if missing:
            problems.append(f"{missing} units have no vector")
        sql = "SELECT count(*) FROM vectors WHERE length(vector) != ?"
        if wrong := self._connection.execute(sql, (4 * dimension,)).get:
            problems.append(f"{wrong} vectors don't have {dimension} dimensions")
        if not problems:
            batches = self.unit_batches(dimension)
            broken = sum(int((~np.isfinite(batch.vectors).all(axis=1)).sum()) for batch in batches)
            problems += [f"{broken} vectors hold numbers that are not finite"] if broken else []
        return problems

    def integrity(self) -> list[str]:
        """What SQLite's own check and the references between the tables find wrong; empty when nothing is."""
        problems = [text for (text,) in self._connection.execute("PRAGMA integrity_check") if text != "ok"]
        checks = {
            "units have no document": "SELECT count(*) FROM units WHERE document NOT IN (SELECT key FROM documents)",
            "vectors have no unit": "SELECT count(*) FROM vectors WHERE unit NOT IN (SELECT key FROM units)",
            "metadata rows have no document": "SELECT count(*) FROM metadata "
            "WHERE document NOT IN (SELECT key FROM documents)",
        }
        for problem, sql in checks.items():
            if count := self._connection.execute(sql).get:
                problems.append(f"{count} {problem}")
        return problems


def int_array(keys: Sequence[int] | NDArray[np.int64]) -> Any:  # noqa: ANN401 - apsw's own type
    """Integers as SQLite's carray takes them."""
    # An array of SQLite's carray can't be empty; no key is negative.
    return apsw.carray(np.ascontiguousarray(keys if len(keys) else [-1], dtype=np.int64))


def _text_array(texts: Sequence[str]) -> Any:  # noqa: ANN401 - apsw's own type
    # No stored id is empty, or holds what SQLite's carray can't: a NUL or a lone surrogate.
    storable = tuple(text for text in texts if "\0" not in text and text.encode("utf-8", "ignore").decode() == text)
    return apsw.carray(storable or ("",))


def _unit(row: Sequence[Any]) -> StoredUnit:
    key, document, kind, *rest = row
    return StoredUnit(key, document, UNIT_KINDS[kind], *rest)


def _document(row: Sequence[Any]) -> Document:
    identifier, title, text, language, identified, modality, image, captions, metadata, has_picture = row
    return Document.stored(
        id=identifier,
        title=title,
        text=text,
        language=language,
        identified=bool(identified),
        modality=modality,
        image=image,
        captions={tag: tuple(texts) for tag, texts in orjson.loads(captions).items()},
        metadata={
            name: tuple(value) if isinstance(value, list) else value for name, value in orjson.loads(metadata).items()
        },
        has_picture=bool(has_picture),
    )
