"""Tatoeba: sentences and their translations, searched both ways. Artetxe & Schwenk 2019 (arXiv 1812.10464).

Two layouts: LASER's, files `tatoeba.<code>-eng.<code>` and `tatoeba.<code>-eng.eng` whose lines belong together; and
files `pairs/<code>-eng.tsv`. Codes are the publisher's (ISO 639-3), and tasks are named by them: two of them, `dtp` and
`kzj`, mean one language today. Sentences that are there twice count by their text: each of them is right.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from eval.datasets.files import Folder, Line, at, judgements, same_group, same_length, tag_of
from eval.datasets.options import wanted_languages, wanted_pairs
from eval.tasks import Dataset, Items, Judgements, Task
from retriever.errors import InvalidData, InvalidRequest

ENGLISH = "eng"
# Of XTREME (Hu et al. 2020, arXiv 2003.11080), whose mean is the one most published.
XTREME = frozenset({
    "afr", "ara", "ben", "bul", "cmn", "deu", "ell", "est", "eus", "fin", "fra", "heb", "hin", "hun", "ind", "ita",
    "jav", "jpn", "kat", "kaz", "kor", "mal", "mar", "nld", "pes", "por", "rus", "spa", "swh", "tam", "tel", "tgl",
    "tha", "tur", "urd", "vie",
})  # fmt: skip
_COLUMNS = "a line is: sentence TAB its English translation"


@dataclass(frozen=True)
class Pairs:
    """Sentences of one language and their English translations, line by line."""

    code: str
    tag: str
    sentences: tuple[str, ...]
    english: tuple[str, ...]

    @cached_property
    def items(self) -> Items:
        """The sentences."""
        return _items(self.code, self.tag, self.sentences)

    @cached_property
    def english_items(self) -> Items:
        """The translations."""
        return _items(ENGLISH, "en", self.english)


def _items(code: str, tag: str, texts: tuple[str, ...]) -> Items:
    return Items(tuple(f"{code}:{line}" for line in range(1, len(texts) + 1)), texts, languages=(tag,) * len(texts))


def read(path: Path, *, languages: Sequence[str] | None = None, pairs: Sequence[str] | None = None) -> list[Dataset]:
    """One dataset, two tasks for each language. languages: which are read. pairs: `deu-fra` instead, through English
    sentences that both have; `deu-eng` is one as well. Raises InvalidData with file and line, InvalidRequest.
    """
    if languages is not None and pairs is not None:
        raise InvalidRequest("languages and pairs can't be asked for together", hint="pairs name their languages")
    folder = Folder(path)
    codes = _codes(folder)
    if pairs is not None:
        return [Dataset(folder.name, _of_pairs(folder, codes, pairs), files=folder.checksums)]
    kept = wanted_languages(languages, codes, folder.name)
    tasks = [task for code in kept for task in _both_ways(_read(folder, code))]
    return [Dataset(folder.name, tasks, groups=_groups(kept), files=folder.checksums)]


def _groups(codes: Sequence[str]) -> dict[str, list[str]]:
    chosen = {"": codes}
    if set(codes) > XTREME:
        chosen[f" of {len(XTREME)}"] = [code for code in codes if code in XTREME]
    return {
        f"{name}{which}": [form.format(code) for code in some]
        for which, some in chosen.items()
        for name, form in (("to English", f"{{}}-{ENGLISH}"), ("from English", f"{ENGLISH}-{{}}"))
        if len(some) > 1
    }


# -- files


def _codes(folder: Folder) -> list[str]:
    laser = [name.split(".")[1] for name in folder.matching(f"tatoeba.*-{ENGLISH}.{ENGLISH}")]
    codes = laser or [Path(name).stem for name in folder.matching(f"pairs/*-{ENGLISH}.tsv")]
    if not codes:
        raise InvalidData(
            f"{folder.name} has neither tatoeba.deu-eng.deu nor pairs/deu-eng.tsv",
            hint="give the folder of LASER's files, or the one in which pairs lies",
            path=folder.path,
        )
    return [code.removesuffix(f"-{ENGLISH}") for code in codes]


def _read(folder: Folder, code: str) -> Pairs:
    names = [f"tatoeba.{code}-{ENGLISH}.{side}" for side in (code, ENGLISH)]
    if folder.has(names[1]):
        sides = {name: folder.texts(name) for name in names}
        same_length(sides)
        rows = [(one, one.text.strip(), other.text.strip()) for one, other in zip(*sides.values(), strict=True)]
    else:
        rows = [_columns(line) for line in folder.lines(f"pairs/{code}-{ENGLISH}.tsv")]
    if not rows:
        raise InvalidData(f"{folder.name} has no sentences in {code}", hint=_COLUMNS, path=folder.path)
    lines, sentences, english = zip(*rows, strict=True)
    return Pairs(code, tag_of(lines[0], code), sentences, english)


def _columns(line: Line) -> tuple[Line, str, str]:
    parts = [part.strip() for part in line.text.split("\t")]
    if len(parts) != 2:
        raise line.error(f"{len(parts)} columns", _COLUMNS)
    if not all(parts):
        raise line.error("a side is empty", _COLUMNS)
    return line, parts[0], parts[1]


# -- tasks


def _both_ways(pairs: Pairs) -> list[Task]:
    same = np.arange(len(pairs.sentences))
    return _two_tasks(pairs.items, pairs.english_items, same, same, (pairs.code, ENGLISH), (pairs.tag, "en"))


def _of_pairs(folder: Folder, codes: Sequence[str], wanted: Sequence[str]) -> list[Task]:
    known = [*codes, ENGLISH]
    asked = wanted_pairs(wanted, known, known, folder.name)
    read = {
        code: _read(folder, code) for code in dict.fromkeys(code for pair in asked for code in pair) if code != ENGLISH
    }
    tasks: dict[str, Task] = {}
    for one, other in asked:
        if one == other:
            raise InvalidRequest(f"{one}-{other} is one language", hint="a pair is of two")
        if ENGLISH in (one, other):
            found = _both_ways(read[other if one == ENGLISH else one])
        else:
            found = _through_english(read[one], read[other])
        tasks.update({task.name: task for task in found})
    return list(tasks.values())


def _through_english(one: Pairs, other: Pairs) -> list[Task]:
    """The sentences whose English translations are among the other's."""
    shared = set(one.english) & set(other.english)
    if not shared:
        raise InvalidRequest(
            f"{one.code} and {other.code} share no English sentence", hint="ask for another pair of languages"
        )
    rows, columns = ([row for row, text in enumerate(each.english) if text in shared] for each in (one, other))
    number = {text: place for place, text in enumerate(sorted(shared))}
    return _two_tasks(
        at(one.items, rows),
        at(other.items, columns),
        np.array([number[one.english[row]] for row in rows]),
        np.array([number[other.english[column]] for column in columns]),
        (one.code, other.code),
        (one.tag, other.tag),
    )


def _two_tasks(
    one: Items, other: Items, groups: NDArray[np.int64], others: NDArray[np.int64], codes: tuple[str, str],
    tags: tuple[str, str],
) -> list[Task]:  # fmt: skip
    """Both directions. groups, others: translations of each other have the same number."""
    return [
        Task(f"{codes[0]}-{codes[1]}", "bitext", one, other, _right(groups, others, other), *tags),
        Task(f"{codes[1]}-{codes[0]}", "bitext", other, one, _right(others, groups, one), tags[1], tags[0]),
    ]


def _right(queries: NDArray[np.int64], documents: NDArray[np.int64], items: Items) -> Judgements:
    """The translations of each query, and every document with the text of one."""
    numbers: dict[str, int] = {}
    text = np.array([numbers.setdefault(text, len(numbers)) for text in items.texts])
    judged = same_group(queries, documents)
    pairs = np.unique(np.stack([judged.query, text[judged.document]], axis=1), axis=0)
    every = same_group(pairs[:, 1], text)
    return judgements(pairs[every.query, 0], every.document)
