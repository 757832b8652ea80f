"""What a search asks and what it answers: the same objects for the command line, REST, the page and the evaluation."""

from dataclasses import dataclass, field
from typing import Any, Literal

from pydantic import BaseModel, ConfigDict, Field, ValidationError

from retriever.documents import Document
from retriever.errors import InvalidRequest
from retriever.syntax import Code, spans_of_answer

Mode = Literal["hybrid", "dense", "lexical"]
FieldName = Literal["title", "text", "metadata", "captions", "image", "syntax"]

# Each side of a search retrieves so many documents, however few are shown: pages stay stable.
WINDOW = 200
DENSE_WINDOW = 1_000
# A cross-encoder reads so many of them.
RERANKED = 50


class SearchRequest(BaseModel):
    """One search. Every member is optional, but one of `text`, `image`, `like` and `vector` is needed."""

    model_config = ConfigDict(extra="forbid", frozen=True, arbitrary_types_allowed=True)

    text: str | None = Field(None, description="What is looked for, in any language; never read as query syntax.")
    language: str | None = Field(None, description="Language of the text (BCP 47); it chooses its lexical analysis.")
    image: bytes | None = Field(None, description="A picture to search by, where the encoder has a picture tower.")
    like: str | list[str] | None = Field(None, description="Id or ids of stored documents to find more of.")
    vector: list[float] | None = Field(None, description="A ready-made query vector; replaces encoding.")
    image_weight: float = Field(0.5, ge=0, le=1, description="Weight of the image where text and image are given.")
    mode: Mode | None = Field(None, description="hybrid where there is a text, else dense.")
    k: int = Field(10, ge=1, le=DENSE_WINDOW, description="How many hits.")
    offset: int = Field(0, ge=0, le=DENSE_WINDOW, description="How many hits to leave out before the first.")
    min_score: float | None = Field(None, description="Leave out hits below it; not with a fused score.")
    filter: dict[str, Any] | None = Field(None, description="Which documents are searched.")
    group: bool = Field(default=True, description="A hit is a document at its best unit; false: a unit.")
    rerank: bool | None = Field(None, description=f"Have a cross-encoder order the first {RERANKED}.")
    exact: bool = Field(default=False, description="Scan every vector.")
    min_generation: int | None = Field(None, ge=0, description="Wait for this generation (read your own writes).")
    timeout: float = Field(
        5.0, ge=0.001, le=60, description="Seconds until the answer, at most the service's own limit."
    )
    highlight: bool = Field(default=True, description="Return the spans that match the text.")
    explain: bool = Field(default=False, description="Return the plan and each side's candidates.")
    fields: list[FieldName] = Field(
        default=["title", "text", "metadata"],
        description="Members to return. `syntax` is what colours code: spans of its text, each with a kind.",
    )

    @classmethod
    def of(cls, request: "SearchRequest | str", members: dict[str, Any]) -> "SearchRequest":
        """A request from a text or a request and members. Raises InvalidRequest."""
        if isinstance(request, SearchRequest) and not members:
            return request
        given = {"text": request} if isinstance(request, str) else request.model_dump(exclude_unset=True)
        try:
            return cls.model_validate({**given, **members})
        except ValidationError as error:
            raise InvalidRequest(validation_message(error)) from None


def validation_message(error: ValidationError) -> str:
    """Pydantic's findings on one line: `k: Input should be greater than or equal to 1, got 0`."""
    return "; ".join(
        f"{'.'.join(str(part) for part in detail['loc']) or 'request'}: {detail['msg']}, got {detail['input']!r:.80}"
        for detail in error.errors(include_url=False, include_context=False)
    )


@dataclass(frozen=True, slots=True)
class HitUnit:
    """The unit at which a document was found; offsets in code points of the text, or of `caption`."""

    kind: str
    language: str
    start: int
    end: int
    caption: str | None = None

    def to_dict(self) -> dict[str, Any]:
        """As REST answers it."""
        unit = {"kind": self.kind, "language": self.language, "start": self.start, "end": self.end}
        return unit if self.caption is None else {**unit, "caption": self.caption}


@dataclass(frozen=True, slots=True)
class Hit:
    """One hit. scores: the best part of each side over the document's units, None where that side didn't find it."""

    rank: int
    id: str
    score: float
    scores: dict[str, float | None]
    document: Document
    unit: HitUnit
    highlights: list[tuple[int, int]]

    def to_dict(self, fields: list[FieldName]) -> dict[str, Any]:
        """As REST answers it, with these members of the document; `SearchResult.to_dict` adds `syntax`."""
        document = self.document
        shown: dict[str, Any] = {
            "language": document.language, "modality": document.modality, "has_picture": document.has_picture
        }  # fmt: skip
        for name in fields:
            if name != "syntax":
                shown[name] = getattr(document, name)
        return {
            "rank": self.rank, "id": self.id, "score": self.score, "scores": self.scores, "document": shown,
            "unit": self.unit.to_dict(), "highlights": self.highlights,
        }  # fmt: skip


@dataclass(frozen=True, slots=True)
class SearchResult:
    """What a search answered. plan: None unless asked for with `explain`; timings in milliseconds."""

    collection: str
    generation: int
    mode: Mode
    truncated: bool
    hits: list[Hit]
    timings_ms: dict[str, float]
    plan: dict[str, Any] | None = None
    fields: list[FieldName] = field(default_factory=lambda: ["title", "text", "metadata"])

    def to_dict(self) -> dict[str, Any]:
        """The response object of REST."""
        result: dict[str, Any] = {
            "collection": self.collection, "generation": self.generation, "mode": self.mode,
            "truncated": self.truncated, "hits": [hit.to_dict(self.fields) for hit in self.hits],
            "timings_ms": self.timings_ms,
        }  # fmt: skip
        if "syntax" in self.fields:
            codes = (_code(hit.document) for hit in self.hits)
            for hit, spans in zip(result["hits"], spans_of_answer(codes), strict=True):
                hit["document"]["syntax"] = spans
        return result if self.plan is None else {**result, "plan": self.plan}


def _code(document: Document) -> Code | None:
    path = document.metadata.get("path")
    return Code(document.text, path) if document.modality == "code" and isinstance(path, str) else None
