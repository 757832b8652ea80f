"""What a collection is created with, and which encoder may open it."""

from typing import Literal

from retriever.encoder import Encoder
from retriever.errors import EncoderMismatch, InvalidRequest
from retriever.kinds import check_kind
from retriever.languages import canonical
from retriever.records import Settings

PASSAGES = ("split", "none")


def check_index(kind: str, recall: float, dimension: int | None) -> None:
    """Raise InvalidRequest where no dense index could be of this kind, or reach this recall."""
    check_kind(kind, dimension)
    if not 0 < recall <= 1:
        raise InvalidRequest(f"recall is above 0 and at most 1, got {recall}")


def make_settings(
    encoder: Encoder | None, kind: str, passages: Literal["split", "none"], recall: float, language: str | None
) -> Settings:
    """The settings of a new collection. Raises InvalidRequest."""
    check_index(kind, recall, None if encoder is None else encoder.dimension)
    if passages not in PASSAGES:
        raise InvalidRequest(f"passages is one of {', '.join(PASSAGES)}, not {passages!r}")
    try:
        language = None if language is None else canonical(language)
    except ValueError as error:
        raise InvalidRequest(f"language: {error}") from None
    return Settings(
        encoder=None if encoder is None else encoder.name,
        fingerprint=None if encoder is None else encoder.fingerprint,
        dimension=None if encoder is None else encoder.dimension,
        # Ready-made vectors are compared as they came.
        similarity="dot" if encoder is None else encoder.similarity,
        towers=() if encoder is None else tuple(sorted(encoder.modalities)),
        kind=kind,
        passages=passages,
        recall=recall,
        language=language,
    )


def matching(encoder: Encoder, settings: Settings, name: str) -> Encoder:
    """The encoder, if it is the one that made the collection's vectors. Raises EncoderMismatch."""
    if encoder.fingerprint != settings.fingerprint:
        built_with = f"{settings.encoder} ({(settings.fingerprint or 'no encoder')[:12]})"
        raise EncoderMismatch(
            f"{name} was built with {built_with}, not with {encoder.name} ({encoder.fingerprint[:12]})",
            hint=f"open it with {settings.encoder}, or build another collection with {encoder.name}",
        )
    return encoder
