"""XQuAD-R as it was published, and in BEIR's layout with languages."""

import json

import pytest

from eval.datasets import read
from retriever.errors import InvalidData, InvalidRequest
from tests.eval.files import jsonl, judged, write

CONTEXTS = {"en": "It rains. Cats sleep.", "de": "Es regnet. Katzen schlafen. Immer."}
BREAKS = {"en": [[0, 9], [10, 21]], "de": [[0, 10], [11, 27], [28, 34]]}
ANSWERS = {"en": {"q1": 3, "q2": 10}, "de": {"q2": 11, "q1": 3}}


def squad(language, answers):
    asked = [
        {"id": each, "question": f"{each} in {language}?", "answers": [{"text": "", "answer_start": begins}]}
        for each, begins in answers.items()
    ]
    paragraph = {"context": CONTEXTS[language], "sentence_breaks": BREAKS[language], "qas": asked}
    return json.dumps({"data": [{"title": "", "paragraphs": [paragraph]}]})


def published(folder, **changes):
    return write(folder, {f"{language}.json": squad(language, ANSWERS[language]) for language in CONTEXTS} | changes)


CORPUS = [
    {"_id": "en:c0:s0", "text": "It rains.", "lang": "en"},
    {"_id": "en:c0:s1", "text": "Cats sleep.", "lang": "en"},
    {"_id": "de:c0:s0", "text": "Es regnet.", "lang": "de"},
    {"_id": "de:c0:s1", "text": "Katzen schlafen.", "lang": "de"},
    {"_id": "de:c0:s2", "text": "Immer.", "lang": "de"},
]
QUERIES = [
    {"_id": f"{language}:{each}", "text": f"{each} in {language}?", "lang": language, "qid": each}
    for language, answers in ANSWERS.items()
    for each in answers
]
PAIRS = [
    (f"{language}:q{1 + sentence}", f"{other}:c0:s{sentence}", 1)
    for language in CONTEXTS
    for other in CONTEXTS
    for sentence in range(2)
]


def in_beir(folder, corpus=CORPUS, queries=QUERIES):
    qrels = "".join(f"{query}\t{document}\t{grade}\n" for query, document, grade in PAIRS)
    return write(folder, {"corpus.jsonl": jsonl(corpus), "queries.jsonl": jsonl(queries), "qrels/test.tsv": qrels})


LAYOUTS = pytest.mark.parametrize("layout", [published, in_beir])


@LAYOUTS
def test_each_language_asks_the_pool_and_its_own_sentences(tmp_path, layout):
    [dataset] = read("xquad-r", [layout(tmp_path / "set")])
    tasks = {task.name: task for task in dataset.tasks}
    assert list(tasks) == ["de", "en", "mono-de", "mono-en"]
    assert judged(tasks["de"]) == {pair[:2]: 1 for pair in PAIRS if pair[0].startswith("de")}
    assert judged(tasks["mono-de"]) == {("de:q1", "de:c0:s0"): 1, ("de:q2", "de:c0:s1"): 1}
    assert (tasks["mono-de"].query_language, tasks["mono-de"].document_language) == ("de", "de")
    assert (tasks["de"].query_language, tasks["de"].document_language) == ("de", None)
    assert set(tasks["de"].corpus.languages) == {"de", "en"}
    assert tasks["mono-de"].corpus.texts == ("Es regnet.", "Katzen schlafen.", "Immer.")
    assert dataset.groups == {"pool": ["de", "en"], "mono": ["mono-de", "mono-en"]}


@LAYOUTS
def test_translations_of_a_question_stand_in_one_order_over_one_pool(tmp_path, layout):
    [dataset] = read("xquad-r", [layout(tmp_path / "set")])
    tasks = {task.name: task for task in dataset.tasks}
    [alignment] = dataset.alignments
    assert dict(alignment.tasks) == {"de": "de", "en": "en"}
    assert [each.partition(":")[2] for each in tasks["de"].queries.ids] == [
        each.partition(":")[2] for each in tasks["en"].queries.ids
    ]
    assert tasks["de"].corpus is tasks["en"].corpus
    assert tasks["de"].queries is tasks["mono-de"].queries


@LAYOUTS
def test_languages_are_the_questions_and_pairs_ask_another_s_sentences(tmp_path, layout):
    [dataset] = read("xquad-r", [layout(tmp_path / "set")], languages=["deu"], pairs=["de-en", "de-de"])
    tasks = {task.name: task for task in dataset.tasks}
    assert list(tasks) == ["de", "mono-de", "de-en"]
    assert len(tasks["de"].corpus) == 5
    assert judged(tasks["de-en"]) == {("de:q1", "en:c0:s0"): 1, ("de:q2", "en:c0:s1"): 1}
    assert (dataset.groups, list(dataset.alignments)) == ({}, [])
    with pytest.raises(InvalidRequest, match="set has no language fr"):
        read("xquad-r", [tmp_path / "set"], languages=["fr"])
    with pytest.raises(InvalidRequest, match="set has no pair en-de"):
        read("xquad-r", [tmp_path / "set"], languages=["de"], pairs=["en-de"])


def test_a_question_that_a_language_lacks_is_named(tmp_path):
    with pytest.raises(InvalidData, match="set has question q2, but not in en"):
        read("xquad-r", [published(tmp_path / "set", **{"en.json": squad("en", {"q1": 3})})])


@pytest.mark.parametrize(
    ("content", "said"),
    [
        ("{", r"set/en.json, line 1: not JSON"),
        ("[]", r"set/en.json, line 1: it is no SQuAD file"),
        ('{"data": [{"paragraphs": [{"context": "x", "qas": []}]}]}', "it is no SQuAD file .*sentence_breaks"),
        (squad("en", {"q1": 900}), "the answer of q1 is in no sentence"),
        (squad("en", {}).replace("[0, 9]", "[9, 10]"), "en.json, line 1: en:c0:s0 has no text"),
        ("", r"set/en.json, line 1: not JSON"),
    ],
)
def test_a_file_that_is_no_squad_is_named(tmp_path, content, said):
    with pytest.raises(InvalidData, match=said):
        read("xquad-r", [published(tmp_path / "set", **{"en.json": content})])


def test_texts_without_a_language_and_folders_without_files_are_named(tmp_path):
    without = [{name: value for name, value in row.items() if name != "lang"} for row in CORPUS]
    with pytest.raises(InvalidData, match=r"set/corpus.jsonl has texts without lang"):
        read("xquad-r", [in_beir(tmp_path / "set", corpus=without)])
    with pytest.raises(InvalidData, match=r"has neither corpus.jsonl nor en.json"):
        read("xquad-r", [tmp_path])
