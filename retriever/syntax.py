"""What is a keyword, a string, a comment in a piece of code: for colours on the page.

Lexers are Pygments'. Which one follows from the suffix of the document's `path`, among languages whose lexers are in
wide use: guessing reads the text with hundreds of lexers, and rare ones have regular expressions that hang.
"""

from collections.abc import Iterable, Iterator
from functools import cache, lru_cache
from itertools import groupby
from pathlib import PurePosixPath
from typing import TYPE_CHECKING, Literal, NamedTuple

if TYPE_CHECKING:
    from pygments.lexer import Lexer
    from pygments.token import _TokenType

SyntaxKind = Literal["keyword", "string", "comment", "number", "name", "builtin"]
Span = tuple[int, int, SyntaxKind]

# 20,000 code points of Python take 19 ms: what is longer is no function that anyone reads in a list of hits.
MOST_POINTS = 20_000
# Of all hits of one answer together.
MOST_POINTS_OF_ANSWER = 100_000

_LEXERS = {
    "bash": "sh bash",
    "c": "c h",
    "cpp": "cc cpp cxx hh hpp",
    "csharp": "cs",
    "css": "css",
    "go": "go",
    "html": "html htm",
    "java": "java",
    "javascript": "js mjs cjs jsx",
    "json": "json",
    "kotlin": "kt kts",
    "lua": "lua",
    "php": "php",
    "python": "py pyi",
    "ruby": "rb",
    "rust": "rs",
    "scala": "scala",
    "sql": "sql",
    "swift": "swift",
    "toml": "toml",
    "typescript": "ts tsx",
    "yaml": "yaml yml",
}
_LEXER_OF = {suffix: lexer for lexer, suffixes in _LEXERS.items() for suffix in suffixes.split()}


# Ten functions take 8 ms, three times their search; one who types asks for the same ones at every letter. A span takes
# 100 bytes, a function 100 spans, the longest text that is read 4,000.
_KEPT = 128


class Code(NamedTuple):
    """A piece of code and the path of its file, of which only the suffix counts."""

    text: str
    path: str


@lru_cache(_KEPT)
def spans(code: Code) -> tuple[Span, ...] | None:
    """(start, end, kind) in code points, ascending, without overlap; what is in none has no colour.

    None where no lexer is known for the path, or the text is longer than MOST_POINTS.
    """
    lexer = _lexer(PurePosixPath(code.path).suffix[1:].lower())
    if lexer is None or len(code.text) > MOST_POINTS:
        return None
    # The text as it is: `Lexer.get_tokens` would normalise line ends, and offsets count in the stored text.
    tokens = ((at, len(part), _kind(token)) for at, token, part in lexer.get_tokens_unprocessed(code.text))
    return tuple(_joined(tokens))


def spans_of_answer(codes: Iterable[Code | None]) -> Iterator[tuple[Span, ...] | None]:
    """`spans` of each, None for None, and None for all from where MOST_POINTS_OF_ANSWER are reached."""
    points = 0
    for code in codes:
        points += len(code.text) if code else 0
        yield spans(code) if code and points <= MOST_POINTS_OF_ANSWER else None


def _joined(tokens: Iterable[tuple[int, int, SyntaxKind | None]]) -> Iterator[Span]:
    """Neighbours of one kind as one span: the page makes an element of each."""
    for kind, group in groupby(tokens, key=lambda token: token[2]):
        members = list(group)
        if kind is not None:
            yield members[0][0], members[-1][0] + members[-1][1], kind


def _lexer(suffix: str) -> "Lexer | None":
    """A lexer of its own for each call: some keep what they are in the middle of."""
    name = _LEXER_OF.get(suffix)
    return None if name is None else _lexer_class(name)()


@cache
def _lexer_class(name: str) -> "type[Lexer]":
    from pygments.lexers import find_lexer_class_by_name

    return find_lexer_class_by_name(name)


@cache
def _kind(token: "_TokenType") -> SyntaxKind | None:
    """The kind of the nearest type above a token's that has one."""
    kinds, above = _kinds(), token
    while above.parent is not None and above not in kinds:
        above = above.parent
    return kinds.get(above)


@cache
def _kinds() -> "dict[_TokenType, SyntaxKind]":
    from pygments.token import Comment, Keyword, Name, Number, Operator, String

    return {
        Keyword: "keyword",
        Operator.Word: "keyword",
        Name.Tag: "keyword",
        String: "string",
        Comment: "comment",
        Number: "number",
        Name.Function: "name",
        Name.Class: "name",
        Name.Decorator: "name",
        Name.Attribute: "name",
        Name.Builtin: "builtin",
        Name.Exception: "builtin",
    }
