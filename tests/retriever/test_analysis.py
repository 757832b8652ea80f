import re
import threading
import time
import unicodedata
from itertools import pairwise

import pytest
from hypothesis import given
from hypothesis import strategies as st

from retriever import analysis
from retriever.analysis import FUNCTION_WEIGHT, Word, highlights, joined_terms, marked_forms, query_terms, terms
from retriever.function_words import FUNCTION_WORDS
from retriever.languages import canonical

LANGUAGES = ["en", "de", "tr", "ar", "ru", "zh", "th", "ko", "fa", "vi", "pt-BR", "und", "tlh"]
SIXTEEN = ["ar", "de", "en", "es", "fr", "it", "ja", "ko", "nl", "pl", "pt", "ru", "th", "tr", "zh", "zh-Hant"]
# Letters of many scripts, marks, joiners, compatibility forms, emoji, code.
TEXTS = st.text(
    alphabet=st.one_of(
        st.sampled_from(
            "aB3_. ÄéßİıǅﬁＡ１½²ｶﾞがé̈ñ中文สวัดี한국ᄒ\u1161ा\u0301\u064e\u0640أىی\u200c\u200d\u00ad\ufe0f❤👩🚀🇩🇪€+#"
        ),
        st.characters(exclude_categories=["Cs"]),
    ),
    max_size=40,
)


def forms(text, language="und"):
    return [term.text for term in terms(text, language)]


@pytest.mark.parametrize(
    ("language", "one", "other"),
    [
        ("en", "Running DOGS", "runs dog"),
        ("de", "Häuser STRASSE", "Haus Straße"),
        ("es", "acción", "ACCION"),
        ("fr", "Étudiants", "etudiant"),
        ("ru", "ёлка книгами", "елка книга"),
        ("uk", "ґанок", "ҐАНОК"),
        ("el", "ΣΊΣΥΦΟΣ", "σίσυφος"),
        ("tr", "İSTANBUL KIŞ", "istanbul kış"),
        ("ar", "مُحَمَّد أحمد", "محمد احمد"),
        ("ar", "الكتاب", "كتاب"),
        ("fa", "كتاب‌ها", "کتابها"),
        ("he", "שָׁלוֹם", "שלום"),
        ("hi", "लड़कियाँ", "लड़की"),
        ("ko", "한국", unicodedata.normalize("NFD", "한국")),
        ("ja", "ｶﾞﾗｽ", "ガラス"),
        ("en", "ＡＢＣ１２３", "abc123"),
        ("ar", "٢٠٢٤", "2024"),
        ("en", "ﬁle", "file"),
        ("en", "co\u00adoperate", "cooperate"),
        ("pt-BR", "livros", "livro"),
    ],
)
def test_spellings_of_one_word_share_a_term(language, one, other):
    shared = set(forms(one, language)) & set(forms(other, language))
    assert len(shared) >= len(other.split())


@pytest.mark.parametrize(
    ("language", "one", "other"),
    [
        ("es", "año", "ano"),
        ("sv", "här", "har"),
        ("tr", "kız", "kiz"),
        ("ru", "йод", "иод"),
        ("vi", "má", "mã"),
        ("pl", "sąd", "sad"),
        ("hi", "बिल", "बल"),
    ],
)
def test_a_letter_of_its_own_is_not_folded_into_another(language, one, other):
    assert not set(forms(one, language)) & set(forms(other, language))


def test_a_language_without_a_stemmer_and_an_unknown_one_are_folded_only():
    assert forms("Running CAFÉS", "und") == forms("Running CAFÉS", "tlh") == ["running", "cafes"]


def test_a_regional_tag_has_the_analysis_of_its_language():
    assert terms("corações", "pt-BR") == terms("corações", "pt")


@pytest.mark.parametrize(
    ("name", "expected"),
    [
        ("getUserName", {"getusername", "get", "user", "name"}),
        ("HTTPServer2", {"httpserver2", "http", "server", "2"}),
        ("snake_case_name", {"snake_case_name", "snake", "case", "name"}),
        ("__init__", {"__init__", "init"}),
        ("os.path.join", {"os.path.join", "os", "path", "join"}),
        ("URLs", {"urls"}),
        ("3.14", {"3.14"}),
        ("C++", {"c++", "c"}),
        ("C#", {"c#", "c"}),
        ("plain", {"plain"}),
    ],
)
def test_an_identifier_is_kept_whole_and_split(name, expected):
    assert set(forms(name)) == expected


@pytest.mark.parametrize(
    ("text", "pairs"),
    [
        ("東京都", ["東京", "京都"]),
        ("ガラス", ["ガラ", "ラス"]),
        ("한국어", ["한국", "국어"]),
        ("สวัสดี", ["สวั", "วัส", "สดี"]),
        ("ភាសា", ["ភាសា"]),
        ("မြန်မာ", ["မြန်", "န်မ", "မာ"]),
    ],
)
def test_scripts_without_spaces_are_asked_by_pairs_and_found_by_single_characters(text, pairs):
    assert [form for word in query_terms(text, ["und"]) for form in word.forms] == pairs
    characters = [term.text for term in terms(text, "und") if term.text not in pairs]
    assert "".join(characters) == text


def test_a_query_of_one_character_is_found():
    assert query_terms("猫", ["ja"]) == [Word(("猫",))]
    assert "猫" in forms("黒い猫がいる", "ja")


@pytest.mark.parametrize("symbol", ["😀", "❤️", "👩‍🚀", "🇩🇪", "1️⃣", "€", "→", "©"])
def test_a_symbol_is_found_by_itself(symbol):
    assert query_terms(symbol, ["en"])
    assert highlights(f"a {symbol} b", "en", marked_forms(query_terms(symbol, ["en", "und"])))


def test_a_variation_selector_makes_no_difference():
    assert forms("❤") == forms("❤️") == ["❤"]


def test_alternatives_of_a_query_word_come_from_every_candidate_language_once():
    assert query_terms("houses", ["en", "de", "und", "en-GB", "tlh"]) == [Word(("hous", "houses"))]


def test_a_repeated_query_word_is_given_twice():
    assert query_terms("new york new", ["en"]) == [Word(("new",)), Word(("york",)), Word(("new",))]


def test_an_unlanguaged_and_a_stemmed_document_are_both_found():
    (word,) = query_terms("houses", ["en", "und"])
    assert forms("Houses", "en")[0] in word.forms
    assert forms("Houses", "und")[0] in word.forms


def light(query, languages):
    """The words of the query that count less."""
    pairs = zip(re.findall(r"\w+", query), query_terms(query, languages), strict=True)
    return [surface for surface, word in pairs if word.weight == FUNCTION_WEIGHT]


@pytest.mark.parametrize(
    ("language", "question", "function_words"),
    [
        ("ar", "ما هي عاصمة فرنسا؟", "ما هي"),
        ("de", "Wie öffne ich die Datei?", "Wie ich die"),
        ("en", "How do I open the file?", "How do I the"),
        ("es", "¿Dónde está la biblioteca?", "Dónde está la"),
        ("es", "donde esta la biblioteca", "donde esta la"),
        ("fr", "Qu'est-ce que l'eau dure ?", "Qu est ce que l"),
        ("it", "Dov'è la biblioteca?", "Dov è la"),
        ("nl", "Waar is het station?", "Waar is het"),
        ("pl", "Kto to jest Kopernik?", "Kto to jest"),
        ("pt-BR", "Qual é a capital?", "Qual é a"),
        ("ru", "Где она его нашла?", "Где она его"),
        ("tr", "Bu kitap NASIL yazıldı?", "Bu NASIL"),
    ],
)
def test_the_function_words_of_a_question_count_less_than_its_other_words(language, question, function_words):
    assert light(question, [language]) == light(question, SIXTEEN) == function_words.split()


@pytest.mark.parametrize(
    "query",
    [
        *("with", "to be or not to be", "What is it?", "Что это?", "not in"),
        *("with statement", "die hard", "if clause"),
    ],
)
def test_a_query_of_function_words_alone_or_with_one_of_them_counts_each_word_in_full(query):
    assert light(query, SIXTEEN) == []


def test_a_word_that_is_a_function_word_of_another_language_only_counts_in_full():
    assert light("how does one die of a cold", ["en", "de", "fr"]) == ["how", "does", "one", "of", "a"]
    assert light("die Hard war in einem Kino", ["en", "de"]) == ["die", "war", "in", "einem"]


def test_a_word_that_shares_only_its_stem_with_a_function_word_counts_in_full():
    assert terms("mining", "en")[0].text == terms("mine", "en")[0].text
    assert light("how do I start mining", ["en"]) == ["how", "do", "I"]


def test_languages_that_know_different_function_words_of_a_query_decide_together():
    assert light("die hard in the cinema", ["en", "de"]) == []


def test_languages_with_function_words_are_canonical_and_their_words_are_chunks():
    for language, words in FUNCTION_WORDS.items():
        assert canonical(language) == language
        for word in words:
            assert (terms(word, "und")[0].start, terms(word, "und")[0].end) == (0, len(word))


def test_highlights_are_spans_of_the_original_text():
    text = "Die Häuser der ＳＴＲＡＳＳＥ, und ein Haus."
    spans = highlights(text, "de", marked_forms(query_terms("haus straße", ["de"])))
    assert [text[start:end] for start, end in spans] == ["Häuser", "ＳＴＲＡＳＳＥ", "Haus"]


def test_neighbouring_pairs_are_one_highlight():
    text = "私は東京都庁へ行く"
    assert [text[a:b] for a, b in highlights(text, "ja", marked_forms(query_terms("東京都庁", ["ja"])))] == ["東京都庁"]


def test_a_long_blob_is_one_short_term():
    assert [len(form) for form in forms("a" * 100_000)] == [analysis.MAX_TERM]


@given(TEXTS, st.sampled_from(LANGUAGES))
def test_offsets_lie_in_the_text_and_no_term_is_empty_or_holds_a_space(text, language):
    for term in terms(text, language):
        assert 0 <= term.start < term.end <= len(text)
        assert term.text
        assert term.text.split() == [term.text]


@given(TEXTS, st.sampled_from(LANGUAGES))
def test_the_joined_terms_are_the_terms(text, language):
    assert joined_terms(text, language).split(" ") == (forms(text, language) or [""])


@given(TEXTS, st.lists(st.sampled_from(LANGUAGES), min_size=1))
def test_whatever_is_asked_is_indexed_in_a_document_of_that_text(text, languages):
    alternatives = {form for word in query_terms(text, languages) for form in word.forms}
    indexed = {form for language in languages for form in forms(text, language)}
    assert alternatives <= indexed
    for language in languages:
        assert bool(query_terms(text, [language])) == bool(forms(text, language))


@given(st.text("aB3_.+# -\n\t()C", max_size=60) | st.text(st.characters(max_codepoint=127), max_size=60))
def test_ascii_is_cut_as_beside_other_characters(text):
    assert terms(text, "en") == terms(f"{text} é", "en")[:-1]


@given(TEXTS, TEXTS, st.sampled_from(LANGUAGES))
def test_highlights_are_the_terms_that_are_marked(text, query, language):
    marked = marked_forms(query_terms(query, [language]))
    covered = {place for term in terms(text, language) if term.text in marked for place in range(term.start, term.end)}
    for _ in range(2):  # analysed, then kept
        spans = highlights(text, language, marked)
        assert {place for start, end in spans for place in range(start, end)} == covered


@given(TEXTS, st.sampled_from(LANGUAGES))
def test_highlights_ascend_without_touching(text, language):
    spans = highlights(text, language, marked_forms(query_terms(text, [language])))
    assert all(start < end for start, end in spans)
    assert all(a[1] < b[0] for a, b in pairwise(spans))
    assert bool(spans) == bool(forms(text, language))


@given(st.text(alphabet="aéÉñöşİıий ΐ가각ガﾞがएँ中", max_size=20), st.sampled_from(LANGUAGES))
def test_composed_and_decomposed_text_have_the_same_terms(text, language):
    composed, decomposed = (unicodedata.normalize(form, text) for form in ("NFC", "NFD"))
    assert forms(composed, language) == forms(decomposed, language)


def test_a_word_within_the_cache_and_beyond_it_are_analysed_alike():
    long = "Donaudampfschifffahrtsgesellschaften"
    assert len(long) > 16
    assert forms(long, "de") == forms(f"{long} {long}", "de")[:1]


def test_threads_stem_as_one_does():
    words = " ".join(f"nationalizing{number} houses Häuser" for number in range(300))
    expected = [forms(words, language) for language in ("en", "de", "fr")]
    answers = []
    threads = [
        threading.Thread(target=lambda: answers.append([forms(words, language) for language in ("en", "de", "fr")]))
        for _ in range(4)
    ]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert answers == [expected] * 4


def test_a_query_of_twelve_words_over_sixteen_languages_takes_about_a_millisecond():
    query = "how do I read a very large file line by line quickly"

    def once():
        started = time.perf_counter()
        query_terms(query, SIXTEEN)
        return time.perf_counter() - started

    assert min(once() for _ in range(50)) < 1e-3
