"""A store wherever fsspec reaches: real servers of each kind, on the loopback interface."""

from __future__ import annotations

import os
from collections.abc import Iterator
from contextlib import ExitStack
from pathlib import Path

import asyncssh
import pytest
from s3fs import S3FileSystem

from tarpit_builder.errors import InfrastructureError, SourceError, UserError
from tarpit_builder.matrix.store import ResultStore
from tests.places import HOST, SshServer, bucket_server, ssh_server, webdav_server


@pytest.fixture
def host(home: Path) -> Iterator[SshServer]:
    """One to reach by ssh."""
    with ssh_server(home) as server:
        yield server


@pytest.fixture(params=["folder", "sftp", "webdav", "s3"])
def url(
    request: pytest.FixtureRequest, tmp_path: Path, home: Path, monkeypatch: pytest.MonkeyPatch
) -> Iterator[str]:
    """A place for a store, of each kind."""
    with ExitStack() as cleanup:
        match request.param:
            case "folder":
                yield str(tmp_path / "store")
            case "sftp":
                server = cleanup.enter_context(ssh_server(home))
                yield f"sftp://{HOST}:{server.port}{tmp_path}/store"
            case "webdav":
                (tmp_path / "served").mkdir()
                address = cleanup.enter_context(webdav_server(tmp_path / "served", "b", "secret"))
                (home / ".netrc").write_text(f"machine {HOST} login b password secret\n")
                (home / ".netrc").chmod(0o600)
                yield f"{address}/results/here"
            case "s3":
                monkeypatch.setenv("AWS_ENDPOINT_URL", cleanup.enter_context(bucket_server()))
                for name in ("AWS_ACCESS_KEY_ID", "AWS_SECRET_ACCESS_KEY"):
                    monkeypatch.setenv(name, "any")
                S3FileSystem.clear_instance_cache()  # which has another's address
                yield "s3://farm/results"


def test_a_store_gives_what_was_put_in_or_nothing(url: str, tmp_path: Path) -> None:
    store = ResultStore(url)
    file, out = tmp_path / "file", tmp_path / "out"
    file.write_bytes(os.urandom(3 << 20))
    digest = store.put(file)
    assert store.put(file) == digest
    other = ResultStore(url)
    other.get(digest, out)
    assert out.read_bytes() == file.read_bytes()
    assert store.entry("cell") is None
    store.enter("cell", {"log": "old"})
    store.enter("cell", {"log": digest})
    assert other.entry("cell") == {"log": digest}
    assert not store._files.find(f"{store._root}/arriving")
    with pytest.raises(InfrastructureError, match="has lost a file"):
        other.get("0" * 64, tmp_path / "none")
    assert not (tmp_path / "none").exists()


def test_what_is_forged_is_not_taken(url: str, tmp_path: Path) -> None:
    store = ResultStore(url)
    (tmp_path / "file").write_text("content")
    digest = store.put(tmp_path / "file")
    store.enter("cell", {"log": digest})
    store._files.pipe_file(store._blob(digest), b"forged!")
    store._files.pipe_file(store._entry("cell"), b'{"log": ')
    with pytest.raises(SourceError, match="holds something else than it says"):
        ResultStore(url).get(digest, tmp_path / "forged")
    assert not (tmp_path / "forged").exists()
    assert store.entry("cell") is None


def test_a_host_must_be_known(host: SshServer, tmp_path: Path) -> None:
    url = f"sftp://{HOST}:{host.port}{tmp_path}/store"
    host.known_as(None)
    with pytest.raises(InfrastructureError, match="not found in known_hosts"):
        ResultStore(url)
    host.known_as(asyncssh.generate_private_key("ssh-ed25519"))
    with pytest.raises(InfrastructureError, match="does not match"):
        ResultStore(url)
    assert not (tmp_path / "store").exists()


def test_who_may_not_write_is_told(home: Path, tmp_path: Path) -> None:
    (tmp_path / "file").write_text("content")
    with (
        webdav_server(tmp_path, "b", "secret") as address,
        pytest.raises(InfrastructureError, match="401"),
    ):
        ResultStore(f"{address}/store").put(tmp_path / "file")
    with pytest.raises(InfrastructureError, match=r"refused|failed"):
        ResultStore("http://127.0.0.1:9/store").put(tmp_path / "file")
    with pytest.raises(InfrastructureError, match="sftp://127.0.0.1:9/store cannot be used"):
        ResultStore("sftp://127.0.0.1:9/store")


def test_a_password_is_not_for_addresses() -> None:
    with pytest.raises(UserError, match="password") as caught:
        ResultStore("sftp://build:tr0ub4dor@host/store")
    assert "tr0ub4dor" not in f"{caught.value}{caught.value.hint}"
