"""Text -> terms, for every language and for code; the same for what is indexed, asked and highlighted.

A text is cut alike whatever its language, so that one query can be analysed for many: runs of letters, digits and
underscores; in scripts that don't part words by spaces, and in Hangul, overlapping pairs of characters; every symbol by
itself. The language decides how a word is stemmed and folded. Measurements: docs/decisions/0003-text-analysis.md.
"""

import re
import threading
import unicodedata
from array import array
from collections.abc import Iterator, Sequence, Set
from functools import cache, lru_cache
from itertools import pairwise
from typing import NamedTuple

import regex
import Stemmer

from retriever.function_words import FUNCTION_WORDS
from retriever.recent import Recent

# Words with their marks and joiners, dotted names whole, "C++" and "C#"; a flag; any other symbol outside ASCII.
_CHUNK = regex.compile(
    r"(?V1)[\w\u00ad]+(?:\.\w+)*(?:(?<=\b[A-Za-z])(?:\+\+|\#)(?!\w))?|\p{RI}{2}"
    r"|[[\p{So}\p{Sc}\p{Sm}\p{Extended_Pictographic}]--[\x00-\x7f]]"
)
# What the same is where all is ASCII: three times as fast, in Python's own `re`.
_ASCII_CHUNK = re.compile(r"\w+(?:\.\w+)*(?:(?<=\b[A-Za-z])(?:\+\+|\#)(?!\w))?", re.ASCII)
_PAIRED = regex.compile(
    r"(?V1)[[\p{scx=Han}\p{scx=Hiragana}\p{scx=Katakana}\p{Hangul}\p{Thai}\p{Lao}\p{Khmer}\p{Myanmar}\p{Tibetan}]"
    r"&&[\p{L}\p{M}]]+"
)
_CHARACTER = regex.compile(r"\X")
_NAME = re.compile(r"[^.]+")
# getHTTPServers2 has the parts get, HTTP, Servers, 2; URLs is one part.
_PART = regex.compile(
    r"(?:\p{Lu}\p{M}*){2,}s(?![\p{Ll}\p{M}])|(?:\p{Lu}\p{M}*)+(?=\p{Lu}\p{M}*\p{Ll})"
    r"|(?:\p{Lu}\p{M}*)?[\p{Ll}\p{Lo}\p{Lm}][\p{Ll}\p{Lo}\p{Lm}\p{M}]*|(?:\p{Lu}\p{M}*)+|\p{N}+"
)
_ASCII_PART = re.compile(r"[A-Z]{2,}s(?![a-z])|[A-Z]+(?=[A-Z][a-z])|[A-Z]?[a-z]+|[A-Z]+|[0-9]+")

# Joiners, variation selectors, soft hyphens; Arabic tatweel and harakat; Hebrew points.
_DROPPED = regex.compile(
    r"[\u00ad\u200c\u200d\ufe0e\ufe0f\u0640\u064b-\u065f\u0670\u06d6-\u06ed\u0591-\u05bd\u05bf\u05c1\u05c2\u05c4\u05c5\u05c7]"
)
# What Unicode doesn't decompose, and letters of the Arabic script that writers and keyboards exchange.
_ALEFS = dict.fromkeys("أإآٱ", "\u0627")
_DOTLESS = "\u0131"
_EQUIVALENTS = {
    "ł": "l", "ø": "o", "đ": "d", "ħ": "h", "ŧ": "t", "æ": "ae", "œ": "oe", _DOTLESS: "i", "þ": "th", "ð": "d",
    "ى": "ي", "ی": "ي", "ئ": "ي", "ک": "ك", "ة": "\u0647", "ؤ": "و",
}  # fmt: skip

# Raise it with every change of what `terms` answers: indices of another version are made anew.
VERSION = 1

# A term ends here (a hash, an encoded blob): the index drops what is longer than 65,530 bytes.
MAX_TERM = 64
# What a function word of a question counts, where another word counts 1.
FUNCTION_WEIGHT = 0.3
# A query with fewer of them isn't put as a question: in "with statement" or "die hard" the word is the subject.
_FEWEST = 2
# What is analysed once: 16,384 chunks of at most so many characters, 10 MB of English, 40 MB of Japanese.
_CACHED_LENGTH = 16
# Queries of no more characters than these are kept for when they come again: 512, some 2 MB.
_CACHED_QUERY = 200
# Terms of whole texts, to highlight them again: bytes at most, which 2,700 English passages fill. Ten of those, of 390
# characters each: analysed 0.37 ms, kept 0.04 ms.
_RECENT_BYTES = 16 << 20

_STEMMERS = {
    "ar": "arabic", "ca": "catalan", "cs": "czech", "da": "danish", "de": "german", "el": "greek", "en": "english",
    "eo": "esperanto", "es": "spanish", "et": "estonian", "eu": "basque", "fa": "persian", "fi": "finnish",
    "fr": "french", "ga": "irish", "hi": "hindi", "hu": "hungarian", "hy": "armenian", "id": "indonesian",
    "it": "italian", "lt": "lithuanian", "nb": "norwegian", "ne": "nepali", "nl": "dutch", "nn": "norwegian",
    "no": "norwegian", "pl": "polish", "pt": "portuguese", "ro": "romanian", "ru": "russian", "sr": "serbian",
    "st": "sesotho", "sv": "swedish", "ta": "tamil", "tr": "turkish", "yi": "yiddish",
}  # fmt: skip

# Letters that a language's alphabet (its collation in CLDR) sets apart and that therefore keep their marks. Vietnamese
# keeps its tones too: they are the only difference of common words.
_LETTERS = {
    "az": "çğıöşü", "be": "йў", "bg": "й", "bs": "čćđšž", "cs": "čřšž", "da": "æøå", "eo": "ĉĝĥĵŝŭ", "es": "ñ",
    "et": "šžõäöü", "eu": "ñ", "fi": "åäö", "fo": "ðæø", "gl": "ñ", "hr": "čćđšž", "hu": "öőüű", "is": "ðþæö",
    "lt": "čšž", "lv": "čģķļņšž", "mk": "ѓќй", "nb": "æøå", "nn": "æøå", "no": "æøå", "pl": "ąćęłńóśźż", "ru": "й",
    "sk": "äčôšž", "sl": "čšž", "sq": "çë", "sr": "čćđšž", "sv": "åäö", "tr": "çğıöşü", "uk": "йїґ",
    "vi": "àáâãèéêìíòóôõùúýăđĩũơưạảấầẩẫậắằẳẵặẹẻẽếềểễệỉịọỏốồổỗộớờởỡợụủứừửữựỳỵỷỹ",
}  # fmt: skip


class Term(NamedTuple):
    """One term of a text; start, end: code points in that text."""

    text: str
    start: int
    end: int


class Word(NamedTuple):
    """A word of a query: its alternative forms over the candidate languages, and what it counts beside the others."""

    forms: tuple[str, ...]
    weight: float = 1.0


class _Rules(NamedTuple):
    """What of a language matters here; languages with equal rules share one analysis."""

    stemmer: str | None
    letters: str
    dotless: bool


class _Chunk(NamedTuple):
    """The terms of one chunk, places counted from its start.

    asked: without the single characters that a pair covers: they are indexed for queries of one character alone.
    joined: the texts of `indexed` with spaces between.
    """

    indexed: tuple[Term, ...]
    asked: tuple[Term, ...]
    joined: str


@cache
def _rules(language: str) -> _Rules:
    name = language.partition("-")[0]
    return _Rules(_STEMMERS.get(name), _LETTERS.get(name, ""), name in {"tr", "az"})


@cache
def _without_stemmer(rules: _Rules) -> _Rules:
    return rules._replace(stemmer=None)


def terms(text: str, language: str) -> list[Term]:
    """What is indexed for a text.

    language: canonical; of a regional tag the language counts, `und` and unknown ones are folded and not stemmed.
    """
    rules = _rules(language)
    return [
        Term(form, match.start() + start, match.start() + end)
        for match in _matches(_ASCII_CHUNK, _CHUNK, text)
        for form, start, end in _chunk(match.group(), rules).indexed
    ]


def joined_terms(text: str, language: str) -> str:
    """The texts of `terms`, with spaces between (no term holds one): twice as fast, for indexing."""
    rules = _rules(language)
    return " ".join(filter(None, [_chunk(chunk, rules).joined for chunk in _chunks(text)]))


def query_terms(text: str, languages: Sequence[str]) -> list[Word]:
    """The words of a query, each with its alternative forms over its candidate languages, in the order of the text.

    Terms of one place are alternatives of each other. A word that the query repeats is given as often. Function words,
    if there are two or more and other words besides, count less: BM25 tells by its frequency how little a word says,
    but in a small collection "how" and "I" are rare.
    """
    asked = text, tuple(languages)
    return list(_recent_words(*asked) if len(text) <= _CACHED_QUERY else _words_of(*asked))


@lru_cache(maxsize=512)
def _recent_words(text: str, languages: tuple[str, ...]) -> tuple[Word, ...]:
    return _words_of(text, languages)


def _words_of(text: str, languages: tuple[str, ...]) -> tuple[Word, ...]:
    candidates = list(dict.fromkeys(map(_rules, languages)))
    chunks = _chunks(text)
    function = _function_places(chunks, languages)
    words = [
        Word(forms, FUNCTION_WEIGHT if place in function else 1.0)
        for place, chunk in enumerate(chunks)
        for forms in _alternatives(chunk, candidates)
    ]
    return tuple(words if any(word.weight == 1 for word in words) else [Word(word.forms) for word in words])


def _alternatives(chunk: str, candidates: Sequence[_Rules]) -> list[tuple[str, ...]]:
    places: dict[tuple[int, int], dict[str, None]] = {}
    for rules in candidates:
        for form, start, end in _chunk(chunk, rules).asked:
            places.setdefault((start, end), {})[form] = None
    return [tuple(forms) for forms in places.values()]


def _function_places(chunks: Sequence[str], languages: Sequence[str]) -> set[int]:
    """Where the function words are, by the candidate language that knows most of them (by all of those that tie)."""
    names = {language.partition("-")[0] for language in languages} & FUNCTION_WORDS.keys()
    found = [{place for place, chunk in enumerate(chunks) if _is_function_word(chunk, name)} for name in names]
    most = max(map(len, found), default=0)
    places = set.intersection(*(places for places in found if len(places) == most)) if most >= _FEWEST else set()
    return places if len(places) >= _FEWEST else set()


@lru_cache(maxsize=1 << 14)
def _is_function_word(chunk: str, language: str) -> bool:
    return _unstemmed(chunk, language) in _function_words(language)


@cache
def _function_words(language: str) -> frozenset[str]:
    return frozenset(_unstemmed(word, language) for word in FUNCTION_WORDS[language])


def _unstemmed(word: str, language: str) -> str:
    return _form(word, _without_stemmer(_rules(language)))


def marked_forms(query: Sequence[Word]) -> frozenset[str]:
    """What `highlights` marks of a query (from `query_terms`).

    Words that count less than others aren't marked: "how" and "do" show nobody why a passage was found.
    """
    return frozenset([form for word in query if word.weight == 1 for form in word.forms])


def highlights(text: str, language: str, marked: Set[str]) -> list[tuple[int, int]]:
    """The spans of `text`, in code points, where a term is one of `marked`: ascending, touching ones merged."""
    forms, starts, ends = _recent_terms.get((text, _rules(language)), _columns)
    spans: list[tuple[int, int]] = []
    for start, end in sorted([(starts[place], ends[place]) for place, form in enumerate(forms) if form in marked]):
        if spans and start <= spans[-1][1]:
            spans[-1] = (spans[-1][0], max(end, spans[-1][1]))
        else:
            spans.append((start, end))
    return spans


class _Terms(NamedTuple):
    """What `terms` answers, in columns."""

    forms: tuple[str, ...]
    starts: "array[int]"
    ends: "array[int]"


def _columns(asked: tuple[str, _Rules]) -> _Terms:
    text, rules = asked
    forms, starts, ends = [], array("I"), array("I")
    for match in _matches(_ASCII_CHUNK, _CHUNK, text):
        offset = match.start()
        for form, start, end in _chunk(match.group(), rules).indexed:
            forms.append(form)
            starts.append(offset + start)
            ends.append(offset + end)
    return _Terms(tuple(forms), starts, ends)


def _chunks(text: str) -> list[str]:
    found: list[str] = _ASCII_CHUNK.findall(text) if text.isascii() else _CHUNK.findall(text, concurrent=False)
    return found


def _matches(ascii_pattern: re.Pattern[str], pattern: "regex.Pattern[str]", text: str) -> "Iterator[re.Match[str]]":
    """Of a pattern and what is the same where all is ASCII.

    `regex` gives the GIL away at every match unless told not to: with six threads that highlight, a search was switched
    away from 490 times, and 32 clients got half of what one did.
    """
    matches: Iterator[re.Match[str]] = (
        ascii_pattern.finditer(text) if text.isascii() else pattern.finditer(text, concurrent=False)
    )
    return matches


def _bytes(asked: tuple[str, _Rules], found: _Terms) -> int:
    """About what an entry takes: its frame, its text, and for each term two places and a string of its own."""
    return 500 + 2 * len(asked[0]) + 80 * len(found.forms)


_recent_terms: Recent[tuple[str, _Rules], _Terms] = Recent(_RECENT_BYTES, _bytes)


def _chunk(chunk: str, rules: _Rules) -> _Chunk:
    return _cached_chunk(chunk, rules) if len(chunk) <= _CACHED_LENGTH else _analyse(chunk, rules)


@lru_cache(maxsize=1 << 14)
def _cached_chunk(chunk: str, rules: _Rules) -> _Chunk:
    return _analyse(chunk, rules)


def _analyse(chunk: str, rules: _Rules) -> _Chunk:
    asked: list[Term] = []
    covered: list[Term] = []
    position = 0
    for run in () if chunk.isascii() else _PAIRED.finditer(chunk, concurrent=False):
        asked += _words(chunk[position : run.start()], position, rules)
        singles, pairs = _pairs(run.group(), run.start())
        asked += pairs or singles
        covered += singles if pairs else ()
        position = run.end()
    asked += _words(chunk[position:], position, rules)
    indexed = (*asked, *covered)
    return _Chunk(indexed, tuple(asked), " ".join(term.text for term in indexed))


def _words(chunk: str, offset: int, rules: _Rules) -> Iterator[Term]:
    """A dotted name whole, each name in it, and the parts of a name that has several."""
    names = list(_NAME.finditer(chunk))
    if len(names) > 1:
        yield Term(_form(chunk, _without_stemmer(rules)), offset, offset + len(chunk))
        if all(name.group().isdecimal() for name in names):
            return
    for name in names:
        first = name.start()
        parts = [(first + part.start(), first + part.end()) for part in _matches(_ASCII_PART, _PART, name.group())]
        for start, end in dict.fromkeys((name.span(), *parts)):
            form = _form(chunk[start:end], rules)
            if form.strip("_"):
                yield Term(form, offset + start, offset + end)


def _pairs(run: str, offset: int) -> tuple[list[Term], list[Term]]:
    """The characters (grapheme clusters) of a run, and its overlapping pairs of them."""
    singles = [
        Term(_character(cluster.group()), offset + cluster.start(), offset + cluster.end())
        for cluster in _CHARACTER.finditer(run, concurrent=False)
    ]
    pairs = [Term(a.text + b.text, a.start, b.end) for a, b in pairwise(singles)]
    return [single for single in singles if single.text], pairs


@lru_cache(maxsize=1 << 14)
def _character(cluster: str) -> str:
    return _form(cluster, _Rules(None, "", dotless=False))


def _form(word: str, rules: _Rules) -> str:
    """The word in plain form, stemmed, then folded: a stemmer needs the accents of its language."""
    if rules.dotless:
        word = unicodedata.normalize("NFC", word).replace("I", _DOTLESS).replace("İ", "i")
    plain = word.lower() if word.isascii() else _plain(word)
    stem = _stem(plain, rules.stemmer) if rules.stemmer else plain
    return (stem if stem.isascii() else stem.translate(_folding(rules.letters)))[:MAX_TERM]


def _plain(word: str) -> str:
    """Compatibility forms replaced, lower case, ASCII digits, marks of the Arabic and Hebrew scripts dropped."""
    folded = unicodedata.normalize("NFKC", unicodedata.normalize("NFKC", word).casefold())
    return "".join(folded.translate(_PLAIN).split())


_of_thread = threading.local()


def _stem(word: str, algorithm: str) -> str:
    # A Stemmer serves one thread at a time. Behind a lock, six threads that highlighted had 470 switches a search.
    stemmers: dict[str, Stemmer.Stemmer] = _of_thread.__dict__
    if algorithm not in stemmers:
        stemmers[algorithm] = Stemmer.Stemmer(algorithm, 0)  # no cache of its own: `_cached_chunk` is one
    stem: str = stemmers[algorithm].stemWord(word)
    return stem


class _Plain(dict[int, str]):
    """A table for str.translate that fills itself: one character -> its plain form."""

    def __missing__(self, code_point: int) -> str:
        character = chr(code_point)
        if _DROPPED.match(character):
            plain = ""
        elif character.isdecimal():
            plain = str(unicodedata.decimal(character))
        else:
            plain = _ALEFS.get(character, character)
        self[code_point] = plain
        return plain


class _Folding(dict[int, str]):
    """A table for str.translate that fills itself: one character -> it without accents, but for `letters`."""

    def __init__(self, letters: str) -> None:
        super().__init__()
        self._letters = letters

    def __missing__(self, code_point: int) -> str:
        character = chr(code_point)
        if character in self._letters:
            folded = character
        else:
            folded = _EQUIVALENTS.get(character) or self._without_accents(character)
        self[code_point] = folded
        return folded

    def _without_accents(self, character: str) -> str:
        """Without the marks for Latin, Greek and Cyrillic, but for one that makes a letter (é̄ ... in another order)."""
        kept = ""
        for mark in unicodedata.normalize("NFD", character):
            letter = unicodedata.normalize("NFC", kept + mark)
            if letter in self._letters or not "\u0300" <= mark <= "\u036f":
                kept = letter
        return kept


_PLAIN = _Plain()


@cache
def _folding(letters: str) -> _Folding:
    return _Folding(letters)
