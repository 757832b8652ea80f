"""Runs as TREC files, and their fusion."""

import gzip

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from eval.runs import Run, fuse, hashed_places, read_run, write_run
from eval.tasks import Items, Task
from retriever.errors import InvalidData, InvalidRequest, OutputError
from retriever.fusion import fuse as hybrid
from tests.eval.tasks import drawn, judgements, task


def drawn_run(asked, seed, depth=10, most=30):
    random = np.random.default_rng(seed)
    documents = np.stack([random.permutation(len(asked.corpus))[:depth] for _ in range(len(asked.queries))])
    return Run.of_scores(asked, documents, random.integers(0, most, documents.shape).astype(np.float32) / 7, depth)


@pytest.mark.parametrize("name", ["run.trec", "run.trec.gz"])
def test_a_run_comes_back_as_it_was_written(tmp_path, name):
    asked = drawn(4)
    run = drawn_run(asked, 4)
    write_run(tmp_path / name, asked, run, "my system")
    back = read_run(tmp_path / name, asked)
    assert np.array_equal(back.documents, run.documents)
    assert np.array_equal(back.scores, run.scores)
    assert np.array_equal(back.ranks, run.ranks)
    content = (tmp_path / name).read_bytes()
    first = (gzip.decompress(content) if name.endswith(".gz") else content).decode().splitlines()[0].split()
    assert (first[0], first[1], first[3], first[5]) == ("q0", "Q0", "1", "my-system")


@given(st.integers(0, 10**6))
def test_equal_scores_are_in_the_order_of_their_hashes_and_share_their_ranks(seed):
    asked = drawn(seed)
    run = drawn_run(asked, seed, most=3)
    places = hashed_places(asked.corpus)
    for documents, scores in zip(run.documents, run.scores, strict=True):
        rows = list(zip((-scores).tolist(), places[documents].tolist(), strict=True))
        assert rows == sorted(rows)
    for query, document, rank in zip(asked.judgements.query, asked.judgements.document, run.ranks, strict=True):
        at = np.flatnonzero(run.documents[query] == document)
        if not len(at):
            assert rank == np.inf
        else:
            score = run.scores[query, at[0]]
            better, as_good = (run.scores[query] > score).sum(), (run.scores[query] == score).sum()
            assert rank == better + (as_good - 1) / 2


@pytest.mark.parametrize(
    ("line", "said"),
    [
        ("q0 Q0 d1 1 0.5", "line 2: a run's line has 6 parts, this has 5"),
        ("q9 Q0 d1 1 0.5 x", "line 2: there is no query q9"),
        ("q0 Q0 d99 1 0.5 x", "line 2: there is no document d99"),
        ("q0 Q0 d0 2 0.4 x", "line 2: query q0 has document d0 twice"),
        ("q0 Q0 d1 1 high x", "line 2: 'high' is no score"),
        ("q0 Q0 d1 1 nan x", "line 2: 'nan' is no score"),
    ],
)
def test_a_line_that_is_wrong_is_named(tmp_path, line, said):
    file = tmp_path / "run.trec"
    file.write_text(f"q0 Q0 d0 1 0.5 x\n{line}\n")
    with pytest.raises(InvalidData, match=said):
        read_run(file, task(1, 3, {(0, 0): 1}))


@pytest.mark.parametrize("content", [None, b"\xff\xfe", b"\x1f\x8b half"])
def test_a_file_that_cannot_be_read_is_named(tmp_path, content):
    file = tmp_path / ("run.trec.gz" if content and content[0] == 0x1F else "run.trec")
    if content is not None:
        file.write_bytes(content)
    with pytest.raises(InvalidData, match=r"run\.trec"):
        read_run(file, task(1, 1, {(0, 0): 1}))


def test_a_line_is_counted_with_the_empty_ones_before_it(tmp_path):
    file = tmp_path / "run.trec"
    file.write_text("\nq0 Q0 d0 1 0.5 x\n\nq0 Q0 d9 2 0.4 x\n")
    with pytest.raises(InvalidData, match="line 4: there is no document d9"):
        read_run(file, task(1, 3, {(0, 0): 1}))


def test_ids_may_hold_white_space(tmp_path):
    asked = Task("test", "search", Items(("my query",)), Items(("a\tb", "a\u3000b", "ab")), judgements({(0, 1): 1}))
    run = Run.of_scores(asked, np.array([[0, 1, 2]]), np.array([[3, 2, 1]], np.float32), 3)
    write_run(tmp_path / "run.trec", asked, run, "x")
    assert (tmp_path / "run.trec").read_text("utf-8").startswith("my%20query Q0 a%09b 1 3.000000 x\n")
    assert read_run(tmp_path / "run.trec", asked).documents.tolist() == [[0, 1, 2]]


def test_ids_that_a_run_file_cannot_tell_apart_are_refused(tmp_path):
    asked = Task("test", "search", Items(("q",)), Items(("a b", "a%20b")), judgements({}))
    run = Run.of_scores(asked, np.array([[0, 1]]), np.array([[3, 2]], np.float32), 2)
    with pytest.raises(InvalidData, match="'a b' can't be told from another"):
        write_run(tmp_path / "run.trec", asked, run, "x")


def test_the_same_run_is_the_same_file_and_a_failed_one_is_none(tmp_path):
    asked = drawn(5)
    run = drawn_run(asked, 5)
    for name in ("one.trec.gz", "two.trec.gz"):
        write_run(tmp_path / name, asked, run, "x")
    assert (tmp_path / "one.trec.gz").read_bytes() == (tmp_path / "two.trec.gz").read_bytes()
    with pytest.raises(OutputError, match="can't be written"):
        write_run(tmp_path / "one.trec.gz" / "run.trec", asked, run, "x")
    assert sorted(file.name for file in tmp_path.iterdir()) == ["one.trec.gz", "two.trec.gz"]


def test_a_run_of_other_queries_only_is_one_without_answers(tmp_path):
    (tmp_path / "run.trec").write_text("")
    run = read_run(tmp_path / "run.trec", task(2, 3, {(0, 0): 1}))
    assert (run.documents == -1).all()
    assert (run.ranks == np.inf).all()


def test_a_fusion_adds_the_weighted_reciprocal_ranks_as_parts_of_the_best():
    asked = task(1, 4, {(0, 3): 1})
    one = Run.of_scores(asked, np.array([[0, 1, 2]]), np.array([[3, 2, 1]], np.float32), 3)
    two = Run.of_scores(asked, np.array([[3, 0, -1]]), np.array([[9, 8, 0]], np.float32), 3)
    run = fuse(asked, [one, two], [0.25, 0.75])
    assert run.documents.tolist() == [[0, 3, 1, 2]]
    expected = np.array([0.25 / 61 + 0.75 / 62, 0.75 / 61, 0.25 / 62, 0.25 / 63]) * 61
    assert run.scores[0] == pytest.approx(expected, abs=1e-6)
    assert run.ranks.tolist() == [1]


@given(st.integers(0, 10**6), st.lists(st.floats(0.01, 5), min_size=1, max_size=4))
def test_a_fusion_has_the_scores_that_hybrid_search_gives(seed, weights):
    asked = drawn(seed)
    runs = [drawn_run(asked, seed + number, depth=number + 5) for number in range(len(weights))]
    fused = fuse(asked, runs, weights)
    for query in range(len(asked.queries)):
        slow = dict(
            hybrid([(weight, run.documents[query].tolist()) for weight, run in zip(weights, runs, strict=True)])
        )
        found = fused.documents[query][fused.documents[query] >= 0].tolist()
        assert set(found) == set(slow)
        scores = [slow[document] * 61 / sum(weights) for document in found]
        assert fused.scores[query, : len(found)] == pytest.approx(scores, abs=1e-6)


@pytest.mark.parametrize("weights", [[0, 0], [-1, 2], [float("nan"), 1]])
def test_weights_that_say_nothing_are_refused(weights):
    asked = drawn(1)
    with pytest.raises(InvalidRequest, match="weights are 0 or more"):
        fuse(asked, [drawn_run(asked, 1), drawn_run(asked, 2)], weights)
