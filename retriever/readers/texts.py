"""Folders and files of plain text, Markdown and HTML: a document a file."""

from collections.abc import Iterator
from pathlib import Path

from retriever.documents import Document
from retriever.errors import InvalidDocument
from retriever.languages import canonical
from retriever.readers.base import Reject, decoded, document_or_reject, read_bytes, walk
from retriever.readers.markup import Plain, html_to_text, markdown_to_text

MARKDOWN = frozenset({".md", ".markdown"})
HTML = frozenset({".html", ".htm", ".xhtml"})
SUFFIXES = MARKDOWN | HTML | {".txt"}


def read_texts(source: Path) -> Iterator[Document | Reject]:
    """The documents of the text, Markdown and HTML files at or below `source`, one Document or Reject each.

    The id is the path relative to `source` (a single file's name), the title the page's own or the file's name without
    its suffix; the language is the one that an HTML page names. Files are UTF-8.
    """
    for found in walk(source, SUFFIXES):
        if isinstance(found, Reject):
            yield found
            continue
        try:
            page = _plain(decoded(read_bytes(found.path)), found.path.suffix.lower())
        except InvalidDocument as error:
            yield Reject(str(found.path), None, found.name, str(error))
            continue
        if not (page.text or page.title):
            yield Reject(str(found.path), None, found.name, "nothing to search: the file has no text")
            continue
        record = {"id": found.name, "title": page.title or found.path.stem, "text": page.text}
        yield document_or_reject(record | {"language": _language(page)}, found.path, None)


def _plain(text: str, suffix: str) -> Plain:
    if suffix in HTML:
        return html_to_text(text)
    return markdown_to_text(text) if suffix in MARKDOWN else Plain(text.strip())


def _language(page: Plain) -> str | None:
    """The language that a page names, where it is one: pages say `lang="none"` and worse, and are read all the same."""
    try:
        return canonical(page.language) if page.language else None
    except ValueError:
        return None
