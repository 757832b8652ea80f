"""An evaluation as a person reads it in a terminal: tables on standard output, progress and notes on standard error."""

from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager

from rich.progress import BarColumn, MofNCompleteColumn, Progress, TaskID, TextColumn, TimeElapsedColumn

from eval import vectors
from eval.results import Comparison, Evaluation, Score
from retriever import console


@contextmanager
def progress() -> Iterator[vectors.Progress]:
    """A bar for each thing that is being done, gone when it is done; in a terminal only."""
    columns = (TextColumn("{task.description}"), BarColumn(), MofNCompleteColumn(), TimeElapsedColumn())
    talk = console.talk()
    with Progress(*columns, console=talk, transient=True, disable=not talk.is_terminal) as bars:
        known: dict[str, TaskID] = {}

        def tell(what: str, done: int, of: int) -> None:
            if what not in known:
                known[what] = bars.add_task(what)
            bars.update(known[what], completed=done, total=of)
            if done >= of:
                bars.remove_task(known.pop(what))

        yield tell


def show(evaluation: Evaluation) -> None:
    """Print every mean, rank variances and comparisons; on standard error the notes."""
    rows = [({"dataset": a.dataset, "task": a.task, "system": a.system}, a.scores) for a in evaluation.answers]
    for mean in evaluation.means:
        for how, scores in (("macro", mean.macro), ("micro", mean.micro)):
            name = {"dataset": mean.dataset or "-", "task": f"{mean.group} ({how})", "system": mean.system}
            rows.append((name, scores))
    rows += [({"dataset": v.dataset, "task": v.alignment, "system": v.system}, v.scores) for v in evaluation.variations]
    # A table has one set of columns.
    for metrics in dict.fromkeys(tuple(scores) for _, scores in rows):
        _show([_row(name, scores) for name, scores in rows if tuple(scores) == metrics])
    show_comparisons(evaluation.comparisons)
    for note in evaluation.notes:
        console.talk().print(note, style="yellow")


def show_comparisons(comparisons: Sequence[Comparison]) -> None:
    """Print differences with their 95% intervals and adjusted p."""
    for baseline in dict.fromkeys(one.baseline for one in comparisons):
        console.output().print(f"Beside {baseline}:")
        _show([_compared(one) for one in comparisons if one.baseline == baseline])


def _compared(one: Comparison) -> dict[str, object]:
    return {
        "dataset": one.dataset or "-", "task": one.task, "system": one.system, "metric": one.metric,
        "difference": f"{one.difference:+.4f}", "low": f"{one.low:+.4f}", "high": f"{one.high:+.4f}",
        "p (Holm)": f"{one.adjusted:.4f}",
    }  # fmt: skip


def _show(rows: Sequence[Mapping[str, object]]) -> None:
    if rows:
        console.show_table(rows)
        console.output().print()


def _row(name: Mapping[str, object], scores: Mapping[str, Score]) -> dict[str, object]:
    count = next(iter(scores.values())).n if scores else 0
    return {**name, "n": count, **{metric: f"{score.mean:.4f}" for metric, score in scores.items()}}
