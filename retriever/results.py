"""What the calls on a collection answer."""

from dataclasses import dataclass, field

from retriever.documents import Document


@dataclass(frozen=True, slots=True)
class Rejected:
    """A document of a batch that was not taken: its place in the batch, its id where it has one, and why."""

    index: int
    id: str | None
    reason: str


@dataclass(slots=True)
class WriteResult:
    """What an upsert did. truncated: texts that the encoder cut; pictures_unsearched: pictures it can't see."""

    added: int = 0
    updated: int = 0
    unchanged: int = 0
    rejected: list[Rejected] = field(default_factory=list)
    generation: int = 0
    truncated: int = 0
    pictures_unsearched: int = 0


@dataclass(frozen=True, slots=True)
class DeleteResult:
    """What a deletion did."""

    deleted: int
    generation: int


@dataclass(frozen=True, slots=True)
class Page:
    """One page of a scroll; `cursor` is None after the last."""

    documents: list[Document]
    cursor: str | None


@dataclass(frozen=True, slots=True)
class IndexInfo:
    """A dense index: its factory string, the vectors that it covers (those behind are scanned), what was tuned for the
    recall asked for, and whether that was measured on "queries" that were given or is "self-query" recall.
    """

    factory: str
    vectors: int
    parameter: dict[str, int]
    recall_of: str
    bytes: int


@dataclass(frozen=True, slots=True)
class CollectionInfo:
    """What there is to know about a collection.

    kind, recall: of the dense index that there is, measured at 10, where the collection was created with kind_asked and
    recall_asked. index: None where vectors are only scanned, which finds everything. bytes: its size on disk. tail:
    units behind the mapped vectors. gpu: of these, so many are on a GPU of this process.
    """

    name: str
    generation: int
    documents: int
    units: int
    encoder: str | None
    fingerprint: str | None
    dimension: int | None
    similarity: str
    towers: tuple[str, ...]
    kind: str
    kind_asked: str
    recall: float
    recall_asked: float
    index: IndexInfo | None
    passages: str
    language: str | None
    languages: dict[str, int]
    fields: list[str]
    bytes: int
    tail: int
    gpu: int


@dataclass(frozen=True, slots=True)
class Vitals:
    """What a monitor asks for every few seconds: members of `CollectionInfo` that cost little."""

    generation: int
    documents: int
    units: int
    tail: int
    kind: str
    recall: float
    bytes: int


@dataclass(frozen=True, slots=True)
class VerifyReport:
    """What `verify` found; `checked` counts what it looked at."""

    problems: list[str]
    checked: dict[str, int]

    @property
    def ok(self) -> bool:
        """Whether nothing is wrong."""
        return not self.problems
