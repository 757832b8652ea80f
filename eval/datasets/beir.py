"""BEIR folders: `corpus.jsonl`, `queries.jsonl`, `qrels/<split>.tsv`, each also compressed.

Thakur et al. 2021 (arXiv 2104.08663). A folder of such folders is one dataset, a task for each, with their mean:
CQADupStack's forums, and Mr. TyDi's (arXiv 2108.08787) and MIRACL's (arXiv 2210.09984) languages.
"""

import re
from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from eval.datasets.files import Folder, Line, at, common, items, judgements
from eval.datasets.options import wanted_languages, wanted_splits
from eval.tasks import Dataset, Items, Judgements, Task
from retriever.errors import InvalidData
from retriever.languages import canonical

Places = NDArray[np.int64]

CORPUS, QUERIES = "corpus.jsonl", "queries.jsonl"
# Their queries are documents of the corpus, which BEIR leaves out of their own results.
IGNORING = frozenset({"arguana", "quora"})
# Mr. TyDi's folders.
_NAMED = {
    "arabic": "ar", "bengali": "bn", "english": "en", "finnish": "fi", "indonesian": "id", "japanese": "ja",
    "korean": "ko", "russian": "ru", "swahili": "sw", "telugu": "te", "thai": "th",
}  # fmt: skip
_QRELS = "a line of qrels is: query-id TAB corpus-id TAB score"
_RELEASE = "see that both files are of one release"


def read(path: Path, *, split: str | None = None, languages: Sequence[str] | None = None) -> list[Dataset]:
    """One dataset: a folder's splits, or the folders in it. split: `test` where it is None, several with commas.

    languages: which of the folders are read, where each is a language's. Raises InvalidData with file, line and id.
    """
    root = Folder(path)
    splits = wanted_splits(split, "test")
    if root.has(CORPUS):
        wanted_languages(languages, [], root.name)
        return [_dataset(root, _tasks(root, "", splits), {})]
    inside = _below(root, languages)
    tasks = {
        name: _tasks(root, f"{name}/", splits, language=language, prefix=name) for name, language in inside.items()
    }
    groups = {
        "mean" if len(splits) == 1 else f"mean-{split}": [several[place].name for several in tasks.values()]
        for place, split in enumerate(splits)
        if len(tasks) > 1
    }
    return [_dataset(root, [task for several in tasks.values() for task in several], groups)]


def _dataset(root: Folder, tasks: Sequence[Task], groups: dict[str, list[str]]) -> Dataset:
    return Dataset(root.name, tasks, groups=groups, files=root.checksums)


def _below(root: Folder, languages: Sequence[str] | None) -> dict[str, str | None]:
    """The folders in BEIR's form, and their languages where all are named by one."""
    names = [name.partition("/")[0] for name in root.matching(f"*/{CORPUS}")]
    if not names:
        raise InvalidData(
            f"{root.name} has no {CORPUS}, and no folder in it has one",
            hint="give a folder in BEIR's form, or one of such folders",
            path=root.path,
        )
    tags = [_language(name) for name in names]
    if None in tags:
        wanted_languages(languages, [], root.name)
        return dict.fromkeys(names)
    kept = wanted_languages(languages, [tag for tag in tags if tag], root.name)
    return {name: tag for name, tag in zip(names, tags, strict=True) if tag in kept}


def _language(name: str) -> str | None:
    try:
        return _NAMED.get(name.lower()) or canonical(name)
    except ValueError:
        return None


def _tasks(
    root: Folder, inside: str, splits: Sequence[str], *, language: str | None = None, prefix: str = ""
) -> list[Task]:
    texts = read_texts(root, inside, language=language)
    ignores = not IGNORING.isdisjoint(re.split(r"[^a-z]+", (prefix or root.name).lower()))
    return [
        replace(task(root, texts, split), name=_name(prefix, split, splits), ignores_same_id=ignores)
        for split in splits
    ]


def _name(prefix: str, split: str, splits: Sequence[str]) -> str:
    if not prefix:
        return split
    return prefix if len(splits) == 1 else f"{prefix}-{split}"


@dataclass(frozen=True)
class Texts:
    """The texts of a folder. inside: where it is in the dataset's. queries: all of them, judged or not."""

    inside: str
    queries: Items
    corpus: Items


def read_texts(root: Folder, inside: str = "", *, language: str | None = None, code: bool = False) -> Texts:
    """language: of texts that don't name their own. code: whether the corpus' own tags name programming languages."""
    queries = items(root.records(inside + QUERIES))
    corpus = items(root.records(inside + CORPUS), tagged=not code)
    return Texts(inside, _spoken(queries, language), _spoken(corpus, language))


def _spoken(items: Items, language: str | None) -> Items:
    return replace(items, languages=(language,) * len(items)) if language and not items.languages else items


def task(root: Folder, texts: Texts, split: str) -> Task:
    """The queries that a split judges, and all documents."""
    queries, judged = chosen(texts.queries, read_qrels(root, texts, split))
    languages = common(queries.languages), common(texts.corpus.languages)
    return Task(split, "search", queries, texts.corpus, judged, *languages)


def chosen(queries: Items, judged: Judgements) -> tuple[Items, Judgements]:
    """The queries that are judged, in their own order, and their judgements."""
    places = np.unique(judged.query)
    return at(queries, places.tolist()), replace(judged, query=np.searchsorted(places, judged.query))


def read_qrels(root: Folder, texts: Texts, split: str) -> Judgements:
    """A split's, by places in `texts`. Raises InvalidData."""
    name = f"{texts.inside}qrels/{split}.tsv"
    if not root.has(name) and (splits := qrels_of(root, texts.inside)):
        raise InvalidData(f"{root.name}/{texts.inside} has no split {split}", hint=f"it has {', '.join(splits)}")
    query = {identifier: place for place, identifier in enumerate(texts.queries.ids)}
    document = {identifier: place for place, identifier in enumerate(texts.corpus.ids)}
    grades: dict[tuple[int, int], int] = {}
    for line in root.lines(name):
        parts = line.text.split("\t")
        if not line.text.strip() or (line.number == 1 and parts[-1] == "score"):
            continue
        if len(parts) != 3:
            raise line.error(f"{len(parts)} columns", _QRELS)
        pair = _place(query, parts[0], line, QUERIES), _place(document, parts[1], line, CORPUS)
        if pair in grades:
            raise line.error(f"{parts[0]} and {parts[1]} were judged before", "a pair is judged once")
        grades[pair] = _grade(line, parts[2])
    if not grades:
        raise InvalidData(f"{root.name}/{name} judges nothing", hint=_QRELS)
    pairs = list(grades)
    return judgements([query for query, _ in pairs], [document for _, document in pairs], list(grades.values()))


def _place(places: dict[str, int], identifier: str, line: Line, file: str) -> int:
    if identifier not in places:
        what = "query" if file == QUERIES else "document"
        raise line.error(f"{file} has no {what} {identifier}", _RELEASE)
    return places[identifier]


def _grade(line: Line, text: str) -> int:
    try:
        return int(text)
    except ValueError:
        raise line.error(f"{text!r} is no whole number", _QRELS) from None


def qrels_of(root: Folder, inside: str = "") -> list[str]:
    """The splits that there are."""
    return [Path(name).stem for name in root.matching(f"{inside}qrels/*.tsv")]
