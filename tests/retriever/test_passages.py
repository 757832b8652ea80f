import re
from itertools import pairwise

import pytest
import regex
from hypothesis import given
from hypothesis import strategies as st

from retriever.passages import split

TEXTS = st.text(
    alphabet=st.one_of(
        st.sampled_from(' \n.!?,;。！？、।؟។aé1A"”)สวัดี中文\u0301👩🚀\u200d\u2028'),
        st.characters(exclude_categories=["Cs"]),
    ),
    max_size=200,
)


def words(texts):
    """Tokens that are easy to count by hand: words, and every other character that isn't white space."""
    return [len(re.findall(r"\w+|[^\w\s]", text)) for text in texts]


def characters(texts):
    return [len(text) for text in texts]


def superlinear(texts):
    """A count that joined pieces exceed."""
    return [len(text) + len(text) // 7 for text in texts]


def passages(text, limit, overlap=0, count=words, language="und"):
    return [text[a:b] for a, b in split(text, limit=limit, overlap=overlap, count=count, language=language)]


@pytest.mark.parametrize("text", ["", " ", "\n\t\u3000 \u2028"])
def test_white_space_has_no_passages(text):
    assert split(text, limit=10, overlap=2, count=words) == []


def test_a_text_within_the_limit_is_one_passage_without_its_outer_white_space():
    assert split("  One. Two.\n", limit=10, overlap=2, count=words) == [(2, 11)]


@pytest.mark.parametrize(
    "sentences",
    [
        ["The first one ends here.", "Is this the second?", "The third one!"],
        ["今日は天気がいいです。", "明日はどうですか？", "分かりません！"],
        ["यह पहला वाक्य है।", "यह दूसरा वाक्य है।", "यह तीसरा है।"],
        ["هذه هي الجملة الأولى.", "هل هذه هي الثانية؟", "هذه هي الثالثة."],
        ["នេះជាប្រយោគទីមួយ។", "នេះជាប្រយោគទីពីរ។", "នេះជាប្រយោគទីបី។"],
        ["Это первое предложение.", "Это второе предложение?", "Это третье!"],
    ],
)
def test_passages_end_with_sentences_in_every_script(sentences):
    glue = "" if sentences[0][-1] == "。" else " "
    text = glue.join(sentences)
    assert passages(text, max(map(len, sentences)), count=characters) == sentences


def test_abbreviations_and_decimals_end_no_sentence():
    text = "Dr. Smith paid 3.50 to J. R. Jones, e.g. on Monday. He left soon after that."
    assert passages(text, 22, language="en") == [text[:51], text[52:]]


def test_a_paragraph_border_is_a_sentence_border():
    assert passages("a title without a stop\n\nthen the text begins here", 6) == [
        "a title without a stop",
        "then the text begins here",
    ]


def test_neighbours_share_the_whole_sentences_nearest_to_the_overlap():
    one, two, three, four, five = (f"{name} ran away again." for name in ("Ann", "Ben", "Cid", "Dan", "Eve"))
    text = f"{one} {two} {three} {four} {five}"
    assert passages(text, 15, overlap=5) == [f"{one} {two} {three}", f"{three} {four} {five}"]
    assert passages(text, 15, overlap=2) == [f"{one} {two} {three}", f"{four} {five}"]


def test_a_sentence_longer_than_the_limit_is_cut_at_lines_then_clauses_then_words():
    assert passages("one two three\nfour five six", 4) == ["one two three", "four five six"]
    assert passages("one two, three four, five six", 6) == ["one two, three four,", "five six"]
    assert passages("one two three four five", 2) == ["one two", "three four", "five"]
    assert passages("1,000 is 1,000 is", 4) == ["1,000 is", "1,000 is"]


def test_thai_is_cut_at_its_spaces():
    text = "สวัสดีครับ ผมชื่อจอห์น วันนี้อากาศดี"
    assert passages(text, 13, count=characters) == text.split()


def test_a_word_longer_than_the_limit_is_cut_between_characters_and_never_within_one():
    text = "e\u0301" * 10
    assert passages(text, 4, count=characters) == ["e\u0301" * 2] * 5


def test_a_character_of_more_tokens_than_the_limit_stays_whole():
    assert passages("a👩\u200d🚀b", 2, count=characters) == ["a", "👩\u200d🚀", "b"]


def test_a_passage_of_more_tokens_than_its_sentences_is_halved():
    text = " ".join(["abcdef."] * 30)
    assert all(superlinear([part])[0] <= 40 for part in passages(text, 40, count=superlinear))


def test_counting_is_done_in_few_calls_whatever_the_length():
    calls = []

    def count(texts):
        calls.append(len(texts))
        return words(texts)

    split("A sentence of five words. " * 5000, limit=60, overlap=15, count=count)
    assert len(calls) <= 3


@pytest.mark.parametrize(("limit", "overlap"), [(0, 0), (5, 5), (5, 6), (5, -1)])
def test_an_overlap_that_leaves_no_room_is_refused_with_both_values(limit, overlap):
    with pytest.raises(ValueError, match=f"overlap {overlap} and limit {limit}"):
        split("text", limit=limit, overlap=overlap, count=words)


@given(TEXTS, st.integers(1, 30), st.integers(0, 29), st.sampled_from([words, characters, superlinear]))
def test_passages_cover_every_character_ascend_and_keep_the_limit(text, limit, overlap, count):
    spans = split(text, limit=limit, overlap=min(overlap, limit - 1), count=count)
    covered = set()
    for start, end in spans:
        part = text[start:end]
        assert part == part.strip() != ""
        assert count([part])[0] <= limit or _is_one_character(part)
        covered.update(range(start, end))
    assert all(place in covered for place, character in enumerate(text) if not character.isspace())
    assert all(a[0] < b[0] and a[1] < b[1] for a, b in pairwise(spans))


@given(TEXTS, st.integers(1, 30), st.sampled_from([words, characters]))
def test_without_an_overlap_no_character_is_in_two_passages(text, limit, count):
    spans = split(text, limit=limit, overlap=0, count=count)
    assert all(a[1] <= b[0] for a, b in pairwise(spans))


def _is_one_character(text):
    return regex.fullmatch(r"\X", text) is not None


def test_passages_of_a_very_long_text_begin_and_end_with_words():
    """Sentences are found in pieces of 10,000 characters; nothing shifts at their borders."""
    text = "\n\n".join(f"Paragraph {number} says a thing or two. It ends here." for number in range(1500))
    spans = split(text, limit=40, overlap=8, count=words, language="en")
    assert all(text[start:end].startswith(("Paragraph", "It")) and text[end - 1] == "." for start, end in spans)
    assert not text[: spans[0][0]].strip()
    assert all(not text[before[1] : after[0]].strip() for before, after in pairwise(spans))
