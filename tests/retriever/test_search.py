"""Searching: modes, windows, filters, grouping, fusion, errors. Vectors are computable by hand."""

import io
import threading

import numpy as np
import pytest
from PIL import Image

from retriever import Collection, SearchRequest
from retriever.errors import (
    GenerationNotReached,
    InvalidFilter,
    InvalidRequest,
    PolyseekError,
    UnknownDocument,
    UnsupportedModality,
)
from retriever.fusion import C
from retriever.search import WEIGHTS
from tests.retriever.conftest import document

PIXEL = io.BytesIO()
Image.new("RGB", (1, 1)).save(PIXEL, "PNG")
PIXEL = PIXEL.getvalue()


@pytest.fixture
def three(collection):
    collection.upsert(
        [
            document("north", (0.0, 1.0, 0.0), text="kivo zumba", metadata={"year": 2019}),
            document("east", (1.0, 0.0, 0.0), text="kivo", metadata={"year": 2020}),
            document("both", (0.6, 0.8, 0.0), text="trelk", language="de", metadata={"year": 2021}),
        ]
    )
    return collection


def dense(collection, vector, **members):
    return collection.search(SearchRequest(vector=vector), **members)


def test_dense_orders_by_inner_product_and_says_so(three):
    result = dense(three, [0.0, 1.0, 0.0])
    assert [(hit.id, hit.score) for hit in result.hits] == [
        ("north", 1.0),
        ("both", pytest.approx(0.8)),
        ("east", 0.0),
    ]
    assert (result.mode, result.generation, [hit.rank for hit in result.hits]) == ("dense", 1, [1, 2, 3])
    assert result.hits[0].scores == {"dense": 1.0, "lexical": None}


def test_lexical_finds_words_and_marks_them(three):
    result = three.search("zumba", mode="lexical")
    [hit] = result.hits
    assert (hit.id, hit.highlights, hit.scores["dense"]) == ("north", [(5, 10)], None)
    assert hit.score == hit.scores["lexical"] > 0


def test_hybrid_adds_weighted_reciprocal_ranks(three):
    result = three.search(SearchRequest(text="zumba", vector=[1.0, 0.0, 0.0]))
    assert result.mode == "hybrid"
    scores = {hit.id: hit.score for hit in result.hits}
    assert scores["north"] == pytest.approx(WEIGHTS["dense"] / (C + 3) + WEIGHTS["lexical"] / (C + 1))
    assert scores["east"] == pytest.approx(WEIGHTS["dense"] / (C + 1))
    assert scores["both"] == pytest.approx(WEIGHTS["dense"] / (C + 2))


def test_without_an_encoder_a_text_alone_is_searched_by_its_words(three):
    assert three.search("kivo").mode == "lexical"


def test_ties_break_by_the_order_of_putting(collection):
    collection.upsert([document(f"d{number}") for number in range(20)])
    assert [hit.id for hit in dense(collection, [1.0, 0.0, 0.0], k=20).hits] == [f"d{number}" for number in range(20)]


def test_ties_break_the_same_at_every_depth_and_on_both_sides_of_the_watermark(collection):
    collection.upsert([document(f"d{number}") for number in range(400)])
    collection.optimize()
    collection.upsert([document(f"e{number}") for number in range(100)])
    expected = [f"d{number}" for number in range(400)] + [f"e{number}" for number in range(100)]
    assert [hit.id for hit in dense(collection, [1.0, 0.0, 0.0], k=500).hits] == expected
    assert [hit.id for hit in dense(collection, [1.0, 0.0, 0.0], k=7).hits] == expected[:7]


@pytest.mark.parametrize("written", [40, 1500])
def test_lexical_ties_break_by_the_order_of_putting_across_segments(collection, written):
    for start in range(0, 3 * written, written):
        collection.upsert([document(f"d{number}") for number in range(start, start + written)])
        collection.settle()
    expected = [f"d{number}" for number in range(3 * written)]
    for k, offset in ((7, 0), (50, 0), (10, 30)):
        hits = collection.search("kivo", mode="lexical", k=k, offset=offset).hits
        assert [hit.id for hit in hits] == expected[offset : offset + k]


@pytest.mark.parametrize("words", [1, 3, 8])
@pytest.mark.parametrize("members", [{}, {"k": 3}, {"k": 25, "offset": 20}, {"k": 100}, {"group": False}])
def test_what_decides_the_page_is_retrieved_as_if_all_was(collection, words, members):
    """A plan lists the whole window of each side, so whoever explains retrieves it."""
    rng = np.random.default_rng(words)
    vocabulary = np.array([f"w{number}" for number in range(12)])
    texts = [" ".join(rng.choice(vocabulary, size=1 + number % 9)) for number in range(900)]
    collection.upsert([document(f"d{n}", rng.standard_normal(3), text=text) for n, text in enumerate(texts)])
    for _ in range(5):
        request = SearchRequest(
            text=" ".join(rng.choice(vocabulary, size=words)), vector=rng.standard_normal(3).tolist(), **members
        )
        for asked in ({}, {"mode": "lexical"}):
            quick, whole = (collection.search(request, explain=explain, **asked).hits for explain in (False, True))
            assert quick == whole
            assert len(quick) == request.k


def test_a_few_documents_are_ranked_on_each_side_as_if_all_was_retrieved(collection):
    rng = np.random.default_rng(4)
    collection.upsert([document(f"d{n}", rng.standard_normal(3), text="kivo " * (n % 7 + 1)) for n in range(70)])
    for text in ("kivo", "kivo absent", "absent"):
        request = SearchRequest(text=text, vector=rng.standard_normal(3).tolist())
        assert collection.search(request).hits == collection.search(request, explain=True).hits


def test_a_hit_shows_its_document_as_it_was_put_last(collection):
    def shown():
        [hit] = collection.search("kivo", mode="lexical").hits
        return hit.document.text, hit.document.metadata, hit.document.has_picture

    collection.upsert([document("a", text="kivo", metadata={"n": 1})])
    assert [shown(), shown()] == [("kivo", {"n": 1}, False)] * 2
    collection.upsert([document("a", text="kivo", metadata={"n": 2})])
    assert shown() == ("kivo", {"n": 2}, False)
    collection.upsert([document("a", text="kivo zumba", metadata={"n": 2})])
    assert shown() == ("kivo zumba", {"n": 2}, False)
    collection.optimize()
    collection.upsert([document("a", text="kivo zumba", picture=PIXEL, metadata={"n": 2})])
    assert shown() == ("kivo zumba", {"n": 2}, True)
    collection.delete(ids=["a"])
    collection.upsert([document("a", text="kivo", metadata={"n": 3})])
    assert shown() == ("kivo", {"n": 3}, False)


def test_a_search_on_an_older_generation_does_not_show_its_documents_to_the_next(collection):
    """While one thread writes, others see each hit as of the generation that answers it."""
    collection.upsert([document(f"d{n}", text="kivo", metadata={"n": 0, "generation": 1}) for n in range(20)])
    done, wrong = threading.Event(), []

    def read():
        while not done.is_set():
            result = collection.search("kivo", mode="lexical", k=20)
            wrong.extend(hit for hit in result.hits if hit.document.metadata["generation"] != result.generation)

    threads = [threading.Thread(target=read) for _ in range(3)]
    for thread in threads:
        thread.start()
    for generation in range(2, 40):
        collection.upsert(
            [document(f"d{n}", text="kivo", metadata={"n": 0, "generation": generation}) for n in range(20)]
        )
    done.set()
    for thread in threads:
        thread.join()
    assert wrong == []


def test_pages_join_to_the_whole(collection):
    rng = np.random.default_rng(1)
    collection.upsert([document(f"d{number}", rng.standard_normal(3)) for number in range(60)])
    whole = dense(collection, [1.0, 1.0, 1.0], k=50).hits
    pages = [hit for offset in range(0, 50, 7) for hit in dense(collection, [1.0, 1.0, 1.0], k=7, offset=offset).hits]
    assert [(hit.rank, hit.id) for hit in pages[:50]] == [(hit.rank, hit.id) for hit in whole]


def test_batches_answer_like_single_searches(collection):
    rng = np.random.default_rng(2)
    collection.upsert(
        [
            document(f"d{number}", rng.standard_normal(3), metadata={"even": number % 2 == 0}, text=f"kivo {number}")
            for number in range(300)
        ]
    )
    requests = []
    for number in range(40):
        vector = rng.standard_normal(3).tolist()
        requests.append(SearchRequest(vector=vector, filter={"even": True} if number % 3 else None, k=5 + number % 4))
        requests.append(SearchRequest(text=str(number), vector=vector, k=20))
    together = collection.search_many(requests)
    for request, result in zip(requests, together, strict=True):
        alone = collection.search(request)
        assert [(hit.id, hit.score) for hit in result.hits] == [(hit.id, hit.score) for hit in alone.hits]


def test_a_bad_search_in_a_batch_fails_alone(three):
    good = SearchRequest(vector=[1.0, 0.0, 0.0])
    bad = [
        SearchRequest(vector=[1.0]),
        SearchRequest(vector=[1.0, 0.0, 0.0], filter={"absent": 1}),
        SearchRequest(like="absent"),
        SearchRequest(),
    ]
    results = three.search_many([good, *bad, good])
    assert [isinstance(result, PolyseekError) for result in results] == [False, True, True, True, True, False]
    assert [hit.id for hit in results[0].hits] == [hit.id for hit in results[-1].hits] == ["east", "both", "north"]


def test_like_leaves_out_the_documents_themselves(three):
    assert [hit.id for hit in three.search(SearchRequest(like="north")).hits] == ["both", "east"]
    assert [hit.id for hit in three.search(SearchRequest(like=["north", "east"])).hits] == ["both"]


@pytest.mark.parametrize(
    ("filter_", "expected"),
    [
        ({"year": 2020}, {"east"}),
        ({"year": {"gte": 2020}}, {"east", "both"}),
        ({"language": "de"}, {"both"}),
        ({"language": {"ne": "de"}}, {"north", "east"}),
        ({"not": {"year": {"in": [2019, 2021]}}}, {"east"}),
        ({"kind": "image"}, set()),
    ],
)
def test_a_filter_applies_on_every_side(three, filter_, expected):
    assert {hit.id for hit in dense(three, [1.0, 1.0, 0.0], filter=filter_).hits} == expected
    words = {hit.id for hit in three.search("kivo zumba trelk", mode="lexical", filter=filter_).hits}
    assert words == expected


def test_a_filter_that_leaves_few_still_gives_k_lexical_hits(collection):
    """The hits that pass are far down the unfiltered ranking."""
    common = [document(f"d{number}", text="kivo") for number in range(2000)]
    rare = [document(f"r{number}", text="kivo " + "filler " * 30, metadata={"rare": True}) for number in range(12)]
    collection.upsert(common + rare)
    hits = collection.search("kivo", mode="lexical", filter={"rare": True}, k=10).hits
    assert len(hits) == 10
    assert all(hit.id.startswith("r") for hit in hits)


def test_min_score_cuts_where_a_score_means_something(three):
    assert [hit.id for hit in dense(three, [0.0, 1.0, 0.0], min_score=0.5).hits] == ["north", "both"]
    with pytest.raises(InvalidRequest, match="min_score doesn't go with a fused score"):
        three.search(SearchRequest(text="kivo", vector=[1.0, 0.0, 0.0], min_score=0.5))


def test_explain_says_how_the_answer_was_found(three):
    plan = three.search(
        SearchRequest(text="kivo", vector=[1.0, 0.0, 0.0], filter={"year": {"lt": 2021}}), explain=True
    ).plan
    assert (plan["kind"], plan["recall"], plan["rows"]) == ("flat", 1.0, 2)
    sides = {side["side"]: [entry["id"] for entry in side["documents"]] for side in plan["candidates"]}
    assert sides["dense"] == ["east", "north"]
    assert set(sides["lexical"]) == {"east", "north"}


def test_fields_choose_what_of_a_document_is_returned(three):
    [hit] = three.search("zumba", mode="lexical", fields=["text"]).to_dict()["hits"]
    assert hit["document"] == {"language": "en", "modality": "text", "has_picture": False, "text": "kivo zumba"}
    assert three.search("zumba", mode="lexical").to_dict()["hits"][0]["document"]["metadata"] == {"year": 2019}


def test_min_generation_waits_and_then_says_what_is_missing(three):
    assert dense(three, [1.0, 0.0, 0.0], min_generation=1).generation == 1
    with pytest.raises(GenerationNotReached, match=r"generation 9 was not reached within 0\.05 s; the newest is 1"):
        dense(three, [1.0, 0.0, 0.0], min_generation=9, timeout=0.05)


def test_a_search_that_waits_in_vain_fails_alone(three):
    waiting = SearchRequest(vector=[1.0, 0.0, 0.0], min_generation=9, timeout=0.05)
    good = SearchRequest(vector=[1.0, 0.0, 0.0])
    results = three.search_many([waiting, good])
    assert isinstance(results[0], GenerationNotReached)
    assert len(results[1].hits) == 3


@pytest.mark.parametrize(
    ("members", "error", "message"),
    [
        ({}, InvalidRequest, "nothing to search for"),
        ({"text": "  "}, InvalidRequest, "text is empty"),
        ({"text": "a \ud800", "mode": "lexical"}, InvalidRequest, "lone surrogate"),
        ({"like": "a\0b"}, UnknownDocument, "no document"),
        ({"text": "kivo", "mode": "dense"}, InvalidRequest, "the collection has no encoder"),
        ({"vector": [1.0, 2.0]}, InvalidRequest, "vector has 2 dimensions, the collection's have 3"),
        ({"vector": [float("nan"), 0.0, 0.0]}, InvalidRequest, "not finite"),
        ({"vector": [1e39, 0.0, 0.0]}, InvalidRequest, "not finite"),
        ({"vector": [1.0, 0.0, 0.0], "mode": "lexical"}, InvalidRequest, "mode lexical needs a text"),
        ({"vector": [1.0, 0.0, 0.0], "like": "north"}, InvalidRequest, "like and vector don't go together"),
        ({"like": "absent"}, UnknownDocument, "no document 'absent'"),
        ({"like": []}, InvalidRequest, "like names no document"),
        ({"image": b"x"}, UnsupportedModality, "no picture tower"),
        ({"text": "kivo", "rerank": True}, InvalidRequest, "no reranker is configured"),
        ({"text": "kivo", "language": "??"}, InvalidRequest, "language"),
        ({"text": "kivo", "k": 150, "offset": 100}, InvalidRequest, "offset \\+ k is at most 200"),
        ({"vector": [1.0, 0.0, 0.0], "k": 600, "offset": 500}, InvalidRequest, "offset \\+ k is at most 1000"),
        ({"text": "kivo", "filter": {"absent": 1}}, InvalidFilter, "unknown name 'absent'"),
        ({"text": "kivo", "filter": {"year": 2**70}}, InvalidFilter, "a value is a string, a number or a boolean"),
        ({"text": "kivo", "filter": {"year": "\ud800"}}, InvalidFilter, "lone surrogate"),
        ({"text": "kivo", "k": 0}, InvalidRequest, "k: Input should be greater than or equal to 1"),
        ({"text": "kivo", "colour": 1}, InvalidRequest, "colour: Extra inputs are not permitted"),
    ],
)
def test_a_request_that_makes_no_sense_says_why(three, members, error, message):
    with pytest.raises(error, match=message):
        three.search(SearchRequest.of("x", {"text": None, **members}))


def test_an_empty_collection_answers_with_no_hits(collection):
    assert collection.search("kivo").hits == []
    assert dense(collection, [1.0]).hits == []
    assert collection.search(SearchRequest(text="kivo", vector=[1.0])).hits == []


def test_without_group_a_hit_is_a_unit(tmp_path, collection):
    collection.upsert([document("a"), document("b")])
    assert [hit.id for hit in dense(collection, [1.0, 0.0, 0.0], group=False).hits] == ["a", "b"]


def test_text_in_another_script_is_found(collection):
    collection.upsert(
        [document("ja", text="東京都の天気", language="ja"), document("th", text="สวัสดีชาวโลก", language="th")]
    )
    assert [hit.id for hit in collection.search("天気", mode="lexical").hits] == ["ja"]
    assert [hit.id for hit in collection.search("ชาวโลก", mode="lexical").hits] == ["th"]


def test_opened_again_it_answers_the_same(tmp_path, three):
    expected = [(hit.id, hit.score) for hit in three.search(SearchRequest(text="kivo", vector=[1.0, 0.0, 0.0])).hits]
    with Collection.open(tmp_path / "c") as again:
        hits = again.search(SearchRequest(text="kivo", vector=[1.0, 0.0, 0.0])).hits
    assert [(hit.id, hit.score) for hit in hits] == expected
