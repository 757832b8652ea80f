"""Tatoeba in LASER's layout and as pairs in a column each."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from eval.datasets import read
from eval.datasets.tatoeba import XTREME
from retriever.errors import InvalidData, InvalidRequest
from tests.eval.files import judged, write

GERMAN = [("Hallo.", "Hello."), ("Guten Tag.", "Hello."), ("Danke.", "Thanks."), ("Ja.", "Yes.")]
FRENCH = [("Merci.", "Thanks."), ("Bonjour.", "Hello."), ("Salut.", "Hello."), ("Non.", "No.")]


def pairs(**by_code):
    return {
        f"pairs/{code}-eng.tsv": "".join(f"{one}\t{other}\n" for one, other in rows) for code, rows in by_code.items()
    }


def laser(**by_code):
    return {
        f"tatoeba.{code}-eng.{side}": "".join(f"{row[column]}\n" for row in rows)
        for code, rows in by_code.items()
        for column, side in enumerate((code, "eng"))
    }


def tasks(folder, **options):
    return {task.name: task for task in read("tatoeba", [folder], **options)[0].tasks}


@pytest.mark.parametrize("layout", [pairs, laser])
def test_each_language_is_searched_both_ways(tmp_path, layout):
    found = tasks(write(tmp_path / "set", layout(deu=GERMAN, fra=FRENCH)))
    assert list(found) == ["deu-eng", "eng-deu", "fra-eng", "eng-fra"]
    one, other = found["deu-eng"], found["eng-deu"]
    assert (one.kind, one.query_language, one.document_language) == ("bitext", "de", "en")
    assert (other.query_language, other.document_language) == ("en", "de")
    assert one.queries is other.corpus
    assert one.corpus is other.queries
    assert one.queries.texts == tuple(sentence for sentence, _ in GERMAN)
    assert other.queries.languages == ("en",) * 4


def test_the_layouts_are_one_dataset(tmp_path):
    one, other = (tasks(write(tmp_path / layout.__name__, layout(deu=GERMAN, fra=FRENCH))) for layout in (pairs, laser))
    assert {name: judged(task) for name, task in one.items()} == {name: judged(task) for name, task in other.items()}
    assert one["deu-eng"].queries == other["deu-eng"].queries


def test_a_document_with_the_text_of_the_right_one_is_right(tmp_path):
    found = tasks(write(tmp_path / "set", pairs(deu=GERMAN)))
    assert judged(found["deu-eng"]) == {
        ("deu:1", "eng:1"): 1, ("deu:1", "eng:2"): 1, ("deu:2", "eng:1"): 1, ("deu:2", "eng:2"): 1,
        ("deu:3", "eng:3"): 1, ("deu:4", "eng:4"): 1,
    }  # fmt: skip
    assert judged(found["eng-deu"]) == {(f"eng:{line}", f"deu:{line}"): 1 for line in range(1, 5)}


@given(st.lists(st.tuples(st.sampled_from("abcd"), st.sampled_from("wxyz")), min_size=1, max_size=8))
def test_what_is_right_is_what_the_slow_definition_says(rows):
    import tempfile
    from pathlib import Path

    with tempfile.TemporaryDirectory() as folder:
        found = tasks(write(Path(folder) / "set", pairs(deu=rows)))
    assert set(judged(found["deu-eng"])) == {
        (f"deu:{query}", f"eng:{document}")
        for query, (_, right) in enumerate(rows, 1)
        for document, (_, text) in enumerate(rows, 1)
        if text == right
    }


def test_other_languages_meet_through_the_english_that_they_share(tmp_path):
    folder = write(tmp_path / "set", pairs(deu=GERMAN, fra=FRENCH))
    found = tasks(folder, pairs=["deu-fra"])
    assert list(found) == ["deu-fra", "fra-deu"]
    one = found["deu-fra"]
    assert (one.query_language, one.document_language) == ("de", "fr")
    assert one.queries.texts == ("Hallo.", "Guten Tag.", "Danke.")
    assert one.corpus.texts == ("Merci.", "Bonjour.", "Salut.")
    assert judged(one) == {
        ("deu:1", "fra:2"): 1, ("deu:1", "fra:3"): 1, ("deu:2", "fra:2"): 1, ("deu:2", "fra:3"): 1,
        ("deu:3", "fra:1"): 1,
    }  # fmt: skip
    assert found["fra-deu"].queries is one.corpus


def test_a_pair_is_asked_in_any_form_of_its_languages_once(tmp_path):
    folder = write(tmp_path / "set", pairs(deu=GERMAN, fra=FRENCH, cmn=FRENCH))
    assert list(tasks(folder, pairs=["de-fr", "fra-deu"])) == ["deu-fra", "fra-deu"]
    assert list(tasks(folder, pairs=["zh-en"])) == ["cmn-eng", "eng-cmn"]
    assert list(tasks(folder, languages=["zh", "deu"])) == ["cmn-eng", "eng-cmn", "deu-eng", "eng-deu"]


@pytest.mark.parametrize(
    ("options", "said"),
    [
        ({"pairs": ["deu-spa"]}, "set has no pair deu-spa"),
        ({"pairs": ["deu"]}, "set has no pair deu"),
        ({"pairs": ["deu-deu"]}, "deu-deu is one language"),
        ({"pairs": ["deu-fin"]}, "deu and fin share no English sentence"),
        ({"languages": ["spa"]}, "set has no language spa"),
        ({"languages": ["deu"], "pairs": ["deu-fra"]}, "can't be asked for together"),
    ],
)
def test_what_can_not_be_asked_is_said(tmp_path, options, said):
    folder = write(tmp_path / "set", pairs(deu=GERMAN, fra=FRENCH, fin=[("Kissa.", "Cat.")]))
    with pytest.raises(InvalidRequest, match=said):
        read("tatoeba", [folder], **options)


def test_the_means_are_by_direction_and_xtreme_s_has_its_own(tmp_path):
    folder = write(tmp_path / "set", pairs(**dict.fromkeys([*XTREME, "dtp", "kzj"], GERMAN)))
    [dataset] = read("tatoeba", [folder])
    assert {name: len(group) for name, group in dataset.groups.items()} == {
        "to English": 38, "from English": 38, "to English of 36": 36, "from English of 36": 36,
    }  # fmt: skip
    assert len(dataset.tasks) == len({task.name for task in dataset.tasks}) == 76


@pytest.mark.parametrize(
    ("files", "said"),
    [
        ({"pairs/deu-eng.tsv": "Hallo.\n"}, "set/pairs/deu-eng.tsv, line 1: 1 columns"),
        ({"pairs/deu-eng.tsv": "Hallo.\tHello.\nJa.\t \n"}, "set/pairs/deu-eng.tsv, line 2: a side is empty"),
        ({"pairs/deu-eng.tsv": ""}, "set has no sentences in deu"),
        ({"pairs/xx1-eng.tsv": "Hallo.\tHello.\n"}, "'xx1' names no language"),
        (laser(deu=GERMAN) | {"tatoeba.deu-eng.deu": "Hallo.\n"}, "tatoeba.deu-eng.deu ends after line 1"),
        (laser(deu=GERMAN) | {"tatoeba.deu-eng.eng": "a\nb\n\nd\n"}, "tatoeba.deu-eng.eng, line 3: it is empty"),
        ({"tatoeba.deu-eng.eng": "Hello.\n"}, r"set has no tatoeba.deu-eng.deu"),
        ({"other": ""}, r"set has neither tatoeba.deu-eng.deu nor pairs/deu-eng.tsv"),
    ],
)
def test_what_is_inconsistent_is_named_by_file_and_line(tmp_path, files, said):
    with pytest.raises(InvalidData, match=said):
        read("tatoeba", [write(tmp_path / "set", files)])
