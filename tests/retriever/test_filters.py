"""Filters: what they find equals a plain walk over the documents; what they refuse says why."""

import itertools

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from retriever import Collection, SearchRequest
from retriever.errors import InvalidFilter
from retriever.filters import MAX_DEPTH, parse_filter_expressions
from tests.retriever.conftest import document

VALUES = (1, 2, 2.5, -3, True, False, "a", "b", "2", "")
NAMES = ("x", "y", "tags")
LANGUAGES = ("en", "zh", "zh-Hant", "de", "pt-BR")


def make_documents():
    combinations = itertools.product(VALUES[::2], VALUES[1::3], [(), ("a",), ("a", "b")], LANGUAGES)
    for number, (x, y, tags, language) in enumerate(combinations):
        metadata = {"x": x, "y": y, "tags": tags}
        if number % 5 == 0:
            del metadata["y"]
        yield document(
            f"d{number}", metadata=metadata, language=language, modality="code" if number % 7 == 3 else "text"
        )


@pytest.fixture(scope="module")
def stored(tmp_path_factory):
    with Collection.create(tmp_path_factory.mktemp("filters") / "c", encoder=None) as collection:
        documents = list(make_documents())
        collection.upsert(documents)
        yield collection, documents


def same_type(one, other):
    def kind(value):
        return bool if isinstance(value, bool) else str if isinstance(value, str) else float

    return kind(one) is kind(other)


OPERATORS = {
    "eq": lambda a, b: same_type(a, b) and a == b,
    "gt": lambda a, b: same_type(a, b) and a > b,
    "gte": lambda a, b: same_type(a, b) and a >= b,
    "lt": lambda a, b: same_type(a, b) and a < b,
    "lte": lambda a, b: same_type(a, b) and a <= b,
}


def matches(filter_, one):
    """The slow twin: what a filter means for one document."""
    return all(member_matches(name, value, one) for name, value in filter_.items())


def member_matches(name, value, one):
    if name == "not":
        return not matches(value, one)
    if name in ("and", "or"):
        return (all if name == "and" else any)(matches(member, one) for member in value)
    operators = value if isinstance(value, dict) else {"eq": value}
    return all(operator_matches(name, operator, operand, one) for operator, operand in operators.items())


def operator_matches(name, operator, operand, one):
    if name in ("kind", "modality"):
        held, equal = ["passage" if name == "kind" else one.modality], OPERATORS["eq"]
    elif name == "language":
        held, equal = [one.language], lambda a, b: a == b or a.startswith(b + "-")
    else:
        values = one.metadata.get(name, ())
        held, equal = list(values) if isinstance(values, tuple) else [values], OPERATORS["eq"]
    if operator == "exists":
        return bool(held) == operand
    if operator == "in":
        return any(equal(a, b) for a in held for b in operand)
    if operator == "ne":
        return not any(equal(a, operand) for a in held)
    return any((equal if operator == "eq" else OPERATORS[operator])(a, operand) for a in held)


scalars = st.sampled_from(VALUES)
ordered = scalars.filter(lambda value: not isinstance(value, bool))
operations = st.one_of(
    scalars,
    st.fixed_dictionaries({}, optional={"eq": scalars, "ne": scalars}).filter(bool),
    st.builds(lambda op, value: {op: value}, st.sampled_from(["gt", "gte", "lt", "lte"]), ordered),
    st.builds(lambda low, high: {"gte": low, "lt": high}, ordered, ordered),
    st.builds(lambda values: {"in": values}, st.lists(scalars, max_size=3)),
    st.builds(lambda there: {"exists": there}, st.booleans()),
)
languages = st.one_of(
    st.sampled_from(LANGUAGES),
    st.builds(lambda tag: {"ne": tag}, st.sampled_from(LANGUAGES)),
    st.builds(lambda tags: {"in": tags}, st.lists(st.sampled_from(LANGUAGES), max_size=2)),
)
traits = st.one_of(
    st.builds(lambda value: {"modality": value}, st.sampled_from(["text", "code", {"ne": "code"}, {"in": ["image"]}])),
    st.builds(lambda value: {"kind": value}, st.sampled_from(["passage", {"ne": "passage"}, {"exists": False}])),
)
leaves = st.one_of(
    traits,
    st.dictionaries(st.sampled_from(NAMES), operations, min_size=1, max_size=2),
    st.builds(lambda value: {"language": value}, languages),
)
filters = st.recursive(
    leaves,
    lambda inner: st.one_of(
        st.builds(lambda f: {"not": f}, inner),
        st.builds(lambda fs: {"and": fs}, st.lists(inner, min_size=1, max_size=3)),
        st.builds(lambda fs: {"or": fs}, st.lists(inner, min_size=1, max_size=3)),
    ),
    max_leaves=5,
)


@settings(max_examples=150, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(filter_=filters)
def test_a_filter_finds_what_a_walk_over_all_documents_finds(stored, filter_):
    collection, documents = stored
    expected = [one.id for one in documents if matches(filter_, one)]
    found, cursor = [], None
    while True:
        page = collection.scroll(cursor, limit=1000, filter=filter_)
        found += [one.id for one in page.documents]
        cursor = page.cursor
        if cursor is None:
            break
    assert found == expected
    assert collection.count(filter_) == len(expected)
    hits = collection.search(SearchRequest(vector=[1.0, 0.0, 0.0], filter=filter_, k=1000)).hits
    assert {hit.id for hit in hits} == set(expected)


@pytest.mark.parametrize(
    ("filter_", "message", "hint"),
    [
        ({"absent": 1}, "unknown name 'absent'", "known names: language, kind, modality, tags, x, y"),
        ({"x": {"near": 1}}, "unknown operator 'near'", "operators are eq, ne, in"),
        ({"x": {}}, "no operator given", "operators are"),
        ({"x": {"in": 3}}, "in takes a list", ""),
        ({"x": {"exists": "yes"}}, "exists takes true or false", ""),
        ({"x": {"gt": True}}, "takes a number or a string, not a boolean", ""),
        ({"x": {"eq": None}}, "a value is a string, a number or a boolean", ""),
        ({"x": float("nan")}, "a value is a string, a number or a boolean", ""),
        ({"x": 2**70}, "a value is a string, a number or a boolean", ""),
        ({"x": "\ud800"}, "lone surrogate", ""),
        ({"language": "not a tag"}, "language", ""),
        ({"language": {"gt": "en"}}, "language has no order", "use eq, ne or in"),
        ({"kind": "chapter"}, "kind is one of passage, caption, image", ""),
        ({"modality": 3}, "modality is one of text, image, code", ""),
        ({"and": []}, "and takes a list of at least one filter", ""),
        ({"or": {"x": 1}}, "or takes a list", ""),
        ({"not": 3}, "a filter is an object, got int", ""),
    ],
)
def test_a_filter_that_makes_no_sense_says_why(stored, filter_, message, hint):
    with pytest.raises(InvalidFilter) as error:
        stored[0].count(filter_)
    assert message in str(error.value)
    assert hint in error.value.hint


def test_a_filter_nests_to_a_limit_and_no_further(stored):
    filter_ = {"x": 1}
    for _ in range(MAX_DEPTH):
        filter_ = {"not": filter_}
    with pytest.raises(InvalidFilter, match="nests at most 16 deep"):
        stored[0].count(filter_)


def test_a_filter_of_many_members_is_no_problem(stored):
    collection, documents = stored
    filter_ = {"or": [{"x": number} for number in range(5000)]}
    assert collection.count(filter_) == sum(matches({"x": {"in": [1, 2]}}, one) for one in documents)


def test_a_filter_holds_so_many_values_and_no_more(stored):
    with pytest.raises(InvalidFilter, match="at most 32766 names and values"):
        stored[0].count({"or": [{"x": {"in": list(range(10_000))}}] * 4})


def test_metadata_that_collides_with_a_name_of_the_unit_is_found_by_its_full_name(tmp_path):
    with Collection.create(tmp_path / "c", encoder=None) as collection:
        collection.upsert([document("a", metadata={"kind": "memo"}), document("b", metadata={"kind": "letter"})])
        assert [one.id for one in collection.scroll(filter={"metadata.kind": "memo"}).documents] == ["a"]


@pytest.mark.parametrize(
    ("expressions", "expected"),
    [
        ([], None),
        (["year>=2020"], {"year": {"gte": 2020}}),
        (["year < 3.5"], {"year": {"lt": 3.5}}),
        (["language=de"], {"language": {"eq": "de"}}),
        (["language!=de"], {"language": {"ne": "de"}}),
        (["title=a b"], {"title": {"in": ["a b"]}}),
        (["year=2020"], {"year": {"in": [2020, "2020"]}}),
        (["open=true"], {"open": {"in": [True, "true"]}}),
        (["year!=2020"], {"not": {"year": {"in": [2020, "2020"]}}}),
        (["a=x", "b>1"], {"and": [{"a": {"in": ["x"]}}, {"b": {"gt": 1}}]}),
        (["url=a=b"], {"url": {"in": ["a=b"]}}),
    ],
)
def test_expressions_of_the_command_line_become_a_filter(expressions, expected):
    assert parse_filter_expressions(expressions) == expected


@pytest.mark.parametrize("expression", ["", "year", "=2020", ">=1"])
def test_an_expression_that_is_none_is_refused(expression):
    with pytest.raises(InvalidFilter, match="not a filter"):
        parse_filter_expressions([expression])
