"""Rankings of one task, in arrays and as TREC run files.

Axes: Q queries, N documents of the corpus, K ranks, J judgements. Scores are compared rounded to 1e-6; equal ones are
in the order of a hash of the documents' ids, so that neither a constant nor the order of the input is rewarded.
"""

import gzip
import hashlib
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import IO, Self, cast

import numpy as np
from numpy.typing import NDArray

from eval.tasks import Items, Task
from retriever.errors import InvalidData
from retriever.fusion import fuse as fused

# Scores are whole numbers of it where they are compared.
UNIT = np.float32(1e-6)


@dataclass(frozen=True)
class Run:
    """What a system answers.

    documents: rows of the corpus, int64 (Q, K), best first, -1 where there are no more. scores: float32 (Q, K), -inf
    there. ranks: of each judgement's document, float64 (J,): how many are better, and half of the others that tie with
    it; inf where it isn't ranked. depth: how many were asked for, None where the whole corpus was ranked.
    """

    documents: NDArray[np.int64]
    scores: NDArray[np.float32]
    ranks: NDArray[np.float64]
    depth: int | None

    @classmethod
    def of_scores(
        cls, task: Task, documents: NDArray[np.int64], scores: NDArray[np.float32], depth: int | None
    ) -> Self:
        """The run of these documents (Q, K), in whatever order they are, -1 where there is none."""
        missing = documents < 0
        rounded = np.where(missing, -np.inf, in_units(scores) * UNIT).astype(np.float32)
        places = np.where(missing, len(task.corpus), hashed_places(task.corpus)[documents])
        order = np.lexsort((places, -rounded), axis=-1)
        documents, rounded = np.take_along_axis(documents, order, -1), np.take_along_axis(rounded, order, -1)
        return cls(documents, rounded, _ranks(task, documents, rounded), depth)


def in_units(scores: NDArray[np.float32]) -> NDArray[np.float32]:
    """Scores in whole units of 1e-6: what is compared."""
    return cast(NDArray[np.float32], np.rint(scores / UNIT))


def hashed_places(corpus: Items) -> NDArray[np.int64]:
    """The place of each document in the order of the hashes of their ids, int64 (N,)."""
    hashes = np.array(
        [int.from_bytes(hashlib.blake2b(i.encode(), digest_size=8).digest(), "big") for i in corpus.ids], np.uint64
    )
    places = np.empty(len(corpus), np.int64)
    places[np.argsort(hashes, kind="stable")] = np.arange(len(corpus))
    return places


def find(task: Task, documents: NDArray[np.int64]) -> tuple[NDArray[np.int64], NDArray[np.int64]]:
    """Of documents (Q, K): which judgement each has (-1: none), (Q, K); and where each judgement's is, (J,), or -1.

    A place counts through the rows: query * K + rank.
    """
    judged = task.judgements
    size = len(task.corpus)
    wanted = judged.query * size + judged.document
    held = np.where(documents >= 0, documents + np.arange(len(documents))[:, None] * size, -1).ravel()
    at = np.minimum(np.searchsorted(wanted, held), max(len(wanted) - 1, 0))
    which = np.where(wanted[at] == held, at, -1) if len(wanted) else np.full(held.shape, -1)
    where = np.full(len(wanted), -1, np.int64)
    there = np.flatnonzero(which >= 0)
    where[which[there]] = there
    return which.reshape(documents.shape), where


def _ranks(task: Task, documents: NDArray[np.int64], scores: NDArray[np.float32]) -> NDArray[np.float64]:
    """Of rows that are in order."""
    _, where = find(task, documents)
    ranks = np.full(len(where), np.inf)
    for judgement in np.flatnonzero(where >= 0):
        query, place = divmod(int(where[judgement]), documents.shape[1])
        better = int(np.searchsorted(-scores[query], -scores[query, place], side="left"))
        as_good = int(np.searchsorted(-scores[query], -scores[query, place], side="right"))
        ranks[judgement] = better + (as_good - better - 1) / 2
    return ranks


def fuse(task: Task, runs: Sequence[Run], weights: Sequence[float] | None = None) -> Run:
    """Weighted reciprocal rank fusion, as hybrid search does it (`retriever.fusion`)."""
    weights = [1 / len(runs)] * len(runs) if weights is None else weights
    depth = max(run.documents.shape[1] for run in runs)
    documents = np.full((len(task.queries), depth), -1, np.int64)
    scores = np.full((len(task.queries), depth), -np.inf, np.float32)
    for query in range(len(task.queries)):
        rankings = [(weight, _row(run, query)) for weight, run in zip(weights, runs, strict=True)]
        members = fused(rankings)[:depth]
        documents[query, : len(members)] = [member for member, _ in members]
        scores[query, : len(members)] = [score for _, score in members]
    return Run.of_scores(task, documents, scores, depth)


def _row(run: Run, query: int) -> list[int]:
    row = run.documents[query]
    return cast(list[int], row[row >= 0].tolist())


# -- files


def write_run(file: Path, task: Task, run: Run, system: str) -> None:
    """A TREC run: `query Q0 document rank score system`, ranks from 1; compressed where the file's name ends in .gz."""
    file.parent.mkdir(parents=True, exist_ok=True)
    tag = "-".join(system.split()) or "polyseek"
    with _opened(file, "wt") as stream:
        for query, (documents, scores) in enumerate(zip(run.documents.tolist(), run.scores.tolist(), strict=True)):
            stream.writelines(
                f"{task.queries.ids[query]} Q0 {task.corpus.ids[document]} {rank} {score:.6f} {tag}\n"
                for rank, (document, score) in enumerate(zip(documents, scores, strict=True), start=1)
                if document >= 0
            )


def read_run(file: Path, task: Task) -> Run:
    """A TREC run of this task, whoever wrote it; queries that it lacks have no answer.

    Raises InvalidData for a line that is none, an unknown id, and a document that a query has twice.
    """
    queries = {identifier: place for place, identifier in enumerate(task.queries.ids)}
    corpus = {identifier: place for place, identifier in enumerate(task.corpus.ids)}
    found: list[dict[int, float]] = [{} for _ in queries]
    for number, line in enumerate(_lines(file), start=1):
        parts = line.split()
        where = f"{file.name}, line {number}"
        if len(parts) != 6:
            raise InvalidData(f"{where}: a run's line has 6 parts, this has {len(parts)}", hint=_FORM, path=file)
        query, document = _place(queries, parts[0], "query", where), _place(corpus, parts[2], "document", where)
        if document in found[query]:
            raise InvalidData(f"{where}: query {parts[0]} has document {parts[2]} twice", hint=_FORM, path=file)
        found[query][document] = _score(parts[4], where)
    return _of_rows(task, found)


_FORM = "a line is: query Q0 document rank score system"


def _of_rows(task: Task, found: Sequence[dict[int, float]]) -> Run:
    depth = max((len(row) for row in found), default=0) or 1
    documents = np.full((len(found), depth), -1, np.int64)
    scores = np.full((len(found), depth), -np.inf, np.float32)
    for query, row in enumerate(found):
        documents[query, : len(row)], scores[query, : len(row)] = list(row), list(row.values())
    return Run.of_scores(task, documents, scores, depth)


def _place(known: dict[str, int], identifier: str, what: str, where: str) -> int:
    place = known.get(identifier)
    if place is None:
        raise InvalidData(
            f"{where}: there is no {what} {identifier}", hint="see that the run belongs to this dataset and split"
        )
    return place


def _score(text: str, where: str) -> float:
    try:
        score = float(text)
    except ValueError:
        score = np.nan
    if not np.isfinite(score):
        raise InvalidData(f"{where}: {text!r} is no score", hint=_FORM)
    return score


def _lines(file: Path) -> Iterator[str]:
    try:
        with _opened(file, "rt") as stream:
            yield from (line for line in stream if line.strip())
    except (OSError, EOFError, UnicodeDecodeError) as error:
        raise InvalidData(f"{file.name} can't be read: {error}", path=file) from None


def _opened(file: Path, mode: str) -> IO[str]:
    if file.suffix == ".gz":
        return cast(IO[str], gzip.open(file, mode, encoding="utf-8"))
    return cast(IO[str], file.open(mode, encoding="utf-8"))
