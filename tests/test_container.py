"""A sealed run is sealed, and leaves nothing behind however it ends."""

from __future__ import annotations

import io
import os
import shutil
import signal
import socket
import stat
import subprocess
import sys
import tarfile
import threading
import time
from collections.abc import Iterator
from contextlib import suppress
from pathlib import Path

import pytest

from tarpit_builder import container
from tarpit_builder.console import Console
from tarpit_builder.container import Engine, Files, Input, Limits, Recipe
from tarpit_builder.errors import BuildError, DockerError
from tarpit_builder.sources.mirrors import Mirrors
from tests.engine import OwnEngine, own_engine
from tests.escapes import escapes
from tests.processes import start

pytestmark = pytest.mark.docker


@pytest.fixture(scope="module")
def engine() -> Engine:
    return Engine.connect()


@pytest.fixture(scope="module")
def image(engine: Engine) -> str:
    """The bare suite: a sealed run needs nothing but a shell."""
    mirror = Mirrors.choose(None).main
    recipe = Recipe("bare", "trixie", "amd64", (f"deb {mirror} trixie main",), mirror)
    return engine.ensure_image(recipe, Console())


def sh(engine: Engine, image: str, script: str, **options: object) -> tuple[str, ...]:
    """The lines that *script* prints in a sealed run."""
    result = engine.run(image, ["sh", "-c", script], **options)  # type: ignore[arg-type]
    assert result.status == 0, result.lines
    return result.lines


def ours(kind: str) -> set[str]:
    """Names of the containers or volumes of this project, kept ones left out."""
    command = {
        "container": ["docker", "ps", "-aq", "--filter", f"label={container.LABEL}"],
        "volume": ["docker", "volume", "ls", "-q", "--filter", "name=tarpit-builder-"],
    }[kind]
    names = subprocess.run(command, capture_output=True, text=True, check=True).stdout.split()
    return {name for name in names if "-keep-" not in name}


def test_there_is_no_network(engine: Engine, image: str) -> None:
    lines = sh(engine, image, "cat /proc/net/dev; cat /proc/net/route")
    interfaces = {line.split(":")[0].strip() for line in lines if ":" in line}
    assert interfaces <= {"lo"}


def test_there_are_no_capabilities_and_no_way_to_gain_any(engine: Engine, image: str) -> None:
    status = dict(
        line.split(":\t", 1) for line in sh(engine, image, "cat /proc/self/status") if ":\t" in line
    )
    assert {status[name] for name in ("CapInh", "CapPrm", "CapEff", "CapBnd")} == {"0" * 16}
    assert status["NoNewPrivs"] == "1"
    assert status["Uid"].split() == ["1000"] * 4


def test_only_the_working_folders_can_be_written(engine: Engine, image: str) -> None:
    script = (
        "for d in / /etc /usr /src /build /tmp /out; do touch $d/x 2>/dev/null && echo $d; done"
    )
    source = Input("/src", [Files({"file": b"content"})])
    assert sh(engine, image, script + "; true", inputs=[source]) == ("/build", "/tmp", "/out")


def test_inputs_arrive_and_outputs_return(engine: Engine, image: str, tmp_path: Path) -> None:
    source = Input("/src", [Files({"a/b/file": b"one\n", "other": b"two\n"})])
    script = "mkdir /out/deep; cat /src/a/b/file /src/other > /out/deep/both"
    sh(engine, image, script, inputs=[source], output=tmp_path)
    assert (tmp_path / "deep" / "both").read_text() == "one\ntwo\n"


def test_links_in_the_output_are_not_followed(engine: Engine, image: str, tmp_path: Path) -> None:
    sh(engine, image, "ln -s /etc/passwd /out/link; echo x > /out/file", output=tmp_path)
    assert [path.name for path in tmp_path.iterdir()] == ["file"]


def test_output_keeps_nothing_of_a_mode_but_execution(
    engine: Engine, image: str, tmp_path: Path
) -> None:
    script = "cd /out; touch plain run; chmod 0666 plain; chmod 06777 run"
    sh(engine, image, script, output=tmp_path)
    modes = {path.name: stat.S_IMODE(path.stat().st_mode) for path in tmp_path.iterdir()}
    assert modes == {"plain": 0o644, "run": 0o755}


@pytest.mark.parametrize("name", ["../out", "/a/../../out", ".."])
def test_output_does_not_leave_its_folder(name: str, tmp_path: Path) -> None:
    spool = io.BytesIO()
    with tarfile.open(fileobj=spool, mode="w") as archive:
        archive.addfile(tarfile.TarInfo(name))
    spool.seek(0)
    with pytest.raises(BuildError, match="leads out of its folder"):
        container._unpack(spool, tmp_path / "inner")
    assert list(tmp_path.rglob("*")) == []


def test_control_characters_do_not_reach_the_terminal(engine: Engine, image: str) -> None:
    (line,) = sh(engine, image, r"printf 'a\033[2Jb\n'")
    assert line == "a�[2Jb"


def test_memory_is_limited(engine: Engine, image: str) -> None:
    with pytest.raises(BuildError, match="more than its 64 MiB"):
        engine.run(image, ["sh", "-c", "head -c 200m /dev/zero | tail"], limits=Limits(memory=64))


def test_processes_are_limited(engine: Engine, image: str) -> None:
    script = "for i in $(seq 50); do sleep 5 & done"
    result = engine.run(image, ["sh", "-c", script], limits=Limits(processes=20))
    assert any("fork" in line for line in result.lines)


def test_time_is_limited(engine: Engine, image: str) -> None:
    with pytest.raises(BuildError, match="limit of 2 s") as caught:
        engine.run(image, ["sh", "-c", "echo begun; sleep 60"], limits=Limits(seconds=2))
    assert caught.value.tail == ("begun",)


def test_what_it_prints_is_limited(engine: Engine, image: str) -> None:
    """Lines without end, and one line without end."""
    for endless in ("yes", "cat /dev/zero"):
        with pytest.raises(BuildError, match="printed more than 1 MiB"):
            engine.run(image, ["sh", "-c", endless], limits=Limits(speech=1))


def test_what_it_leaves_is_limited(engine: Engine, image: str, tmp_path: Path) -> None:
    """A file with holes takes no room in the volume, and all of its size outside."""
    for large in ("truncate -s 1T /out/holes", "head -c 3m /dev/zero > /out/zeros"):
        with pytest.raises(BuildError, match="more than 2 MiB of results"):
            sh(engine, image, large, output=tmp_path / "new", limits=Limits(results=2))
    assert not (tmp_path / "new").exists()


def test_nothing_outside_can_be_reached(engine: Engine, image: str, tmp_path: Path) -> None:
    """The engine's socket, others' files and volumes, devices, the kernel's settings, networks."""
    with escapes(tmp_path) as script:
        assert sh(engine, image, script) == ("tried",)


def test_what_tries_to_get_out_would_be_seen(image: str, tmp_path: Path) -> None:
    """The same script where there is something to reach: in a container that is not sealed."""
    with escapes(tmp_path) as script:
        open_to_all = ["--network=host", f"--volume={tmp_path}:/host"]
        open_to_all.append("--volume=/var/run/docker.sock:/run/docker.sock")
        done = subprocess.run(
            ["docker", "run", "--rm", *open_to_all, image, "sh", "-c", script],
            capture_output=True,
            text=True,
            check=True,
        )
    said = done.stdout.splitlines()
    reached = {line.removeprefix("reached ").partition("/tarpit-secret")[0] for line in said[:-1]}
    assert said[-1] == "tried"
    assert reached >= {"docker.sock", "/host", "mknod", "root", "shadow"}
    assert any(line.startswith("reached tcp/127.0.0.1/") for line in said)


def test_links_of_an_input_lead_nowhere_outside(engine: Engine, image: str, tmp_path: Path) -> None:
    """A package whose link leads to a folder of the host's, with a file that is put behind it."""
    target = tmp_path / "host"
    target.mkdir()

    def archive() -> io.BytesIO:
        spool = io.BytesIO()
        with tarfile.open(fileobj=spool, mode="w") as tar:
            for name, to in (("out", str(target)), ("top", "/"), ("up", "../../../../..")):
                link = tarfile.TarInfo(name)
                link.type, link.linkname = tarfile.SYMTYPE, to
                tar.addfile(link)
            for name in ("out/evil", "top/evil", f"up{target}/evil", "../evil", "/evil"):
                file = tarfile.TarInfo(name)
                file.size = 1
                tar.addfile(file, io.BytesIO(b"x"))
        spool.seek(0)
        return spool

    with suppress(DockerError):  # an engine may also refuse it as a whole
        engine.run(image, ["true"], inputs=[Input("/src", [container.Tar(archive)])])
    assert list(target.iterdir()) == []
    assert not list(tmp_path.glob("evil"))
    assert not Path("/evil").exists()
    assert sh(engine, image, "ls -d /evil 2>/dev/null; true") == ()


def test_kept_volume_is_filled_once(engine: Engine, image: str) -> None:
    key = os.urandom(20).hex()
    first = Input("/kernel", [Files({"file": b"first"})], key)
    second = Input("/kernel", [Files({"file": b"second"})], key)
    try:
        assert sh(engine, image, "cat /kernel/file", inputs=[first]) == ("first",)
        assert sh(engine, image, "cat /kernel/file", inputs=[second]) == ("first",)
    finally:
        subprocess.run(["docker", "volume", "rm", f"tarpit-builder-keep-{key}"], check=True)


def test_kept_volumes_that_were_not_used_for_longest_go(
    engine: Engine, image: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("TARPIT_CACHE", str(tmp_path))
    monkeypatch.setattr(container, "KEPT", 2)
    keys = [os.urandom(20).hex() for _ in range(3)]
    names = [f"tarpit-builder-keep-{key}" for key in keys]
    there = ["docker", "volume", "ls", "-q", "--filter", "name=tarpit-builder-keep-"]
    try:
        for number in (0, 1, 0, 2):
            kept = Input("/kernel", [Files({"file": b"content"})], keys[number])
            assert sh(engine, image, "cat /kernel/file", inputs=[kept]) == ("content",)
        found = subprocess.run(there, capture_output=True, text=True, check=True).stdout.split()
        assert [name in found for name in names] == [True, False, True]
    finally:
        subprocess.run(["docker", "volume", "rm", "--force", *names], check=True)


def test_nothing_is_left_after_failure(engine: Engine, image: str, tmp_path: Path) -> None:
    result = engine.run(image, ["sh", "-c", "echo half > /out/f; exit 3"], output=tmp_path)
    assert result.status == 3
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize("how", [signal.SIGINT, signal.SIGTERM])
def test_nothing_is_left_after_interruption(image: str, how: signal.Signals) -> None:
    child = _sleeper(image)
    mine = _wait_for_container(child)
    child.send_signal(how)
    assert child.wait(timeout=30) == 130
    assert not mine & ours("container")


def test_what_a_killed_run_left_is_swept_by_the_next(image: str) -> None:
    child = _sleeper(image)
    mine = _wait_for_container(child)
    child.kill()
    child.wait()
    assert mine <= ours("container")
    Engine.connect()
    assert not mine & ours("container")


def test_runs_of_others_may_end_while_one_looks_around(engine: Engine, image: str) -> None:
    def runs() -> None:
        for _ in range(40):
            engine.run(image, ["true"])

    others = threading.Thread(target=runs)
    others.start()
    looks = 0
    while others.is_alive():
        Engine.connect()  # which sweeps
        looks += 1
    assert looks > 5


def test_no_engine_is_one_line_with_a_next_step(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("DOCKER_HOST", "unix:///nonexistent/docker.sock")
    with pytest.raises(DockerError, match="no container engine answers at unix.*bootstrap"):
        Engine.connect()


@pytest.fixture
def registry(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[str]:
    """A registry on loopback; TARPIT_REGISTRY names it."""
    if shutil.which("docker-registry") is None:
        pytest.skip("docker-registry (Debian package of that name) is not installed")
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        address = f"127.0.0.1:{probe.getsockname()[1]}"
    settings = tmp_path / "registry.yml"
    settings.write_text(
        f"version: 0.1\nstorage: {{filesystem: {{rootdirectory: {tmp_path}/data}}}}\n"
        f'http: {{addr: "{address}"}}\n'
    )
    with (tmp_path / "registry.log").open("wb") as log:
        server = subprocess.Popen(["docker-registry", "serve", settings], stdout=log, stderr=log)
    try:
        monkeypatch.setenv("TARPIT_REGISTRY", address)
        yield address
    finally:
        server.terminate()
        server.wait(timeout=10)


def test_suite_comes_from_a_registry_where_one_has_it(
    engine: Engine, image: str, registry: str, capsys: pytest.CaptureFixture[str]
) -> None:
    published = f"{registry}/debian:trixie-slim"
    subprocess.run(["docker", "tag", image, published], check=True)
    subprocess.run(["docker", "push", "--quiet", published], check=True)
    subprocess.run(["docker", "rmi", published], check=True)
    mirror = f"{Mirrors.choose(None).main}/?registry-test"  # a tag of its own for the base
    recipe = Recipe("bare", "trixie", "amd64", (), mirror)
    try:
        engine.ensure_image(recipe, Console())
        assert "from a registry" in capsys.readouterr().err
    finally:
        subprocess.run(["docker", "rmi", "-f", recipe.tag, recipe.base_tag, published], check=False)


@pytest.fixture
def own(image: str, monkeypatch: pytest.MonkeyPatch) -> Iterator[OwnEngine]:
    """A daemon of the test's own that has *image*; DOCKER_HOST points at it."""
    with own_engine() as engine:
        engine.load(image)
        monkeypatch.setenv("DOCKER_HOST", engine.host)
        yield engine


def test_daemon_that_dies_in_the_middle_is_one_line_with_a_next_step(
    own: OwnEngine, image: str
) -> None:
    def die(line: str) -> None:
        own.kill()

    with pytest.raises(DockerError, match="went away in the middle.*repeat the command"):
        Engine.connect().run(image, ["sh", "-c", "echo begun; sleep 15"], on_line=die)


def _sleeper(image: str) -> subprocess.Popen[str]:
    """A process with a sealed run that does not end by itself."""
    program = (
        "from tarpit_builder.verbs import guarded\n"
        "from tarpit_builder.container import Engine\n"
        f"guarded(lambda: Engine.connect().run({image!r}, ['sleep', '600']))()\n"
    )
    return start([sys.executable, "-c", program], stderr=subprocess.DEVNULL)


def _wait_for_container(child: subprocess.Popen[str]) -> set[str]:
    """The containers that belong to *child*, once one of them runs."""
    deadline = time.monotonic() + 30
    while time.monotonic() < deadline:
        listing = subprocess.run(
            ["docker", "ps", "--filter", "status=running", "--format",
             f'{{{{.ID}}}} {{{{.Label "{container.LABEL}"}}}}'],
            capture_output=True, text=True, check=True,
        ).stdout  # fmt: skip
        mine = {line.split()[0] for line in listing.splitlines() if f":{child.pid}:" in line}
        if mine:
            return mine
        time.sleep(0.05)
    raise AssertionError("the run did not start")
