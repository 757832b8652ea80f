"""XQuAD-R: questions whose answer is a sentence, in one pool of eleven languages. Roy et al. 2020 (LAReQA,
arXiv 2004.05484).

Two layouts: the publisher's, a SQuAD file `<language>.json` with `sentence_breaks`; and BEIR's with `lang` and, of
queries, `qid`, which is the same for translations of a question. Right is the answer in every language, so that a
model that favours the language of the question loses. `mono` tasks ask the sentences of that language alone.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import Any

import numpy as np

from eval.datasets import beir
from eval.datasets.beir import Places
from eval.datasets.files import Folder, Line, at, items, judgements, tag_of, text_of
from eval.datasets.options import wanted_languages, wanted_pairs
from eval.tasks import Alignment, Dataset, Items, Judgements, Task
from retriever.errors import InvalidData

_LAYOUT = "give the folder of XQuAD-R's .json files, or one in BEIR's form with lang and qid"


@dataclass(frozen=True)
class Pool:
    """queries, corpus: of all languages. questions: of each query, the same for its translations, (Q,). answers: of
    each question's sentences in all languages.
    """

    queries: Items
    questions: tuple[str, ...]
    corpus: Items
    answers: Judgements

    @property
    def languages(self) -> tuple[str, ...]:
        """Of each query."""
        return tuple(language for language in self.queries.languages if language)

    @cached_property
    def sentences(self) -> dict[str, Places]:
        """Language -> places of its sentences."""
        tags = np.array(self.corpus.languages)
        return {language: np.flatnonzero(tags == language) for language in sorted(set(self.languages))}


def read(path: Path, *, languages: Sequence[str] | None = None, pairs: Sequence[str] | None = None) -> list[Dataset]:
    """One dataset: a task for each language's questions against the pool, and one against its own sentences.

    languages: of the questions; the pool stays whole. pairs: besides, `de-en` asks the English sentences in German.
    Raises InvalidData with file, line and id where a language lacks a question, InvalidRequest.
    """
    folder = Folder(path)
    pool = _of_beir(folder) if folder.has(beir.CORPUS) else _of_json(folder)
    there = sorted(set(pool.languages))
    kept = wanted_languages(languages, there, folder.name)
    asked = _aligned(folder, pool, kept)
    queries = {language: at(pool.queries, places.tolist()) for language, places in asked.items()}
    corpora = {language: at(pool.corpus, places.tolist()) for language, places in pool.sentences.items()}
    every = np.arange(len(pool.corpus))

    def task(name: str, language: str, other: str | None) -> Task:
        corpus, places = (pool.corpus, every) if other is None else (corpora[other], pool.sentences[other])
        judged = _restricted(pool, asked[language], places)
        return Task(name, "search", queries[language], corpus, judged, language, other)

    wanted = [pair for pair in wanted_pairs(pairs or [], kept, there, folder.name) if pair[0] != pair[1]]
    pooled = [task(language, language, None) for language in kept]
    mono = [task(f"mono-{language}", language, language) for language in kept]
    between = [task(f"{query}-{document}", query, document) for query, document in wanted]
    groups = {"pool": [each.name for each in pooled], "mono": [each.name for each in mono]}
    aligned = [Alignment("pool", {language: language for language in kept})] if len(kept) > 1 else []
    return [Dataset(folder.name, pooled + mono + between, aligned, groups if aligned else {}, folder.checksums)]


def _aligned(folder: Folder, pool: Pool, languages: Sequence[str]) -> dict[str, Places]:
    """Places of each language's questions, in one order for all."""
    asked = {
        language: {pool.questions[row]: row for row, tag in enumerate(pool.languages) if tag == language}
        for language in languages
    }
    every = list(dict.fromkeys(question for questions in asked.values() for question in questions))
    for language, questions in asked.items():
        if missing := [question for question in every if question not in questions]:
            raise InvalidData(
                f"{folder.name} has question {missing[0]}, but not in {language}",
                hint=f"{len(missing):,} of {len(every):,} are missing in it; all are there in every language",
                path=folder.path,
            )
    return {language: np.array([questions[each] for each in every]) for language, questions in asked.items()}


def _restricted(pool: Pool, queries: Places, documents: Places) -> Judgements:
    """The answers among these places, which are the new 0, 1, ..."""
    row, column = np.full(len(pool.queries), -1), np.full(len(pool.corpus), -1)
    row[queries], column[documents] = np.arange(len(queries)), np.arange(len(documents))
    query, document = row[pool.answers.query], column[pool.answers.document]
    kept = (query >= 0) & (document >= 0)
    return judgements(query[kept], document[kept], pool.answers.grade[kept])


# -- layouts


def _of_beir(folder: Folder) -> Pool:
    records = list(folder.records(beir.QUERIES))
    texts = beir.Texts("", items(records), items(folder.records(beir.CORPUS)))
    for part, name in ((texts.queries, beir.QUERIES), (texts.corpus, beir.CORPUS)):
        if None in (part.languages or (None,)):
            raise InvalidData(f"{folder.name}/{name} has texts without lang", hint=_LAYOUT, path=folder.path)
    questions = tuple(text_of(line, record, "qid") for line, record in records)
    return Pool(texts.queries, questions, texts.corpus, beir.read_qrels(folder, texts, "test"))


def _of_json(folder: Folder) -> Pool:
    names = folder.matching("*.json")
    if not names:
        raise InvalidData(f"{folder.name} has neither {beir.CORPUS} nor en.json", hint=_LAYOUT, path=folder.path)
    sentences: list[tuple[Line, dict[str, Any]]] = []
    asked: list[tuple[Line, dict[str, Any]]] = []
    for name in names:
        line, content = folder.json(name)
        language = tag_of(line, Path(name).stem)
        try:
            for number, paragraph in enumerate(each for article in content["data"] for each in article["paragraphs"]):
                sentences += [(line, row) for row in _sentences(f"{language}:c{number}", language, paragraph)]
                asked += [(line, row) for row in _questions(f"{language}:c{number}", language, paragraph)]
        except (KeyError, TypeError, ValueError, IndexError) as error:
            raise line.error(f"it is no SQuAD file with sentence_breaks ({error!r})", _LAYOUT) from None
    queries, corpus = items(asked), items(sentences)
    questions = tuple(row["question"] for _, row in asked)
    return Pool(queries, questions, corpus, _answers(questions, [row["answer"] for _, row in asked], corpus))


def _sentences(context: str, language: str, paragraph: dict[str, Any]) -> list[dict[str, Any]]:
    return [
        {"_id": f"{context}:s{number}", "text": paragraph["context"][start:end].strip(), "lang": language}
        for number, (start, end) in enumerate(paragraph["sentence_breaks"])
    ]


def _questions(context: str, language: str, paragraph: dict[str, Any]) -> list[dict[str, Any]]:
    """With `answer`, the sentence in which the answer begins."""
    rows = []
    for each in paragraph["qas"]:
        begins = each["answers"][0]["answer_start"]
        within = [place for place, (start, end) in enumerate(paragraph["sentence_breaks"]) if start <= begins < end]
        if not within:
            raise ValueError(f"the answer of {each['id']} is in no sentence")
        answer = f"{context}:s{within[0]}"
        rows.append({
            "_id": f"{language}:{each['id']}", "text": each["question"], "lang": language,
            "question": each["id"], "answer": answer,
        })  # fmt: skip
    return rows


def _answers(questions: Sequence[str], answers: Sequence[str], corpus: Items) -> Judgements:
    place = {identifier: place for place, identifier in enumerate(corpus.ids)}
    right: dict[str, list[int]] = {}
    for question, answer in zip(questions, answers, strict=True):
        right.setdefault(question, []).append(place[answer])
    pairs = [(query, document) for query, question in enumerate(questions) for document in right[question]]
    return judgements([query for query, _ in pairs], [document for _, document in pairs])
