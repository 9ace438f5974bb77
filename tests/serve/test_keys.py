"""Where keys come from: options, files, the environment; and what is no key."""

from pathlib import Path

import pytest

from llava.cluster.secret import CLUSTER_SECRET, cluster_headers
from llava.errors import UserError
from llava.serve.security import Keys, Right, cluster_keys

CLIENTS = Keys([("client-key-1", Right.INFERENCE)])


def test_keys_come_from_options_files_and_the_environment(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    (tmp_path / "keys").write_text("file-key-1\n\nadmin:file-key-2\n", encoding="utf-8")
    (tmp_path / "admins").write_text("file-key-3\nadmin:file-key-4\n", encoding="utf-8")
    monkeypatch.setenv("KEYS", f"from-env-1, admin:from-env-2 ,@{tmp_path}/keys,,admin:@{tmp_path}/admins")
    keys = Keys.read(["option-key"], "KEYS")
    assert {keys.right(key) for key in (b"file-key-3", b"file-key-4")} == {Right.ADMIN}
    rights = {key: keys.right(key.encode()) for key in ("option-key", "from-env-1", "from-env-2", "file-key-1", "file-key-2", "", "KEYS")}
    inference, admin = Right.INFERENCE, Right.ADMIN
    assert list(rights.values()) == [inference, inference, admin, inference, admin, None, None]
    assert not Keys.read([], "NO_SUCH_VARIABLE")


@pytest.mark.parametrize("given", ["@{}", "admin:@{}", " ", ",", ""])
def test_a_key_that_is_given_and_empty_does_not_open_the_door(given: str, monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    (tmp_path / "keys").write_text("\n \n", encoding="utf-8")
    given = given.format(tmp_path / "keys")
    with pytest.raises(UserError, match="key"):
        Keys.read([given], "NO_SUCH_VARIABLE")
    monkeypatch.setenv(CLUSTER_SECRET, given)
    if given:
        for read in (cluster_keys, cluster_headers):
            with pytest.raises(UserError, match="holds no key"):
                read()
    else:  # as good as not set
        assert not cluster_keys()
        assert cluster_headers() == {}


@pytest.mark.parametrize("key", ["short", "has a space", "schlüssel-1", "admin:short", "@/no/such/file"])
def test_what_is_no_key_is_refused_without_being_repeated(key: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv(CLUSTER_SECRET, key)
    for read in (lambda: Keys.read([key], "X"), cluster_headers):
        with pytest.raises(UserError) as caught:
            read()
        assert key.removeprefix("@") not in str(caught.value) or key.startswith("@")


def test_the_cluster_secret_is_an_admin_key_and_travels_as_a_bearer(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    assert not cluster_keys()
    assert cluster_headers() == {}
    (tmp_path / "secret").write_text("cluster-secret\n", encoding="utf-8")
    for value in ("cluster-secret", f"@{tmp_path}/secret", "cluster-secret,older-secret"):
        monkeypatch.setenv(CLUSTER_SECRET, value)
        assert cluster_headers() == {"authorization": "Bearer cluster-secret"}
        assert cluster_keys().right(b"cluster-secret") is Right.ADMIN
    assert cluster_keys(CLIENTS).right(b"client-key-1") is Right.INFERENCE
    assert CLIENTS.right(b"cluster-secret") is None
    with pytest.raises(UserError, match="a secret of its own"):
        cluster_keys(Keys([("cluster-secret", Right.INFERENCE)]))
