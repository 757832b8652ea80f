"""A long text -> passages that an encoder reads whole, as spans of the text; borders between sentences.

Sentences come from `sentencex` (terminators and abbreviations of some 300 languages; its pieces joined are the text).
Of a sentence that is longer than a passage may be, the lines are the pieces, then the clauses, the words, at last equal
runs of characters. Pieces are counted in few batches; passages are packed by these counts, then counted themselves.
"""

from collections.abc import Callable, Iterable, Iterator, Sequence
from functools import partial
from itertools import pairwise
from math import ceil
from typing import NamedTuple

import regex

Span = tuple[int, int]
Count = Callable[[Sequence[str]], Sequence[int]]

# What ends a line; a clause (not the comma of 1,000); a word.
_BORDERS = (
    regex.compile(r"[\r\n\u2028\u2029]+"),
    regex.compile(r"[,;:\u060c\u061b\u3001\uff0c\uff1a\uff1b](?!\d)\p{Pf}?\s*"),
    regex.compile(r"\s+"),
)
_CHARACTER = regex.compile(r"\X")
# A text of at most so many characters a token may well be one passage: it is counted as a whole first.
_SHORT = 4


class _Piece(NamedTuple):
    """A part of the text that is not cut again; tokens: its count alone."""

    start: int
    end: int
    tokens: int


def split(text: str, *, limit: int, overlap: int, count: Count, language: str = "und") -> list[Span]:
    """The passages of a text: ascending spans in code points, each of at most `limit` tokens.

    Every character that isn't white space is in a passage, and none starts or ends with white space; white space alone
    gives none. Neighbours share whole sentences (or pieces of one that was cut), as near to `overlap` tokens as those
    allow. A character of more than `limit` tokens is a passage all the same.
    count: the tokens of each text, without special ones. language: canonical; its abbreviations don't end a sentence.
    Raises ValueError unless 0 <= overlap < limit.
    """
    if not 0 <= overlap < limit:
        raise ValueError(f"overlap must be at least 0 and below limit, got overlap {overlap} and limit {limit}")
    whole = _trimmed(text, 0, len(text))
    if whole is None:
        return []
    if len(text) <= _SHORT * limit and count([text[whole[0] : whole[1]]])[0] <= limit:
        return [whole]
    packed = list(_packed(_pieces(text, limit, count, language), limit, overlap))
    return _within(limit, text, packed, count)


def _pieces(text: str, limit: int, count: Count, language: str) -> list[_Piece]:
    """Sentences, and finer pieces of what is longer than `limit`."""
    pieces = _counted(text, _sentences(text, language), count)
    for border in _BORDERS:
        pieces = _finer(text, pieces, limit, count, partial(_ends, text, border))
    while (finer := _finer(text, pieces, limit, count, partial(_runs, text, limit))) != pieces:
        pieces = finer
    return pieces


def _sentences(text: str, language: str) -> Iterator[Span]:
    """Sentences by sentencex, found again in the text: of more than 10,000 characters it drops some blank lines."""
    import sentencex

    end = 0
    for sentence in sentencex.segment(language, text):
        start = text.index(sentence, end)
        end = start + len(sentence)
        yield start, end


def _finer(
    text: str, pieces: list[_Piece], limit: int, count: Count, cuts: Callable[[_Piece], Iterable[int]]
) -> list[_Piece]:
    """The pieces, each that is longer than `limit` cut at the places that `cuts` names."""
    long = [piece for piece in pieces if piece.tokens > limit]
    if not long:
        return pieces
    spans = [span for piece in long for span in pairwise((piece.start, *cuts(piece), piece.end))]
    return sorted([piece for piece in pieces if piece.tokens <= limit] + _counted(text, spans, count))


def _counted(text: str, spans: Iterable[Span], count: Count) -> list[_Piece]:
    trimmed = [span for start, end in spans if (span := _trimmed(text, start, end))]
    tokens = count([text[start:end] for start, end in trimmed])
    return [_Piece(start, end, int(number)) for (start, end), number in zip(trimmed, tokens, strict=True)]


def _trimmed(text: str, start: int, end: int) -> Span | None:
    """The span without white space at its ends; None where nothing is left."""
    part = text[start:end]
    inner = part.strip()
    first = start + len(part) - len(part.lstrip())
    return (first, first + len(inner)) if inner else None


def _ends(text: str, border: "regex.Pattern[str]", piece: _Piece) -> list[int]:
    return [match.end() for match in border.finditer(text, piece.start, piece.end) if match.end() < piece.end]


def _runs(text: str, limit: int, piece: _Piece) -> list[int]:
    """Places that cut a piece into runs of equally many characters (grapheme clusters), as many as its tokens need."""
    starts = [match.start() for match in _CHARACTER.finditer(text, piece.start, piece.end)]
    number = min(len(starts), ceil(piece.tokens / limit))
    return [starts[len(starts) * part // number] for part in range(1, number)]


def _packed(pieces: list[_Piece], limit: int, overlap: int) -> Iterator[list[_Piece]]:
    """As many pieces as fit into each passage; it repeats the last ones of the passage before."""
    first, tokens = 0, 0
    for place, piece in enumerate(pieces):
        if place > first and tokens + piece.tokens > limit:
            yield pieces[first:place]
            first, tokens = _shared(pieces, first + 1, place, overlap, limit - piece.tokens)
        tokens += piece.tokens
    yield pieces[first:]


def _shared(pieces: list[_Piece], least: int, end: int, overlap: int, room: int) -> Span:
    """Where the pieces before `end` start that come nearest to `overlap` tokens, and their tokens, at most `room`."""
    start, tokens = end, 0
    while start > least and tokens < overlap:
        more = pieces[start - 1].tokens
        if tokens + more > room or tokens + more / 2 > overlap:
            break
        start, tokens = start - 1, tokens + more
    return start, tokens


def _within(limit: int, text: str, passages: list[list[_Piece]], count: Count) -> list[Span]:
    """The passages' spans; one that has more tokens than its pieces had one by one is halved until it fits.

    What a neighbour then holds as a whole is left out.
    """
    while True:
        spans = [(passage[0].start, passage[-1].end) for passage in passages]
        tokens = count([text[start:end] for start, end in spans])
        long = [number > limit and len(passage) > 1 for number, passage in zip(tokens, passages, strict=True)]
        if not any(long):
            return _maximal(spans)
        passages = [
            part
            for passage, too_long in zip(passages, long, strict=True)
            for part in ((passage[: len(passage) // 2], passage[len(passage) // 2 :]) if too_long else (passage,))
        ]


def _maximal(spans: list[Span]) -> list[Span]:
    """The spans, ascending, that no other holds."""
    result: list[Span] = []
    for span in sorted(spans, key=lambda span: (span[0], -span[1])):
        if not result or span[1] > result[-1][1]:
            result.append(span)
    return result
