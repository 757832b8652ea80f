"""From documents to units: languages, pictures, passages, captions; and which of their vectors must be made."""

import hashlib
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace

import numpy as np
from numpy.typing import NDArray

from retriever.documents import Document, Unit
from retriever.encoder import Encoder
from retriever.errors import InvalidDocument
from retriever.languages import identify
from retriever.passages import split
from retriever.pictures import media_type, open_picture, thumbnail
from retriever.records import Picture, Settings, passage_content

# Of a passage's tokens, neighbours share about this share: a sentence that a border cut off from its context is found
# in the other passage.
OVERLAP = 0.15
# A title that takes more than this share of a passage's tokens leaves the rest of it to the encoder's cut.
TITLE_SHARE = 0.5


@dataclass(frozen=True, slots=True)
class Draft:
    """A document that is new or changed: its picture's encoded bytes and the digest over all of it.

    kept: its picture as another collection stores it, where it comes from there.
    """

    document: Document
    picture: bytes | None
    digest: bytes
    kept: Picture | None = None

    @classmethod
    def of(cls, document: Document) -> "Draft":
        """Read the picture, where there is one. Raises InvalidDocument."""
        picture = document.picture
        if document.image_file is not None:
            try:
                picture = document.image_file.read_bytes()
            except OSError as error:
                raise InvalidDocument(f"unreadable picture {document.image}: {error.strerror}") from None
        return cls(document, picture, document.digest(picture))


@dataclass(frozen=True, slots=True)
class Prepared:
    """A document ready to be encoded: its language known, its picture checked, its units made."""

    document: Document
    digest: bytes
    picture: Picture | None
    units: list[Unit]


def prepare(drafts: Sequence[Draft], settings: Settings, encoder: Encoder | None) -> list[Prepared | InvalidDocument]:
    """Each document with its units, or the reason why there are none; in order."""
    languages = _languages([draft.document for draft in drafts], settings)
    return [_prepare(draft, language, settings, encoder) for draft, language in zip(drafts, languages, strict=True)]


def _languages(documents: Sequence[Document], settings: Settings) -> list[str]:
    """The language of each document: its own, the collection's, English for code, else identified."""
    unknown = [document for document in documents if _needs_identifying(document, settings)]
    found = iter(identify([f"{document.title}\n{document.text}" for document in unknown]))
    return [
        next(found) if _needs_identifying(document, settings) else document.language or settings.language or "en"
        for document in documents
    ]


def _needs_identifying(document: Document, settings: Settings) -> bool:
    # Identifiers and comments of code are English by convention; an identifier of languages sees noise in them.
    return document.language is None and settings.language is None and document.modality != "code"


def _prepare(draft: Draft, language: str, settings: Settings, encoder: Encoder | None) -> Prepared | InvalidDocument:
    document = _in_language(draft.document, language)
    try:
        picture = draft.kept
        if picture is None and draft.picture is not None:
            picture = _stored_picture(document, draft.picture)
        units = _units(document, draft.picture, settings, encoder)
    except InvalidDocument as error:
        return error
    if not units:
        return InvalidDocument(
            f"nothing to search: it has only a picture, and the encoder {settings.encoder} has no picture tower"
        )
    return Prepared(document, draft.digest, picture, units)


def _in_language(document: Document, language: str) -> Document:
    # A copy is checked all over again: a third of the time that a ready-made vector took.
    if document.language == language and not document.identified:
        return document
    return replace(document, language=language, identified=document.language is None)


def _stored_picture(document: Document, data: bytes) -> Picture:
    """A picture that came by REST is kept whole; of one in a file the path and a thumbnail are."""
    return Picture(data if document.image_file is None else None, media_type(data), thumbnail(open_picture(data)))


def _units(document: Document, picture: bytes | None, settings: Settings, encoder: Encoder | None) -> list[Unit]:
    if document.vector is not None:
        return [_given_unit(document, settings)]
    if encoder is None:
        raise InvalidDocument("it has no vector, and the collection has no encoder to make one")
    units = [*_passages(document, settings, encoder), *_captions(document)]
    if picture is not None and "image" in settings.towers:
        units.append(Unit("image", document.language or "und", "image", picture))
    return units


def _given_unit(document: Document, settings: Settings) -> Unit:
    """The one unit of a document that brought its vector."""
    vector = document.vector
    assert vector is not None
    if settings.dimension is not None and vector.size != settings.dimension:
        raise InvalidDocument(f"its vector has {vector.size} dimensions, the collection's have {settings.dimension}")
    if document.modality == "image":
        return Unit("image", document.language or "und", "image", vector.tobytes())
    return _whole(document, salt=hashlib.blake2b(vector.data, digest_size=16).digest())


def _whole(document: Document, salt: bytes = b"") -> Unit:
    return Unit(
        "passage", document.language or "und", document.modality, passage_content(document.title, document.text),
        end=len(document.text), salt=salt,
    )  # fmt: skip


def _passages(document: Document, settings: Settings, encoder: Encoder) -> list[Unit]:
    if not document.text.strip():
        return [_whole(document)] if document.title.strip() else []
    if settings.passages == "none":
        return [_whole(document)]
    title = min(encoder.count_tokens([document.title])[0], int(encoder.passage_tokens * TITLE_SHARE))
    spans = split(
        document.text,
        limit=encoder.passage_tokens - title,
        overlap=int(encoder.passage_tokens * OVERLAP),
        count=encoder.count_tokens,
        language=document.language or "und",
    )
    return [
        Unit(
            "passage", document.language or "und", document.modality,
            passage_content(document.title, document.text[start:end]), start, end,
        )
        for start, end in spans
    ]  # fmt: skip


def _captions(document: Document) -> list[Unit]:
    return [
        Unit("caption", language, "text", text, 0, len(text), ordinal)
        for language, texts in document.captions.items()
        for ordinal, text in enumerate(texts)
    ]


def encode_units(
    prepared: Sequence[Prepared],
    known: Mapping[bytes, NDArray[np.float32]],
    settings: Settings,
    encoder: Callable[[], Encoder | None],
) -> tuple[dict[bytes, NDArray[np.float32]], int]:
    """The vectors of all units by digest, made where they aren't known yet; and how many texts were cut.

    Vectors are float32 (d,); those of an encoder that compares by cosine have length 1.
    """
    vectors = dict(known)
    texts: dict[bytes, str] = {}
    pictures: dict[bytes, bytes] = {}
    for item in prepared:
        for unit in item.units:
            if item.document.vector is not None:
                vectors[unit.digest] = scaled(item.document.vector, settings)
            elif unit.digest in vectors:
                continue
            elif isinstance(unit.content, str):
                texts[unit.digest] = unit.content
            else:
                pictures[unit.digest] = unit.content
    made, cut = _encoded(texts, pictures, encoder() if texts or pictures else None)
    return vectors | made, cut


def _encoded(
    texts: Mapping[bytes, str], pictures: Mapping[bytes, bytes], encoder: Encoder | None
) -> tuple[dict[bytes, NDArray[np.float32]], int]:
    if encoder is None:
        return {}, 0
    encoded = encoder.encode_documents(list(texts.values()))
    vectors = dict(zip(texts, encoded.vectors, strict=True))
    images = encoder.encode_images([open_picture(data) for data in pictures.values()]) if pictures else ()
    return vectors | dict(zip(pictures, images, strict=True)), int(encoded.truncated.sum())


def scaled(vector: NDArray[np.float32], settings: Settings) -> NDArray[np.float32]:
    """A vector as it is stored and searched with: of length 1 where the collection compares by cosine."""
    if settings.similarity == "dot":
        return vector
    norm = float(np.linalg.norm(vector.astype(np.float64)))
    return (vector / norm).astype(np.float32) if norm > 0 else vector
