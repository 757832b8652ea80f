"""Code search: functions for a question or a docstring, of the whole codebase or of pools.

Four layouts. BEIR's. CoSQA's (Huang et al. 2021, arXiv 2105.13239): `cosqa-retrieval-<split>-500.json` and
`code_idx_map.txt`. CodeSearchNet's (Husain et al. 2019, arXiv 1909.09436), a folder for each language: its own
`final/jsonl/<split>/*.jsonl`, of which a split's functions are the codebase; or `<split>.jsonl` with `codebase.jsonl`
(Guo et al. 2021, arXiv 2009.08366), whose codebase is larger. CodeSearchNet's human-annotated queries are BEIR's layout
with `annotations.tsv` and `qrels/<split>_<language>.tsv`.
"""

from collections.abc import Callable, Sequence
from dataclasses import replace
from pathlib import Path

import numpy as np

from eval.datasets import beir
from eval.datasets.code_layouts import codesearchnet, codesearchnet_languages, cosqa, has_cosqa
from eval.datasets.files import Folder, at, judgements
from eval.datasets.options import wanted_languages, wanted_splits
from eval.tasks import Dataset, Task
from retriever.errors import InvalidData, InvalidRequest

ANNOTATIONS = "annotations.tsv"
POOL = 1_000


def read(
    path: Path, *, split: str | None = None, languages: Sequence[str] | None = None, pools: bool = False
) -> list[Dataset]:
    """One dataset. split: `test` where it is None, several with commas. languages: of programming.

    pools: each query searches its own pool of 1,000 functions instead of the codebase, as CodeSearchNet was evaluated.
    Raises InvalidData with file, line and id, InvalidRequest for languages that aren't there.
    """
    folder = Folder(path)
    splits = wanted_splits(split, "test")
    if folder.has(ANNOTATIONS):
        if pools:
            raise InvalidRequest(f"{folder.name} has annotated functions, not pairs", hint="leave out the pools")
        return [_annotated(folder, splits, languages)]
    tasks, groups = _tasks(folder, splits, languages)
    if pools:
        pooled = {task.name: in_pools(task) for task in tasks}
        tasks = [task for several in pooled.values() for task in several]
        groups = {name: [task.name for task in several] for name, several in pooled.items() if len(several) > 1}
        groups |= _mean(tasks) if len(pooled) > 1 else {}
    return [Dataset(folder.name, tasks, groups=groups, files=folder.checksums)]


def _tasks(
    folder: Folder, splits: Sequence[str], languages: Sequence[str] | None
) -> tuple[list[Task], dict[str, list[str]]]:
    if there := codesearchnet_languages(folder):
        kept = wanted_languages(languages, there, folder.name)
        tasks = [codesearchnet(folder, language, split) for split in splits for language in kept]
        return tasks, _mean(tasks)
    wanted_languages(languages, [], folder.name)
    reader = _reader(folder)
    return [reader(split) for split in splits], {}


def _mean(tasks: Sequence[Task]) -> dict[str, list[str]]:
    return {"mean": [task.name for task in tasks]} if len(tasks) > 1 else {}


def _reader(folder: Folder) -> Callable[[str], Task]:
    """What reads a split of the folder."""
    if folder.has(beir.CORPUS):
        texts = beir.read_texts(folder, code=True)
        return lambda split: beir.task(folder, texts, split)
    if has_cosqa(folder):
        return lambda split: cosqa(folder, split)
    raise InvalidData(
        f"{folder.name} has neither {beir.CORPUS} nor the files of CoSQA or CodeSearchNet",
        hint="give the folder that holds them; see docs/datasets.md for the layouts",
        path=folder.path,
    )


def in_pools(task: Task) -> list[Task]:
    """Tasks of 1,000 queries and the functions that are right for them, in an order drawn as CodeSearchNet's own
    evaluation does (`src/model_test.py`); what is left over isn't asked. One task where there are fewer.

    Differs from it in the direction: there each function ranks the queries, here each query ranks the functions.
    """
    right = task.judgements.grade > 0
    query, document = task.judgements.query[right], task.judgements.document[right]
    order = np.arange(len(query))
    np.random.RandomState(0).shuffle(order)
    size = min(POOL, len(order))
    parts = [order[start : start + size] for start in range(0, len(order) - size + 1, size)]
    return [_pool(task, f"{task.name}-{number}", query[part], document[part]) for number, part in enumerate(parts, 1)]


def _pool(task: Task, name: str, query: beir.Places, document: beir.Places) -> Task:
    queries, row = np.unique(query, return_inverse=True)
    corpus, column = np.unique(document, return_inverse=True)
    return replace(
        task,
        name=name,
        queries=at(task.queries, queries.tolist()),
        corpus=at(task.corpus, corpus.tolist()),
        judgements=judgements(row, column),
    )


# -- human annotations


def _annotated(folder: Folder, splits: Sequence[str], languages: Sequence[str] | None) -> Dataset:
    """A task for each language: the functions that were annotated in it.

    As CodeSearchNet's `relevanceeval.py`: a grade g is a gain of 2^g - 1 (which is given as the grade), and queries
    without a relevant function aren't asked. Only annotated functions are there, so that figures are far above those
    of whole codebases.
    """
    texts = beir.read_texts(folder, code=True)
    names = [name for split in splits for name in beir.qrels_of(folder) if name.startswith(f"{split}_")]
    if not names:
        raise InvalidData(
            f"{folder.name} has no qrels/{splits[0]}_python.tsv", hint="the judgements are split by language"
        )
    there = {name.partition("_")[2]: name for name in names}
    kept = wanted_languages(languages, list(there), folder.name)
    tasks = [_of_language(folder, texts, there[language], language) for language in kept]
    return Dataset(folder.name, tasks, groups=_mean(tasks), files=folder.checksums)


def _of_language(folder: Folder, texts: beir.Texts, split: str, language: str) -> Task:
    judged = beir.read_qrels(folder, texts, split)
    corpus, column = np.unique(judged.document, return_inverse=True)
    asked = np.isin(judged.query, judged.query[judged.grade > 0])
    queries, row = np.unique(judged.query[asked], return_inverse=True)
    gains = 2 ** np.maximum(judged.grade[asked], 0) - 1
    return Task(
        language,
        "search",
        at(texts.queries, queries.tolist()),
        at(texts.corpus, corpus.tolist()),
        judgements(row, column[asked], gains),
    )
