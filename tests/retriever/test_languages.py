import threading

import pytest

from retriever.languages import IDENTIFIED, canonical, identify

SENTENCES = {
    "ar": "أين يمكنني أن أشتري تذكرة للقطار؟",
    "de": "Wo kann ich eine Fahrkarte für den Zug kaufen?",
    "en": "Where can I buy a ticket for the train?",
    "es": "¿Dónde puedo comprar un billete de tren?",
    "fr": "Où est-ce que je peux acheter un billet de train ?",
    "it": "Dove posso comprare un biglietto del treno?",
    "ja": "電車の切符はどこで買えますか。",
    "ko": "기차표는 어디에서 살 수 있나요?",
    "nl": "Waar kan ik een kaartje voor de trein kopen?",
    "pl": "Gdzie mogę kupić bilet na pociąg?",
    "pt": "Onde é que posso comprar um bilhete para o comboio?",
    "ru": "Где я могу купить билет на поезд?",
    "th": "ฉันจะซื้อตั๋วรถไฟได้ที่ไหน",
    "tr": "Tren biletini nereden satın alabilirim?",
    "zh": "我在哪里可以买到火车票？",
    "zh-Hant": "我在哪裡可以買到火車票？",
}


@pytest.mark.parametrize(
    ("tag", "form"),
    [
        ("en", "en"),
        ("EN", "en"),
        ("en_us", "en-US"),
        ("pt-BR", "pt-BR"),
        ("deu", "de"),
        ("ger", "de"),
        ("iw", "he"),
        ("cmn", "zh"),
        ("arb", "ar"),
        ("zh-CN", "zh"),
        ("zh-Hans-TW", "zh"),
        ("zh-TW", "zh-Hant"),
        ("zh_HK", "zh-Hant"),
        ("zh-MO", "zh-Hant"),
        ("zh-hant-hk", "zh-Hant"),
        ("yue", "yue"),
        ("sr-latn", "sr-Latn"),
        ("und", "und"),
    ],
)
def test_two_names_of_a_language_have_one_canonical_form(tag, form):
    assert canonical(tag) == form


@pytest.mark.parametrize(
    "tag", ["", " ", "english", "e", "xx", "en--us", "en us", "français", "en-US.UTF-8", "ab-cd-ef"]
)
def test_what_is_no_registered_tag_is_refused_by_name(tag):
    with pytest.raises(ValueError, match="is not a BCP 47 language tag") as error:
        canonical(tag)
    assert repr(tag) in str(error.value)


def test_a_canonical_form_is_its_own():
    for tag in (*IDENTIFIED, "zh-Hant", "pt-BR", "und"):
        assert canonical(canonical(tag)) == canonical(tag)


@pytest.mark.parametrize("language", SENTENCES)
def test_a_short_sentence_is_identified(language):
    assert identify([SENTENCES[language]]) == [language]


def test_texts_are_answered_in_their_order():
    assert identify([*SENTENCES.values(), ""]) == [*SENTENCES, "und"]


@pytest.mark.parametrize("text", ["", "  \n", "12345 – 6.7", "!?…", "😀🚀", "€ → ∑"])
def test_a_text_without_letters_is_undetermined(text):
    assert identify([text]) == ["und"]


@pytest.mark.parametrize("text", ["with", "if", "OK", "x = 3", "def foo(bar)"])
def test_what_has_too_few_letters_to_tell_is_undetermined(text):
    assert identify([text]) == ["und"]


def test_documented_code_and_technical_prose_are_english():
    code = 'def paste(xsel=False):\n    """Return the contents of the system clipboard."""\n    return run("xclip")'
    prose = "Returns a new list containing all items from the iterable in ascending order."
    assert identify([code, prose]) == ["en", "en"]


def test_threads_identify_as_one_does():
    answers = []
    threads = [threading.Thread(target=lambda: answers.append(identify(list(SENTENCES.values())))) for _ in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert answers == [list(SENTENCES)] * 4
