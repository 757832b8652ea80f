"""What `polyseek eval` is asked, as data: it can be carried out, written down, and carried out again."""

from collections.abc import Iterator, Mapping
from dataclasses import asdict, dataclass, field, replace
from pathlib import Path
from typing import Any, get_args

from eval import results
from eval.datasets import read
from eval.evaluation import evaluate
from eval.results import Evaluation
from eval.systems import CollectionSystem, ModelSystem, RunSystem, System
from eval.vectors import Progress
from retriever.build import DEFAULT_ENCODER
from retriever.errors import InvalidRequest
from retriever.requests import Mode
from retriever.root import Root


@dataclass(frozen=True)
class Plan:
    """One evaluation. kind, paths, options: as for `eval.datasets.read`.

    collections: `NAME` or `NAME:MODE`. runs: files or folders of runs. baseline: a system's name, or the path of a run.
    encoder: of collections that aren't there yet, by default that of the first model. metrics, k: as for `evaluate`.
    """

    kind: str
    paths: tuple[Path, ...]
    options: Mapping[str, Any] = field(default_factory=dict)
    models: tuple[str, ...] = ()
    collections: tuple[str, ...] = ()
    bm25: bool = False
    runs: tuple[Path, ...] = ()
    baseline: str | None = None
    metrics: tuple[str, ...] | None = None
    k: int | None = None
    root: Path = Path("polyseek-data")
    encoder: str | None = None

    def carry_out(self, out: Path | None, progress: Progress = lambda *_: None) -> Evaluation:
        """Read the datasets, ask the systems, write to `out`. Raises what `read` and `evaluate` do."""
        systems = list(self._systems())
        baseline = self.baseline
        if baseline is not None and baseline not in {system.name for system in systems} and Path(baseline).exists():
            systems.append(RunSystem(Path(baseline)))
            baseline = systems[-1].name
        return evaluate(
            read(self.kind, self.paths, **self.options), systems, metrics=self.metrics, baseline=baseline, out=out,
            k=self.k, asked=self.to_json(), progress=progress,
        )  # fmt: skip

    def _systems(self) -> Iterator[System]:
        for model in self.models:
            yield ModelSystem(model)
        root = Root(self.root)
        encoder = self.encoder or next(iter(self.models), DEFAULT_ENCODER)
        for text in self.collections:
            name, mode = _collection(text)
            yield CollectionSystem.in_root(root, name, mode, encoder=encoder)
        if self.bm25:
            yield CollectionSystem.bm25()
        for path in self.runs:
            yield RunSystem(path)

    def to_json(self) -> dict[str, Any]:
        """JSON values that `from_json` reads back, wherever it is called: every path is whole."""
        baseline = None if self.baseline is None else _placed(self.baseline)
        members = asdict(replace(self, baseline=baseline, models=tuple(map(_placed, self.models))))
        for name in ("paths", "runs"):
            members[name] = [str(path.resolve()) for path in members[name]]
        return {**members, "root": str(self.root.resolve()), "options": dict(self.options)}

    @classmethod
    def from_json(cls, members: Mapping[str, Any]) -> "Plan":
        """What `to_json` wrote."""
        lists = {
            name: tuple(members[name]) for name in ("models", "collections", "metrics") if members[name] is not None
        }
        paths = {name: tuple(map(Path, members[name])) for name in ("paths", "runs")}
        return cls(**{**members, **lists, **paths, "root": Path(members["root"])})


def _placed(name: str) -> str:
    """A name that is a path here, whole; any other as it is."""
    return str(Path(name).resolve()) if "/" in name and Path(name).exists() else name


def _collection(text: str) -> tuple[str, Mode | None]:
    """NAME or NAME:MODE. Raises InvalidRequest."""
    name, colon, asked = text.partition(":")
    modes: tuple[Mode, ...] = get_args(Mode)
    for mode in modes:
        if asked == mode:
            return name, mode
    if colon:
        raise InvalidRequest(f"{text}: no mode {asked!r}", hint=f"the modes are {', '.join(modes)}")
    return name, None


def verify(file: Path, progress: Progress = lambda *_: None) -> list[str]:
    """Carry out again what a metrics.json (or the folder or report beside it) came from: what differs, in sentences.

    Raises InvalidData, and InvalidRequest for an evaluation that no command made; what `Plan.carry_out` raises.
    """
    before = results.read(file)
    if before["asked"] is None:
        raise InvalidRequest(
            "this evaluation was not made by a command, and what it was asked is not written down",
            hint="run `polyseek eval` on the dataset",
        )
    again = Plan.from_json(before["asked"]).carry_out(None, progress)
    return results.differences(before, results.to_json(again))
