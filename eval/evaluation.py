"""Systems on the tasks of datasets: metrics with their intervals, means of groups, rank variance, comparisons.

Axes: Q queries of a task, N queries of several, I instances, L languages.
"""

import time
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from itertools import groupby
from pathlib import Path
from typing import Any, TypeVar

import numpy as np

from eval import results
from eval.metrics import parse, per_query, rank_variation
from eval.results import SEED, Answer, Comparison, Evaluation, Mean, Score, Values, Variation
from eval.runs import Run, write_run
from eval.statistics import holm, interval, randomisation
from eval.systems import System, file_name
from eval.tasks import Alignment, Dataset, Kind, Task
from eval.vectors import Progress
from retriever.errors import InvalidData, InvalidRequest
from retriever.files import written_for

# What is shown of a task, by its kind; the first is what hard queries are told by.
METRICS: Mapping[Kind, tuple[str, ...]] = {
    "search": ("ndcg@10", "recall@100", "mrr@10", "map"),
    "bitext": ("success@1",),
    "caption": ("r@1", "r@5", "r@10"),
    "image-text": ("r@1", "r@5", "r@10"),
}
# Documents of a run for each query: as trec_eval's, and of the many small tasks no more than one looks at.
DEPTHS: Mapping[Kind, int] = {"search": 1_000, "bitext": 100, "caption": 100, "image-text": 100}
# A run of more lines than this is compressed.
PLAIN = 1_000_000
EVERYTHING = "all"

T = TypeVar("T")


def evaluate(
    datasets: Sequence[Dataset],
    systems: Sequence[System],
    *,
    metrics: Sequence[str] | None = None,
    baseline: str | None = None,
    out: Path | None = None,
    k: int | None = None,
    asked: Mapping[str, Any] | None = None,
    progress: Progress = lambda *_: None,
) -> Evaluation:
    """Ask every system every task.

    metrics: instead of those of each task's kind. baseline: the name of the system that the others are compared with.
    out: a folder for the runs, `metrics.json` and `values.npz`. k: documents of a run for each query. asked: what
    repeats the evaluation, as JSON values. Raises InvalidRequest for names that are there twice, a baseline that isn't
    there and an unknown metric; what systems raise; OutputError.
    """
    _check(datasets, systems, metrics, baseline)
    evaluation = Evaluation(datasets, asked=asked)
    for system in systems:
        evaluation.answers += _answers(system, datasets, metrics, k, out, progress)
        evaluation.systems[system.name] = system.facts()
        _add_means(evaluation, system.name)
        _add_variations(evaluation, system.name)
    if baseline is not None:
        others = [system.name for system in systems if system.name != baseline]
        pairs = (pair for name in others for pair in _pairs(evaluation, name, baseline))
        evaluation.comparisons = compared(pairs)
    if out is not None:
        results.write(out, evaluation)
    return evaluation


def _check(
    datasets: Sequence[Dataset], systems: Sequence[System], metrics: Sequence[str] | None, baseline: str | None
) -> None:
    for what, members in (("system", systems), ("dataset", datasets)):
        names = [member.name for member in members]
        if not names:
            raise InvalidRequest(f"no {what} to evaluate", hint=f"give at least one {what}")
        if twice := [name for name in names if names.count(name) > 1]:
            raise InvalidRequest(f"two {what}s are called {twice[0]}", hint="give each a name of its own")
    if baseline is not None and baseline not in [system.name for system in systems]:
        known = ", ".join(system.name for system in systems)
        raise InvalidRequest(f"no system {baseline} to compare with", hint=f"there are {known}")
    for name in metrics or ():
        parse(name)


# -- answers


def _answers(
    system: System,
    datasets: Sequence[Dataset],
    metrics: Sequence[str] | None,
    k: int | None,
    out: Path | None,
    progress: Progress,
) -> Iterator[Answer]:
    tasks = [(dataset, task) for dataset in datasets for task in dataset.tasks]
    runs = system.runs(datasets, lambda task: _depth(task, metrics, k), progress)
    for done, (dataset, task) in enumerate(tasks):
        started = time.perf_counter()
        run = next(runs)
        seconds = time.perf_counter() - started
        if out is not None:
            _write(out, system.name, dataset, task, run, alone=len(tasks) == 1)
        values = per_query(task, run, METRICS[task.kind] if metrics is None else metrics)
        scores = {metric: score(one) for metric, one in values.items()}
        yield Answer(dataset.name, task.name, system.name, run, values, scores, round(seconds, 3))
        progress(f"{system.name}: tasks", done + 1, len(tasks))


def _depth(task: Task, metrics: Sequence[str] | None, k: int | None) -> int:
    """As deep as the metrics look, at least."""
    looked_at = [parse(name)[1] or 0 for name in metrics or METRICS[task.kind]]
    return max(DEPTHS[task.kind] if k is None else k, *looked_at)


def _write(out: Path, system: str, dataset: Dataset, task: Task, run: Run, *, alone: bool) -> None:
    """OUT/SYSTEM.trec where there is one task, else OUT/SYSTEM/DATASET/TASK.trec; a long one is compressed."""
    suffix = ".trec" if run.documents.size <= PLAIN else ".trec.gz"
    parts = (system,) if alone else (system, dataset.name, task.name)
    file = out.joinpath(*map(file_name, parts))
    with written_for(file):
        write_run(file.with_name(file.name + suffix), task, run, system)


def score(values: Values) -> Score:
    """The mean of some values with its interval."""
    return Score(float(values.mean()), *interval(values, seed=SEED), len(values))


# -- means


@dataclass(frozen=True)
class _Group:
    """Tasks that have one mean. weights: (dataset, task) -> weight of its mean, 1 in all."""

    dataset: str | None
    name: str
    weights: Mapping[tuple[str, str], float]


def _groups(datasets: Sequence[Dataset]) -> Iterator[_Group]:
    """The datasets' own, one of all tasks of a dataset where none of them is, and one of all datasets."""
    for dataset in datasets:
        every = [task.name for task in dataset.tasks]
        groups = dict(dataset.groups)
        if len(every) > 1 and not any(set(tasks) == set(every) for tasks in groups.values()):
            groups[EVERYTHING] = every
        for name, tasks in groups.items():
            yield _Group(dataset.name, name, {(dataset.name, task): 1 / len(tasks) for task in tasks})
    if len(datasets) > 1:
        weights = {
            (dataset.name, task.name): 1 / len(datasets) / len(dataset.tasks)
            for dataset in datasets
            for task in dataset.tasks
        }
        yield _Group(None, EVERYTHING, weights)


def _add_means(evaluation: Evaluation, system: str) -> None:
    values = _values(evaluation, system)
    for group in _groups(evaluation.datasets):
        parts = [(values[key], weight) for key, weight in group.weights.items()]
        macro, micro = {}, {}
        for metric in _shared([list(one) for one, _ in parts]):
            chosen = [(one[metric], weight) for one, weight in parts]
            macro[metric] = score(weighted(chosen))
            micro[metric] = score(np.concatenate([one for one, _ in chosen]))
        evaluation.means.append(Mean(group.dataset, group.name, system, len(parts), macro, micro))


def weighted(parts: Sequence[tuple[Values, float]]) -> Values:
    """Values (N,) that stand for a weighted mean of several tasks' means: their mean is that mean, and the bootstrap of
    it has, to first order, the interval of a bootstrap that draws from each task by itself.

    parts: values (Q,) and weight of each task; the weights add up to 1. A value's distance from its task's mean counts
    N * weight / Q times, so that the squares add up to the sum of weight^2 * variance / Q.
    """
    count = sum(len(values) for values, _ in parts)
    mean = sum(weight * float(values.mean()) for values, weight in parts)
    return np.concatenate(
        [mean + (values - values.mean()) * (count * weight / len(values)) for values, weight in parts]
    )


def _values(evaluation: Evaluation, system: str) -> dict[tuple[str, str], Mapping[str, Values]]:
    return {(one.dataset, one.task): one.values for one in evaluation.answers if one.system == system}


def _shared(lists: Sequence[Sequence[T]]) -> list[T]:
    """What all have, in the order of the first."""
    return [member for member in lists[0] if all(member in others for others in lists)]


# -- rank variance


def _add_variations(evaluation: Evaluation, system: str) -> None:
    answers = {(one.dataset, one.task): one for one in evaluation.answers if one.system == system}
    for dataset in evaluation.datasets:
        tasks = {task.name: task for task in dataset.tasks}
        for alignment in dataset.alignments:
            chosen = [(tasks[name], answers[dataset.name, name].run) for name in alignment.tasks.values()]
            ranks = np.stack([best_ranks(task, run) for task, run in chosen], axis=1)
            if np.isfinite(ranks).all():
                evaluation.variations.append(_variation(dataset, alignment, system, ranks))
            else:
                evaluation.notes.append(
                    f"{system} has no Mean Rank Variance in {dataset.name} {alignment.name}: it doesn't rank every "
                    "right answer"
                )


def _variation(dataset: Dataset, alignment: Alignment, system: str, ranks: Values) -> Variation:
    values = rank_variation(ranks)
    scores = {name: score(one) for name, one in values.items()}
    return Variation(dataset.name, alignment.name, system, tuple(alignment.tasks), ranks, values, scores)


def best_ranks(task: Task, run: Run) -> Values:
    """The rank of each query's best-ranked right document, from 0, (Q,); inf where none is ranked."""
    ranks = np.full(len(task.queries), np.inf)
    right = task.judgements.grade > 0
    np.minimum.at(ranks, task.judgements.query[right], run.ranks[right])
    return ranks


# -- comparisons


@dataclass(frozen=True)
class Pair:
    """Two systems' values of one metric: of each task (Q,) and its weight, as for `weighted`."""

    dataset: str | None
    task: str
    system: str
    baseline: str
    metric: str
    parts: Sequence[tuple[Values, Values, float]]


def _pairs(evaluation: Evaluation, system: str, baseline: str) -> Iterator[Pair]:
    ours, theirs = _values(evaluation, system), _values(evaluation, baseline)
    for (dataset, task), values in ours.items():
        for metric in values:
            parts = [(values[metric], theirs[dataset, task][metric], 1.0)]
            yield Pair(dataset, task, system, baseline, metric, parts)
    for group in _groups(evaluation.datasets):
        for metric in _shared([list(ours[key]) for key in group.weights]):
            parts = [(ours[key][metric], theirs[key][metric], weight) for key, weight in group.weights.items()]
            yield Pair(group.dataset, group.name, system, baseline, metric, parts)


def compared(pairs: Iterator[Pair]) -> list[Comparison]:
    """Each pair's difference; of all pairs in the same metric the p are adjusted together."""
    found = [_comparison(pair) for pair in pairs]
    adjusted: dict[int, Comparison] = {}
    places = sorted(range(len(found)), key=lambda place: found[place].metric)
    for _, group in groupby(places, key=lambda place: found[place].metric):
        members = list(group)
        for place, p in zip(members, holm([found[place].p for place in members]), strict=True):
            adjusted[place] = replace(found[place], adjusted=p)
    return [adjusted[place] for place in range(len(found))]


def _comparison(pair: Pair) -> Comparison:
    difference = score(weighted([(ours - theirs, weight) for ours, theirs, weight in pair.parts]))
    # Scaled, the mean of all queries is the weighted mean of the tasks' means: what the test exchanges signs in.
    count = difference.n
    scaled = [(ours * f, theirs * f) for ours, theirs, weight in pair.parts for f in [count * weight / len(ours)]]
    ours, theirs = (np.concatenate(side) for side in zip(*scaled, strict=True))
    p = randomisation(ours, theirs, seed=SEED)
    return Comparison(
        pair.dataset, pair.task, pair.system, pair.baseline, pair.metric, count, difference.mean, difference.low,
        difference.high, p, p,
    )  # fmt: skip


def compare(files: Sequence[Path]) -> list[Comparison]:
    """The systems of several evaluations, each beside the first system of the first, in the tasks that all have.

    files: metrics.json, or the folders that hold them. A system of a name that was there before is called
    `NAME (FOLDER)`. Raises InvalidData where they read other files, or have no task in common.
    """
    contents = [results.read(file) for file in files]
    for content, file in zip(contents[1:], files[1:], strict=True):
        if changed := results.changed_files(contents[0], content):
            raise InvalidData(
                f"{file} is of another dataset: {changed[0]}", hint="compare evaluations of the same files", path=file
            )
    return compared(_pairs_of_files(contents, files))


def _pairs_of_files(contents: Sequence[Mapping[str, Any]], files: Sequence[Path]) -> Iterator[Pair]:
    values = [results.read_values(file) for file in files]
    shared = _shared([_measured(content) for content in contents])
    if not shared:
        raise InvalidData("these evaluations have no task in common", hint="evaluate both on one dataset")
    baseline = next(iter(contents[0]["systems"]))
    names: set[str] = set()
    for place, content in enumerate(contents):
        for system in content["systems"]:
            shown = f"{system} ({results.metrics_file(files[place]).parent.name})" if system in names else system
            names.add(shown)
            if place or system != baseline:
                for dataset, task, metric in shared:
                    ours = values[place][results.value_key(system, dataset, task, metric)]
                    theirs = values[0][results.value_key(baseline, dataset, task, metric)]
                    yield Pair(dataset, task, shown, baseline, metric, [(ours, theirs, 1.0)])


def _measured(content: Mapping[str, Any]) -> list[tuple[str, str, str]]:
    """(dataset, task, metric) of a metrics.json."""
    every = ((row["dataset"], row["task"], metric) for row in content["results"] for metric in row["scores"])
    return list(dict.fromkeys(every))
