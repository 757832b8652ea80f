import math
import os
import random
import shutil
import signal
import subprocess
import sys
import threading
from collections import Counter

import numpy as np
import pytest
import tantivy
from hypothesis import given, settings
from hypothesis import strategies as st

from retriever.analysis import Word, query_terms
from retriever.bm25 import Within
from retriever.files import DamagedIndex
from retriever.lexical import LexicalIndex, LexicalUnit, in_memory

WORDS = ["red", "green", "blue", "cat", "dog", "bird"]


def unit(key, text, language="en"):
    return LexicalUnit(key, text, language)


def units(first, last, text="red cat"):
    return [unit(key, text) for key in range(first, last + 1)]


def asked(text, *languages):
    return query_terms(text, languages or ["en"])


def found(snapshot, text, limit=10, *languages):
    return snapshot.search(asked(text, *languages), limit)[0].tolist()


@pytest.fixture
def folder(tmp_path):
    return tmp_path / "lexical"


@pytest.fixture
def index(folder):
    return LexicalIndex.create(folder)


def bm25(corpus, query, k1=1.2, b=0.75):
    """The formula, term by term: corpus and query are lists of words; the score of each document."""
    mean = sum(map(len, corpus)) / len(corpus)
    scores = np.zeros(len(corpus))
    for word in query:
        holding = sum(word in document for document in corpus)
        idf = math.log(1 + (len(corpus) - holding + 0.5) / (holding + 0.5))
        for row, document in enumerate(corpus):
            frequency = document.count(word)
            scores[row] += idf * frequency * (k1 + 1) / (frequency + k1 * (1 - b + b * len(document) / mean))
    return scores


# Lengths below 40 are stored exactly, so the scores are the formula's.
@settings(max_examples=30, deadline=None)
@given(
    st.lists(st.lists(st.sampled_from(WORDS), min_size=1, max_size=12), min_size=1, max_size=12),
    st.lists(st.sampled_from(WORDS), min_size=1, max_size=5),
)
def test_scores_are_bm25_of_every_query_word_and_ties_ascend_by_key(corpus, query):
    snapshot = in_memory([unit(row + 1, " ".join(document), "und") for row, document in enumerate(corpus)])
    keys, scores = snapshot.search([Word((word,)) for word in query], 50)
    expected = bm25(corpus, query)
    assert sorted(keys) == [row + 1 for row in np.flatnonzero(expected)]
    np.testing.assert_allclose(scores, expected[keys - 1], rtol=1e-4)
    assert all(a > b or (a == b and c < d) for a, b, c, d in zip(scores, scores[1:], keys, keys[1:], strict=False))


def test_a_word_counts_by_its_best_alternative():
    snapshot = in_memory([unit(1, "alpha beta", "und"), unit(2, "alpha gamma", "und"), unit(3, "gamma delta", "und")])
    _, best = snapshot.search([Word(("beta", "alpha"))], 1)
    _, alone = snapshot.search([Word(("beta",))], 1)
    assert best[0] == alone[0]
    assert Counter(snapshot.search([Word(("beta", "gamma"))], 5)[0].tolist()) == Counter([1, 2, 3])


def test_a_word_counts_by_its_weight_as_often_as_it_is_given():
    snapshot = in_memory([unit(1, "alpha", "und"), unit(2, "beta", "und")])
    _, whole = snapshot.search([Word(("alpha",))], 1)
    _, light = snapshot.search([Word(("alpha",), 0.25)] * 2, 1)
    np.testing.assert_allclose(light, whole / 2, rtol=1e-6)


def test_a_small_collection_is_not_ranked_by_the_function_words_of_a_question():
    texts = ["How and why I do it at length", "Several exceptions are caught by one clause", "The clause is optional"]
    snapshot = in_memory([unit(row, text) for row, text in enumerate(texts, start=1)])
    assert found(snapshot, "How do I catch several exceptions at once?")[0] == 2


def test_keys_and_scores_have_their_types_even_when_nothing_is_found(index):
    for query in ([], asked("nothing")):
        keys, scores = index.snapshot().search(query, 5)
        assert (keys.dtype, scores.dtype, len(keys), len(scores)) == (np.int64, np.float32, 0, 0)


def test_a_limit_below_one_is_refused(index):
    with pytest.raises(ValueError, match="at least 1, got 0"):
        index.snapshot().search(asked("cat"), 0)


def test_a_limit_cuts_the_whole_ranking_up_to_ties_at_its_end(index):
    rng = random.Random(3)
    for first in (1, 41, 81):
        index.update([unit(key, " ".join(rng.choices(WORDS, k=3))) for key in range(first, first + 40)], [])
    snapshot = index.snapshot()
    keys, scores = snapshot.search(asked("cat dog"), 200)
    assert all(a > b or (a == b and c < d) for a, b, c, d in zip(scores, scores[1:], keys, keys[1:], strict=False))
    for limit in range(1, len(keys) + 1):
        first_keys, first_scores = snapshot.search(asked("cat dog"), limit)
        above = int((scores > first_scores[-1]).sum())
        assert first_scores.tolist() == scores[:limit].tolist()
        assert first_keys[:above].tolist() == keys[:above].tolist()
        assert set(first_keys[above:]) <= set(keys[scores == first_scores[-1]])


def test_an_update_is_found_by_the_next_snapshot_and_an_older_one_stays(index):
    before = index.snapshot()
    index.update([unit(1, "a red cat"), unit(2, "Blaue Häuser", "de")], [])
    after = index.snapshot()
    assert (found(before, "cat"), before.watermark) == ([], 0)
    assert (found(after, "cats"), found(after, "haus", 10, "de"), after.watermark) == ([1], [2], 2)
    index.update([unit(3, "another cat")], [1])
    assert found(after, "cat") == [1]
    assert (found(index.snapshot(), "cat"), index.snapshot().keys().tolist()) == ([3], [2, 3])


def test_removed_keys_are_gone_and_absent_ones_are_ignored(index):
    index.update(units(1, 5), [7])
    index.update([], [2, 4, 99, 2])
    assert index.snapshot().keys().tolist() == [1, 3, 5]
    index.update([], [5])
    assert index.snapshot().watermark == 3


def test_keys_ascend_whatever_the_segments(index):
    for first in (1, 5, 9, 13):
        index.update(units(first, first + 3), [first - 3])
    assert index.snapshot().keys().tolist() == [key for key in range(1, 17) if key not in (2, 6, 10)]


def test_a_unit_without_words_is_held_but_not_found(index):
    index.update([unit(1, " … "), unit(2, "cat")], [])
    assert (index.snapshot().keys().tolist(), found(index.snapshot(), "cat")) == ([1, 2], [2])


def test_keys_above_32_bits_are_kept(index):
    index.update([unit(2**40 + 1, "cat")], [])
    assert (index.snapshot().watermark, found(index.snapshot(), "cat")) == (2**40 + 1, [2**40 + 1])


def test_a_text_is_never_query_syntax(index):
    index.update([unit(1, 'title:"cat" AND (dog OR NOT bird)* ~2 ^3')], [])
    assert found(index.snapshot(), "title:cat^9 AND -dog") == [1]


def test_many_small_updates_leave_few_segments(index, folder):
    for key in range(1, 41):
        index.update([unit(key, "red cat")], [key - 5])
    assert index.snapshot().keys().tolist() == list(range(36, 41))
    assert len(list(folder.glob("*.idx"))) < 20


def test_an_update_streams_its_units(index):
    def stream():
        for key in range(1, 20_001):
            yield unit(key, WORDS[key % 6])

    index.update(stream(), [])
    assert len(index.snapshot().keys()) == 20_000


def test_an_error_while_adding_changes_nothing_and_is_not_taken_for_damage(index):
    def stream():
        yield unit(2, "dog")
        raise KeyError("the store failed")

    index.update([unit(1, "cat")], [])
    with pytest.raises(KeyError, match="the store failed"):
        index.update(stream(), [1])
    assert index.snapshot().keys().tolist() == [1]
    index.update([unit(2, "dog")], [1])
    assert index.snapshot().keys().tolist() == [2]


def test_a_second_writer_is_refused(index, folder):
    writer = tantivy.Index.open(str(folder)).writer(15_000_000, 1)
    with pytest.raises(BlockingIOError, match="another writer"):
        index.update([unit(1, "cat")], [])
    writer.wait_merging_threads()
    index.update([unit(1, "cat")], [])


def test_an_opened_index_follows_what_another_writes(index, folder):
    reader = LexicalIndex.open(folder)
    index.update([unit(1, "cat")], [])
    assert found(reader.snapshot(), "cat") == [1]


def test_an_index_made_anew_in_its_place_is_followed_too(index, folder):
    index.update(units(1, 3), [])
    again = LexicalIndex.create(folder)
    again.update([unit(9, "cat")], [])
    assert index.snapshot().keys().tolist() == [9]


def test_opening_what_is_not_there_says_so(folder):
    with pytest.raises(FileNotFoundError):
        LexicalIndex.open(folder)
    folder.mkdir()
    with pytest.raises(FileNotFoundError):
        LexicalIndex.open(folder)


def test_an_index_of_another_version_of_the_analysis_is_damaged(index, folder, monkeypatch):
    monkeypatch.setattr("retriever.lexical.TERMS", "terms_0")
    with pytest.raises(DamagedIndex, match="terms_0"):
        LexicalIndex.open(folder)


@pytest.mark.parametrize("suffix", ["idx", "term", "fast", "fieldnorm", "store", "json"])
@pytest.mark.parametrize("damage", ["cut", "emptied", "zeroed"])
def test_a_file_that_was_cut_or_overwritten_is_damage_and_no_crash(index, folder, suffix, damage):
    index.update(units(1, 100), [])
    for file in folder.glob(f"*.{suffix}"):
        if not file.name.startswith("."):
            size = file.stat().st_size
            file.write_bytes({"cut": file.read_bytes()[: size // 2], "emptied": b"", "zeroed": bytes(size)}[damage])
    with pytest.raises(DamagedIndex):
        found(LexicalIndex.open(folder).snapshot(), "cat")


@pytest.mark.parametrize("suffix", ["idx", "term", "fast", "fieldnorm", "store"])
def test_a_deleted_file_is_damage(index, folder, suffix):
    index.update(units(1, 100), [])
    for file in folder.glob(f"*.{suffix}"):
        file.unlink()
    with pytest.raises(DamagedIndex):
        found(LexicalIndex.open(folder).snapshot(), "cat")


def test_a_flipped_bit_shows_in_the_checksums(index, folder):
    index.update(units(1, 100), [])
    index.update([], [5])
    assert index.damaged_files() == []
    (file,) = folder.glob("*.term")
    content = bytearray(file.read_bytes())
    content[len(content) // 4] ^= 1
    file.write_bytes(content)
    assert index.damaged_files() == [file.name]


def test_what_a_killed_update_left_behind_stands_in_no_update_s_way(index, folder, tmp_path):
    index.update(units(1, 100), [])
    shutil.copytree(folder, tmp_path / "killed")
    index.update([], [5])
    # Files of an update that was never committed, and of a commit that was never put in place.
    names = {file.name for file in folder.iterdir()} - {file.name for file in (tmp_path / "killed").iterdir()}
    assert any(name.endswith(".del") for name in names)
    for name in names:
        shutil.copy(folder / name, tmp_path / "killed" / name)
    (tmp_path / "killed" / ".tmpAbCdEf").write_text("{}")
    again = LexicalIndex.open(tmp_path / "killed")
    again.update(units(101, 101), [5])
    assert again.snapshot().keys().tolist() == [key for key in range(1, 102) if key != 5]
    again.sweep()
    assert not list((tmp_path / "killed").glob(".tmp*"))


def test_a_damaged_folder_is_made_anew(index, folder):
    (folder / "meta.json").write_text("{")
    with pytest.raises(DamagedIndex):
        index.snapshot()
    LexicalIndex.create(folder).update([unit(1, "cat")], [])
    assert found(LexicalIndex.open(folder).snapshot(), "cat") == [1]


def test_snapshots_serve_threads_while_updates_go_on(index):
    index.update(units(1, 50), [])
    wrong = []

    def read():
        for _ in range(30):
            snapshot = index.snapshot()
            if len(snapshot.keys()) != len(found(snapshot, "cat", 1000)):
                wrong.append(snapshot.watermark)

    threads = [threading.Thread(target=read) for _ in range(3)]
    for thread in threads:
        thread.start()
    for key in range(51, 61):
        index.update([unit(key, "red cat")], [key - 50])
    for thread in threads:
        thread.join()
    assert wrong == []


def test_the_tail_in_memory_answers_as_a_folder_does(index):
    tail = [unit(key, f"{WORDS[key % 6]} {WORDS[key % 4]}") for key in range(1, 30)]
    index.update(tail, [])
    for word in WORDS:
        ours, theirs = (snapshot.search(asked(word), 30) for snapshot in (in_memory(tail), index.snapshot()))
        assert ours[0].tolist() == theirs[0].tolist()
        np.testing.assert_allclose(ours[1], theirs[1])
    assert in_memory([]).keys().tolist() == []


WRITER = """
import sys
from pathlib import Path
from retriever.lexical import LexicalIndex, LexicalUnit
index = LexicalIndex.open(Path(sys.argv[1]))
for key in range(index.snapshot().watermark + 1, 10_000):
    index.update([LexicalUnit(key, "red cat", "en")], [])
    print(key, flush=True)
"""


def test_a_killed_writer_loses_no_finished_update_and_locks_nobody_out(index, folder):
    for kill_after in (3, 1, 4):
        writer = subprocess.Popen([sys.executable, "-c", WRITER, str(folder)], stdout=subprocess.PIPE, text=True)
        done = [int(writer.stdout.readline()) for _ in range(kill_after)]
        os.kill(writer.pid, signal.SIGKILL)
        done += [int(line) for line in writer.stdout.read().split()]
        writer.wait()
        writer.stdout.close()
        keys = LexicalIndex.open(folder).snapshot().keys().tolist()
        assert keys == list(range(1, len(keys) + 1))
        assert len(keys) in (done[-1], done[-1] + 1)
    shutil.copytree(folder, folder.parent / "copy")
    LexicalIndex.open(folder.parent / "copy").update([unit(10_001, "dog")], [])


# Of 600 units: three are named in the query, sixty are looked for among more and more hits.
@pytest.mark.parametrize("few", [1, 3, 60, 599])
@pytest.mark.parametrize("limit", [1, 5, 700])
def test_a_search_within_some_units_is_the_ranking_of_all_less_the_others(few, limit):
    rng = random.Random(few)
    words = ["kivo", "zumba", "trelk", "orvad", "plimo"]
    units = [LexicalUnit(key, " ".join(rng.choices(words, k=rng.randint(1, 6))), "en") for key in range(1, 601)]
    snapshot = in_memory(units)
    allowed = np.array(sorted(rng.sample(range(1, 601), few)))
    within = Within(few, few / 600, lambda keys: np.where(np.isin(keys, allowed), keys, -1), lambda: allowed)
    query = query_terms("kivo trelk plimo", ["en"])
    keys, scores = snapshot.search(query, 600)
    passing = np.isin(keys, allowed)
    found_keys, found_scores = snapshot.search(query, limit, within)
    assert found_keys.tolist() == keys[passing][:limit].tolist()
    assert found_scores.tolist() == scores[passing][:limit].tolist()


def test_a_share_that_is_far_off_costs_time_and_no_hits():
    snapshot = in_memory([LexicalUnit(key, "kivo" if key > 900 else "kivo kivo zumba", "en") for key in range(1, 1001)])
    allowed = np.arange(901, 1001)
    within = Within(100, 0.9, lambda keys: np.where(np.isin(keys, allowed), keys, -1), lambda: allowed)
    keys, _ = snapshot.search(query_terms("zumba kivo", ["en"]), 7, within)
    assert keys.tolist() == list(range(901, 908))
