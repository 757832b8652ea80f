"""Python source trees."""

import ast
import os
import textwrap
from pathlib import Path

import pytest

from retriever.readers import Reject, read

SOURCE = '''
"""Module."""

def plain(a, b=1, *, c: int = 2) -> int:
    """Adds."""
    def inner():
        """Not a document of its own."""
    return a + b

class Outer(Base, metaclass=Meta):
    """A class."""

    size = 3

    @property
    def name(self):
        """The name."""
        return self._name

    @name.setter
    def name(self, value):
        self._name = value

    class Inner:
        async def run(self): await self.stop()

    # a comment
    tail = 1

if True:
    def conditional():
        text = """
at the margin
"""
else:
    try:
        pass
    except OSError:
        def plain():
            pass
'''


def tree(tmp_path: Path, source: str = SOURCE) -> Path:
    (tmp_path / "pkg").mkdir()
    (tmp_path / "pkg" / "mod.py").write_text(textwrap.dedent(source), encoding="utf-8")
    return tmp_path


def test_each_function_method_and_class_is_a_document(tmp_path):
    documents = list(read(tree(tmp_path)))
    assert [document.id for document in documents] == [
        "pkg/mod.py#plain",
        "pkg/mod.py#Outer",
        "pkg/mod.py#Outer.name",
        "pkg/mod.py#Outer.name~2",
        "pkg/mod.py#Outer.Inner",
        "pkg/mod.py#Outer.Inner.run",
        "pkg/mod.py#conditional",
        "pkg/mod.py#plain~2",
    ]
    assert {document.modality for document in documents} == {"code"}


def test_a_function_has_its_source_and_where_it_is(tmp_path):
    by_id = {document.id: document for document in read(tree(tmp_path))}
    plain = by_id["pkg/mod.py#plain"]
    assert plain.title == "plain"
    assert plain.text.startswith('def plain(a, b=1, *, c: int = 2) -> int:\n    """Adds."""\n    def inner():')
    assert plain.metadata == {
        "path": "pkg/mod.py",
        "symbol": "plain",
        "signature": "def plain(a, b=1, *, c: int=2) -> int",
        "start_line": 4,
        "end_line": 8,
        "documented": True,
    }
    getter = by_id["pkg/mod.py#Outer.name"]
    assert getter.text == '@property\ndef name(self):\n    """The name."""\n    return self._name'
    assert (getter.metadata["start_line"], getter.metadata["end_line"]) == (15, 18)
    assert by_id["pkg/mod.py#conditional"].text == 'def conditional():\n    text = """\nat the margin\n"""'


def test_a_class_has_its_methods_signatures_without_their_bodies(tmp_path):
    outer = next(document for document in read(tree(tmp_path)) if document.id == "pkg/mod.py#Outer")
    assert outer.text == textwrap.dedent('''\
        class Outer(Base, metaclass=Meta):
            """A class."""

            size = 3
            def name(self): ...
            def name(self, value): ...
            class Inner: ...

            # a comment
            tail = 1''')
    assert outer.metadata["signature"] == "class Outer(Base, metaclass=Meta)"


def test_tabs_as_indentation_are_taken_away_as_well(tmp_path):
    documents = list(read(tree(tmp_path, "class A:\n\tdef f(self):\n\t\treturn 1\n")))
    assert [document.text for document in documents] == [
        "class A:\n\tdef f(self): ...",
        "def f(self):\n\treturn 1",
    ]


def test_documented_ones_alone_keep_the_ids_that_they_have_among_all(tmp_path):
    everything = {document.id: document for document in read(tree(tmp_path), format="python")}
    documented = list(read(tmp_path, format="python-documented"))
    assert documented == [document for document in everything.values() if document.metadata["documented"]]
    assert [document.id for document in documented] == ["pkg/mod.py#plain", "pkg/mod.py#Outer", "pkg/mod.py#Outer.name"]


BAD = {
    b"x = 1\ndef f(:\n    pass\n": (2, "it is not Python 3"),
    b"# coding: klingon\n": (None, "unknown encoding: klingon"),
    b"x = '\xff'\n": (None, "invalid"),
    b"# coding: ascii\n\n\nx = '\xc3\xa9'\n": (None, "invalid ascii: byte 0xc3 in line 4"),
    b"x = '\0'\n": (None, "null bytes"),
    b"x = " + b"(" * 500 + b")" * 500: (1, "too many nested parentheses"),
}


@pytest.mark.parametrize(("content", "expected"), BAD.items(), ids=lambda value: str(value)[:30])
def test_a_file_that_does_not_parse_is_a_reject_and_the_others_are_read(tmp_path, content, expected):
    (tmp_path / "a.py").write_bytes(content)
    (tmp_path / "b.py").write_text("def fine(): pass")
    reject, document = read(tmp_path)
    assert isinstance(reject, Reject)
    assert (reject.file, reject.id) == (str(tmp_path / "a.py"), "a.py")
    assert reject.line == expected[0]
    assert expected[1] in reject.reason
    assert document.id == "b.py#fine"


def test_a_coding_line_is_obeyed_and_odd_escapes_pass_without_a_warning(tmp_path):
    (tmp_path / "a.py").write_bytes("# coding: latin-1\ndef f():\n    return 'é\\d'\n".encode("latin-1"))
    (document,) = read(tmp_path / "a.py")
    assert document.text == "def f():\n    return 'é\\d'"
    assert document.id == "a.py#f"


def test_a_default_of_a_thousand_terms_is_no_error(tmp_path):
    terms = "+".join(["1"] * 900)
    (tmp_path / "a.py").write_text(f"def f(a={terms}): pass")
    (result,) = read(tmp_path)
    assert isinstance(result, Reject) or result.metadata["symbol"] == "f"


def test_the_standard_librarys_functions_are_all_found():
    package = Path(ast.__file__).parent / "json"
    found = {(document.metadata["path"], document.metadata["start_line"]) for document in read(package)}
    expected = set()
    for path in package.glob("*.py"):
        for node in outermost(ast.parse(path.read_text(encoding="utf-8"))):
            start = min([node.lineno, *(decorator.lineno for decorator in node.decorator_list)])
            expected.add((os.fspath(path.relative_to(package)), start))
    assert found == expected
    assert len(found) > 20


def outermost(block: ast.AST):
    """Every definition that no function encloses, the slow way."""
    for node in ast.iter_child_nodes(block):
        if isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef | ast.ClassDef):
            yield node
        if not isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef):
            yield from outermost(node)
