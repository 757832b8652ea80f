"""The map is true: every file and every name that ARCHITECTURE.md mentions exists, and every module is on it."""

import ast
import re
from pathlib import Path

import pytest

REPOSITORY = Path(__file__).parents[1]
MAP = (REPOSITORY / "ARCHITECTURE.md").read_text()
PACKAGES = ("retriever", "service", "eval")
NAMES = {name.split("(")[0] for name in re.findall(r"`([\w./]+)`", MAP)}


def defined():
    """Every class, function, method and assigned name of the packages."""
    for package in PACKAGES:
        for file in (REPOSITORY / package).rglob("*.py"):
            for node in ast.walk(ast.parse(file.read_text())):
                if isinstance(node, ast.ClassDef | ast.FunctionDef | ast.AsyncFunctionDef):
                    yield node.name
                elif isinstance(node, ast.Name) and isinstance(node.ctx, ast.Store):
                    yield node.id


DEFINED = set(defined()) | set(PACKAGES) | {"training"}
# Words in code type that are no names of ours: values, commands, marks.
OTHERS = {"polyseek.commands", "multilingual", "soak"}


@pytest.mark.parametrize("name", sorted(NAMES - OTHERS))
def test_every_name_on_the_map_exists(name):
    if "/" in name or name.endswith(".py"):
        places = [REPOSITORY / name, *(REPOSITORY / package / name for package in PACKAGES)]
        assert any(place.exists() for place in places)
    else:
        assert name.split(".")[-1] in DEFINED


@pytest.mark.parametrize("module", sorted(path.name for path in (REPOSITORY / "retriever").glob("[!_]*.py")))
def test_every_module_of_the_retriever_is_on_the_map(module):
    assert module in MAP
