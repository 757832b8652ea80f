"""A typed filter -> an SQL condition over units.

    {"language": {"in": ["en", "de"]}, "year": {"gte": 2020}, "not": {"section": "test"}}

Members of one object are ANDed. `language`, `kind` and `modality` are the unit's own; a language matches by prefix,
`zh` finding `zh-Hant`. Every other name is metadata, `metadata.NAME` where it collides. A document without a value is
not equal to anything: `ne` finds it, comparisons don't. Values compare within their type: numbers by value, strings by
code points, and no number is ever less than a string.
"""

import re
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from retriever.documents import MODALITIES, UNIT_KINDS
from retriever.errors import InvalidFilter
from retriever.languages import canonical
from retriever.reader import Reader
from retriever.records import encode_value

OPERATORS = ("eq", "ne", "in", "gt", "gte", "lt", "lte", "exists")
UNIT_NAMES = ("language", "kind", "modality")
MAX_DEPTH = 16
MAX_VALUES = 10_000

Filter = Mapping[str, Any]
_COMPARISONS = {"gt": ">", "gte": ">=", "lt": "<", "lte": "<="}


@dataclass(frozen=True, slots=True)
class Condition:
    """An SQL condition over the table `units`, with its values bound in order."""

    sql: str
    bindings: tuple[Any, ...] = ()


EVERYTHING = Condition("1")


def compile_filter(filter_: Filter | None, reader: Reader) -> Condition:
    """The condition that a filter means in this collection. Raises InvalidFilter."""
    if not filter_:
        return EVERYTHING
    return _Compiler(frozenset(reader.metadata_names())).object(filter_, depth=1)


class _Compiler:
    def __init__(self, known: frozenset[str]) -> None:
        self._known = known

    def object(self, filter_: Any, depth: int) -> Condition:  # noqa: ANN401 - what a user sent
        if not isinstance(filter_, Mapping):
            raise InvalidFilter(f"a filter is an object, got {type(filter_).__name__}: {filter_!r:.80}")
        if depth > MAX_DEPTH:
            raise InvalidFilter(f"a filter nests at most {MAX_DEPTH} deep", hint="flatten it with and, or, in")
        return _join("AND", [self._member(str(name), value, depth) for name, value in filter_.items()], EVERYTHING)

    def _member(self, name: str, value: Any, depth: int) -> Condition:  # noqa: ANN401
        if name == "not":
            inner = self.object(value, depth + 1)
            return Condition(f"NOT ({inner.sql})", inner.bindings)
        if name in ("and", "or"):
            if not isinstance(value, Sequence) or isinstance(value, str) or not value:
                raise InvalidFilter(f"{name} takes a list of at least one filter, got {value!r:.80}")
            return _join(name.upper(), [self.object(member, depth + 1) for member in value], EVERYTHING)
        operators = value if isinstance(value, Mapping) else {"eq": value}
        if not operators:
            raise InvalidFilter(f"{name}: no operator given", hint=f"operators are {', '.join(OPERATORS)}")
        return _join("AND", [self._operator(name, op, operand) for op, operand in operators.items()], EVERYTHING)

    def _operator(self, name: str, operator: str, operand: Any) -> Condition:  # noqa: ANN401
        if operator not in OPERATORS:
            raise InvalidFilter(f"{name}: unknown operator {operator!r}", hint=f"operators are {', '.join(OPERATORS)}")
        if operator == "exists" and not isinstance(operand, bool):
            raise InvalidFilter(f"{name}: exists takes true or false, got {operand!r:.80}")
        if operator == "in" and not (isinstance(operand, list | tuple) and len(operand) <= MAX_VALUES):
            raise InvalidFilter(f"{name}: in takes a list of at most {MAX_VALUES} values, got {operand!r:.80}")
        if name in UNIT_NAMES:
            return self._unit(name, operator, operand)
        return self._metadata(name, operator, operand)

    def _unit(self, name: str, operator: str, operand: Any) -> Condition:  # noqa: ANN401
        equal = _UNIT_EQUALS[name]
        if operator == "exists":
            return EVERYTHING if operand else Condition("0")
        if operator == "in":
            return _join("OR", [equal(value) for value in operand], Condition("0"))
        if operator in _COMPARISONS:
            raise InvalidFilter(f"{name} has no order: {operator} doesn't apply", hint="use eq, ne or in")
        condition = equal(operand)
        return condition if operator == "eq" else Condition(f"NOT ({condition.sql})", condition.bindings)

    def _metadata(self, name: str, operator: str, operand: Any) -> Condition:  # noqa: ANN401
        field = name.removeprefix("metadata.") if name.startswith("metadata.") and name not in self._known else name
        if field not in self._known:
            known = ", ".join([*UNIT_NAMES, *sorted(self._known)])
            raise InvalidFilter(f"unknown name {name!r} in the filter", hint=f"known names: {known}")
        if operator == "exists":
            found = _having(field, "1", ())
            return found if operand else Condition(f"NOT ({found.sql})", found.bindings)
        if operator == "in":
            values = [_scalar(name, value) for value in operand]
            return _having(field, f"value IN ({', '.join('?' * len(values))})", values)
        value = _scalar(name, operand)
        if operator in _COMPARISONS:
            return _having(field, *_comparison(name, operator, value))
        found = _having(field, "value = ?", (value,))
        return found if operator == "eq" else Condition(f"NOT ({found.sql})", found.bindings)


def _join(word: str, conditions: Sequence[Condition], none: Condition) -> Condition:
    if not conditions:
        return none
    sql = f" {word} ".join(f"({condition.sql})" for condition in conditions)
    return Condition(sql, tuple(value for condition in conditions for value in condition.bindings))


def _having(name: str, test: str, values: Sequence[Any]) -> Condition:
    sql = f"units.document IN (SELECT document FROM metadata WHERE name = ? AND {test})"  # noqa: S608 - tests are ours
    return Condition(sql, (name, *values))


def _comparison(name: str, operator: str, value: Any) -> tuple[str, tuple[Any, ...]]:  # noqa: ANN401
    """SQLite sorts numbers before text before BLOBs: the second bound keeps a comparison within its type."""
    sign = _COMPARISONS[operator]
    if isinstance(value, bytes):
        raise InvalidFilter(f"{name}: {operator} takes a number or a string, not a boolean")
    if isinstance(value, str):
        return f"value {sign} ? AND value >= '' AND value < x''", (value,)
    return f"value {sign} ? AND value < ''", (value,)


def _scalar(name: str, value: Any) -> str | int | float | bytes:  # noqa: ANN401
    if not isinstance(value, str | int | float) or (isinstance(value, int) and abs(value) >= 2**63) or value != value:  # noqa: PLR0124 - NaN
        raise InvalidFilter(f"{name}: a value is a string, a number or a boolean, got {value!r:.80}")
    try:
        str(value).encode()
    except UnicodeEncodeError:
        raise InvalidFilter(f"{name}: the value holds a lone surrogate") from None
    return encode_value(value)


def _language_equals(value: Any) -> Condition:  # noqa: ANN401
    if not isinstance(value, str):
        raise InvalidFilter(f"language is a string, got {value!r:.80}")
    try:
        tag = canonical(value)
    except ValueError as error:
        raise InvalidFilter(f"language: {error}") from None
    # "." is the character after "-": the range holds every longer tag.
    return Condition("units.language = ? OR (units.language >= ? AND units.language < ?)", (tag, tag + "-", tag + "."))


def _one_of(name: str, values: Sequence[str], stored: Callable[[str], Any]) -> Callable[[Any], Condition]:
    def equals(value: Any) -> Condition:  # noqa: ANN401
        if value not in values:
            raise InvalidFilter(f"{name} is one of {', '.join(values)}, got {value!r:.80}")
        return Condition(f"units.{name} = ?", (stored(value),))

    return equals


_UNIT_EQUALS: dict[str, Callable[[Any], Condition]] = {
    "language": _language_equals,
    "kind": _one_of("kind", UNIT_KINDS, UNIT_KINDS.index),
    "modality": _one_of("modality", MODALITIES, str),
}

_EXPRESSION = re.compile(r"^\s*(?P<name>[^\s=!<>]+)\s*(?P<sign>!=|>=|<=|=|>|<)\s*(?P<value>.*?)\s*$", re.DOTALL)
_SIGNS = {"!=": "ne", ">=": "gte", "<=": "lte", ">": "gt", "<": "lt"}


def parse_filter_expressions(expressions: Sequence[str]) -> dict[str, Any] | None:
    """The filter that repeated `field=value`, `field!=value`, `field>=value` … mean together; None for none.

    A value that reads as a number, `true` or `false` is one; an equality finds it as a string too.
    Raises InvalidFilter.
    """
    members = [_expression(text) for text in expressions]
    return {"and": members} if len(members) > 1 else members[0] if members else None


def _expression(text: str) -> dict[str, Any]:
    match = _EXPRESSION.match(text)
    if match is None:
        raise InvalidFilter(f"not a filter: {text!r}", hint="write field=value, field!=value, field>=value, …")
    name, sign, written = match["name"], match["sign"], match["value"]
    value = _read_value(written)
    if sign in ("=", "!=") and name not in UNIT_NAMES:
        equal = {name: {"in": [value, written] if value != written else [written]}}
        return equal if sign == "=" else {"not": equal}
    return {name: {_SIGNS.get(sign, "eq"): value}}


def _read_value(written: str) -> str | int | float | bool:
    if written in ("true", "false"):
        return written == "true"
    for number in (int, float):
        try:
            return number(written)
        except ValueError:
            continue
    return written
