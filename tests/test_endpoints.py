"""Engines elsewhere: behind ssh, and with keys for TLS; the sealed run is the same."""

from __future__ import annotations

import os
import subprocess
from collections.abc import Iterator
from pathlib import Path

import asyncssh
import pytest

from tarpit_builder import container
from tarpit_builder.console import Console
from tarpit_builder.container import LOCAL, Endpoint, Engine, Files, Input, Recipe
from tarpit_builder.errors import DockerError, UserError
from tarpit_builder.sources.mirrors import Mirrors
from tests.places import HOST, SshServer, certificates, ssh_server, tls_server

SOCKET = os.environ.get("DOCKER_HOST", f"unix://{container.SOCKET}")


@pytest.fixture
def host(home: Path) -> Iterator[SshServer]:
    """One with an engine, to reach by ssh."""
    with ssh_server(home, PATH=os.environ["PATH"], DOCKER_HOST=SOCKET) as server:
        yield server


@pytest.fixture
def context(home: Path, tmp_path: Path) -> Iterator[str]:
    """The name of a context of Docker's whose engine wants keys."""
    certificates(keys := tmp_path / "keys")
    with tls_server(keys, SOCKET.removeprefix("unix://")) as address:
        files = ",".join(f"{name}={keys}/{name}.pem" for name in ("ca", "cert", "key"))
        command = ["docker", "context", "create", "farm", "--docker", f"host={address},{files}"]
        subprocess.run(command, check=True, capture_output=True)
        yield "farm"


def run_there(endpoint: Endpoint, folder: Path) -> None:
    """A sealed run at *endpoint* gets its inputs, says what it does and gives its outputs."""
    mirror = Mirrors.choose(None).main
    recipe = Recipe("bare", "trixie", "amd64", (f"deb {mirror} trixie main",), mirror)
    engine = Engine.connect(endpoint)
    image = engine.ensure_image(recipe, Console())
    said: list[str] = []
    content = os.urandom(3 << 20)
    source = Input("/src", [Files({"a/file": content})])
    script = "for i in 1 2 3; do echo line $i; done; cp /src/a/file /out; cat /proc/net/route"
    result = engine.run(
        image, ["sh", "-c", script], inputs=[source], output=folder, on_line=said.append
    )
    assert (result.status, said[:3]) == (0, ["line 1", "line 2", "line 3"])
    assert len(said) <= 4, "it has a network"
    assert (folder / "file").read_bytes() == content


@pytest.mark.docker
@pytest.mark.network
def test_an_engine_behind_ssh(host: SshServer, tmp_path: Path) -> None:
    (tmp_path / "out").mkdir()
    run_there(Endpoint.named(f"ssh://build@{HOST}:{host.port}"), tmp_path / "out")


@pytest.mark.docker
@pytest.mark.network
def test_an_engine_that_wants_keys(context: str, tmp_path: Path) -> None:
    (tmp_path / "out").mkdir()
    run_there(Endpoint.named(context), tmp_path / "out")


@pytest.mark.docker
def test_without_keys_there_is_no_engine(context: str, tmp_path: Path) -> None:
    endpoint = Endpoint.named(context)
    with pytest.raises(DockerError, match="no container engine answers at tcp://") as caught:
        Engine.connect(Endpoint(endpoint.host))
    assert "DOCKER_CERT_PATH" in caught.value.hint
    certificates(other := tmp_path / "other")
    with pytest.raises(DockerError, match="no container engine answers at tcp://.*certificate"):
        Engine.connect(Endpoint(endpoint.host, str(other)))


def test_a_host_must_be_known_and_let_us_in(host: SshServer) -> None:
    endpoint = Endpoint(f"ssh://build@{HOST}:{host.port}")
    host.known_as(None)
    with pytest.raises(DockerError, match="not found in known_hosts") as caught:
        Engine.connect(endpoint)
    assert f"`docker -H {endpoint.host} version`" in caught.value.hint
    host.known_as(asyncssh.generate_private_key("ssh-ed25519"))
    with pytest.raises(DockerError, match="does not match"):
        Engine.connect(endpoint)
    with pytest.raises(DockerError, match=r"answers at ssh://.*9: .*port 9"):
        Engine.connect(Endpoint(f"ssh://build@{HOST}:9"))


def test_ssh_needs_a_package(monkeypatch: pytest.MonkeyPatch) -> None:
    import docker.api.client

    monkeypatch.delattr(docker.api.client, "SSHHTTPAdapter")
    with pytest.raises(DockerError, match="paramiko") as caught:
        Engine.connect(Endpoint("ssh://build@host"))
    assert "requirements-cluster.lock" in caught.value.hint


@pytest.mark.docker
def test_an_engine_is_named_by_address_or_context(home: Path) -> None:
    assert Endpoint.named("ssh://build@host") == Endpoint("ssh://build@host")
    assert Endpoint.named("default") is LOCAL
    command = ["docker", "context", "create", "shed", "--docker", "host=ssh://shed"]
    subprocess.run(command, check=True, capture_output=True)
    assert Endpoint.named("shed") == Endpoint("ssh://shed")
    (home / ".docker/contexts/meta/damaged").mkdir()
    (home / ".docker/contexts/meta/damaged/meta.json").write_text("[]")
    with pytest.raises(UserError, match="'farm' is no address .* contexts here: default, shed"):
        Endpoint.named("farm")
