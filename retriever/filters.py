"""A typed filter -> a test of units: an SQL condition, or a tree that `rows.py` evaluates.

    {"language": {"in": ["en", "de"]}, "year": {"gte": 2020}, "not": {"section": "test"}}

Members of one object are ANDed. `language`, `kind` and `modality` are the unit's own; a language matches by prefix,
`zh` finding `zh-Hant`. Every other name is metadata, `metadata.NAME` where it collides. A document without a value is
not equal to anything: `ne` finds it, comparisons don't. Values compare within their type: numbers by value, strings by
code points, and no number is ever less than a string.
"""

import re
import reprlib
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
# SQLite's own limit of what a statement binds.
MAX_BOUND = 32_766

Filter = Mapping[str, Any]
_COMPARISONS = {"gt": ">", "gte": ">=", "lt": "<", "lte": "<="}
# SQLite sorts numbers before text before BLOBs: this keeps a comparison among numbers.
_NUMERIC = " AND value < ''"


@dataclass(frozen=True, slots=True)
class HasMetadata:
    """The unit's document has a value of this name for which an SQL test over `value` holds."""

    name: str
    test: str
    values: tuple[Any, ...] = ()


@dataclass(frozen=True, slots=True)
class HasTrait:
    """An SQL test over the unit's own `language` and `modality` holds."""

    test: str
    values: tuple[Any, ...] = ()


@dataclass(frozen=True, slots=True)
class OfKind:
    """The unit is of this kind, a place in UNIT_KINDS."""

    kind: int


@dataclass(frozen=True, slots=True)
class Not:
    """The test doesn't hold."""

    test: "Test"


@dataclass(frozen=True, slots=True)
class All:
    """Every one of the tests holds."""

    tests: tuple["Test", ...] = ()


@dataclass(frozen=True, slots=True)
class AnyOf:
    """One of the tests holds."""

    tests: tuple["Test", ...] = ()


# Tests are equal where they mean the same in the same order; numbers are equal by value, as they compare in SQL.
Test = HasMetadata | HasTrait | OfKind | Not | All | AnyOf
EVERYTHING = All()
NOTHING = AnyOf()


@dataclass(frozen=True, slots=True)
class Condition:
    """An SQL condition over the table `units`, with its values bound in order."""

    sql: str
    bindings: tuple[Any, ...] = ()


def as_sql(test: Test) -> Condition:
    """A test as SQL."""
    match test:
        case HasMetadata(name, having, values):
            return Condition(
                f"units.document IN (SELECT document FROM metadata WHERE name = ? AND {having})",  # noqa: S608 - tests are ours
                (name, *values),
            )
        case HasTrait(sql, values):
            return Condition(sql, values)
        case OfKind(kind):
            return Condition("units.kind = ?", (kind,))
        case Not(inner):
            inside = as_sql(inner)
            return Condition(f"NOT ({inside.sql})", inside.bindings)
        case All(tests):
            return _joined("AND", [as_sql(one) for one in tests]) if tests else Condition("1")
        case AnyOf(tests):
            return _joined("OR", [as_sql(one) for one in tests]) if tests else Condition("0")


def _joined(word: str, conditions: Sequence[Condition]) -> Condition:
    """Halved again and again: SQLite takes 1,000 levels, and a chain of conditions is one for each."""
    if len(conditions) == 1:
        return conditions[0]
    middle = len(conditions) // 2
    first, second = _joined(word, conditions[:middle]), _joined(word, conditions[middle:])
    return Condition(f"({first.sql}) {word} ({second.sql})", first.bindings + second.bindings)


def compile_filter(filter_: Filter | None, reader: Reader) -> Test:
    """The test that a filter means in this collection. Raises InvalidFilter."""
    if not filter_:
        return EVERYTHING
    test = _Compiler(frozenset(reader.metadata_names())).object(filter_, depth=1)
    if (bound := len(as_sql(test).bindings)) > MAX_BOUND:
        raise InvalidFilter(f"a filter holds at most {MAX_BOUND} names and values, this one {bound}")
    return test


class _Compiler:
    def __init__(self, known: frozenset[str]) -> None:
        self._known = known
        self._held = 0

    def object(self, filter_: Any, depth: int) -> Test:  # noqa: ANN401 - what a user sent
        if not isinstance(filter_, Mapping):
            raise InvalidFilter(f"a filter is an object, got {type(filter_).__name__}: {_shown(filter_)}")
        if depth > MAX_DEPTH:
            raise InvalidFilter(f"a filter nests at most {MAX_DEPTH} deep", hint="flatten it with and, or, in")
        self._hold(max(1, len(filter_)))
        return _all([self._member(str(name), value, depth) for name, value in filter_.items()])

    def _member(self, name: str, value: Any, depth: int) -> Test:  # noqa: ANN401
        if name == "not":
            return Not(self.object(value, depth + 1))
        if name in ("and", "or"):
            if not isinstance(value, Sequence) or isinstance(value, str) or not value:
                raise InvalidFilter(f"{name} takes a list of at least one filter, got {_shown(value)}")
            members = [self.object(member, depth + 1) for member in value]
            return _all(members) if name == "and" else AnyOf(tuple(members))
        operators = value if isinstance(value, Mapping) else {"eq": value}
        if not operators:
            raise InvalidFilter(f"{name}: no operator given", hint=f"operators are {', '.join(OPERATORS)}")
        return _all(_one_range([self._operator(name, op, operand) for op, operand in operators.items()]))

    def _operator(self, name: str, operator: str, operand: Any) -> Test:  # noqa: ANN401
        if operator not in OPERATORS:
            raise InvalidFilter(f"{name}: unknown operator {operator!r}", hint=f"operators are {', '.join(OPERATORS)}")
        if operator == "exists" and not isinstance(operand, bool):
            raise InvalidFilter(f"{name}: exists takes true or false, got {_shown(operand)}")
        if operator == "in" and not (isinstance(operand, list | tuple) and len(operand) <= MAX_VALUES):
            raise InvalidFilter(f"{name}: in takes a list of at most {MAX_VALUES} values, got {_shown(operand)}")
        if operator == "in":
            self._hold(len(operand))
        return self._unit(name, operator, operand) if name in UNIT_NAMES else self._metadata(name, operator, operand)

    def _hold(self, number: int) -> None:
        """Counted as they are met: of millions, SQL would take seconds to write."""
        self._held += number
        if self._held > MAX_BOUND:
            raise InvalidFilter(f"a filter holds at most {MAX_BOUND} names and values", hint="ask for fewer at a time")

    def _unit(self, name: str, operator: str, operand: Any) -> Test:  # noqa: ANN401
        equal = _UNIT_EQUALS[name]
        if operator == "exists":
            return EVERYTHING if operand else NOTHING
        if operator == "in":
            return AnyOf(tuple(equal(value) for value in operand))
        if operator in _COMPARISONS:
            raise InvalidFilter(f"{name} has no order: {operator} doesn't apply", hint="use eq, ne or in")
        return equal(operand) if operator == "eq" else Not(equal(operand))

    def _metadata(self, name: str, operator: str, operand: Any) -> Test:  # noqa: ANN401
        field = name.removeprefix("metadata.") if name.startswith("metadata.") and name not in self._known else name
        if field not in self._known:
            known = ", ".join([*UNIT_NAMES, *sorted(self._known)])
            raise InvalidFilter(f"unknown name {name!r} in the filter", hint=f"known names: {known}")
        if operator == "exists":
            return HasMetadata(field, "1") if operand else Not(HasMetadata(field, "1"))
        if operator == "in":
            values = tuple(_scalar(name, value) for value in operand)
            return HasMetadata(field, f"value IN ({', '.join('?' * len(values))})", values)
        value = _scalar(name, operand)
        if operator in _COMPARISONS:
            return HasMetadata(field, *_comparison(name, operator, value))
        equal = HasMetadata(field, "value = ?", (value,))
        return equal if operator == "eq" else Not(equal)


def _shown(value: object) -> str:
    """A value in a message, however large or deep it is."""
    return _brief.repr(value)


_brief = reprlib.Repr()
_brief.maxlevel, _brief.maxstring, _brief.maxother = 3, 80, 80


def _all(tests: Sequence[Test]) -> Test:
    return tests[0] if len(tests) == 1 else All(tuple(tests))


def _one_range(tests: Sequence[Test]) -> list[Test]:
    """Tests of one name with its numeric bounds as one test: a document has one number at most, lists hold strings."""
    bounds = [test for test in tests if isinstance(test, HasMetadata) and test.test.endswith(_NUMERIC)]
    if len(bounds) <= 1:
        return list(tests)
    sql = " AND ".join(bound.test for bound in bounds)
    joined = HasMetadata(bounds[0].name, sql, tuple(value for bound in bounds for value in bound.values))
    return [joined, *(test for test in tests if test not in bounds)]


def _comparison(name: str, operator: str, value: Any) -> tuple[str, tuple[Any, ...]]:  # noqa: ANN401
    """The second bound keeps a comparison within its type."""
    sign = _COMPARISONS[operator]
    if isinstance(value, bytes):
        raise InvalidFilter(f"{name}: {operator} takes a number or a string, not a boolean")
    if isinstance(value, str):
        return f"value {sign} ? AND value >= '' AND value < x''", (value,)
    return f"value {sign} ?{_NUMERIC}", (value,)


def _scalar(name: str, value: Any) -> str | int | float | bytes:  # noqa: ANN401
    if not isinstance(value, str | int | float) or (isinstance(value, int) and abs(value) >= 2**63) or value != value:  # noqa: PLR0124 - NaN
        raise InvalidFilter(f"{name}: a value is a string, a number or a boolean, got {_shown(value)}")
    try:
        str(value).encode()
    except UnicodeEncodeError:
        raise InvalidFilter(f"{name}: the value holds a lone surrogate") from None
    return encode_value(value)


def _language_equals(value: Any) -> Test:  # noqa: ANN401
    if not isinstance(value, str):
        raise InvalidFilter(f"language is a string, got {_shown(value)}")
    try:
        tag = canonical(value)
    except ValueError as error:
        raise InvalidFilter(f"language: {error}") from None
    # "." is the character after "-", which sorts before all others of a tag: the range holds it and every longer one.
    return HasTrait("language >= ? AND language < ?", (tag, tag + "."))


def _kind_equals(value: Any) -> Test:  # noqa: ANN401
    return OfKind(UNIT_KINDS.index(_one_of("kind", UNIT_KINDS, value)))


def _modality_equals(value: Any) -> Test:  # noqa: ANN401
    # Written as the index of units that aren't text is, so that SQLite uses it.
    if _one_of("modality", MODALITIES, value) == "text":
        return Not(HasTrait("modality != 'text'"))
    return HasTrait("modality != 'text' AND modality = ?", (value,))


def _one_of(name: str, values: Sequence[str], value: Any) -> str:  # noqa: ANN401
    if value not in values:
        raise InvalidFilter(f"{name} is one of {', '.join(values)}, got {_shown(value)}")
    return str(value)


_UNIT_EQUALS: dict[str, Callable[[Any], Test]] = {
    "language": _language_equals,
    "kind": _kind_equals,
    "modality": _modality_equals,
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
