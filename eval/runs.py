"""Rankings of one task, in arrays and as TREC run files.

Axes: Q queries, N documents of the corpus, K ranks, J judgements. Scores are compared rounded to 1e-6; equal ones are
in the order of a hash of the documents' ids, so that neither a constant nor the order of the input is rewarded.
"""

import contextlib
import gzip
import hashlib
import math
import zlib
from array import array
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import IO, Self, cast
from urllib.parse import quote

import numpy as np
from numpy.typing import NDArray

from eval.tasks import Items, Task
from retriever.errors import InvalidData, InvalidRequest
from retriever.files import replacing, written_for
from retriever.fusion import C

Rows = NDArray[np.int64]
Scores = NDArray[np.float32]

# Of a score: scores are compared as whole numbers of units.
UNITS = np.float32(1e6)


@dataclass(frozen=True)
class Run:
    """What a system answers.

    documents: rows of the corpus, int64 (Q, K), best first, -1 where there are no more. scores: float32 (Q, K), -inf
    there. ranks: of each judgement's document, float64 (J,): how many are better, and half of the others that tie with
    it; inf where it isn't ranked. depth: how many were asked for, None where the whole corpus was ranked.
    """

    documents: Rows
    scores: Scores
    ranks: NDArray[np.float64]
    depth: int | None

    @classmethod
    def of_scores(cls, task: Task, documents: Rows, scores: Scores, depth: int | None) -> Self:
        """The run of these documents (Q, K), in whatever order they are, -1 where there is none."""
        missing = documents < 0
        rounded = np.where(missing, np.float32(-np.inf), of_units(in_units(scores)))
        places = np.where(missing, len(task.corpus), hashed_places(task.corpus)[documents])
        order = np.lexsort((places, -rounded), axis=-1)
        documents, rounded = np.take_along_axis(documents, order, -1), np.take_along_axis(rounded, order, -1)
        return cls(documents, rounded, _ranks(task, documents, rounded), depth)


def in_units(scores: Scores, out: Scores | None = None) -> Scores:
    """Scores in whole units of 1e-6: what is compared. out: where to, which may be the scores themselves."""
    units = np.multiply(scores, UNITS, out=out)
    return np.rint(units, out=units)


def of_units(units: Scores) -> Scores:
    """Scores of so many units each: what a run holds, and reads the same from six decimals."""
    return cast(Scores, units / UNITS)


def hashed_places(corpus: Items) -> Rows:
    """The place of each document in the order of the hashes of their ids, int64 (N,)."""
    hashes = np.array(
        [int.from_bytes(hashlib.blake2b(i.encode(), digest_size=8).digest(), "big") for i in corpus.ids], np.uint64
    )
    places = np.empty(len(corpus), np.int64)
    places[np.argsort(hashes, kind="stable")] = np.arange(len(corpus))
    return places


def find(task: Task, documents: Rows) -> tuple[Rows, Rows]:
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


def _ranks(task: Task, documents: Rows, scores: Scores) -> NDArray[np.float64]:
    """Of rows that are in order."""
    _, where = find(task, documents)
    ranks = np.full(len(where), np.inf)
    ranks[where >= 0] = _shared_ranks(scores).ravel()[where[where >= 0]]
    return ranks


def _shared_ranks(scores: Scores) -> NDArray[np.float64]:
    """The rank of each of scores that descend (Q, K): the middle of the places of those that are equal."""
    places = np.arange(scores.shape[1])
    differs = scores[:, 1:] != scores[:, :-1]
    first = np.maximum.accumulate(np.where(np.pad(differs, ((0, 0), (1, 0))), places, 0), axis=1)
    ends = np.where(np.pad(differs, ((0, 0), (0, 1))), places, places[-1:])
    last = np.minimum.accumulate(ends[:, ::-1], axis=1)[:, ::-1]
    middle: NDArray[np.float64] = (first + last) / 2
    return middle


def fuse(task: Task, runs: Sequence[Run], weights: Sequence[float] | None = None) -> Run:
    """Weighted reciprocal rank fusion (see `retriever.fusion`) of all that any run holds.

    Scores are parts of the best there can be, which is to be first in every run: unscaled ones are too close together
    for six decimals. weights: one for each run, by default all the same. Raises InvalidRequest unless all are 0 or more
    and one is more.
    """
    weights = [1.0] * len(runs) if weights is None else weights
    if not all(0 <= weight < np.inf for weight in weights) or not any(weights):
        raise InvalidRequest(f"weights are 0 or more, and not all are 0, got {weights}", hint="as --weights 0.3 0.7")
    keys, values = [], []
    for run, weight in zip(runs, weights, strict=True):
        query, rank = np.nonzero(run.documents >= 0)
        keys.append(query * len(task.corpus) + run.documents[query, rank])
        values.append(weight / sum(weights) * (C + 1) / (C + 1 + rank))
    found, which = np.unique(np.concatenate(keys), return_inverse=True)
    scores = np.bincount(which, np.concatenate(values), len(found)).astype(np.float32)
    return _of_columns(task, found // len(task.corpus), found % len(task.corpus), scores)


def _of_columns(task: Task, query: Rows, document: Rows, score: Scores) -> Run:
    """The run of documents found, (n,) each, in any order; its depth is that of the longest row."""
    order = np.argsort(query, kind="stable")
    query, document, score = query[order], document[order], score[order]
    place = np.arange(len(query)) - np.searchsorted(query, query)
    depth = int(place.max(initial=0)) + 1
    documents = np.full((len(task.queries), depth), -1, np.int64)
    scores = np.full((len(task.queries), depth), -np.inf, np.float32)
    documents[query, place], scores[query, place] = document, score
    return Run.of_scores(task, documents, scores, depth)


# -- files

_FORM = "a line is: query Q0 document rank score system"


def write_run(file: Path, task: Task, run: Run, system: str) -> None:
    """A TREC run: `query Q0 document rank score system`, ranks from 1; compressed where the file's name ends in .gz.

    White space in ids is written as %20 and the like, in the system's name as a hyphen. Raises OutputError.
    """
    queries, corpus = list(_written(task.queries)), list(_written(task.corpus))
    tag = "-".join(system.split()) or "polyseek"
    with written_for(file):
        file.parent.mkdir(parents=True, exist_ok=True)
        with replacing(file) as aside, _compressed(aside) if file.suffix == ".gz" else aside.open("wb") as stream:
            for query, documents, scores in zip(queries, run.documents.tolist(), run.scores.tolist(), strict=True):
                lines = [
                    f"{query} Q0 {corpus[document]} {rank} {score:.6f} {tag}\n"
                    for rank, (document, score) in enumerate(zip(documents, scores, strict=True), start=1)
                    if document >= 0
                ]
                stream.write("".join(lines).encode())


def read_run(file: Path, task: Task) -> Run:
    """A TREC run of this task, whoever wrote it; queries that it lacks have no answer.

    Raises InvalidData for a line that is none, an unknown id, and a document that a query has twice.
    """
    queries, corpus = _written(task.queries), _written(task.corpus)
    numbers, asked, found, scores = array("q"), array("q"), array("q"), array("d")
    for number, line in _lines(file):
        try:
            query, _, document, _, score, _ = line.split()
        except ValueError:
            raise _wrong(file, number, f"a run's line has 6 parts, this has {len(line.split())}") from None
        if query not in queries or document not in corpus:
            what = f"query {query}" if query not in queries else f"document {document}"
            raise _wrong(file, number, f"there is no {what}", "see that the run is one of this dataset and split")
        numbers.append(number)
        asked.append(queries[query])
        found.append(corpus[document])
        scores.append(_score(file, number, score))
    columns = np.array(asked, np.int64), np.array(found, np.int64)
    if (twice := _repeated(*columns, len(task.corpus))) is not None:
        query, document = task.queries.ids[asked[twice]], task.corpus.ids[found[twice]]
        raise _wrong(file, numbers[twice], f"query {query} has document {document} twice", "keep one of them")
    return _of_columns(task, *columns, np.array(scores, np.float32))


def _written(items: Items) -> dict[str, int]:
    """The place of each item, by its id as run files have it, in order. Raises InvalidData where two become one."""
    written = {"".join(quote(c) if c.isspace() else c for c in i): place for place, i in enumerate(items.ids)}
    if len(written) < len(items):
        taken = next(i for place, i in enumerate(items.ids) if place not in set(written.values()))
        raise InvalidData(f"id {taken!r} can't be told from another in a run file", hint="name one of them otherwise")
    return written


def _repeated(query: Rows, document: Rows, size: int) -> int | None:
    """Which of the pairs is the first that was there before."""
    _, first = np.unique(query * size + document, return_index=True)
    repeats = np.setdiff1d(np.arange(len(query)), first)
    return int(repeats[0]) if len(repeats) else None


def _score(file: Path, number: int, text: str) -> float:
    try:
        score = float(text)
    except ValueError:
        score = math.nan
    if not math.isfinite(score):
        raise _wrong(file, number, f"{text!r} is no score")
    return score


def _wrong(file: Path, number: int, what: str, hint: str = _FORM) -> InvalidData:
    return InvalidData(f"{file.name}, line {number}: {what}", hint=hint, path=file)


def _lines(file: Path) -> Iterator[tuple[int, str]]:
    """The lines that aren't empty, with their numbers."""
    try:
        with gzip.open(file, "rt", encoding="utf-8") if file.suffix == ".gz" else file.open(encoding="utf-8") as lines:
            yield from ((number, line) for number, line in enumerate(lines, start=1) if line.strip())
    except (OSError, EOFError, zlib.error, UnicodeDecodeError) as error:
        raise InvalidData(f"{file.name} can't be read: {error}", hint="give a TREC run file", path=file) from None


@contextlib.contextmanager
def _compressed(file: Path) -> Iterator[IO[bytes]]:
    """Without name and time of writing: the same run is the same file."""
    with file.open("wb") as plain, gzip.GzipFile("", "wb", fileobj=plain, mtime=0) as stream:
        yield cast(IO[bytes], stream)
