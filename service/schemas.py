"""The forms of requests and responses. Requests are validated by them; responses only described, in OpenAPI."""

from typing import Annotated, Any, Literal

from pydantic import BaseModel, BeforeValidator, ConfigDict, Field, SkipValidation, WithJsonSchema
from pydantic.config import JsonDict, JsonValue

from retriever.requests import SearchRequest
from retriever.results import CollectionInfo
from retriever.syntax import SyntaxKind
from service.bodies import decode_base64

Base64 = Annotated[
    bytes, BeforeValidator(decode_base64), WithJsonSchema({"type": "string", "contentEncoding": "base64"})
]
DELETE_EXAMPLES: list[JsonValue] = [{"ids": ["a1", "a2"]}, {"filter": {"year": {"lt": 2000}}}]
MetadataValue = str | int | float | bool | list[str]
SomeText = Annotated[str, Field(min_length=1)]
SOME_TEXT: JsonDict = {"type": "string", "minLength": 1}
DOCUMENT_TEXT: JsonDict = {
    "type": "object", "properties": {"text": {"type": "string"}}, "required": ["text"], "additionalProperties": False
}  # fmt: skip

SEARCH_EXAMPLE: JsonDict = {
    "text": "how do I read a file line by line",
    "k": 3,
    "filter": {"language": {"in": ["en", "de"]}},
}
ABSENT: JsonDict = {"type": "null"}
# What may be searched for together.
ASKED: list[JsonValue] = [
    {"required": ["text"], "properties": {"text": {"type": "string", "pattern": r"\S"}, "like": ABSENT}},
    {"required": ["image"], "properties": {"image": {"type": "string"}, "like": ABSENT, "vector": ABSENT}},
    {"required": ["vector"], "properties": {"vector": {"type": "array"}, "image": ABSENT, "like": ABSENT}},
    {
        "required": ["like"],
        "properties": {"like": {"type": ["string", "array"]}, "text": ABSENT, "image": ABSENT, "vector": ABSENT},
    },
]
DELETED: list[JsonValue] = [
    {"required": ["ids"], "properties": {"ids": {"type": "array"}, "filter": ABSENT}},
    {"required": ["filter"], "properties": {"filter": {"type": "object"}, "ids": ABSENT}},
]
DOCUMENTS_EXAMPLE: JsonDict = {
    "documents": [
        {"id": "a1", "title": "Files", "text": "A file is read line by line.", "language": "en", "year": 2024},
        {"id": "a2", "captions": {"de": ["ein schlafender Hund"], "en": ["a sleeping dog"]}},
    ]
}


class Body(BaseModel):
    """A body whose unknown members are refused, and whose values are of the very types that JSON has."""

    model_config = ConfigDict(extra="forbid", strict=True)


class CollectionBody(Body):
    """Settings of a new collection."""

    model_config = ConfigDict(json_schema_extra={"examples": [{"encoder": "multilingual"}]})

    encoder: Annotated[
        str, Field(description="An embedded encoder's name, a folder, a hub id, or `none` for ready-made vectors.")
    ] = "multilingual"
    kind: Annotated[
        str,
        Field(
            description="Kind of the dense index: auto, flat, rabitq, ivf, hnsw, or an index-factory string of FAISS."
        ),
    ] = "auto"
    passages: Annotated[
        Literal["split", "none"], Field(description="Whether long texts are split, or cut at the encoder's maximum.")
    ] = "split"
    recall: Annotated[float, Field(gt=0, le=1, description="Recall@10 that the dense index is tuned to.")] = 0.95
    language: Annotated[
        str | None, Field(description="Language (BCP 47) of documents that name none; without it, it is identified.")
    ] = None


class SearchBody(SearchRequest):
    """One search; one of `text`, `image`, `like`, `vector` is needed."""

    model_config = ConfigDict(strict=True, json_schema_extra={"examples": [SEARCH_EXAMPLE], "anyOf": ASKED})

    image: Base64 | None = None


class BatchBody(Body):
    """Several searches; each is validated by itself, so that a bad one fails alone."""

    model_config = ConfigDict(json_schema_extra={"examples": [{"searches": [SEARCH_EXAMPLE, {"like": "a1"}]}]})

    searches: list[SkipValidation[SearchBody]]


class DocumentBody(BaseModel):
    """A document; every member that isn't listed here is metadata."""

    model_config = ConfigDict(extra="allow")

    id: Annotated[str, Field(description="1 to 512 bytes of UTF-8; `_id` is taken too.")]
    title: str = ""
    text: str = ""
    language: Annotated[str | None, Field(description="BCP 47; `lang` is taken too.")] = None
    image: Base64 | None = None
    captions: dict[str, str | list[str]] = {}
    metadata: dict[str, Any] = {}


class DocumentsBody(Body):
    """Documents to put; each is validated by itself, so that a bad one is rejected alone."""

    model_config = ConfigDict(json_schema_extra={"examples": [DOCUMENTS_EXAMPLE]})

    documents: list[SkipValidation[DocumentBody]]


class DeleteBody(Body):
    """Documents to delete: by ids or by a filter."""

    model_config = ConfigDict(json_schema_extra={"examples": DELETE_EXAMPLES, "oneOf": DELETED})

    ids: list[str] | None = None
    filter: dict[str, Any] | None = None


def _texts(value: object) -> object:
    """One text as a list of one. Raises ValueError for tokens, which OpenAI's own clients may send."""
    if isinstance(value, str):
        return [value]
    if isinstance(value, list) and value and isinstance(value[0], int | list):
        raise ValueError("token ids are not taken, send texts (langchain: check_embedding_ctx_length=False)")
    return value


def _document_text(value: object) -> object:
    """The text of `{"text": …}`; anything else as it is."""
    return value["text"] if isinstance(value, dict) and value.keys() == {"text"} else value


class EmbeddingsBody(Body):
    """Texts to encode, in OpenAI's form."""

    model_config = ConfigDict(
        json_schema_extra={"examples": [{"model": "multilingual", "input": ["Guten Morgen", "good morning"]}]}
    )

    input: Annotated[
        list[SomeText],
        Field(min_length=1, description="A text, or several; none may be empty."),
        BeforeValidator(_texts),
        WithJsonSchema({"anyOf": [SOME_TEXT, {"type": "array", "items": SOME_TEXT, "minItems": 1}]}),
    ]
    model: Annotated[str, Field(description="An encoder that the settings offer, or that a collection was built with.")]
    dimensions: Annotated[
        int | None, Field(ge=1, description="Keep so many dimensions, where the model says that it may be cut there.")
    ] = None
    encoding_format: Annotated[
        Literal["float", "base64"], Field(description="Numbers, or base64 of float32, little-endian.")
    ] = "float"
    input_type: Annotated[
        Literal["query", "document"], Field(description="Whose prompt goes before the texts, if the model has prompts.")
    ] = "document"
    user: Annotated[str | None, Field(description="Ignored.")] = None


class RerankBody(Body):
    """A query, and documents to order by it."""

    model_config = ConfigDict(
        json_schema_extra={
            "examples": [{"query": "how to brew tea", "documents": ["Bread needs flour.", "Let the water cool."]}]
        }
    )

    query: SomeText
    documents: Annotated[
        list[Annotated[str, BeforeValidator(_document_text)]],
        Field(min_length=1, description='Texts, or objects with one: {"text": "…"}.'),
        WithJsonSchema({"type": "array", "items": {"anyOf": [{"type": "string"}, DOCUMENT_TEXT]}, "minItems": 1}),
    ]
    top_n: Annotated[int | None, Field(ge=1, description="Answer only so many, the best ones.")] = None
    return_documents: Annotated[bool, Field(description="Whether results repeat their documents.")] = False
    model: Annotated[str | None, Field(description="The name of the configured reranker; may be left out.")] = None


class Embedding(BaseModel):
    """The vector of one input."""

    object: Literal["embedding"]
    index: Annotated[int, Field(description="The place of its text in the request.")]
    embedding: list[float] | str
    truncated: Annotated[bool, Field(description="Whether the text was cut at the model's maximum.")]


class TokenUsage(BaseModel):
    """Tokens that were encoded, after the cut."""

    prompt_tokens: int
    total_tokens: int


class EmbeddingsResponse(BaseModel):
    """The vectors, in the order of the inputs."""

    object: Literal["list"]
    data: list[Embedding]
    model: str
    usage: TokenUsage


class RerankedDocument(BaseModel):
    """A document of the request."""

    text: str


class RerankResult(BaseModel):
    """A document's score; larger is better."""

    index: Annotated[int, Field(description="The place of the document in the request.")]
    relevance_score: float
    document: Annotated[RerankedDocument | None, Field(description="With `return_documents`.")] = None


class RerankResponse(BaseModel):
    """The documents by falling score."""

    model: str
    results: list[RerankResult]


class StoredDocument(BaseModel):
    """A document as it is stored."""

    id: str
    title: str = ""
    text: str = ""
    language: str | None = None
    image: str | None = None
    captions: dict[str, list[str]] = {}
    metadata: dict[str, MetadataValue] = {}


class DocumentPage(BaseModel):
    """Some documents in a stable order, and where the next ones start."""

    documents: list[StoredDocument]
    cursor: Annotated[str | None, Field(description="Give it to get the next page; null on the last one.")]


class FoundDocument(BaseModel):
    """The members of a document that the search asked for by `fields`."""

    language: str | None
    modality: Literal["text", "image", "code"]
    has_picture: bool
    title: str | None = None
    text: str | None = None
    image: str | None = None
    captions: dict[str, list[str]] | None = None
    metadata: dict[str, MetadataValue] | None = None
    syntax: Annotated[
        list[tuple[int, int, SyntaxKind]] | None,
        Field(description="What colours code: start, end and kind, in code points of its text; null for other texts."),
    ] = None


class FoundUnit(BaseModel):
    """The part of the document that was found; offsets count code points of its text, or of the caption."""

    kind: Literal["passage", "caption", "image"]
    language: str
    start: int
    end: int
    caption: Annotated[str | None, Field(description="The caption that was found, for a unit of that kind.")] = None


class Hit(BaseModel):
    """One hit. `score` ordered the hits, larger is better; `scores` has the best part of each side."""

    rank: int
    id: str
    score: float
    scores: dict[str, float | None]
    document: FoundDocument
    unit: FoundUnit
    highlights: list[tuple[int, int]]


class SearchResponse(BaseModel):
    """The answer to one search."""

    collection: str
    generation: int
    mode: Literal["hybrid", "dense", "lexical"]
    truncated: Annotated[bool, Field(description="Whether the query was cut at the encoder's maximum.")]
    hits: list[Hit]
    timings_ms: dict[str, float]
    plan: Annotated[dict[str, Any] | None, Field(description="How it was answered, where `explain` asked for it.")] = (
        None
    )


class Problem(BaseModel):
    """An error (RFC 9457)."""

    model_config = ConfigDict(
        json_schema_extra={
            "examples": [
                {
                    "type": "urn:polyseek:problem:unknown_collection",
                    "title": "Unknown collection",
                    "status": 404,
                    "detail": "there is no collection notes",
                    "instance": "/v1/collections/notes/search",
                    "code": "unknown_collection",
                }
            ]
        }
    )

    type: str
    title: str
    status: int
    detail: str
    instance: str
    code: Annotated[str, Field(description="Stable: what a program decides by.")]
    hint: Annotated[str | None, Field(description="What to do about it.")] = None
    errors: Annotated[
        list[dict[str, str]] | None, Field(description="Each fault of a malformed request, with its place.")
    ] = None


class BatchResponse(BaseModel):
    """The answers in the order of the searches; a problem stands where a search failed."""

    results: list[SearchResponse | Problem]


class BrokenCollection(BaseModel):
    """A collection that can't be opened, and why."""

    name: str
    problem: Problem


class CollectionList(BaseModel):
    """Every collection, described; and what each alias stands for."""

    collections: list[CollectionInfo | BrokenCollection]
    aliases: dict[str, str]


class Readiness(BaseModel):
    """Which collections have answered a search, which could not, and what serves but not as it should."""

    status: Literal["ready", "degraded"]
    collections: list[str]
    failing: dict[str, Problem]
    degraded: Annotated[dict[str, str], Field(description="By name, a sentence on what is amiss.")]
