"""Captions of the same pictures in several languages, as tasks: pictures and captions, or captions and captions.

A caption's right answers are its picture and that picture's captions. What is asked is what has an answer, the gallery
is whole: text to image searches all pictures, also those that have no caption in the query's language.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from eval.datasets.files import at, same_group
from eval.datasets.options import wanted_pairs
from eval.tasks import Alignment, Dataset, Items, Picture, Task

PARALLEL = "parallel-"
# A language with captions for fewer pictures than this is left out of the parallel part, which would shrink to them.
_MANY = 0.5


@dataclass(frozen=True)
class Captioned:
    """Pictures and their captions. ids: of the pictures, (P,). captions: language -> for each picture its captions, ()
    where it has none. pictures: (P,), or () where only their captions are there.
    """

    name: str
    ids: tuple[str, ...]
    captions: Mapping[str, Sequence[tuple[str, ...]]]
    pictures: tuple[Picture, ...]
    files: Mapping[str, str]

    def of(self, language: str) -> "Captions":
        """All captions in a language."""
        rows = self.captions[language]
        owners = [place for place, texts in enumerate(rows) for _ in texts]
        many = any(len(texts) > 1 for texts in rows)
        ids = [
            f"{self.ids[place]}:{language}" + (f":{number}" if many else "")
            for place, texts in enumerate(rows)
            for number in range(1, len(texts) + 1)
        ]
        texts = tuple(text for texts in rows for text in texts)
        return Captions(
            language, Items(tuple(ids), texts, languages=(language,) * len(ids)), np.array(owners, np.int64)
        )


@dataclass(frozen=True)
class Captions:
    """Captions in one language. owners: place of the picture of each, ascending, int64 (T,)."""

    language: str
    items: Items
    owners: NDArray[np.int64]

    def of_pictures(self, places: NDArray[np.int64], *, first: bool = False) -> "Captions":
        """Those of these pictures; first: one for each picture. The same object where that is all of them."""
        kept = np.flatnonzero(np.isin(self.owners, places))
        if first:
            kept = kept[np.unique(self.owners[kept], return_index=True)[1]]
        if len(kept) == len(self.owners):
            return self
        return Captions(self.language, at(self.items, kept.tolist()), self.owners[kept])


class _Part:
    """Captions by language, of which tasks are made; names of tasks begin with `prefix`."""

    def __init__(self, data: Captioned, captions: Mapping[str, Captions], prefix: str = "") -> None:
        self.data = data
        self.captions = captions
        self.prefix = prefix
        self._pictures: dict[bytes, Items] = {}
        self._asked: dict[tuple[str, bytes], Captions] = {}

    def described(self, language: str) -> NDArray[np.int64]:
        """Places of the pictures that have captions in the language."""
        return np.unique(self.captions[language].owners)

    def pictures(self, places: NDArray[np.int64]) -> Items:
        """Of these places: one object for the same ones."""
        whole = Items(self.data.ids, pictures=self.data.pictures)
        return self._pictures.setdefault(places.tobytes(), at(whole, places.tolist()))

    def asked(self, language: str, places: NDArray[np.int64]) -> Captions:
        """The captions of these pictures: one object for the same ones."""
        of = self.captions[language].of_pictures(places)
        return self._asked.setdefault((language, of.owners.tobytes()), of)


def dataset(data: Captioned, pairs: Sequence[str] | None) -> Dataset:
    """Tasks between pictures and their captions where there are pictures, else between captions in two languages.

    pairs: of languages, `de-en` asks in German for English captions; None: all. Captions that are ragged, several in a
    language or none, get tasks of a parallel part besides, for the alignments. Raises InvalidRequest for a pair of
    languages that aren't there.
    """
    whole = _Part(data, {language: data.of(language) for language in data.captions})
    asked = _pairs(list(data.captions), pairs, data.name)

    def directions(part: _Part) -> _Directions:
        return _with_pictures(part) if data.pictures else _between_captions(part, asked)

    found, parallel = directions(whole), _parallel(whole)
    if parallel is whole:
        return Dataset(data.name, found.tasks, found.alignments(), found.names(), data.files)
    aligned = directions(parallel).several()
    return Dataset(data.name, found.tasks + aligned.tasks, aligned.alignments(), found.names(), data.files)


def _pairs(languages: Sequence[str], pairs: Sequence[str] | None, name: str) -> list[tuple[str, str]]:
    if pairs is not None:
        return wanted_pairs(pairs, languages, languages, name)
    return [(query, document) for document in languages for query in languages if query != document]


def _parallel(whole: _Part) -> _Part:
    """One caption in each language for the same pictures: what Mean Rank Variance can be computed over."""
    least = _MANY * len(whole.data.ids)
    languages = [language for language in whole.captions if len(whole.described(language)) >= least]
    places = np.arange(len(whole.data.ids))
    for language in languages:
        places = np.intersect1d(places, whole.described(language))
    captions = {language: whole.captions[language].of_pictures(places, first=True) for language in languages}
    if all(captions.get(language) is of for language, of in whole.captions.items()):
        return whole
    return _Part(whole.data, captions if len(places) else {}, PARALLEL)


@dataclass(frozen=True)
class _Directions:
    """The tasks of a part. by: name of a direction -> language -> its task."""

    by: Mapping[str, Mapping[str, Task]]

    @property
    def tasks(self) -> list[Task]:
        return [task for tasks in self.by.values() for task in tasks.values()]

    def several(self) -> "_Directions":
        """Those of several languages."""
        return _Directions({name: tasks for name, tasks in self.by.items() if len(tasks) > 1})

    def names(self) -> dict[str, list[str]]:
        """Of the tasks that have a mean."""
        return {name: [task.name for task in tasks.values()] for name, tasks in self.several().by.items()}

    def alignments(self) -> list[Alignment]:
        """Where the tasks ask the same instances."""
        return [
            Alignment(name, {language: task.name for language, task in tasks.items()})
            for name, tasks in self.several().by.items()
        ]


def _with_pictures(part: _Part) -> _Directions:
    return _Directions({
        "image to text": {language: _picture_to_text(part, language) for language in part.captions},
        "text to image": {language: _text_to_picture(part, language) for language in part.captions},
    })  # fmt: skip


def _picture_to_text(part: _Part, language: str) -> Task:
    captions, asked = part.captions[language], part.described(language)
    judged = same_group(asked, captions.owners)
    name = f"{part.prefix}image-{language}"
    return Task(name, "image-text", part.pictures(asked), captions.items, judged, document_language=language)


def _text_to_picture(part: _Part, language: str) -> Task:
    captions, gallery = part.captions[language], np.arange(len(part.data.ids))
    judged = same_group(captions.owners, gallery)
    name = f"{part.prefix}{language}-image"
    return Task(name, "image-text", captions.items, part.pictures(gallery), judged, query_language=language)


def _between_captions(part: _Part, pairs: Sequence[tuple[str, str]]) -> _Directions:
    by: dict[str, dict[str, Task]] = {}
    for query, document in pairs:
        if query in part.captions and document in part.captions:
            task = _pair(part, query, document)
            if len(task.queries):
                by.setdefault(f"to {document}", {})[query] = task
    return _Directions(by)


def _pair(part: _Part, query: str, document: str) -> Task:
    asked, gallery = part.asked(query, part.described(document)), part.captions[document]
    judged = same_group(asked.owners, gallery.owners)
    return Task(f"{part.prefix}{query}-{document}", "caption", asked.items, gallery.items, judged, query, document)
