"""Encode, index and search documents, pictures and code in many languages.

The names below are the library's face; they are loaded when they are first used.
"""

from importlib import import_module
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from retriever.collection import Collection
    from retriever.documents import Document
    from retriever.encoder import Encoder
    from retriever.errors import PolyseekError
    from retriever.requests import SearchRequest, SearchResult
    from retriever.root import Root

__all__ = ["Collection", "Document", "Encoder", "PolyseekError", "Root", "SearchRequest", "SearchResult"]

_HOMES = {
    "Collection": "collection", "Document": "documents", "Encoder": "encoder", "PolyseekError": "errors",
    "Root": "root", "SearchRequest": "requests", "SearchResult": "requests",
}  # fmt: skip


def __getattr__(name: str) -> object:
    if name not in _HOMES:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    return getattr(import_module(f"{__name__}.{_HOMES[name]}"), name)
