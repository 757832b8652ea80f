"""What a user puts and gets (a document) and what is searched (a unit); what makes either valid.

A document becomes one unit for each passage, caption and picture. A unit is never changed: a document that changes gets
new units under new keys, so that whatever was derived from a key stays true for ever.
"""

import hashlib
import math
import reprlib
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Literal, get_args

import numpy as np
import orjson
from numpy.typing import NDArray

from retriever.errors import InvalidDocument
from retriever.languages import canonical

Modality = Literal["text", "image", "code"]
UnitKind = Literal["passage", "caption", "image"]
MetadataValue = str | int | float | bool | tuple[str, ...]

MODALITIES: tuple[Modality, ...] = get_args(Modality)
UNIT_KINDS: tuple[UnitKind, ...] = get_args(UnitKind)
RESERVED = frozenset({"_id", "id", "title", "text", "language", "lang", "modality", "image", "captions", "metadata"})
MAX_ID_BYTES = 512
MAX_DEPTH = 32
# SQLite's integers: a larger one would become a float silently and no longer equal itself.
MAX_INTEGER = 2**63 - 1


@dataclass(frozen=True, slots=True)
class Document:
    """One document.

    language: canonical BCP 47, or None until the collection has identified it (`identified` is then True).
    image: a path as the user gave it (`image_file` says where it is now), or None. picture: the encoded bytes of a
    picture that came without a file. has_picture: whether one is kept of a stored document.
    captions: language -> captions, `und` where none was named.
    vector: a ready-made vector, shape (d,), float32; such a document is one unit and is not encoded.
    origin: the file and line (None where it has none) that a reader found it at, for messages.
    Raises InvalidDocument, whose message is the reason.
    """

    id: str
    title: str = ""
    text: str = ""
    language: str | None = None
    modality: Modality = "text"
    image: str | None = None
    captions: Mapping[str, tuple[str, ...]] = field(default_factory=dict)
    metadata: Mapping[str, MetadataValue] = field(default_factory=dict)
    identified: bool = False
    has_picture: bool = field(default=False, compare=False)
    image_file: Path | None = field(default=None, compare=False, repr=False)
    picture: bytes | None = field(default=None, repr=False)
    vector: NDArray[np.float32] | None = field(default=None, compare=False, repr=False)
    origin: tuple[str, int | None] | None = field(default=None, compare=False, repr=False)

    def __post_init__(self) -> None:
        _check_text("id", self.id)
        if not 1 <= len(self.id.encode()) <= MAX_ID_BYTES:
            raise InvalidDocument(f"an id has 1 to {MAX_ID_BYTES} bytes of UTF-8, this one has {len(self.id.encode())}")
        if "\0" in self.id:
            raise InvalidDocument("an id holds no NUL character")
        _check_text("title", self.title)
        _check_text("text", self.text)
        _check_text("image", self.image or "")
        if self.modality not in MODALITIES:
            raise InvalidDocument(f"modality is one of {', '.join(MODALITIES)}, not {self.modality!r}")
        if self.language is not None:
            object.__setattr__(self, "language", _language(self.language))
        object.__setattr__(self, "captions", _captions(self.captions))
        object.__setattr__(self, "metadata", _metadata(self.metadata))
        if self.vector is not None:
            object.__setattr__(self, "vector", _vector(self.vector))
        if not self.has_content:
            raise InvalidDocument("nothing to search: it has no text, title, image, captions or vector")

    @property
    def has_content(self) -> bool:
        """Whether there is anything that a unit could be made of."""
        if self.vector is not None or self.image is not None or self.picture is not None or self.has_picture:
            return True
        texts = (self.title, self.text, *(caption for group in self.captions.values() for caption in group))
        return any(text.strip() for text in texts)

    @classmethod
    def from_record(
        cls,
        record: Mapping[str, Any],
        *,
        base: Path | None = None,
        modality: Modality = "text",
        vector: NDArray[np.float32] | None = None,
        origin: tuple[str, int | None] | None = None,
    ) -> "Document":
        """A document from one JSON object, table row or REST member.

        base: the folder that a relative `image` starts from; None where pictures come as bytes under `image`.
        modality: of records that name none. vector: its ready-made vector, shape (d,), where the source has one.
        origin: its file and line, if it has them. Raises InvalidDocument.
        """
        if not isinstance(record, Mapping):
            raise InvalidDocument(f"a document is a JSON object, not {type(record).__name__}")
        identifier = record_id(record)
        if identifier is None:
            raise InvalidDocument("it has no _id or id that is a string")
        language = record.get("language") or record.get("lang")
        if language is not None and not isinstance(language, str):
            raise InvalidDocument(f"language must be a string, got {type(language).__name__}")
        image = record.get("image")
        if image is not None and not isinstance(image, str | bytes):
            raise InvalidDocument(f"image must be a path, got {type(image).__name__}")
        path = image if isinstance(image, str) and image else None
        return cls(
            id=identifier,
            title=_string(record, "title"),
            text=_string(record, "text"),
            language=language,
            modality=record.get("modality") or modality,
            image=path,
            captions=record.get("captions") or {},
            metadata=_metadata_members(record),
            image_file=base / path if base is not None and path is not None else None,
            picture=image if isinstance(image, bytes) and image else None,
            vector=vector,
            origin=origin,
        )

    @classmethod
    def stored(cls, **members: Any) -> "Document":  # noqa: ANN401 - the fields' own types
        """A document as a collection holds it: nothing is checked again, and the vector may be all that it had."""
        document = object.__new__(cls)
        for name in ("image_file", "picture", "vector", "origin"):
            object.__setattr__(document, name, None)
        for name, value in members.items():
            object.__setattr__(document, name, value)
        return document

    def to_record(self) -> dict[str, Any]:
        """The JSON object that `from_record` reads back, without the picture's bytes and the vector."""
        record: dict[str, Any] = {"id": self.id}
        for name in ("title", "text", "language", "image"):
            if value := getattr(self, name):
                record[name] = value
        if self.modality != "text":
            record["modality"] = self.modality
        if self.captions:
            record["captions"] = {language: list(texts) for language, texts in self.captions.items()}
        if self.metadata:
            record["metadata"] = {name: _plain(value) for name, value in self.metadata.items()}
        return record

    def digest(self, picture: bytes | None) -> bytes:
        """16 bytes over everything that is stored of this document.

        picture: the encoded picture, where there is one.
        """
        record = orjson.dumps([self.to_record(), self.modality], option=orjson.OPT_SORT_KEYS)
        h = hashlib.blake2b(record, digest_size=16)
        for blob in (picture, None if self.vector is None else self.vector.data):
            h.update(b"\0" if blob is None else b"\1" + hashlib.blake2b(blob, digest_size=16).digest())
        return h.digest()


@dataclass(frozen=True, slots=True)
class Unit:
    """What is searched: one passage, caption or picture of a document.

    content: what is encoded: the passage with its title before it, the caption, or the picture's encoded bytes.
    start, end: offsets in code points into the document's text (passage) or the caption. ordinal: which caption of its
    language. salt: what a ready-made vector adds to the digest. digest: 16 bytes over what its vector depends on; a
    document that changes keeps the vectors of equal digests.
    """

    kind: UnitKind
    language: str
    modality: Modality
    content: str | bytes
    start: int = 0
    end: int = 0
    ordinal: int = 0
    salt: bytes = b""
    digest: bytes = field(init=False)

    def __post_init__(self) -> None:
        content = self.content.encode() if isinstance(self.content, str) else self.content
        digest = hashlib.blake2b(self.kind.encode() + b"\0" + self.salt + content, digest_size=16).digest()
        object.__setattr__(self, "digest", digest)


def record_id(record: Mapping[str, Any]) -> str | None:
    """The id that a record gives under `_id` or `id`, an integer as its digits; None where it gives none."""
    identifier = record.get("id") if record.get("_id") is None else record["_id"]
    if isinstance(identifier, int) and not isinstance(identifier, bool):
        return str(identifier)
    return identifier if isinstance(identifier, str) else None


def _plain(value: MetadataValue) -> Any:  # noqa: ANN401 - any JSON value
    return list(value) if isinstance(value, tuple) else value


def _string(record: Mapping[str, Any], name: str) -> str:
    value = record.get(name)
    if value is None:
        return ""
    if not isinstance(value, str):
        raise InvalidDocument(f"{name} must be a string, got {type(value).__name__}")
    return value


def _check_text(name: str, value: str) -> None:
    if not isinstance(value, str):
        raise InvalidDocument(f"{name} must be a string, got {type(value).__name__}")
    if value.isascii():
        return
    try:
        value.encode()
    except UnicodeEncodeError as error:
        raise InvalidDocument(f"{name} holds a lone surrogate at character {error.start}") from None


def _language(tag: str) -> str:
    try:
        return canonical(tag)
    except ValueError as error:
        raise InvalidDocument(str(error)) from None


def _captions(captions: Mapping[str, Any]) -> dict[str, tuple[str, ...]]:
    if not isinstance(captions, Mapping):
        raise InvalidDocument(f"captions must map languages to texts, got {type(captions).__name__}")
    result: dict[str, tuple[str, ...]] = {}
    for tag, texts in captions.items():
        if texts is None:
            continue
        group = (texts,) if isinstance(texts, str) else tuple(texts) if isinstance(texts, list | tuple) else None
        if group is None:
            raise InvalidDocument(f"captions.{tag} must be a text or a list of texts, got {type(texts).__name__}")
        for text in group:
            _check_text(f"captions.{tag}", text)
        language = _language(tag)
        result[language] = result.get(language, ()) + tuple(text for text in group if text.strip())
    return {language: group for language, group in result.items() if group}


def _metadata_members(record: Mapping[str, Any]) -> dict[str, Any]:
    extra = {name: value for name, value in record.items() if name not in RESERVED}
    nested = record.get("metadata")
    if nested is not None and not isinstance(nested, Mapping):
        raise InvalidDocument(f"metadata must be an object, got {type(nested).__name__}")
    return {**extra, **(nested or {})}


def _metadata(values: Mapping[str, Any]) -> dict[str, MetadataValue]:
    result: dict[str, MetadataValue] = {}
    for name, value in _flattened(values, "", 1):
        _check_text("a metadata name", name)
        if value is not None:
            result[name] = _metadata_value(name, value)
    return result


def _flattened(values: Mapping[str, Any], prefix: str, depth: int) -> Iterator[tuple[str, Any]]:
    """The members of nested objects as `a.b`, in order."""
    # A JSON parser allows a thousand levels, Python's stack does not.
    if depth > MAX_DEPTH:
        raise InvalidDocument(f"metadata is nested more than {MAX_DEPTH} levels deep")
    for name, value in values.items():
        if not isinstance(value, str | int | float) and isinstance(value, Mapping):
            yield from _flattened(value, f"{prefix}{name}.", depth + 1)
        else:
            yield f"{prefix}{name}", value


def _metadata_value(name: str, value: Any) -> MetadataValue:  # noqa: ANN401 - any JSON value
    if isinstance(value, bool):
        return value
    if isinstance(value, int):
        if abs(value) > MAX_INTEGER:
            raise InvalidDocument(f"metadata {name}: an integer has 64 bits, {value} has more")
        return value
    if isinstance(value, float):
        if not math.isfinite(value):
            raise InvalidDocument(f"metadata {name}: a number must be finite, got {value}")
        return value
    if isinstance(value, str):
        _check_text(f"metadata {name}", value)
        return value
    if isinstance(value, list | tuple) and all(isinstance(member, str) for member in value):
        for member in value:
            _check_text(f"metadata {name}", member)
        return tuple(value)
    raise InvalidDocument(
        f"metadata {name} must be a string, number, boolean or list of strings, got {reprlib.repr(value)}"
    )


def _vector(vector: NDArray[Any]) -> NDArray[np.float32]:
    array = np.ascontiguousarray(vector, dtype=np.float32)
    if array.ndim != 1 or array.size == 0:
        raise InvalidDocument(f"a vector has one axis of at least one number, got shape {array.shape}")
    if not np.isfinite(array).all():
        raise InvalidDocument("a vector holds a number that is not finite")
    return array
