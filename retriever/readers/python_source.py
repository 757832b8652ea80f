"""Python source trees: a document for each function, method and class."""

import ast
import io
import sys
import tokenize
import warnings
from collections import Counter
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

from retriever.documents import Document
from retriever.errors import InvalidDocument
from retriever.readers.base import Found, Reject, document_or_reject, read_bytes, walk

SUFFIXES = frozenset({".py"})

Function = ast.FunctionDef | ast.AsyncFunctionDef
Definition = Function | ast.ClassDef
# Whatever statements can stand in.
_BLOCKS = (ast.stmt, ast.excepthandler, ast.match_case)


def read_python(source: Path, *, documented: bool = False) -> Iterator[Document | Reject]:
    """The functions, methods and classes of the files at or below `source`; a Reject for a file that doesn't parse.

    The id is `rel/path.py#Qual.name`, a repeat in the file gets `~2` and so on. The title is the signature with the
    qualified name; the text is the source without its indentation: decorators, signature, docstring, body. A class has
    its methods' signatures without their bodies; a function within a function belongs to the outer one's text.
    Metadata: path, symbol, signature, start_line, end_line and documented (whether it has a docstring).
    documented: only the ones with a docstring.
    """
    for found in walk(source, SUFFIXES):
        if isinstance(found, Reject):
            yield found
        else:
            yield from _read_file(found, documented=documented)


def _read_file(found: Found, *, documented: bool) -> Iterator[Document | Reject]:
    try:
        text = _source_text(read_bytes(found.path))
        module = _parsed(text)
    except InvalidDocument as error:
        yield Reject(str(found.path), None, found.name, str(error))
        return
    except SyntaxError as error:
        version = f"{sys.version_info.major}.{sys.version_info.minor}"
        yield Reject(str(found.path), error.lineno, found.name, f"it is not Python {version}: {error.msg}")
        return
    lines = text.split("\n")
    seen: Counter[str] = Counter()
    for node, name in _definitions(module, ""):
        seen[name] += 1
        if documented and ast.get_docstring(node, clean=False) is None:
            continue
        identifier = f"{found.name}#{name}" + (f"~{seen[name]}" if seen[name] > 1 else "")
        record = _record(node, name, lines) | {"id": identifier, "path": found.name}
        yield document_or_reject(record, found.path, _start_line(node), modality="code")


def _source_text(content: bytes) -> str:
    r"""The source decoded as its coding line or UTF-8 says, newlines as `\n`. Raises SyntaxError, InvalidDocument."""
    encoding, _ = tokenize.detect_encoding(io.BytesIO(content).readline)
    try:
        return io.TextIOWrapper(io.BytesIO(content), encoding).read()
    except UnicodeDecodeError as error:
        line = content.count(b"\n", 0, error.start) + 1
        raise InvalidDocument(f"invalid {encoding}: byte 0x{content[error.start]:02x} in line {line}") from None


def _parsed(text: str) -> ast.Module:
    with warnings.catch_warnings():
        # Python warns of odd escapes in whatever it parses; these sources are only read.
        warnings.simplefilter("ignore")
        try:
            return ast.parse(text)
        except (ValueError, RecursionError, MemoryError) as error:
            raise SyntaxError(str(error) or "it is nested too deeply") from None


def _definitions(block: ast.AST, prefix: str) -> Iterator[tuple[Definition, str]]:
    """The definitions in a module or class and in its classes, in the source's order, with their qualified names."""
    for node in _outermost(block):
        name = prefix + node.name
        yield node, name
        if isinstance(node, ast.ClassDef):
            yield from _definitions(node, f"{name}.")


def _outermost(block: ast.AST) -> Iterator[Definition]:
    """The definitions in a block, also under `if`, `try`, `with` and the like, but not those in other definitions."""
    pending = [block]
    while pending:
        node = pending.pop()
        if node is not block and isinstance(node, Definition):
            yield node
        else:
            statements = [child for child in ast.iter_child_nodes(node) if isinstance(child, _BLOCKS)]
            pending.extend(reversed(statements))


def _record(node: Definition, name: str, lines: Sequence[str]) -> dict[str, Any]:
    return {
        "title": name,
        "text": _class_text(node, lines) if isinstance(node, ast.ClassDef) else _text(node, lines),
        "symbol": name,
        "signature": _signature(node),
        "start_line": _start_line(node),
        "end_line": _end_line(node),
        "documented": ast.get_docstring(node, clean=False) is not None,
    }


def _start_line(node: Definition) -> int:
    return min([node.lineno, *(decorator.lineno for decorator in node.decorator_list)])


def _end_line(node: Definition) -> int:
    return node.end_lineno or node.lineno


def _text(node: Definition, lines: Sequence[str]) -> str:
    return _dedented(lines[_start_line(node) - 1 : _end_line(node)], _indent(node, lines))


def _class_text(node: ast.ClassDef, lines: Sequence[str]) -> str:
    kept: list[str] = []
    done = _start_line(node) - 1
    for inner in _outermost(node):
        kept.extend(lines[done : _start_line(inner) - 1])
        while not kept[-1].strip():
            kept.pop()
        kept.append(f"{_indent(inner, lines)}{_signature(inner)}: ...")
        done = _end_line(inner)
    return _dedented([*kept, *lines[done : _end_line(node)]], _indent(node, lines))


def _indent(node: Definition, lines: Sequence[str]) -> str:
    return lines[node.lineno - 1][: node.col_offset]


def _dedented(lines: Sequence[str], indent: str) -> str:
    # Not textwrap.dedent: a string that spans lines may hold one that starts at the margin.
    return "\n".join(line.removeprefix(indent) for line in lines).rstrip()


def _signature(node: Definition) -> str:
    """The line that opens a definition, on one line and without its colon."""
    try:
        if isinstance(node, ast.ClassDef):
            bases = ", ".join(map(ast.unparse, [*node.bases, *node.keywords]))
            return f"class {node.name}({bases})" if bases else f"class {node.name}"
        returns = f" -> {ast.unparse(node.returns)}" if node.returns else ""
        keyword = "def" if isinstance(node, ast.FunctionDef) else "async def"
        return f"{keyword} {node.name}({ast.unparse(node.args)}){returns}"
    except RecursionError:  # an expression of a thousand terms as a default
        return node.name
