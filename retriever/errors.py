"""Every error that a user can meet: one tree, each with a stable code, an HTTP status, the fact and the remedy.

The command line prints `error: …` and `hint: …`; REST answers an RFC 9457 problem object.
Neither adds words of its own.
"""

from pathlib import Path
from typing import ClassVar


class PolyseekError(Exception):
    """Root of the tree. `str(error)` says what was wrong and where; `hint` says what to do.

    Neither holds an absolute path: clients of the service read both. `path` is the place on this machine, which the
    command line adds.
    """

    code: ClassVar[str] = "internal"
    status: ClassVar[int] = 500
    title: ClassVar[str] = "Internal error"

    def __init__(self, message: str, *, hint: str = "", path: Path | None = None) -> None:
        super().__init__(message)
        self.hint = hint
        self.path = path


class InvalidRequest(PolyseekError):
    """A request that can't be answered as it stands."""

    code, status, title = "invalid_request", 400, "Invalid request"


class InvalidFilter(InvalidRequest):
    """A filter with an unknown name, operator or value."""

    code, title = "invalid_filter", "Invalid filter"


class UnsupportedModality(InvalidRequest):
    """The collection's encoder has no tower for what was asked (a picture, say)."""

    code, title = "unsupported_modality", "Unsupported modality"


class NoReranker(InvalidRequest):
    """What was asked takes a cross-encoder, and none is configured."""

    code, title = "no_reranker", "No reranker"


class InvalidName(InvalidRequest):
    """A collection or alias name that could leave the root or can't be a folder."""

    code, title = "invalid_name", "Invalid name"


class InvalidDocument(PolyseekError):
    """One document that can't be taken; its message is the reason written to the rejects file."""

    code, status, title = "invalid_document", 422, "Invalid document"


class InvalidData(PolyseekError):
    """A dataset or a run file that can't be read as it stands; the message names file, line and id."""

    code, status, title = "invalid_data", 422, "Invalid data"


class UnknownCollection(PolyseekError):
    """No collection and no alias has this name."""

    code, status, title = "unknown_collection", 404, "Unknown collection"


class UnknownDocument(PolyseekError):
    """The collection holds no document with this id."""

    code, status, title = "unknown_document", 404, "Unknown document"


class CollectionExists(PolyseekError):
    """A collection or alias of this name is there already."""

    code, status, title = "collection_exists", 409, "Collection exists"


class CollectionBusy(PolyseekError):
    """Another process does what only one may do at a time."""

    code, status, title = "collection_busy", 409, "Collection busy"


class CollectionReplaced(PolyseekError):
    """The collection was replaced or dropped while it was open."""

    code, status, title = "collection_replaced", 409, "Collection replaced"


class EncoderMismatch(PolyseekError):
    """The collection was built with another encoder."""

    code, status, title = "encoder_mismatch", 409, "Encoder mismatch"


class GenerationNotReached(PolyseekError):
    """`min_generation` was not reached within the request's timeout."""

    code, status, title = "generation_not_reached", 409, "Generation not reached"


class UnsupportedFormat(PolyseekError):
    """The stored format is of a version that this release doesn't read."""

    code, status, title = "unsupported_format", 500, "Unsupported format"


class CorruptCollection(PolyseekError):
    """The SQLite file of a collection, its one source of truth, is damaged."""

    code, status, title = "corrupt_collection", 500, "Corrupt collection"


class StorageFailed(PolyseekError):
    """The file system refused to read or write a collection's file; what was answered before stays stored."""

    code, status, title = "storage_failed", 500, "Storage failed"


class StorageFull(StorageFailed):
    """No space is left to write to; what was answered before stays stored."""

    code, status, title = "storage_full", 507, "Storage full"


class ModelUnavailable(PolyseekError):
    """A model that can't be found, loaded, verified or trusted."""

    code, status, title = "model_unavailable", 503, "Model unavailable"


class MissingDependency(PolyseekError):
    """An optional package is needed; the hint names the extra that brings it."""

    code, status, title = "missing_dependency", 500, "Missing dependency"


class SourceError(PolyseekError):
    """A source of a build that can't be read at all, or of which no record could be."""

    code, status, title = "unreadable_source", 400, "Unreadable source"


class InvalidSnapshot(PolyseekError):
    """A file to restore from that is no snapshot, or a damaged one."""

    code, status, title = "invalid_snapshot", 400, "Invalid snapshot"


class OutputError(PolyseekError):
    """A file or folder that can't be written where the user asked for it."""

    code, status, title = "unwritable_output", 400, "Unwritable output"


class InvalidSettings(PolyseekError):
    """A setting with a bad value or of an unknown name, or a polyseek.toml that can't be read."""

    code, status, title = "invalid_settings", 500, "Invalid settings"
