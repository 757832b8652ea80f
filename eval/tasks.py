"""What is evaluated: queries, what they are asked of, and which answers are right.

A dataset is read into tasks; a task is one ranking problem, of one direction and one language or pair of them. Axes: Q
queries, N documents of a corpus, J judgements.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Literal

import numpy as np
from numpy.typing import NDArray

Kind = Literal["search", "bitext", "caption", "image-text"]


@dataclass(frozen=True, slots=True)
class Picture:
    """A picture's file, or the zip of which it is a member."""

    file: Path
    member: str | None = None


@dataclass(frozen=True)
class Items:
    """Queries or the documents of a corpus, in one order: texts, or pictures.

    Several tasks share one of them where they can, so that it is encoded once: by identity. ids: unique. texts: not
    empty, () of pictures. titles: () where none has one, else "" for those without. languages: canonical tags, one for
    each, None where unknown; () where none is known. pictures: () of texts.
    """

    ids: tuple[str, ...]
    texts: tuple[str, ...] = ()
    titles: tuple[str, ...] = ()
    languages: tuple[str | None, ...] = ()
    pictures: tuple[Picture, ...] = ()

    def __len__(self) -> int:
        return len(self.ids)

    @property
    def contents(self) -> list[str]:
        """What of each text is encoded: the title before the text, as collections do."""
        if not self.titles:
            return list(self.texts)
        return [f"{title} {text}".strip() for title, text in zip(self.titles, self.texts, strict=True)]


@dataclass(frozen=True)
class Judgements:
    """Grades of pairs, each pair once. query, document: places in a task's items, int64 (J,), by query and document
    ascending. grade: int64 (J,); 0 and less is judged and not relevant.
    """

    query: NDArray[np.int64]
    document: NDArray[np.int64]
    grade: NDArray[np.int64]

    def __len__(self) -> int:
        return len(self.query)


@dataclass(frozen=True)
class Task:
    """One ranking problem.

    name: unique within its dataset, `test` or `de-en`. kind: what it is for, which chooses the metrics shown first.
    queries: each of them counts in every mean, also where nothing is right (then with 0), since the judgements choose
    them. query_language, document_language: where all have one. ignores_same_id: a document that has the query's own id
    counts as if it weren't there.
    """

    name: str
    kind: Kind
    queries: Items
    corpus: Items
    judgements: Judgements
    query_language: str | None = None
    document_language: str | None = None
    ignores_same_id: bool = False


@dataclass(frozen=True)
class Alignment:
    """Tasks that ask the same instances in several languages: query i of each is the same one, the corpora have one
    size. What Mean Rank Variance is computed over. name: of the direction. tasks: language -> name of the task.
    """

    name: str
    tasks: Mapping[str, str]


@dataclass(frozen=True)
class Dataset:
    """name: as reports show it. tasks: by name, in the order of reports. groups: means that are shown beside the tasks,
    name -> names of tasks. files: SHA-256 of every file that was read, by its path from the folder given.
    """

    name: str
    tasks: Sequence[Task]
    alignments: Sequence[Alignment] = ()
    groups: Mapping[str, Sequence[str]] = field(default_factory=dict)
    files: Mapping[str, str] = field(default_factory=dict)
