"""Folders and files of text, Markdown and HTML."""

import os
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from retriever.documents import Document
from retriever.readers import Reject, read
from retriever.readers.markup import html_to_text, markdown_to_text


def test_each_file_is_a_document_named_by_its_path(tmp_path):
    (tmp_path / "deep" / "er").mkdir(parents=True)
    (tmp_path / "deep" / "er" / "a.txt").write_bytes(b"\xef\xbb\xbfZeile eins\r\nZeile zwei\n")
    (tmp_path / "b.md").write_text("# Über uns\n\nWir *sind* hier.\n", encoding="utf-8")
    (tmp_path / "c.html").write_text("<html lang=pt-br><title>T &amp; U</title><p>Olá", encoding="utf-8")
    (tmp_path / "ignored.rst").write_text("not one of the suffixes")
    assert list(read(tmp_path)) == [
        Document(id="b.md", title="Über uns", text="Wir sind hier."),
        Document(id="c.html", title="T & U", text="Olá", language="pt-BR"),
        Document(id="deep/er/a.txt", title="a", text="Zeile eins\nZeile zwei"),
    ]


def test_a_single_file_is_a_document_whatever_its_ending_when_the_format_is_named(tmp_path):
    (tmp_path / "LICENSE").write_text("Do as you like.")
    assert list(read(tmp_path / "LICENSE", format="text")) == [
        Document(id="LICENSE", title="LICENSE", text="Do as you like.")
    ]


def test_hidden_files_and_folders_are_skipped(tmp_path):
    for name in (".hidden.md", ".git/a.md", "__pycache__/a.md", "seen.md"):
        (tmp_path / name).parent.mkdir(exist_ok=True)
        (tmp_path / name).write_text("text")
    assert [document.id for document in read(tmp_path)] == ["seen.md"]


def test_a_file_that_cannot_be_used_is_a_reject_and_the_others_are_read(tmp_path):
    (tmp_path / "a.txt").write_bytes(b"fine\nnot \xff fine\n")
    (tmp_path / "b.txt").write_text(" \n")
    (tmp_path / "c.txt").symlink_to(tmp_path / "nowhere")
    os.mkfifo(tmp_path / "d.txt")
    (tmp_path / "e.txt").write_text("good")
    *rejects, document = read(tmp_path)
    assert {reject.id: reject.reason for reject in rejects} == {
        "a.txt": "invalid UTF-8: byte 0xff in line 2",
        "b.txt": "nothing to search: the file has no text",
        "c.txt": "it can't be read: No such file or directory",
        "d.txt": "it is not a regular file",
    }
    assert document.id == "e.txt"


def test_a_file_name_that_is_not_utf8_is_a_reject_that_can_be_written_down(tmp_path):
    Path(os.fsdecode(os.fsencode(tmp_path) + b"/\xff.txt")).write_text("text")
    (reject,) = read(tmp_path)
    assert isinstance(reject, Reject)
    assert "lone surrogate" in reject.reason
    assert f"{reject.file} {reject.id} {reject.reason}".encode()


def test_a_page_that_names_no_real_language_is_read_all_the_same(tmp_path):
    (tmp_path / "a.html").write_text("<html lang='none of your business'><p>text")
    assert list(read(tmp_path)) == [Document(id="a.html", title="a", text="text")]


HTML = {
    "<p>one<p>two": "one\n\ntwo",
    "<ul><li>one<li>two</ul>three": "one\ntwo\n\nthree",
    "a<br>b": "a\nb",
    "a<br><br/>b<hr>c": "a\n\nb\n\nc",
    "<p>a  b\n c</p>": "a b c",
    "<pre>a  b\n c</pre>": "a  b\n c",
    "<script>var x = '<p>'</script><style>p {}</style>seen<!-- not -->": "seen",
    "<body><template><p>unseen</template><noscript>unseen</noscript>seen": "seen",
    "&lt;b&gt; &#x4e2d;&eacute;": "<b> 中é",
    "<table><tr><td>a<td>b<tr><td>c</table>": "a b\nc",
    "in<b>li</b>ne": "inline",
    "</p></div>stray </script>ends": "stray ends",
    "a < b & c": "a < b & c",
    "<textarea>unseen": "",
    "<p>a <b> b</b>\n<td> c": "a b c",
}


@pytest.mark.parametrize(("source", "text"), HTML.items())
def test_html_is_read_as_a_person_sees_it(source, text):
    assert html_to_text(source).text == text


@pytest.mark.parametrize(
    ("source", "title"),
    [
        ("<title>A\n page</title><h1>B</h1>", "A page"),
        ("<title> </title><h2>B <i>c</i></h2><h1>D</h1>", "B c"),
        ("<svg><title>icon</title></svg><h1>B</h1>", "B"),
        ("<p>none", ""),
    ],
)
def test_an_html_title_is_the_title_element_or_the_first_heading(source, title):
    assert html_to_text(source).title == title


MARKDOWN = {
    "---\ntitle: x\n---\n# T\n\ntext": ("T", "text"),
    "+++\nt = 1\n+++\ntext": ("", "text"),
    "---\n\nnot front matter": ("", "not front matter"),
    "before\n\n## T *em*\n\nafter": ("T em", "before\n\nT em\n\nafter"),
    "Title\n=====\n\ntext": ("Title", "text"),
    "[link](http://x) ![alt](y.png) `code` **bold**": ("", "link alt code bold"),
    "- one\n- two\n\n1. three": ("", "one\ntwo\n\nthree"),
    "```py\nx = 1\n```\n": ("", "x = 1"),
    "| a | b |\n|---|---|\n| c | d |": ("", "a b\nc d"),
    "<div>html &amp; <b>more</b></div>\n\ntext": ("", "html & more\n\ntext"),
    "two\nlines": ("", "two\nlines"),
    "> quoted": ("", "quoted"),
}


@pytest.mark.parametrize(("source", "expected"), MARKDOWN.items())
def test_markdown_loses_its_markup_and_front_matter(source, expected):
    page = markdown_to_text(source)
    assert (page.title, page.text) == expected


@given(st.text(alphabet="<>/!-&;#[]()`*_ \n|:=\"'abcpre", max_size=60))
def test_no_markup_is_an_error(source):
    for plain in (html_to_text(source), markdown_to_text(source)):
        assert plain.text == plain.text.strip()
