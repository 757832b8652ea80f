"""Run files -> one, fused by rank, without the dataset that they answer."""

import gzip
from collections.abc import Sequence
from pathlib import Path

import numpy as np

from eval.runs import fuse, read_run, write_run
from eval.tasks import Items, Judgements, Task
from retriever.errors import InvalidData, InvalidRequest
from retriever.files import written_for


def fuse_files(paths: Sequence[Path], out: Path, weights: Sequence[float] | None = None) -> int:
    """Fuse runs by weighted reciprocal ranks and write `out`; returns how many files it made.

    paths: files, or folders in which the same files lie, of which each is fused; `out` is then a folder. weights: one
    for each path, by default the same for all. Raises InvalidRequest, InvalidData, OutputError.
    """
    if len(paths) < 2:
        raise InvalidRequest("one run is no fusion", hint="give two runs or more")
    if weights is not None and len(weights) != len(paths):
        raise InvalidRequest(f"{len(weights)} weights for {len(paths)} runs", hint="give one weight for each run")
    if not any(path.is_dir() for path in paths):
        _fuse(paths, out, weights)
        return 1
    names = sorted({file.relative_to(path).as_posix() for path in paths for file in path.rglob("*.trec*")})
    for name in names:
        _fuse([_beside(path, name) for path in paths], out / name, weights)
    return len(names)


def _beside(folder: Path, name: str) -> Path:
    if not (folder / name).is_file():
        raise InvalidData(f"{folder.name} has no {name}", hint="every folder holds the same runs", path=folder)
    return folder / name


def _fuse(files: Sequence[Path], out: Path, weights: Sequence[float] | None) -> None:
    task = _task(files)
    run = fuse(task, [read_run(file, task) for file in files], weights)
    with written_for(out):
        write_run(out, task, run, "+".join(file.name.removesuffix(".gz").removesuffix(".trec") for file in files))


def _task(files: Sequence[Path]) -> Task:
    """A task of all queries and documents that the runs name; what isn't a run's line, `read_run` refuses."""
    queries: dict[str, None] = {}
    documents: dict[str, None] = {}
    for file in files:
        try:
            opened = gzip.open if file.suffix == ".gz" else open
            with opened(file, "rt", encoding="utf-8") as stream:
                parts = [line.split() for line in stream]
        except (OSError, EOFError, UnicodeDecodeError) as error:
            raise InvalidData(f"{file.name} can't be read: {error}", hint="give a TREC run file", path=file) from None
        queries.update(dict.fromkeys(line[0] for line in parts if len(line) > 2))
        documents.update(dict.fromkeys(line[2] for line in parts if len(line) > 2))
    nothing = np.empty(0, np.int64)
    return Task(
        "fusion", "search", Items(tuple(queries)), Items(tuple(documents)), Judgements(nothing, nothing, nothing)
    )
