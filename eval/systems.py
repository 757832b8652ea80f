"""What is evaluated: an encoder, a served collection in one of its modes, runs from elsewhere. Each answers tasks.

Axes: Q queries, K ranks.
"""

from collections import Counter
from collections.abc import Callable, Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any, Protocol, Self
from urllib.parse import quote

import numpy as np
from numpy.typing import NDArray

from eval import corpora
from eval.ranking import rank
from eval.runs import Run, read_run
from eval.tasks import Dataset, Items, Task
from eval.vectors import CachedEncoder, Progress, Vectors, read_pictures
from retriever.collection import Collection
from retriever.encoder import Encoder
from retriever.errors import InvalidData, InvalidRequest, PolyseekError
from retriever.requests import DENSE_WINDOW, WINDOW, Mode, SearchRequest
from retriever.root import Root
from retriever.towers import Role

# Queries asked together. With 1,000 hits each, and their documents, some 100 MB.
TOGETHER = 64

# How many documents a run of a task is to hold for each query.
Depth = Callable[[Task], int]
# Opens the collection that holds a corpus; the name is of this corpus among those of an evaluation.
Opener = Callable[[str, Items, Progress], Collection]


class System(Protocol):
    """name: as reports show it."""

    name: str

    def runs(self, datasets: Sequence[Dataset], depth: Depth, progress: Progress) -> Iterator[Run]:
        """The answers to every task of every dataset, in order. Raises PolyseekError."""

    def facts(self) -> Mapping[str, Any]:
        """What decided the answers, as JSON values; asked for after `runs`."""


class ModelSystem:
    """An encoder, all of whose vectors are compared: ranks are exact. model: as for `Encoder.load`, or one loaded."""

    def __init__(self, model: str | Path | Encoder, name: str | None = None) -> None:
        self._encoder = CachedEncoder(model)
        self.name = name or Path(self._encoder.name).name

    def runs(self, datasets: Sequence[Dataset], depth: Depth, progress: Progress) -> Iterator[Run]:
        """Vectors are kept until the last task that needs them."""
        tasks = [task for dataset in datasets for task in dataset.tasks]
        uses = Counter(key for task in tasks for key in _needed(task))
        made: dict[tuple[int, Role], Vectors] = {}
        for task in tasks:
            queries, corpus = _needed(task)
            for key, items in ((queries, task.queries), (corpus, task.corpus)):
                if key not in made:
                    made[key] = self._encoder.encode(items, key[1], progress)
            yield rank(made[queries], made[corpus], task, depth(task))
            uses.subtract([queries, corpus])
            made = {key: vectors for key, vectors in made.items() if uses[key]}

    def facts(self) -> Mapping[str, Any]:
        """The encoder."""
        encoder = self._encoder
        return {
            "system": "model", "encoder": encoder.name, "fingerprint": encoder.fingerprint,
            "similarity": encoder.similarity, "query_prompt": encoder.query_prompt,
            "document_prompt": encoder.document_prompt,
        }  # fmt: skip


def _needed(task: Task) -> tuple[tuple[int, Role], tuple[int, Role]]:
    return (id(task.queries), "query"), (id(task.corpus), "document")


class CollectionSystem:
    """A collection, asked as REST asks it. Where there are several corpora, each is a collection of its own.

    name: of the collection; with several corpora `NAME-DATASET`, or `NAME-DATASET-TASK` by the first task that asks it.
    mode: None for the one that a search without mode gets. opener: opens them.
    """

    def __init__(self, name: str, collection: str, mode: Mode | None, opener: Opener) -> None:
        self.name = name
        self._collection, self._mode, self._open = collection, mode, opener
        self._facts: dict[str, Any] = {}

    @classmethod
    def in_root(cls, root: Root, collection: str, mode: Mode | None = None, *, encoder: str = "multilingual") -> Self:
        """A collection by its name or alias, built where it isn't there. encoder: what it is built with."""

        def opener(name: str, corpus: Items, progress: Progress) -> Collection:
            return corpora.in_root(root, name, corpus, lambda: root.load_encoder(encoder), progress)

        return cls(collection if mode is None else f"{collection}:{mode}", collection, mode, opener)

    @classmethod
    def bm25(cls) -> Self:
        """Lexical search in a collection that is made for it, in the cache."""
        return cls("bm25", "bm25", "lexical", lambda _, corpus, progress: corpora.lexical(corpus, progress))

    def runs(self, datasets: Sequence[Dataset], depth: Depth, progress: Progress) -> Iterator[Run]:
        """As deep as the mode's window, whatever `depth` says. Raises InvalidRequest where one holds another corpus."""
        del depth
        names = _names(self._collection, datasets)
        for task in (task for dataset in datasets for task in dataset.tasks):
            name = names[id(task.corpus)]
            with self._open(name, task.corpus, progress) as collection:
                self._facts[name] = _described(collection)
                yield _asked(collection, task, self._mode, lambda done, of: progress(f"{self.name}: queries", done, of))

    def facts(self) -> Mapping[str, Any]:
        """The collections as they were when they were asked."""
        return {"system": "collection", "mode": self._mode, "collections": self._facts}


def _names(name: str, datasets: Sequence[Dataset]) -> dict[int, str]:
    """The corpora by identity -> the names of their collections."""
    of_dataset = {dataset.name: {id(task.corpus) for task in dataset.tasks} for dataset in datasets}
    alone = len(set().union(*of_dataset.values())) == 1
    names: dict[int, str] = {}
    for dataset in datasets:
        for task in dataset.tasks:
            parts = (name, dataset.name) if len(of_dataset[dataset.name]) == 1 else (name, dataset.name, task.name)
            names.setdefault(id(task.corpus), name if alone else "-".join(parts).replace("/", "-"))
    return names


def _asked(collection: Collection, task: Task, mode: Mode | None, progress: Callable[[int, int], None]) -> Run:
    """What a collection answers to a task. A document of a query's own id is left out where the task says so."""
    dense = mode == "dense" or bool(task.queries.pictures)
    window = DENSE_WINDOW if dense else WINDOW
    rows = {identifier: row for row, identifier in enumerate(task.corpus.ids)}
    documents = np.full((len(task.queries), window), -1, np.int64)
    scores = np.full((len(task.queries), window), -np.inf, np.float32)
    for start in range(0, len(task.queries), TOGETHER):
        places = range(start, min(start + TOGETHER, len(task.queries)))
        requests = list(_requests(task.queries, places, mode, window))
        for place, result in zip(places, collection.search_many(requests), strict=True):
            if isinstance(result, PolyseekError):
                raise result
            own = task.queries.ids[place] if task.ignores_same_id else None
            hits = [(rows[hit.id], hit.score) for hit in result.hits if hit.id != own]
            documents[place, : len(hits)] = [row for row, _ in hits]
            scores[place, : len(hits)] = [score for _, score in hits]
        progress(places.stop, len(task.queries))
    return Run.of_scores(task, documents, scores, None if _everything(task, documents) else window)


def _everything(task: Task, documents: NDArray[np.int64]) -> bool:
    """Whether every query found all that it may find, so that the ranks are those among the whole corpus."""
    corpus = set(task.corpus.ids)
    own = np.array([task.ignores_same_id and identifier in corpus for identifier in task.queries.ids])
    return bool(((documents >= 0).sum(axis=1) + own == len(corpus)).all())


def _requests(queries: Items, places: range, mode: Mode | None, window: int) -> Iterator[SearchRequest]:
    pictures = read_pictures(queries.pictures[places.start : places.stop])
    for place in places:
        yield SearchRequest(
            text=None if pictures else queries.texts[place],
            image=pictures[place - places.start] if pictures else None,
            language=queries.languages[place] if queries.languages and not pictures else None,
            mode=mode,
            k=window,
            highlight=False,
            fields=[],
        )


def _described(collection: Collection) -> dict[str, Any]:
    info = collection.info()
    return {
        "documents": info.documents, "units": info.units, "encoder": info.encoder, "fingerprint": info.fingerprint,
        "kind": info.kind, "recall": info.recall, "passages": info.passages, "generation": info.generation,
    }  # fmt: skip


class RunSystem:
    """Runs from elsewhere: a TREC file for the one task, or a folder with `DATASET/TASK.trec` (or `.trec.gz`) for each.

    It is the form in which an evaluation writes its own.
    """

    def __init__(self, path: Path, name: str | None = None) -> None:
        self.name = name or path.name.removesuffix(".gz").removesuffix(".trec")
        self._path = path

    def runs(self, datasets: Sequence[Dataset], depth: Depth, progress: Progress) -> Iterator[Run]:
        """Everything that the files hold, whatever `depth` says. Raises InvalidData, InvalidRequest."""
        del depth
        tasks = [(dataset, task) for dataset in datasets for task in dataset.tasks]
        for done, (dataset, task) in enumerate(tasks):
            yield read_run(self._file(dataset, task, alone=len(tasks) == 1), task)
            progress(f"{self.name}: runs", done + 1, len(tasks))

    def _file(self, dataset: Dataset, task: Task, *, alone: bool) -> Path:
        if not self._path.is_dir():
            if alone or not self._path.exists():
                return self._path
            raise InvalidRequest(
                f"{self._path.name} is one run, and there are several tasks",
                hint="give a folder with DATASET/TASK.trec for each of them",
            )
        folder = self._path / file_name(dataset.name)
        names = [f"{file_name(task.name)}{suffix}" for suffix in (".trec", ".trec.gz")]
        found = next((folder / name for name in names if (folder / name).is_file()), None)
        if found is None:
            raise InvalidData(
                f"{self._path.name} has no run of {task.name}", hint=f"it takes {names[0]} or {names[1]}", path=folder
            )
        return found

    def facts(self) -> Mapping[str, Any]:
        """Where the runs are."""
        return {"system": "run", "path": str(self._path.resolve())}


def file_name(name: str) -> str:
    """The name of a system, dataset or task as that of a file; different ones stay different."""
    quoted = quote(name, safe=" :+@,=")
    return f"%2E{quoted[1:]}" if quoted.startswith(".") else quoted
