import pytest

from tests.models import tiny_text_model, two_tower_model


@pytest.fixture(scope="session")
def model(tmp_path_factory):
    """The folder of a text encoder of 32 dimensions that tells letters apart."""
    return tiny_text_model(tmp_path_factory.mktemp("eval-text") / "tiny")


@pytest.fixture(scope="session")
def towers(tmp_path_factory):
    """The folder of an encoder of texts and pictures."""
    return two_tower_model(tmp_path_factory.mktemp("eval-towers") / "towers")


@pytest.fixture(scope="session")
def converted(tmp_path_factory):
    """Where encoders are converted to, once."""
    return tmp_path_factory.mktemp("eval-converted")


@pytest.fixture
def cache(converted, tmp_path, monkeypatch):
    """A cache of the test's own, but for the converted encoders."""
    folder = tmp_path / "cache"
    folder.mkdir()
    (folder / "openvino").symlink_to(converted)
    monkeypatch.setenv("POLYSEEK_CACHE", str(folder))
    return folder
