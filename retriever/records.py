"""What a collection's SQLite file holds, as Python objects."""

from collections.abc import Sequence
from dataclasses import asdict, dataclass
from typing import Literal

import numpy as np
import orjson
from numpy.typing import NDArray

from retriever.documents import Document, MetadataValue, Modality, Unit, UnitKind


@dataclass(frozen=True, slots=True)
class Settings:
    """What a collection was created with.

    dimension: None until a collection without encoder has met its first vector. towers: the modalities of the encoder.
    """

    encoder: str | None
    fingerprint: str | None
    dimension: int | None
    similarity: Literal["cosine", "dot"]
    towers: tuple[str, ...]
    kind: str
    passages: Literal["split", "none"]
    recall: float
    language: str | None

    @classmethod
    def from_json(cls, text: str) -> "Settings":
        """The settings as `state.settings` holds them."""
        values = orjson.loads(text)
        return cls(**{**values, "towers": tuple(values["towers"])})


def settings_json(settings: Settings) -> str:
    """The settings as `Settings.from_json` reads them."""
    return orjson.dumps(asdict(settings)).decode()


@dataclass(frozen=True, slots=True)
class Picture:
    """The stored picture of a document: its bytes (None where only a path was given), their media type, a thumbnail."""

    picture: bytes | None
    media_type: str
    thumbnail: bytes


@dataclass(frozen=True, slots=True)
class StoredDocument:
    """What decides whether a put changes anything."""

    key: int
    digest: bytes


@dataclass(frozen=True, slots=True)
class StoredUnit:
    """A unit as it is stored: where it stands in its document, without what it holds."""

    key: int
    document: int
    kind: UnitKind
    language: str
    modality: Modality
    start: int
    end: int
    ordinal: int
    digest: bytes


@dataclass(frozen=True, slots=True)
class Put:
    """One document to write.

    key: the stored document's that it replaces, None where it is new. units: with their vectors (float32, shape (d,));
    None keeps the stored ones.
    """

    key: int | None
    document: Document
    digest: bytes
    picture: Picture | None
    units: Sequence[tuple[Unit, NDArray[np.float32]]] | None


def encode_value(value: MetadataValue) -> str | int | float | bytes:
    """A metadata value as the `metadata` table holds it."""
    if isinstance(value, bool):
        return b"\x01" if value else b"\x00"
    if isinstance(value, tuple):
        raise TypeError("each member of a list is a row of its own")
    return value


def passage_content(title: str, passage: str) -> str:
    """What is encoded and indexed of a passage: the title before it."""
    return f"{title} {passage}".strip()
