"""`polyseek eval`: datasets by models, collections, BM25 and runs; evaluations compared, fused, verified."""

from collections.abc import Callable
from dataclasses import asdict
from inspect import Parameter, Signature
from pathlib import Path
from typing import Annotated, Any

import typer

from retriever.commands.options import DEFAULT_ROOT, Json, RootDir, examples
from retriever.errors import InvalidData

app = typer.Typer(add_completion=False, help="Evaluate models, collections, BM25 and runs.")

Paths = Annotated[list[Path], typer.Argument(metavar="PATH", help="The dataset's folder; several are averaged too.")]
Out = Annotated[
    Path, typer.Option("--out", metavar="DIR", help="Folder for the runs, metrics.json, values.npz and the report.")
]
Reports = Annotated[list[Path], typer.Argument(metavar="REPORT", help="Folders of evaluations, or their metrics.json.")]

SYSTEMS: dict[str, tuple[Any, Any]] = {
    "model": (
        list[str] | None,
        typer.Option(metavar="MODEL", help="An encoder, all vectors compared: multilingual, a folder, …; repeatable."),
    ),
    "collection": (
        list[str] | None,
        typer.Option(
            metavar="NAME[:MODE]",
            help="A collection, asked as the service does, in mode dense, lexical or hybrid; repeatable. "
            "One that isn't there is built from the dataset.",
        ),
    ),
    "bm25": (bool, typer.Option("--bm25", help="Lexical search over the dataset.")),
    "run": (
        list[Path] | None,
        typer.Option(
            metavar="FILE", help="A TREC run, or a folder of them for a dataset of several tasks; repeatable."
        ),
    ),
    "baseline": (
        str | None,
        typer.Option(metavar="RUN", help="Compare with it: the name of one of the systems, or a run as for --run."),
    ),
    "metric": (
        list[str] | None,
        typer.Option(metavar="NAME", help="Such as ndcg@10, instead of those of the dataset's kind; repeatable."),
    ),
    "depth": (
        int | None,
        typer.Option(metavar="K", min=1, help="Documents of a run for each query: 1,000, of caption and bitext 100."),
    ),
    "encoder": (
        str | None,
        typer.Option(
            envvar="POLYSEEK_ENCODER",
            metavar="MODEL",
            help="What --collection is built with; by default the first --model, else multilingual.",
        ),
    ),
}
CHOICES: dict[str, tuple[Any, Any]] = {
    "split": (str | None, typer.Option(metavar="NAMES", help="Splits to read, such as test or dev,test.")),
    "language": (list[str] | None, typer.Option(metavar="TAG", help="A language to read; repeatable. All by default.")),
    "pair": (list[str] | None, typer.Option(metavar="DE-EN", help="Languages of queries and documents; repeatable.")),
    "pools": (bool, typer.Option("--pools", help="Rank pools of 1,000 instead of the whole codebase.")),
    "text_only": (bool, typer.Option("--text-only", help="Captions among themselves, without the pictures.")),
}
# What the readers call them.
READ_AS = {"language": "languages", "pair": "pairs"}


def _evaluates(kind: str, choices: tuple[str, ...], says: str, *lines: str) -> None:
    """Add the command that evaluates one kind of dataset. choices: of CHOICES, which its reader takes.

    What the commands have in common is spelled once, so that their functions' signatures are put together here.
    """

    def command(paths: list[Path], root: Path, out: Path, *, as_json: bool, **given: Any) -> None:  # noqa: ANN401
        from eval.plan import Plan

        plan = Plan(
            kind,
            tuple(paths),
            {READ_AS.get(name, name): given[name] for name in choices if given[name]},
            models=tuple(given["model"] or ()),
            collections=tuple(given["collection"] or ()),
            bm25=given["bm25"],
            runs=tuple(given["run"] or ()),
            baseline=given["baseline"],
            metrics=tuple(given["metric"]) if given["metric"] else None,
            k=given["depth"],
            root=root,
            encoder=given["encoder"],
        )
        _carry_out(plan, out, as_json=as_json)

    options = {**SYSTEMS, **{name: CHOICES[name] for name in choices}}
    _sign(command, {name: (Annotated[type_, option], _default(type_)) for name, (type_, option) in options.items()})
    command.__doc__ = says
    app.command(kind, epilog=examples(*(f"polyseek eval {kind} {line}" for line in lines)))(command)


def _default(type_: Any) -> Any:  # noqa: ANN401 - a type as Typer takes it
    return False if type_ is bool else None


def _sign(command: Callable[..., None], options: dict[str, tuple[Any, Any]]) -> None:
    """Give a command the signature that Typer reads."""
    keyword = Parameter.KEYWORD_ONLY
    parameters = [
        Parameter("paths", Parameter.POSITIONAL_OR_KEYWORD, annotation=Paths),
        Parameter("out", keyword, annotation=Out),
        *(Parameter(name, keyword, annotation=type_, default=default) for name, (type_, default) in options.items()),
        Parameter("root", keyword, annotation=RootDir, default=DEFAULT_ROOT),
        Parameter("as_json", keyword, annotation=Json, default=False),
    ]
    command.__signature__ = Signature(parameters)  # type: ignore[attr-defined]


def _carry_out(plan: Any, out: Path, *, as_json: bool) -> None:  # noqa: ANN401 - a Plan, imported late
    from eval import printing
    from eval.results import METRICS_FILE, to_json
    from retriever import console

    with printing.progress() as progress:
        evaluation = plan.carry_out(out, progress)
    if as_json:
        console.print_json_line(to_json(evaluation))
    else:
        printing.show(evaluation)
        console.talk().print(f"Written: {out / METRICS_FILE}")


_evaluates(
    "beir",
    ("split", "language"),
    "Evaluate on folders in BEIR's layout, CQADupStack, Mr. TyDi and MIRACL among them.",
    "data/scifact --model english --collection scifact:dense --bm25 --out out",
    "data/scifact data/cisi --model multilingual --bm25 --baseline bm25 --out out",
)
_evaluates(
    "xtd",
    ("language", "pair", "text_only"),
    "Evaluate on XTD: captions in many languages, with their pictures where the model sees them.",
    "data/xtd10 --model ./clip --out out",
)
_evaluates(
    "multi30k",
    ("split", "language", "pair", "text_only"),
    "Evaluate on Multi30k: parallel captions, and how much the ranks vary over languages.",
    "data/multi30k --model multilingual --out out",
)
_evaluates(
    "tatoeba",
    ("language", "pair"),
    "Evaluate on Tatoeba: the translation of each sentence, both ways.",
    "data/tatoeba --model multilingual --out out",
    "data/tatoeba --model multilingual --pair deu-fra --out out",
)
_evaluates(
    "xquad-r",
    ("language", "pair"),
    "Evaluate on XQuAD-R (LAReQA): answers in all languages in one pool.",
    "data/xquad-r --model multilingual --out out",
)
_evaluates(
    "code",
    ("split", "language", "pools"),
    "Evaluate on code search: CoSQA, CodeSearchNet and its queries judged by people.",
    "data/cosqa --model english --out out",
    "data/codesearchnet --model english --pools --out out",
)


@app.command(epilog=examples("polyseek eval compare before after"))
def compare(reports: Reports, *, as_json: Json = False) -> None:
    """Compare evaluations of the same dataset: each system with the first one's first, query by query."""
    from eval import printing
    from eval.evaluation import compare as compare_files
    from retriever import console

    comparisons = compare_files(reports)
    if as_json:
        for comparison in comparisons:
            console.print_json_line(asdict(comparison))
    else:
        printing.show_comparisons(comparisons)


@app.command(
    epilog=examples("polyseek eval fuse out/bm25.trec out/english.trec --weight 0.8 --weight 0.2 --out f.trec")
)
def fuse(
    runs: Annotated[list[Path], typer.Argument(metavar="RUN", help="TREC runs, or folders that hold the same ones.")],
    *,
    out: Annotated[Path, typer.Option("--out", metavar="FILE", help="The run, or the folder, to write.")],
    weight: Annotated[
        list[float] | None, typer.Option(metavar="W", min=0, help="Weight of each run in order; all the same if none.")
    ] = None,
) -> None:
    """Fuse runs into one by weighted reciprocal ranks, as hybrid search does."""
    from eval.fusing import fuse_files
    from retriever import console

    count = fuse_files(runs, out, weight)
    console.talk().print(f"Written: {out} ({count} run{'s' if count > 1 else ''})")


@app.command(epilog=examples("polyseek eval verify out"))
def verify(
    report: Annotated[Path, typer.Argument(metavar="REPORT", help="Folder of an evaluation, or its metrics.json.")],
) -> None:
    """Carry out an evaluation again and compare every mean, to 1e-6; fails where something differs."""
    from eval import printing
    from eval.plan import verify as carry_out_again
    from retriever import console

    with printing.progress() as progress:
        problems = carry_out_again(report, progress)
    for problem in problems:
        console.output().print(problem)
    if problems:
        raise InvalidData(
            f"{len(problems)} things differ, the first: {problems[0]}",
            hint="compare the versions in metrics.json with those of now",
        )
    console.output().print("ok: the same figures again")
