"""What a person reads of a hit."""

import pytest
from hypothesis import given
from hypothesis import strategies as st
from rich.console import Console

from retriever.console import EXCERPT, MARK, excerpt, render_hit, safe, show_facts
from retriever.documents import Document
from retriever.requests import Hit, HitUnit


def rendered(hit, width=200):
    return render_hit(hit, Console(width=width, highlight=False, markup=False, color_system=None))


def lines(hit, width=200):
    return rendered(hit, width).plain.splitlines()


def marked(hit):
    """The parts of the rendered body that carry a mark."""
    text = rendered(hit)
    return [text.plain[span.start : span.end] for span in text.spans if span.style == MARK]


def hit(document, unit, highlights=()):
    return Hit(1, document.id, 0.5, {}, document, unit, list(highlights))


def test_a_passage_is_shown_with_title_id_language_and_score():
    document = Document("a1", "The title", "One sentence. Another one.", language="en")
    assert lines(hit(document, HitUnit("passage", "en", 0, 26))) == [
        " 1  The title  a1  en  0.5000",
        "    One sentence. Another one.",
    ]


def test_a_long_passage_is_wrapped_and_indented_without_trailing_blanks():
    document = Document("a1", "T", "one two three", language="en")
    found = hit(document, HitUnit("passage", "en", 0, 13))
    assert lines(found, width=12)[1:] == ["    one two", "    three"]


def test_only_the_passage_that_matched_is_shown_with_its_marks():
    document = Document("a1", text="One sentence.   Another\none here.", language="en")
    found = hit(document, HitUnit("passage", "en", 16, 33), [(4, 12), (16, 23), (24, 27)])
    assert lines(found)[1] == "    Another one here."
    assert marked(found) == ["Another", "one"]


def test_a_caption_is_shown_in_the_language_in_which_it_matched():
    document = Document("volcano", "🌋", captions={"en": ["volcano"], "ja": ["火山"]})
    found = hit(document, HitUnit("caption", "ja", 0, 2, "火山"), [(0, 2)])
    assert lines(found)[:2] == [" 1  🌋  volcano  ja  0.5000", "    火山"]
    assert marked(found) == ["火山"]


def test_code_is_shown_by_path_and_line_with_its_layout():
    text = 'def f(x):\n    """Twice x."""\n    return 2 * x'
    metadata = {"path": "pkg/m.py", "start_line": 12}
    document = Document("pkg/m.py#f", "f", text, language="en", modality="code", metadata=metadata)
    found = hit(document, HitUnit("passage", "en", 0, len(text)), [(4, 5)])
    assert lines(found)[:4] == [" 1  pkg/m.py:12  f  0.5000", *(f"    {line}" for line in text.split("\n"))]
    assert marked(found) == ["f"]


def test_control_characters_of_a_document_never_reach_the_terminal():
    document = Document("a\x1b[2J", "t\x07\x9b", "x\x1b]0;owned\x07y", language="en")
    shown = "\n".join(lines(hit(document, HitUnit("passage", "en", 0, 11))))
    assert not set(shown) & set("\x1b\x07\x9b")


@given(st.text())
def test_making_a_text_safe_keeps_its_offsets(text):
    assert len(safe(text)) == len(text)


@given(st.data())
def test_an_excerpt_lies_in_its_passage_and_shows_a_mark(data):
    text = data.draw(st.text("ab \n火", min_size=1, max_size=3 * EXCERPT))
    start = data.draw(st.integers(0, len(text)))
    end = data.draw(st.integers(start, len(text)))
    starts = data.draw(st.lists(st.integers(0, len(text) - 1), max_size=5, unique=True))
    marks = [(at, at + 1) for at in sorted(starts)]
    first, last = excerpt(text, start, end, marks)
    assert start <= first <= last <= end
    assert last - first <= max(EXCERPT, 0)
    inside = [mark for mark, _ in marks if start <= mark < end]
    assert not inside or any(first <= mark < last for mark in inside)


@pytest.mark.parametrize("text", ["word " * 200, "字" * 1000])
def test_an_excerpt_is_about_as_long_whatever_the_script(text):
    first, last = excerpt(text, 0, len(text), [(500, 501)])
    assert EXCERPT * 3 // 4 <= last - first <= EXCERPT


def test_facts_are_shown_with_what_they_hold(capsys):
    show_facts({"languages": {"de": 12, "en": 3}, "aliases": [], "none": {}, "bytes": 1_500_000})
    shown = {line.split()[0]: line.split(maxsplit=1)[1].strip() for line in capsys.readouterr().out.splitlines()}
    assert shown == {"languages": "de 12, en 3", "aliases": "-", "none": "-", "bytes": "1.5 MB"}
