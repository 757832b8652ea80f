"""A collection of 200 vectors with a real index over them, of which every answer is known by hand."""

import subprocess
import sys
from pathlib import Path

import numpy as np

from retriever.documents import Document
from retriever.root import Root
from tests.retriever.small import spelled

REPOSITORY = Path(__file__).parents[2]
COUNT, DIMENSION = 200, 16
VECTORS = np.random.default_rng(0).integers(-8, 9, (2 * COUNT, DIMENSION)).astype(np.float32)
# As `polyseek index optimize`, with indices also over few rows.
OPTIMIZE = """
import sys
from retriever.cli import main
from tests.retriever.small import index_matters
index_matters()
sys.argv = ["polyseek", "index", "optimize", *sys.argv[1:]]
main()
"""


def optimize(root: Root, *arguments: str) -> None:
    command = [sys.executable, "-c", OPTIMIZE, "many", "--root", str(root.path), *arguments]
    subprocess.run(command, cwd=REPOSITORY, check=True, capture_output=True, timeout=120)


def document(number: int) -> Document:
    return Document(id=f"d{number}", text=f"{spelled(number)} shared", language="en", vector=VECTORS[number])


def nearest(number: int, count: int) -> list[str]:
    scores = VECTORS[:count] @ VECTORS[number]
    return [f"d{place}" for place in np.argsort(-scores, kind="stable")[:3]]


def made(path: Path) -> Root:
    """A root with the collection `many`; `small.index_matters` must be in force."""
    root = Root(path)
    with root.create("many", encoder=None, kind="ivf") as collection:
        collection.upsert([document(number) for number in range(COUNT)])
        collection.settle()
    return root
