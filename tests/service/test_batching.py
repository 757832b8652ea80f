import asyncio
import threading
import time
from collections.abc import Coroutine, Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any, TypeVar

import numpy as np
import pytest
from safetensors.numpy import load_file, save_file

from retriever.encoder import Encoder
from retriever.errors import InvalidRequest, ModelUnavailable, PolyseekError, UnsupportedModality
from retriever.pictures import open_picture
from retriever.towers import Prepared, Role
from service.batching import Batchers, Vector
from service.problems import Overloaded, TimedOut
from service.telemetry import Metrics
from tests.models import MAX_TOKENS, tiny_text_model, two_tower_model
from tests.service.conftest import png
from tests.service.held import Held

T = TypeVar("T")
TEXTS = ["a", "Wie öffne ich eine Datei?", "雨が降っている", "def f(x): return x", "one two " * 40, " ", "a"]
PROMPTS = {"query": "q: ", "document": "d: "}


@pytest.fixture(scope="module", autouse=True)
def _cache(tmp_path_factory):
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("POLYSEEK_CACHE", str(tmp_path_factory.mktemp("cache")))
        yield


@pytest.fixture(scope="module")
def tiny_folder(tmp_path_factory) -> Path:
    return tiny_text_model(tmp_path_factory.mktemp("models") / "tiny", prompts=PROMPTS)


@pytest.fixture(scope="module")
def poisoned_folder(tmp_path_factory) -> Path:
    """A model that gives no finite vector for a text with a 7 in it."""
    folder = tiny_text_model(tmp_path_factory.mktemp("models") / "poisoned", seed=3)
    weights = load_file(folder / "model.safetensors")
    [name] = [name for name in weights if name.endswith("word_embeddings.weight")]
    vocabulary = Encoder.load(folder)._parts.loaded().tokenizer.get_vocab()
    weights[name][[vocabulary["7"], vocabulary["##7"]]] = np.nan
    save_file(weights, folder / "model.safetensors", {"format": "pt"})
    return folder


@pytest.fixture
def metrics() -> Metrics:
    return Metrics()


@contextmanager
def batching(metrics: Metrics, *, queue: int = 100, cache: int = 0) -> Iterator[Batchers]:
    batchers = Batchers(metrics, queue=queue, cache=cache)
    try:
        yield batchers
    finally:
        batchers.close()


def run(work: Coroutine[Any, Any, T]) -> T:
    return asyncio.run(work)


def soon() -> float:
    return time.monotonic() + 60


def sample(metrics: Metrics, name: str, **labels: str) -> float:
    return metrics.registry.get_sample_value(f"polyseek_{name}", labels) or 0.0


async def waiting(batchers: Batchers, encoder: Held, texts: Sequence[str], deadline: float | None = None):
    """A task for these queries, which wait behind a pass that is held."""
    task = asyncio.create_task(batchers.encode(encoder, texts, "query", deadline or soon()))
    await asyncio.sleep(0)  # it queues them before it first waits
    return task


async def held(batchers: Batchers, encoder: Held) -> asyncio.Task[list[Vector | PolyseekError]]:
    """A task whose pass is held: the encoder is busy."""
    encoder.hold()
    task = asyncio.create_task(batchers.encode(encoder, ["first"], "query", soon()))
    await asyncio.to_thread(encoder.entered.acquire)
    return task


def vectors(answers: Sequence[Vector | PolyseekError]) -> np.ndarray:
    return np.stack([answer.vector for answer in answers if isinstance(answer, Vector)])


def assert_same_vectors(found: np.ndarray, expected: np.ndarray) -> None:
    assert found.shape == expected.shape
    cosines = (found * expected).sum(axis=1) / (np.linalg.norm(found, axis=1) * np.linalg.norm(expected, axis=1))
    assert cosines.min() >= 0.99999


@pytest.fixture(params=["multilingual", "converted", "torch"])
def encoder(request, tiny_folder, monkeypatch) -> Held:
    if request.param == "multilingual":
        return Held.load("multilingual")
    if request.param == "torch":
        monkeypatch.setattr("retriever.backends.available", lambda: False)
    return Held.load(tiny_folder)


def test_a_batched_vector_equals_the_single_one(metrics, encoder):
    async def all_at_once(batchers: Batchers):
        first = await held(batchers, encoder)
        singles = [await waiting(batchers, encoder, [text]) for text in TEXTS]
        documents = asyncio.create_task(batchers.encode(encoder, TEXTS, "document", soon()))
        encoder.release()
        await first
        return [one for task in singles for one in await task], await documents

    with batching(metrics) as batchers:
        queries, documents = run(all_at_once(batchers))
    assert encoder.passes == [1, len(TEXTS), len(TEXTS)], "queries in one batch, documents in another"
    expected = [encoder.encode_queries([text]) for text in TEXTS]
    assert_same_vectors(vectors(queries), np.concatenate([one.vectors for one in expected]))
    assert [one.truncated for one in queries] == [bool(one.truncated[0]) for one in expected]
    assert_same_vectors(vectors(documents), encoder.encode_documents(TEXTS).vectors)


def test_what_arrives_while_a_batch_is_encoded_is_the_next_batch(metrics):
    encoder = Held.load("multilingual")

    async def arriving(batchers: Batchers):
        first = await held(batchers, encoder)
        tasks = [await waiting(batchers, encoder, [f"text {number}", "and"]) for number in range(5)]
        assert sample(metrics, "queue_length") == 10
        encoder.release()
        return [await task for task in (first, *tasks)]

    with batching(metrics) as batchers:
        answers = run(arriving(batchers))
    assert encoder.passes == [1, 10]
    assert (sample(metrics, "batch_texts_count"), sample(metrics, "batch_texts_sum")) == (2, 11)
    assert sample(metrics, "queue_length") == 0
    waited = [one for answer in answers[1:] for one in answer]
    assert all(one.queue_ms > 0 and one.encode_ms > 0 and one.tokens > 0 for one in waited)


def test_a_batch_is_filled_to_its_tokens_and_what_is_left_is_not_tokenised_again(metrics, tiny_folder):
    encoder = Held.load(tiny_folder)
    texts = [f"{number:02d}" + "x" * 60 for number in range(encoder.batch_tokens // MAX_TOKENS * 2 + 1)]

    async def queued(batchers: Batchers):
        first = await held(batchers, encoder)
        tasks = [await waiting(batchers, encoder, [text]) for text in texts]
        encoder.release()
        await first
        return [one for task in tasks for one in await task]

    with batching(metrics) as batchers:
        answers = run(queued(batchers))
    full = encoder.batch_tokens // MAX_TOKENS
    assert encoder.passes == [1, full, full, 1]
    assert encoder.tokenised == ["first", *texts]
    assert {(one.tokens, one.truncated) for one in answers} == {(MAX_TOKENS, True)}


def test_a_text_above_the_tokens_of_a_batch_is_encoded_alone(metrics):
    class Small(Held):
        batch_tokens = 30

    encoder = Small.load("multilingual")
    texts = ["short", "long " * 100, "short again"]
    with batching(metrics) as batchers:
        answers = run(batchers.encode(encoder, texts, "query", soon()))
    assert encoder.passes == [1, 1, 1]
    assert_same_vectors(vectors(answers), encoder.encode_queries(texts).vectors)


def test_what_comes_on_top_of_a_full_queue_is_refused_at_once_and_the_rest_is_served(metrics):
    encoder = Held.load("multilingual")

    async def flooded(batchers: Batchers):
        first = await held(batchers, encoder)
        tasks = [await waiting(batchers, encoder, ["one", "two"]), await waiting(batchers, encoder, ["three"])]
        with pytest.raises(Overloaded) as refused:
            await batchers.encode(encoder, ["four"], "document", soon())
        assert refused.value.retry_after >= 1
        encoder.release()
        served = [await task for task in (first, *tasks)]
        return served, await batchers.encode(encoder, ["four"], "query", soon())

    with batching(metrics, queue=3) as batchers:
        served, after = run(flooded(batchers))
    assert [len(vectors(answers)) for answers in served] == [1, 2, 1]
    assert len(vectors(after)) == 1
    assert sample(metrics, "dropped_total", reason="full") == 1


def test_a_call_longer_than_the_queue_is_served_where_nothing_waits(metrics):
    with batching(metrics, queue=2) as batchers:
        answers = run(batchers.encode(Encoder.load("multilingual"), ["a", "b", "c", "d"], "query", soon()))
    assert len(vectors(answers)) == 4


def test_what_is_late_is_answered_at_its_deadline_and_never_encoded(metrics):
    encoder = Held.load("multilingual")

    async def late(batchers: Batchers):
        first = await held(batchers, encoder)
        answers = await batchers.encode(encoder, ["too", "late"], "query", time.monotonic() + 0.05)
        assert not first.done(), "the encoder is still busy"
        encoder.release()
        await first
        await batchers.encode(encoder, ["next"], "query", soon())
        return answers

    with batching(metrics) as batchers:
        answers = run(late(batchers))
    assert [type(answer) for answer in answers] == [TimedOut, TimedOut]
    assert encoder.passes == [1, 1]
    assert encoder.tokenised == ["first", "next"]
    assert sample(metrics, "dropped_total", reason="timed_out") == 2


def test_what_its_caller_gave_up_is_never_encoded(metrics):
    encoder = Held.load("multilingual")

    async def abandoned(batchers: Batchers):
        first = await held(batchers, encoder)
        task = await waiting(batchers, encoder, ["given", "up"])
        task.cancel()
        await asyncio.wait([task])
        encoder.release()
        await first
        await batchers.encode(encoder, ["next"], "query", soon())

    with batching(metrics) as batchers:
        run(abandoned(batchers))
    assert encoder.tokenised == ["first", "next"]
    assert sample(metrics, "dropped_total", reason="client_gone") == 2


class Panic(BaseException):
    """What an extension raises that panics."""


class Fragile(Held):
    """An encoder that fails at some texts, with errors that nobody foresaw."""

    def prepare(self, texts: Sequence[str], role: Role) -> list[Prepared]:
        if any("untokenisable" in text for text in texts):
            raise Panic("index out of bounds")
        return super().prepare(texts, role)

    def encode_prepared(self, prepared: Sequence[Prepared], role: Role) -> Any:
        if any(one.length > 60 for one in prepared):
            raise RuntimeError("illegal memory access")
        return super().encode_prepared(prepared, role)


def test_one_bad_text_fails_alone_and_the_thread_goes_on(metrics, caplog):
    encoder = Fragile.load("multilingual")
    texts = ["good", "untokenisable", "also good", "long " * 80, "lone \ud800", "good too", "good"]
    with batching(metrics) as batchers:

        async def twice():
            return [await batchers.encode(encoder, texts, "query", soon()) for _ in range(2)]

        for answers in run(twice()):
            assert [type(answer) for answer in answers] == [
                Vector,
                PolyseekError,
                Vector,
                PolyseekError,
                InvalidRequest,
                Vector,
                Vector,
            ]
            assert {str(answers[place]) for place in (1, 3)} == {"something unforeseen went wrong"}
            good = [text for text, answer in zip(texts, answers, strict=True) if isinstance(answer, Vector)]
            assert_same_vectors(vectors(answers), encoder.encode_queries(good).vectors)
    assert "illegal memory access" in caplog.text
    assert "index out of bounds" in caplog.text


def test_a_vector_that_is_not_finite_is_an_error_of_its_text_alone(metrics, poisoned_folder):
    encoder = Encoder.load(poisoned_folder)
    texts = ["good", "bad 7", "good too", "7", "good", "fine"]
    with batching(metrics) as batchers:
        answers = run(batchers.encode(encoder, texts, "document", soon()))
    assert [type(answer) for answer in answers] == [Vector, ModelUnavailable, Vector, ModelUnavailable, Vector, Vector]
    assert_same_vectors(vectors(answers), encoder.encode_documents(["good", "good too", "good", "fine"]).vectors)


def test_a_query_that_was_encoded_lately_is_known(metrics, tiny_folder):
    encoder = Held.load(tiny_folder)
    other = Held.load("multilingual")
    with batching(metrics, cache=2) as batchers:

        async def asking():
            first = await batchers.encode(encoder, ["a", "x" * 100], "query", soon())
            again = await batchers.encode(encoder, ["x" * 100, "a", "b"], "query", soon())
            await batchers.encode(encoder, ["a"], "document", soon())
            await batchers.encode(other, ["a"], "query", soon())
            return first, again

        first, again = run(asking())
        assert_same_vectors(vectors(again[:2]), vectors(first)[::-1])
        assert [(one.truncated, one.encode_ms, one.queue_ms) for one in again[:2]] == [(True, 0, 0), (False, 0, 0)]
        assert encoder.tokenised == ["a", "x" * 100, "b", "a"]
        assert batchers.known(encoder.fingerprint, "b") is not None
        assert batchers.known(encoder.fingerprint, "x" * 100) is None, "two are kept"
    assert sample(metrics, "query_cache_total", outcome="miss") == 4
    assert sample(metrics, "query_cache_total", outcome="hit") == 3


def test_pictures_are_encoded_in_batches_and_a_bad_one_fails_before_any(metrics, tmp_path):
    encoder = Encoder.load(two_tower_model(tmp_path / "towers"))
    pictures = [png(color) for color in ("red", "blue", "green")]
    with batching(metrics) as batchers:
        with pytest.raises(InvalidRequest, match="unreadable picture"):
            run(batchers.encode_picture(encoder, png()[:200], soon()))
        assert sample(metrics, "batch_texts_count") == 0

        async def together():
            return await asyncio.gather(*(batchers.encode_picture(encoder, one, soon()) for one in pictures))

        answers = run(together())
        assert sample(metrics, "batch_texts_sum") == 3
        with pytest.raises(UnsupportedModality):
            run(batchers.encode_picture(Encoder.load("multilingual"), png(), soon()))
    expected = encoder.encode_images([open_picture(one) for one in pictures])
    assert_same_vectors(vectors(answers), expected)


def test_a_picture_that_is_late_says_so(metrics, tmp_path):
    encoder = Encoder.load(two_tower_model(tmp_path / "towers"))
    with batching(metrics) as batchers, pytest.raises(TimedOut):
        run(batchers.encode_picture(encoder, png(), time.monotonic()))


def test_closing_ends_the_threads(metrics):
    encoder, others = Encoder.load("multilingual"), threading.enumerate()
    with batching(metrics) as batchers:
        run(batchers.encode(encoder, ["a"], "query", soon()))
        # A service of another test may have a thread of the same name.
        [mine] = [one for one in threading.enumerate() if one.name == "batches of multilingual" and one not in others]
    assert not mine.is_alive()
