"""HTML and Markdown as plain text: what a reader sees, without the markup, a blank line between paragraphs."""

import functools
import re
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from markdown_it import MarkdownIt
    from markdown_it.token import Token
    from selectolax.lexbor import LexborNode


@dataclass(frozen=True, slots=True)
class Plain:
    """A text without its markup, its title ("" where it has none) and the language that it names, if it does."""

    text: str
    title: str = ""
    language: str | None = None


# Elements whose content isn't read as text, those that are a paragraph, those that are a line, and table cells.
_UNSEEN = frozenset({"head", "script", "style", "template", "noscript", "svg", "math", "object", "select", "textarea"})
_HEADINGS = frozenset({"h1", "h2", "h3", "h4", "h5", "h6"})
_PARAGRAPHS = _HEADINGS | {
    "address", "article", "aside", "blockquote", "body", "details", "div", "dl", "fieldset", "figcaption", "figure",
    "footer", "form", "header", "hr", "main", "nav", "ol", "p", "pre", "section", "summary", "table", "ul",
}  # fmt: skip
_LINES = frozenset({"caption", "dd", "dt", "li", "option", "tr"})
_BREAKS = dict.fromkeys(_PARAGRAPHS, "\n\n") | dict.fromkeys(_LINES, "\n") | {"td": " ", "th": " "}


def html_to_text(source: str) -> Plain:
    """The text of an HTML page; its title is its <title>, else its first heading, its language that of <html>."""
    # Not the standard library's parser: some pages of 150 KB take it minutes.
    from selectolax.lexbor import LexborHTMLParser

    page = LexborHTMLParser(source)
    root = page.root
    if root is None:
        return Plain("")
    titles = [page.css_first("head title"), *page.css(", ".join(sorted(_HEADINGS)))]
    title = next((words for node in titles if node and (words := " ".join(node.text().split()))), "")
    return Plain(tidy("".join(_pieces(root))), title, root.attributes.get("lang") or None)


def _pieces(root: "LexborNode") -> Iterator[str]:
    """The text of an element, with line ends around the elements that a browser puts on lines of their own."""
    preformatted = 0
    last = "\n"
    for node, entering in _walk(root):
        preformatted += (node.tag == "pre") * (1 if entering else -1)
        if node.is_text_node:
            piece = node.text_content or ""
            piece = piece if preformatted else re.sub(r"\s+", " ", piece)
        elif node.tag == "br":
            piece = "\n" if entering else ""
        else:
            piece = _BREAKS.get(node.tag or "", "")
            piece = "" if piece == last == "\n" else piece
        if last in " \n" and not preformatted:
            piece = piece.lstrip(" ")
        if piece:
            yield piece
            last = piece[-1]


def _walk(root: "LexborNode") -> "Iterator[tuple[LexborNode, bool]]":
    """Each node that is seen, when it is entered (True) and, but for texts, when it is left (False).

    Not recursive: pages nest deeper than Python's stack.
    """
    node = root
    while True:
        yield node, True
        if node.child is not None and node.tag not in _UNSEEN:
            node = node.child
            continue
        while True:
            if not node.is_text_node:
                yield node, False
            if node.mem_id == root.mem_id or node.parent is None:
                return
            if node.next is not None:
                break
            node = node.parent
        node = node.next


def tidy(text: str) -> str:
    """The text without spaces at line ends, with at most one blank line in a row and none around it."""
    lines = "\n".join(line.rstrip() for line in text.split("\n"))
    return re.sub(r"\n{3,}", "\n\n", lines).strip()


def markdown_to_text(source: str) -> Plain:
    """The text of a CommonMark page with tables, without front matter.

    Its title is its first heading, which leaves the text where it opens it: a passage gets the title before it anyway.
    """
    tokens = _markdown().parse(without_front_matter(source))
    heading = next((number for number, token in enumerate(tokens) if token.type == "heading_open"), None)
    title = "" if heading is None else " ".join(_inline(tokens[heading + 1].children or []).split())
    body = tokens[3:] if heading == 0 else tokens
    return Plain(tidy("".join(_blocks(body))), title)


def without_front_matter(source: str) -> str:
    """Markdown without the YAML (---) or TOML (+++) block that opens it."""
    return re.sub(r"\A(---|\+\+\+)[ \t]*\n(?:.*\n)*?(?:\1|\.\.\.)[ \t]*(?:\n|\Z)", "", source)


@functools.cache
def _markdown() -> "MarkdownIt":
    from markdown_it import MarkdownIt

    # CommonMark's preset drops what is nested more than 20 deep.
    return MarkdownIt("commonmark", {"maxNesting": 100}).enable(["table", "strikethrough"])


def _blocks(tokens: "Sequence[Token]") -> Iterator[str]:
    for token in tokens:
        if token.type == "inline":
            yield _inline(token.children or [])
        elif token.type in {"fence", "code_block"}:
            yield token.content + "\n"
        elif token.type == "html_block":
            yield html_to_text(token.content).text + "\n\n"
        elif token.type in {"th_close", "td_close"}:
            yield " "
        elif token.type == "tr_close" or token.hidden:
            yield "\n" if token.nesting < 0 else ""
        elif token.type in {
            "paragraph_close",
            "heading_close",
            "table_close",
            "bullet_list_close",
            "ordered_list_close",
        }:
            yield "\n\n"


def _inline(tokens: "Sequence[Token]") -> str:
    pieces = []
    for token in tokens:
        if token.type in {"text", "code_inline"}:
            pieces.append(token.content)
        elif token.type in {"softbreak", "hardbreak"}:
            pieces.append("\n")
        elif token.type == "image":
            pieces.append(_inline(token.children or []))
    return "".join(pieces)
