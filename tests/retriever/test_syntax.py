import pytest

from retriever.documents import Document
from retriever.requests import Hit, HitUnit, SearchResult
from retriever.syntax import MOST_POINTS, MOST_POINTS_OF_ANSWER, Code, spans, spans_of_answer

PYTHON = '@cache\ndef größe(x):\n    """Text 🦊."""\n    return len(x) + 42  # ja'


def parts(code):
    return [(code.text[start:end], kind) for start, end, kind in spans(code)]


def test_spans_are_the_parts_of_python_in_code_points():
    assert parts(Code(PYTHON, "lib/a.py")) == [
        ("@cache", "name"),
        ("def", "keyword"),
        ("größe", "name"),
        ('"""Text 🦊."""', "string"),
        ("return", "keyword"),
        ("len", "builtin"),
        ("42", "number"),
        ("# ja", "comment"),
    ]


@pytest.mark.parametrize(
    ("path", "text", "expected"),
    [
        ("a.js", "const a = 'b' // c", [("const", "keyword"), ("'b'", "string"), ("// c", "comment")]),
        ("a.RS", "fn main() { 1 }", [("fn", "keyword"), ("main", "name"), ("1", "number")]),
        ("a.html", "<b id='c'>", [("b", "keyword"), ("id", "name"), ("'c'", "string")]),
    ],
)
def test_the_suffix_of_the_path_chooses_the_language(path, text, expected):
    assert parts(Code(text, path)) == expected


@pytest.mark.parametrize(
    "text", ["", "\r\n\ndef f():\r\n\tpass\n", 'x = """never closed', "\0\ufeff\u2028 def (", "}{" * 9]
)
@pytest.mark.parametrize("path", ["a.py", "a.ts", "a.php", "a.html", "a.yaml"])
def test_spans_of_any_text_ascend_within_it_and_do_not_overlap(text, path):
    borders = [border for start, end, _ in spans(Code(text, path)) for border in (start, end)]
    assert borders == sorted(borders)
    assert all(0 <= border <= len(text) for border in borders)


@pytest.mark.parametrize("path", ["", "Makefile", "a.unknown", ".py", "a.py/b"])
def test_a_path_of_no_known_language_has_no_spans(path):
    assert spans(Code("def f(): pass", path)) is None


def test_a_text_above_the_limit_has_no_spans():
    assert spans(Code("#" * MOST_POINTS, "a.py")) == ((0, MOST_POINTS, "comment"),)
    assert spans(Code("#" * (MOST_POINTS + 1), "a.py")) is None


def test_an_answer_has_spans_as_far_as_its_budget_goes():
    many = MOST_POINTS_OF_ANSWER // MOST_POINTS
    answered = list(spans_of_answer([Code("#" * MOST_POINTS, "a.py"), None] * (many + 2)))
    assert [each is not None for each in answered] == [True, False] * many + [False, False] * 2


def hit(**members):
    document = Document(id="a", text=PYTHON, language="en", **members)
    return Hit(1, "a", 1.0, {"dense": 1.0, "lexical": None}, document, HitUnit("passage", "en", 0, 3), [])


def test_a_result_has_the_spans_of_code_and_null_for_other_texts_where_its_fields_name_syntax():
    code = {"modality": "code", "metadata": {"path": "a.py"}}
    hits = [
        hit(**code),
        hit(metadata={"path": "a.py"}),
        hit(modality="code"),
        hit(modality="code", metadata={"path": 7}),
    ]
    result = SearchResult("c", 1, "dense", False, hits, {}, fields=["syntax"]).to_dict()
    shown = [each["document"]["syntax"] for each in result["hits"]]
    assert shown == [spans(Code(PYTHON, "a.py")), None, None, None]
    assert "text" not in result["hits"][0]["document"]
    assert (
        "syntax" not in SearchResult("c", 1, "dense", False, hits, {}, fields=["text"]).to_dict()["hits"][0]["document"]
    )
