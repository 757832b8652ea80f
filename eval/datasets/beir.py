"""BEIR folders: `corpus.jsonl`, `queries.jsonl`, `qrels/<split>.tsv`, each also with `.gz`.

Thakur et al. 2021 (arXiv 2104.08663). A folder of such folders is read whole, one task each, with their mean:
CQADupStack's forums, Mr. TyDi's and MIRACL's languages.
"""

from collections.abc import Sequence
from pathlib import Path

from eval.datasets.files import Folder, Line, chosen, items, judgements, record
from eval.tasks import Dataset, Task
from retriever.errors import InvalidData

CORPUS, QUERIES = "corpus.jsonl", "queries.jsonl"
# Where a query is one of the documents, BEIR leaves out what has its own id.
IGNORING = frozenset({"arguana", "quora"})
_QRELS = "a line of qrels is: query-id TAB corpus-id TAB score"


def read(path: Path, split: str = "test") -> Dataset:
    """The dataset of a folder. Raises InvalidData with file, line and id."""
    folders = [path] if Folder(path).find(CORPUS) else _below(path)
    tasks, files = [], {}
    for folder in folders:
        own = Folder(folder)
        name = split if folder is path else folder.name
        tasks.append(read_task(own, name, split, ignores_same_id=folder.name.lower() in IGNORING))
        at = "" if folder is path else f"{folder.name}/"
        files.update({at + file: checksum for file, checksum in own.checksums.items()})
    groups = {"mean": [task.name for task in tasks]} if len(tasks) > 1 else {}
    return Dataset(path.resolve().name, tasks, groups=groups, files=files)


def read_task(folder: Folder, name: str, split: str, *, ignores_same_id: bool = False) -> Task:
    """The queries that a split judges, and all documents."""
    corpus = items((line, record(line)) for line in folder.lines(CORPUS))
    every = items((line, record(line)) for line in folder.lines(QUERIES))
    grades = read_qrels(folder, split, set(every.ids), set(corpus.ids))
    queries = chosen(every, (query for query, _ in grades))
    return Task(
        name, "search", queries, corpus, judgements(grades, queries, corpus),
        query_language=_common(queries.languages), document_language=_common(corpus.languages),
        ignores_same_id=ignores_same_id,
    )  # fmt: skip


def read_qrels(folder: Folder, split: str, queries: set[str], corpus: set[str]) -> dict[tuple[str, str], int]:
    """(query's id, document's id) -> grade, of a split. Raises InvalidData."""
    name = f"qrels/{split}.tsv"
    if folder.find(name) is None and (splits := _splits(folder.path)):
        raise InvalidData(f"{folder.path.name} has no split {split}", hint=f"it has {', '.join(splits)}")
    grades: dict[tuple[str, str], int] = {}
    for line in folder.lines(name):
        parts = line.text.split("\t")
        if line.number == 1 and parts[0] in ("query-id", "query_id"):
            continue
        query, document, grade = _judgement(line, parts)
        if query not in queries:
            raise line.error(f"{QUERIES} has no query {query}", "see that both files are of one release")
        if document not in corpus:
            raise line.error(f"{CORPUS} has no document {document}", "see that both files are of one release")
        if (query, document) in grades:
            raise line.error(f"{query} and {document} were judged before", "a pair is judged once")
        grades[query, document] = grade
    if not grades:
        raise InvalidData(f"{name} judges nothing", hint=_QRELS)
    return grades


def _judgement(line: Line, parts: Sequence[str]) -> tuple[str, str, int]:
    if len(parts) != 3:
        raise line.error(f"{len(parts)} columns", _QRELS)
    try:
        return parts[0], parts[1], int(parts[2])
    except ValueError:
        raise line.error(f"{parts[2]!r} is no whole number", _QRELS) from None


def _splits(path: Path) -> list[str]:
    return sorted({file.name.removesuffix(".gz").removesuffix(".tsv") for file in path.glob("qrels/*.tsv*")})


def _below(path: Path) -> list[Path]:
    found = [folder for folder in sorted(path.iterdir()) if folder.is_dir() and Folder(folder).find(CORPUS)]
    if not found:
        raise InvalidData(
            f"{path.name} has no {CORPUS}, and no folder in it has one", hint="give a folder in BEIR's form", path=path
        )
    return found


def _common(languages: Sequence[str | None]) -> str | None:
    return languages[0] if len(set(languages)) == 1 else None
