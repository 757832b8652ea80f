"""To another encoder: nothing is lost, writes and searches go on, and the name is switched in one step."""

import contextlib
import io
import random
import threading

import numpy as np
import pytest
from PIL import Image

from retriever import Document, Root, SearchRequest
from retriever.build import BuildOptions, build, only_build
from retriever.errors import CollectionBusy, CollectionReplaced, InvalidRequest
from retriever.migrate import migrate
from retriever.store import FILE_NAME, Store
from tests.models import tiny_text_model, two_tower_model
from tests.retriever.conftest import document
from tests.retriever.oracle import WORDS


@pytest.fixture(scope="module")
def models(tmp_path_factory):
    folder = tmp_path_factory.mktemp("models")
    return {
        "one": str(tiny_text_model(folder / "one", seed=1)),
        "two": str(tiny_text_model(folder / "two", seed=2)),
        "towers": str(two_tower_model(folder / "towers", seed=3)),
    }


@pytest.fixture(scope="module")
def encoders(models, tmp_path_factory):
    """A root whose encoders the tests share: loading one takes longer than a migration."""
    root = Root(tmp_path_factory.mktemp("encoders"))
    return {name: root.load_encoder(path) for name, path in models.items()}


@pytest.fixture
def root(tmp_path, models, encoders, monkeypatch):
    root = Root(tmp_path / "root")
    by_path = {models[name]: encoder for name, encoder in encoders.items()}
    monkeypatch.setattr(root, "load_encoder", by_path.__getitem__)
    root.path.mkdir()
    return root


def texts(count, start=0):
    return [
        Document(
            id=f"d{number}",
            title=f"title {number % 7}",
            text=f"{WORDS[number % len(WORDS)]} {WORDS[number % 3]} number{number}",
            language=None if number % 4 else "de",
            metadata={"year": 2000 + number % 20, "tags": ("a", f"t{number % 3}")},
        )
        for number in range(start, start + count)
    ]


def png(color):
    buffer = io.BytesIO()
    Image.new("RGB", (40, 40), color).save(buffer, "PNG")
    return buffer.getvalue()


def stored(collection):
    return [collection.get(identifier) for identifier in collection.ids()]


def answers(collection):
    requests = [SearchRequest(text=word, mode=mode, k=30) for word in WORDS for mode in ("dense", "lexical", "hybrid")]
    return [[(hit.id, hit.score) for hit in result.hits] for result in collection.search_many(requests)]


def test_a_migrated_collection_is_the_one_that_the_other_encoder_would_have_built(root, models):
    for name in ("c", "built"):
        with root.create(
            name, encoder=root.load_encoder(models["one" if name == "c" else "two"]), language="en"
        ) as made:
            made.upsert(texts(700))
            made.delete(["d3", "d5"])
            made.upsert([Document(id="d8", text="changed")])
            generation = made.generation
    summary = migrate(root, "c", models["two"])
    assert (summary.total, summary.copied, summary.documents) == (698, 698, 698)
    assert [path.name for path in root.path.iterdir() if path.is_dir()].count("c") == 1
    assert {path.name for path in root.path.iterdir()} == {"c", "built"}
    with root.open("c") as collection, root.open("built") as built:
        assert collection.settings == built.settings
        assert stored(collection) == stored(built)
        built.optimize()
        assert answers(collection) == answers(built)
        assert collection.verify().ok
        assert collection.generation > generation
        # What is put again as it was is recognised.
        assert collection.upsert(texts(100, start=100)).unchanged == 100


def test_settings_aliases_and_languages_are_kept(root, models):
    with root.create("c", encoder=root.load_encoder(models["one"]), recall=0.9, passages="none", kind="flat") as made:
        made.upsert(texts(20))
        before = stored(made)
    root.set_alias("live", "c")
    migrate(root, "live", models["two"])
    assert root.aliases() == {"live": "c"}
    with root.open("live") as collection:
        settings = collection.settings
        assert (settings.recall, settings.passages, settings.kind) == (0.9, "none", "flat")
        assert settings.fingerprint == root.load_encoder(models["two"]).fingerprint
        assert stored(collection) == before
        assert [document.identified for document in before[:5]] == [False, True, True, True, False]


def test_a_collection_of_ready_made_vectors_gets_an_encoder_and_its_texts_are_encoded(root, models):
    with root.create("c", encoder=None) as made:
        made.upsert([document("a", text="kivo"), document("b", text="trelk", vector=(0.0, 1.0, 0.0))])
    migrate(root, "c", models["one"])
    with root.open("c") as collection:
        assert collection.info().dimension == 32
        assert collection.search("kivo", mode="dense").hits[0].id == "a"


def test_what_the_encoder_cannot_encode_stops_the_migration_and_loses_nothing(root, models):
    with root.create("c", encoder=None) as made:
        made.upsert([document("a"), document("bare", text=""), document("b", vector=(0.0, 1.0, 0.0))])
    with pytest.raises(InvalidRequest, match=r"1 documents of c hold nothing that .* can encode.*: bare"):
        migrate(root, "c", models["one"])
    with root.open("c") as collection:
        assert collection.count() == 3
        assert collection.search(SearchRequest(vector=[0.0, 1.0, 0.0])).hits[0].id == "b"
        collection.delete(["bare"])
    summary = migrate(root, "c", models["one"])
    assert (summary.copied, summary.documents) == (0, 2)


def test_pictures_are_seen_by_an_encoder_with_a_tower_for_them_and_kept_under_one_without(root, models, tmp_path):
    (tmp_path / "photos").mkdir()
    (tmp_path / "photos" / "blue.png").write_bytes(png("blue"))
    (tmp_path / "photos" / "captions.jsonl").write_text('{"image": "blue.png", "captions": {"en": "a blue square"}}\n')
    build(root, "c", [tmp_path / "photos"], BuildOptions(encoder=models["one"]))
    with root.open("c") as collection:
        collection.upsert([Document(id="red", text="a red square", picture=png("red"))])
    summary = migrate(root, "c", models["towers"])
    assert (summary.pictures_unsearched, summary.pictures_from_thumbnails) == (0, 1)
    with root.open("c") as collection:
        assert collection.search(SearchRequest(image=png("red"))).hits[0].id == "red"
        assert collection.picture("red") == (png("red"), "image/png")
        again = build(root, "c", [tmp_path / "photos"])
        assert again.unchanged == 1
    summary = migrate(root, "c", models["two"])
    assert summary.pictures_unsearched == 2
    with root.open("c") as collection:
        assert collection.picture("red") == (png("red"), "image/png")
        assert collection.get("blue.png").has_picture
        assert {hit.id for hit in collection.search("square").hits} == {"red", "blue.png"}
        assert collection.verify().ok


def test_what_is_written_meanwhile_is_in_the_new_collection(root, models):
    with root.create("c", encoder=root.load_encoder(models["one"])) as made:
        made.upsert(texts(900))
    seen = []

    def write(summary):
        # By a writer of its own, in the middle of the first round; in the last one writers have to wait.
        if summary.copied > 900:
            return
        seen.append(summary.copied)
        with root.open("c") as collection:
            number = 5000 + len(seen)
            collection.upsert([Document(id=f"d{number}", text="kivo late"), Document(id="d10", text=f"v{len(seen)}")])
            collection.delete([f"d{100 + len(seen)}"])

    migrate(root, "c", models["two"], progress=write)
    wrote = len(seen)
    assert wrote >= 3
    with root.open("c") as collection:
        ids = set(collection.ids())
        assert ids == {f"d{n}" for n in range(900)} - {f"d{100 + n}" for n in range(1, wrote + 1)} | {
            f"d{5000 + n}" for n in range(1, wrote + 1)
        }
        assert collection.get("d10").text == f"v{wrote}"
        assert collection.verify().ok


def test_searches_and_writes_of_other_threads_never_fail_but_to_be_opened_again(root, models):
    with root.create("c", encoder=root.load_encoder(models["one"])) as made:
        made.upsert(texts(600))
    stop, failures, written, reopened = threading.Event(), [], [], []

    def work(number):
        collection = root.open("c")
        rng = random.Random(number)
        while not stop.is_set():
            try:
                if number == 0:
                    identifier = f"w{len(written)}"
                    collection.upsert([Document(id=identifier, text=f"kivo {identifier}")])
                    written.append(identifier)
                else:
                    mode = rng.choice(["dense", "lexical", "hybrid"])
                    assert collection.search(rng.choice(WORDS), mode=mode).hits
            except CollectionReplaced:
                reopened.append(number)
                collection.close()
                collection = root.open("c")
            except Exception as error:
                failures.append(error)
                return
        collection.close()

    threads = [threading.Thread(target=work, args=(number,)) for number in range(3)]
    for thread in threads:
        thread.start()
    try:
        for encoder in ("two", "one", "two"):
            migrate(root, "c", models[encoder])
    finally:
        stop.set()
        for thread in threads:
            thread.join()
    assert failures == []
    assert set(reopened) == {0, 1, 2}
    with root.open("c") as collection:
        assert set(written) <= set(collection.ids())
        assert collection.verify().ok
        assert collection.settings.fingerprint == root.load_encoder(models["two"]).fingerprint


def test_a_run_that_was_stopped_is_gone_on_with_and_nothing_is_encoded_twice(root, models):
    with root.create("c", encoder=root.load_encoder(models["one"])) as made:
        made.upsert(texts(1000))

    class Stopped(Exception):
        pass

    def stop(summary):
        if summary.copied >= 512:
            raise Stopped

    with pytest.raises(Stopped):
        migrate(root, "c", models["two"], progress=stop)
    with root.open("c") as collection:
        assert collection.settings.encoder == models["one"]
        collection.upsert([Document(id="d0", text="changed meanwhile")])
        collection.delete(["d1", "d999"])
        assert collection.search("kivo", mode="dense").hits
    summary = migrate(root, "c", models["two"])
    # 488 that were missing less one deleted, and the one that changed; the other deleted one was there already.
    assert (summary.copied, summary.removed, summary.documents) == (488, 1, 998)
    with root.open("c") as collection:
        assert collection.get("d0").text == "changed meanwhile"


def test_a_stopped_migration_to_one_encoder_is_not_gone_on_with_to_another(root, models):
    with root.create("c", encoder=root.load_encoder(models["one"])) as made:
        made.upsert(texts(300))

    def stop(summary):
        raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        migrate(root, "c", models["two"], progress=stop)
    assert migrate(root, "c", models["towers"]).copied == 300
    assert {path.name for path in root.path.iterdir()} == {"c"}


def test_migrating_to_the_encoder_that_it_has_changes_nothing(root, models):
    with root.create("c", encoder=root.load_encoder(models["one"])) as made:
        made.upsert(texts(5))
        identity = made.identity
    summary = migrate(root, "c", models["one"])
    assert (summary.copied, summary.documents) == (0, 5)
    with root.open("c") as collection:
        assert collection.identity == identity


def test_one_process_migrates_or_builds_at_a_time(root, models, tmp_path):
    with root.create("c", encoder=root.load_encoder(models["one"])) as made:
        made.upsert(texts(5))
    (tmp_path / "more.jsonl").write_text('{"id": "x", "text": "y"}\n')

    def meanwhile(summary):
        with pytest.raises(CollectionBusy, match=r"process \d+ is building or migrating c"):
            build(root, "c", [tmp_path / "more.jsonl"])
        with pytest.raises(CollectionBusy, match=r"process \d+ is building or migrating c"):
            migrate(root, "c", models["towers"])

    migrate(root, "c", models["two"], progress=meanwhile)
    with only_build(root.path / "c"), pytest.raises(CollectionBusy):
        migrate(root, "c", models["one"])


def test_both_collections_are_compared_on_queries_before_the_switch(root, models):
    with root.create("c", encoder=root.load_encoder(models["one"])) as made:
        made.upsert(texts(60))
    comparison = migrate(root, "c", models["two"], queries=["kivo", "trelk number7", "nothing"]).comparison
    assert comparison.queries == 3
    assert set(comparison.overlap) == {"dense", "hybrid"}
    assert all(0 <= share <= 1 for share in (*comparison.overlap.values(), *comparison.same_first.values()))
    assert (comparison.old.encoder, comparison.new.encoder) == (models["one"], models["two"])
    assert comparison.old.milliseconds > 0
    assert comparison.new.bytes > 0


def test_queries_cannot_be_compared_without_an_old_encoder(root, models):
    with root.create("c", encoder=None) as made:
        made.upsert([document("a")])
    with pytest.raises(InvalidRequest, match="has no encoder whose answers could be compared"):
        migrate(root, "c", models["one"], queries=["kivo"])
    with pytest.raises(InvalidRequest, match="needs an encoder"):
        migrate(root, "c", "none")


def test_stored_queries_are_encoded_anew_and_those_without_a_text_are_dropped(root, models):
    encoder = root.load_encoder(models["one"])
    with root.create("c", encoder=encoder) as made:
        made.upsert(texts(30))
    with contextlib.closing(Store.open(root.path / "c" / FILE_NAME)) as store, store.writing() as writer:
        writer.set_queries(["kivo", None, "trelk"], np.eye(3, 32, dtype=np.float32))
    summary = migrate(root, "c", models["two"])
    assert summary.queries_dropped == 1
    with contextlib.closing(Store.open(root.path / "c" / FILE_NAME)) as store, store.reading() as reader:
        stored_texts, vectors = reader.queries()
        assert stored_texts == ["kivo", "trelk"]
        expected = root.load_encoder(models["two"]).encode_queries(["kivo", "trelk"]).vectors
        np.testing.assert_array_equal(vectors, expected)


def test_dropping_a_collection_takes_what_a_stopped_migration_left_with_it(root, models):
    with root.create("c", encoder=root.load_encoder(models["one"])) as made:
        made.upsert(texts(5))

    def stop(summary):
        raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        migrate(root, "c", models["two"], progress=stop)
    assert (root.path / ".c.migrating").exists()
    assert root.names() == ["c"]
    root.drop("c")
    assert [path.name for path in root.path.iterdir() if path.is_dir()] == []
