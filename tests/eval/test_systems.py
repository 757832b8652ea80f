"""Systems that answer tasks: an encoder, a collection in each mode, runs from elsewhere."""

from dataclasses import replace

import numpy as np
import pytest
from PIL import Image

from eval import corpora
from eval.runs import Run, write_run
from eval.systems import CollectionSystem, ModelSystem, RunSystem, file_name
from eval.tasks import Dataset, Items, Picture, Task
from retriever import Encoder, Root
from retriever.errors import CollectionBusy, InvalidData, InvalidName, InvalidRequest, PolyseekError, UnknownCollection
from tests.eval.tasks import judgements

WORDS = ("apple", "river", "stone", "cloud", "tiger", "piano", "glass", "honey")
CORPUS = Items(
    tuple(f"d{place}" for place in range(8)),
    tuple(f"the {word} of {word[::-1]} number {n}" for n, word in enumerate(WORDS)),
)
QUERIES = Items(("q0", "q1", "d2"), ("apple", "the cloud", "stone"), languages=("en", None, "en"))
RIGHT = {(0, 0): 1, (1, 3): 1, (2, 2): 1}


def task(name="test", queries=QUERIES, corpus=CORPUS, **others):
    return Task(name, "search", queries, corpus, judgements(RIGHT), **others)


def dataset(*tasks, name="set"):
    return Dataset(name, tasks or (task(),))


def runs(system, *datasets, progress=lambda *_: None):
    return list(system.runs(datasets, lambda _: 1_000, progress))


def found(run, query, corpus=CORPUS):
    return [corpus.ids[row] for row in run.documents[query] if row >= 0]


# -- a model


def test_a_model_ranks_the_whole_corpus_by_inner_product(cache, model):
    [run] = runs(ModelSystem(model), dataset())
    encoder = Encoder.load(model)
    scores = encoder.encode_queries(QUERIES.texts).vectors @ encoder.encode_documents(CORPUS.texts).vectors.T
    assert [found(run, query) for query in range(3)] == [
        [CORPUS.ids[row] for row in np.argsort(-row)] for row in scores
    ]
    assert run.depth is None


def test_items_that_tasks_share_are_encoded_once(cache, model):
    told = []
    runs(ModelSystem(model), dataset(task("a"), task("b")), progress=lambda *step: told.append(step))
    assert len(told) == 2  # the queries, and the corpus


def test_a_model_says_what_decided_its_vectors(cache, model):
    system = ModelSystem(model)
    assert system.name == "tiny"
    assert system.facts()["fingerprint"] == Encoder.load(model).fingerprint


# -- collections


@pytest.fixture
def root(tmp_path):
    return Root(tmp_path / "root", gpu_memory=0)


def test_a_collection_that_is_not_there_is_built_and_answers_as_the_model_does(cache, model, root):
    [by_model] = runs(ModelSystem(model), dataset())
    [run] = runs(CollectionSystem.in_root(root, "built", "dense", encoder=str(model)), dataset())
    for query in range(3):
        assert found(run, query) == found(by_model, query)
    kept = run.documents >= 0
    np.testing.assert_allclose(run.scores[kept], by_model.scores.ravel(), atol=2e-6)
    np.testing.assert_array_equal(run.ranks, by_model.ranks)
    assert run.depth is None  # it gave all there is
    assert root.names() == ["built"]


def test_a_collection_is_asked_as_it_is_and_not_built_again(cache, model, root):
    system = CollectionSystem.in_root(root, "built", "dense", encoder=str(model))
    [first] = runs(system, dataset())
    generation = system.facts()["collections"]["built"]["generation"]
    [second] = runs(system, dataset())
    np.testing.assert_array_equal(first.documents, second.documents)
    assert system.facts()["collections"]["built"]["generation"] == generation


def test_an_alias_is_the_collection_that_it_stands_for(cache, model, root):
    runs(CollectionSystem.in_root(root, "built", encoder=str(model)), dataset())
    root.set_alias("live", "built")
    assert len(runs(CollectionSystem.in_root(root, "live"), dataset())) == 1
    assert root.names() == ["built"]


def test_each_mode_is_the_collections_own(cache, model, root):
    lexical, hybrid, default = (
        runs(CollectionSystem.in_root(root, "built", mode, encoder=str(model)), dataset())[0]
        for mode in ("lexical", "hybrid", None)
    )
    assert [found(lexical, query)[0] for query in range(3)] == ["d0", "d3", "d2"]
    assert lexical.depth == 200  # not every document has the words
    np.testing.assert_array_equal(hybrid.documents, default.documents)
    with root.open("built") as collection:
        hits = collection.search("apple", language="en", mode="hybrid", k=200).hits
    assert found(hybrid, 0)[0] == hits[0].id
    assert {hit.id for hit in hits} == set(found(hybrid, 0))


def test_a_collection_of_another_corpus_is_refused_with_how_many_it_lacks(cache, model, root):
    fewer = replace(CORPUS, ids=(*CORPUS.ids[:6], "x6", "x7"))
    runs(CollectionSystem.in_root(root, "built", encoder=str(model)), dataset())
    with pytest.raises(InvalidRequest, match=r"lacks 2 of 8 documents and holds 2 others"):
        runs(CollectionSystem.in_root(root, "built"), dataset(task(corpus=fewer)))


def test_a_build_that_was_stopped_goes_on_and_shows_nothing_before(cache, model, root, monkeypatch):
    monkeypatch.setattr(corpora, "BATCH", 3)
    system = CollectionSystem.in_root(root, "built", "dense", encoder=str(model))
    told = []

    def stop(what, done, of):
        told.append(done)
        if done == 6:
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        runs(system, dataset(), progress=stop)
    assert root.names() == []
    with pytest.raises(UnknownCollection):
        root.open("built")
    encoded = []
    monkeypatch.setattr(Encoder, "encode_documents", _noting(Encoder.encode_documents, encoded))
    [run] = runs(system, dataset())
    assert encoded == list(CORPUS.texts[6:])
    assert len(found(run, 0)) == 8


def _noting(encode, encoded):
    def noting(self, texts):
        encoded.extend(texts)
        return encode(self, texts)

    return noting


def test_a_stopped_build_of_another_corpus_or_encoder_leaves_nothing_in_the_next(
    cache, model, towers, root, monkeypatch
):
    monkeypatch.setattr(corpora, "BATCH", 3)

    def stop(what, done, of):
        raise KeyboardInterrupt

    other = replace(CORPUS, ids=tuple(f"x{place}" for place in range(8)))
    for encoder in (model, towers):
        with pytest.raises(KeyboardInterrupt):
            runs(CollectionSystem.in_root(root, "c", encoder=str(encoder)), dataset(task(corpus=other)), progress=stop)
    [run] = runs(CollectionSystem.in_root(root, "c", "dense", encoder=str(towers)), dataset())
    assert sorted(found(run, 0)) == list(CORPUS.ids)


def test_two_builds_of_one_name_at_a_time_are_refused(cache, model, root):
    system = CollectionSystem.in_root(root, "built", encoder=str(model))

    def meanwhile(what, done, of):
        if "documents" in what:
            runs(CollectionSystem.in_root(root, "built", encoder=str(model)), dataset())

    with pytest.raises(CollectionBusy):
        runs(system, dataset(), progress=meanwhile)


def test_several_corpora_are_collections_of_their_own(cache, model, root):
    other = replace(CORPUS, ids=tuple(f"x{place}" for place in range(8)))
    system = CollectionSystem.in_root(root, "c", "dense", encoder=str(model))
    answers = runs(system, dataset(task("a"), task("b"), task("c", corpus=other)), dataset(name="second"))
    assert root.names() == ["c-set-a", "c-set-c"]  # the second dataset has the corpus of the first one's tasks
    assert found(answers[2], 0, other)[0].startswith("x")


def test_a_document_with_the_querys_own_id_is_left_out_where_the_task_says_so(cache, model, root):
    [run] = runs(
        CollectionSystem.in_root(root, "built", "dense", encoder=str(model)), dataset(task(ignores_same_id=True))
    )
    [by_model] = runs(ModelSystem(model), dataset(task(ignores_same_id=True)))
    assert len(found(run, 2)) == 7
    assert "d2" not in found(run, 2)
    assert run.depth is None
    np.testing.assert_array_equal(run.ranks, by_model.ranks)


def test_a_document_that_no_collection_takes_is_named(cache, model, root):
    long = replace(CORPUS, ids=(*CORPUS.ids[:7], "x" * 600))
    with pytest.raises(InvalidData, match=r"x{600}.*512 bytes"):
        runs(CollectionSystem.in_root(root, "built", encoder=str(model)), dataset(task(corpus=long)))


def test_a_name_that_no_collection_can_have_is_refused(cache, model, root):
    with pytest.raises(InvalidName):
        runs(CollectionSystem.in_root(root, "../up", encoder=str(model)), dataset())


def test_a_query_that_cannot_be_answered_stops_the_evaluation_with_its_reason(cache, model, root):
    queries = Items(("q0", "q1", "d2"), ("apple", " ", "stone"))
    with pytest.raises(PolyseekError, match="text is empty"):
        runs(CollectionSystem.in_root(root, "built", encoder=str(model)), dataset(task(queries=queries)))


def test_pictures_are_asked_for_and_asked_with(cache, towers, root, tmp_path):
    for place in range(3):
        Image.new("RGB", (20, 20), (place * 100, 40, 200 - place * 100)).save(tmp_path / f"{place}.png")
    pictures = Items(("0", "1", "2"), pictures=tuple(Picture(tmp_path / f"{place}.png") for place in range(3)))
    texts = Items(("t0", "t1", "t2"), ("red", "green", "blue"), languages=("en", "en", "en"))
    right = {(0, 0): 1, (1, 1): 1, (2, 2): 1}
    to_text = Task("to-text", "image-text", pictures, texts, judgements(right))
    to_picture = Task("to-picture", "image-text", texts, pictures, judgements(right))
    data = dataset(to_text, to_picture)
    by_collection = runs(CollectionSystem.in_root(root, "c", "dense", encoder=str(towers)), data)
    for one, other in zip(by_collection, runs(ModelSystem(towers), data), strict=True):
        np.testing.assert_array_equal(one.ranks, other.ranks)


# -- BM25


def test_bm25_is_the_lexical_search_of_a_collection(cache, model, root):
    [run] = runs(CollectionSystem.bm25(), dataset())
    [served] = runs(CollectionSystem.in_root(root, "built", "lexical", encoder=str(model)), dataset())
    np.testing.assert_array_equal(run.documents, served.documents)
    np.testing.assert_array_equal(run.scores, served.scores)


def test_bm25_is_made_once_for_each_corpus_and_needs_no_encoder(cache, monkeypatch):
    runs(CollectionSystem.bm25(), dataset())
    folders = sorted((cache / "evaluation" / "lexical").iterdir())
    runs(CollectionSystem.bm25(), dataset())
    assert sorted((cache / "evaluation" / "lexical").iterdir()) == folders
    runs(CollectionSystem.bm25(), dataset(task(corpus=replace(CORPUS, texts=CORPUS.texts[::-1]))))
    assert len(list((cache / "evaluation" / "lexical").iterdir())) == 2


def test_bm25_says_that_it_finds_no_pictures(cache, tmp_path):
    pictures = Items(CORPUS.ids, pictures=tuple(Picture(tmp_path / f"{i}.png") for i in CORPUS.ids))
    with pytest.raises(InvalidRequest, match="no pictures"):
        runs(CollectionSystem.bm25(), dataset(task(corpus=pictures)))


# -- runs


def a_run(of):
    rng = np.random.default_rng(0)
    documents = np.array([rng.permutation(8) for _ in range(3)])
    return Run.of_scores(of, documents, np.sort(rng.random((3, 8)).astype(np.float32))[:, ::-1], 8)


def test_a_run_file_answers_the_one_task(tmp_path):
    run = a_run(task())
    write_run(tmp_path / "mine.trec.gz", task(), run, "mine")
    system = RunSystem(tmp_path / "mine.trec.gz")
    [read] = runs(system, dataset())
    np.testing.assert_array_equal(read.documents, run.documents)
    assert system.name == "mine"


def test_a_folder_of_runs_answers_every_task(tmp_path):
    tasks = task("a/b"), task("..")
    for place, one in enumerate(tasks):
        file = tmp_path / "mine" / "set" / f"{file_name(one.name)}.trec{'.gz' * place}"
        file.parent.mkdir(parents=True, exist_ok=True)
        write_run(file, one, a_run(one), "mine")
    assert len(runs(RunSystem(tmp_path / "mine"), dataset(*tasks))) == 2


def test_a_missing_run_is_named(tmp_path):
    (tmp_path / "mine").mkdir()
    with pytest.raises(InvalidData, match="mine has no run of test"):
        runs(RunSystem(tmp_path / "mine"), dataset())
    with pytest.raises(InvalidData, match="nowhere"):
        runs(RunSystem(tmp_path / "nowhere.trec"), dataset())


def test_one_file_for_several_tasks_is_refused(tmp_path):
    (tmp_path / "mine.trec").touch()
    with pytest.raises(InvalidRequest, match="several tasks"):
        runs(RunSystem(tmp_path / "mine.trec"), dataset(task("a"), task("b")))
