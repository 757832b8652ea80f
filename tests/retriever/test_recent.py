"""What is kept of what was used: bounded by cost, the newest stays, copies go their own way."""

import threading

import pytest

from retriever.recent import Recent


@pytest.fixture
def recent():
    """Ten letters of values at most."""
    return Recent(10, lambda _, value: len(value))


def made(recent, key, value):
    """Whether a value had to be made."""
    calls = []
    assert recent.get(key, lambda asked: calls.append(asked) or value) == value
    return calls == [key]


def test_a_value_is_made_once(recent):
    assert [made(recent, "a", "xxx"), made(recent, "a", "xxx")] == [True, False]


def test_what_was_used_longest_ago_goes_first(recent):
    for key in "abc":
        made(recent, key, "xxx")
    made(recent, "a", "xxx")
    made(recent, "d", "xxx")
    assert {key: made(recent, key, "xxx") for key in "acdb"} == {"a": False, "c": False, "d": False, "b": True}


def test_what_alone_costs_more_is_not_kept(recent):
    assert [made(recent, "a", "x" * 11), made(recent, "a", "x" * 11)] == [True, True]
    assert [made(recent, "b", "x" * 10), made(recent, "b", "x" * 10)] == [True, False]


def test_many_are_asked_for_at_once_and_only_missing_ones_made(recent):
    made(recent, "a", "A")
    asked = []
    found = recent.get_all("abc", lambda keys: asked.extend(keys) or {key: key.upper() for key in keys if key != "c"})
    assert (found, asked) == ({"a": "A", "b": "B"}, ["b", "c"])


def test_a_copy_lacks_what_it_is_to_lack_and_goes_its_own_way(recent):
    for key in "abc":
        made(recent, key, "xxx")
    copy = recent.without(["a", "z"])
    assert [made(copy, "a", "yyy"), made(recent, "a", "xxx"), made(copy, "b", "xxx")] == [True, False, False]
    assert [made(copy, "d", "xxxx"), made(recent, "c", "xxx")] == [True, False]


def test_threads_leave_no_more_than_the_bound(recent):
    def use(start):
        for number in range(start, start + 3000):
            recent.get(number % 7, lambda key: "x" * (1 + key % 4))
            recent.get_all([number % 5, number % 3], lambda keys: dict.fromkeys(keys, "xx"))

    threads = [threading.Thread(target=use, args=(start,)) for start in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    kept = recent.get_all(range(7), lambda _: {})
    assert 0 < sum(map(len, kept.values())) <= 10
