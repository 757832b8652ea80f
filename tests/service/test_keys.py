"""Keys: made, listed and revoked on the command line, in force in a running service at once."""

import hashlib
import json
import os
import re
import stat
import threading
from collections.abc import Iterator
from pathlib import Path

import httpx
import pytest

from retriever import cli
from retriever.errors import InvalidRequest, InvalidSettings, StorageFailed
from retriever.root import Root
from service.app import create_app
from service.keys import FILE_NAME, new_key, read_keys, revoke_key
from service.settings import Settings
from tests.service.conftest import ready, serving


@pytest.fixture
def polyseek(tmp_path: Path, capfd, monkeypatch):
    """Run `polyseek keys` over `tmp_path`: status, standard output, standard error."""
    monkeypatch.setenv("POLYSEEK_ROOT", str(tmp_path))

    def run(*arguments: str) -> tuple[int, str, str]:
        status = cli.run(["keys", *arguments])
        out, err = capfd.readouterr()
        return status, out, err

    return run


@pytest.fixture
def client(root: Root) -> Iterator[httpx.Client]:
    with serving(Settings(root=root.path)) as client:
        yield client


def asks(client: httpx.Client, key: str | None = None) -> int:
    """The status of a request that reads, with this key."""
    headers = {} if key is None else {"Authorization": f"Bearer {key}".encode()}
    return client.get("/v1/collections", headers=headers).status_code


# -- the command


def test_a_new_key_is_printed_once_and_only_its_digest_is_kept(polyseek, tmp_path: Path):
    status, out, err = polyseek("new", "--name", "shop")
    assert status == 0
    key = out.strip()
    assert re.fullmatch(r"psk_[0-9a-f]{8}_[\w-]{43}", key)
    assert "isn't shown again" in err
    kept = (tmp_path / FILE_NAME).read_text()
    assert key.rpartition("_")[2] not in kept
    assert hashlib.sha256(key.encode()).hexdigest() in kept
    assert stat.S_IMODE((tmp_path / FILE_NAME).stat().st_mode) == 0o600


def test_the_list_has_every_key_without_its_secret(polyseek):
    keys = [polyseek("new", "--scope", "read", "--name", "shop")[1].strip(), polyseek("new")[1].strip()]
    listed = [json.loads(line) for line in polyseek("list", "--json")[1].splitlines()]
    assert [each["id"] for each in listed] == [key.split("_")[1] for key in keys]
    assert [(each["name"], each["scopes"]) for each in listed] == [("shop", ["read"]), ("", ["read", "write"])]
    assert all(each.keys() == {"id", "name", "scopes", "created"} for each in listed)
    assert "shop" in polyseek("list")[1]


def test_a_revoked_key_is_gone_and_revoking_it_again_is_an_error(polyseek):
    identifier = polyseek("new")[1].split("_")[1]
    assert polyseek("revoke", identifier)[0] == 0
    assert polyseek("list", "--json")[1] == ""
    status, _, err = polyseek("revoke", identifier)
    assert status == 1
    assert re.fullmatch(rf"error: there is no key '{identifier}' .*\nhint: polyseek keys list .*\n", err)


def test_an_unknown_scope_is_wrong_usage(polyseek):
    status, _, err = polyseek("new", "--scope", "admin")
    assert status == 2
    assert "read, write" in err


def test_a_folder_without_keys_is_neither_made_nor_changed_by_looking(tmp_path: Path):
    assert read_keys(tmp_path / "absent") == {}
    with pytest.raises(InvalidRequest, match="no key"):
        revoke_key(tmp_path / "absent", "00000000")
    assert list(tmp_path.iterdir()) == []


def test_keys_made_at_the_same_time_are_all_kept(tmp_path: Path):
    threads = [threading.Thread(target=new_key, args=(tmp_path, f"{i}", ["read"])) for i in range(8)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert {key.name for key in read_keys(tmp_path).values()} == {f"{i}" for i in range(8)}


# -- in the service


def test_a_key_made_or_revoked_beside_a_running_service_counts_at_the_next_request(root: Root):
    first, text = new_key(root.path, "first", ["read"])
    with serving(Settings(root=root.path)) as client:
        assert [asks(client), asks(client, text)] == [401, 200]
        _, other = new_key(root.path, "other", ["read"])
        assert [asks(client, text), asks(client, other)] == [200, 200]
        revoke_key(root.path, first.id)
        assert [asks(client, text), asks(client, other)] == [401, 200]


def test_a_key_is_refused_with_another_secret_another_id_or_cut(root: Root):
    _, text = new_key(root.path, "", ["read"])
    other, _ = new_key(root.path, "", ["read"])
    wrong = [
        text[:-1],
        text + "x",
        text.upper(),
        text.replace(text[4:12], other.id),
        "psk_",
        "psk__",
        "é",
        text[13:],
    ]
    with serving(Settings(root=root.path)) as client:
        assert {key: asks(client, key) for key in wrong} == dict.fromkeys(wrong, 401)
        assert asks(client, text) == 200


def test_on_loopback_the_first_key_turns_the_check_on_for_good(client: httpx.Client, root: Root):
    assert asks(client) == 200
    key, text = new_key(root.path, "", ["read"])
    assert [asks(client), asks(client, text)] == [401, 200]
    revoke_key(root.path, key.id)
    assert [asks(client), asks(client, text)] == [401, 401]
    (root.path / FILE_NAME).unlink()
    assert asks(client) == 401


def test_the_key_of_the_settings_has_both_scopes_beside_those_of_the_file(root: Root):
    _, text = new_key(root.path, "", ["read"])
    for api_key in ("s3cret", text):
        with serving(Settings(root=root.path, api_key=api_key)) as client:
            assert asks(client, text) == 200
            client.headers["Authorization"] = f"Bearer {api_key}"
            assert client.put("/v1/collections/axes/documents", json={"documents": []}).status_code == 200


def cut(path: Path) -> None:
    path.write_text(path.read_text()[:-20])


def link(path: Path) -> None:
    path.rename(path.with_name("elsewhere"))
    path.symlink_to("elsewhere")


def other_form(path: Path) -> None:
    path.write_text('{"keys": [{"id": "00000000", "scopes": ["everything"]}]}')


def folder(path: Path) -> None:
    path.unlink()
    path.mkdir()


def pipe(path: Path) -> None:
    path.unlink()
    os.mkfifo(path)


@pytest.mark.parametrize("damage", [cut, link, other_form, folder, pipe], ids=lambda each: each.__name__)
def test_a_damaged_file_opens_nothing_and_keeps_the_keys_read_last_until_it_is_mended(root: Root, damage):
    _, text = new_key(root.path, "", ["read"])
    path = root.path / FILE_NAME
    whole = path.read_bytes()
    with serving(Settings(root=root.path)) as client:
        damage(path)
        assert [asks(client), asks(client, text)] == [401, 200]
        said = ready(client).json()
        assert said["status"] == "degraded"
        assert FILE_NAME in said["degraded"][FILE_NAME]
        assert str(root.path) not in json.dumps(said)
        path.rmdir() if path.is_dir() else path.unlink()
        path.write_bytes(whole)
        assert [asks(client), asks(client, text)] == [401, 200]
        assert ready(client).json()["status"] == "ready"


def test_on_loopback_a_file_that_cannot_be_read_turns_the_check_on(client: httpx.Client, root: Root):
    assert asks(client) == 200
    (root.path / FILE_NAME).write_text("{")
    assert asks(client) == 401


@pytest.mark.parametrize("damage", [cut, link, other_form, folder, pipe], ids=lambda each: each.__name__)
def test_a_service_does_not_start_over_a_damaged_file_of_keys_and_the_command_leaves_it(root: Root, damage):
    new_key(root.path, "", ["read"])
    damage(root.path / FILE_NAME)
    with pytest.raises(StorageFailed, match=FILE_NAME):
        create_app(Settings(root=root.path))
    with pytest.raises(StorageFailed, match=FILE_NAME):
        new_key(root.path, "", ["read"])


def test_a_service_that_others_can_reach_starts_with_a_key_only(root: Root):
    with pytest.raises(InvalidSettings, match="no key") as error:
        create_app(Settings(root=root.path, host="0.0.0.0"))
    assert "polyseek keys new" in error.value.hint
    key, text = new_key(root.path, "", ["read"])
    with serving(Settings(root=root.path, host="0.0.0.0")) as client:
        assert [asks(client), asks(client, text)] == [401, 200]
        revoke_key(root.path, key.id)
        assert [asks(client), asks(client, text)] == [401, 401]
