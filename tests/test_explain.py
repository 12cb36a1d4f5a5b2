"""`invoke explain`: what it says is so, and the line that it ends with makes just that."""

from __future__ import annotations

import json
import os
import re
import shlex
import subprocess
import sys
from pathlib import Path

import pytest

from tarpit_builder import paths
from tarpit_builder.plan import make
from tarpit_builder.request import Request
from tarpit_builder.sources.catalogue import Release
from tarpit_builder.sources.debian import Archive
from tarpit_builder.versions import KernelVersion
from tests.sources.kit import COMPRESS, git_tree, kernel_files, tar_of, write_catalogue

INVOKE = str(Path(sys.executable).parent / "invoke")
V = KernelVersion.parse("2.6.24")
pytestmark = pytest.mark.usefixtures("mirror_url")

CONFIG = "".join(
    f"{name}=y\n"
    for name in (
        "CONFIG_X86_64", "CONFIG_MODULES", "CONFIG_NET", "CONFIG_INET", "CONFIG_NETFILTER",
        "CONFIG_NETFILTER_XTABLES", "CONFIG_IP_NF_IPTABLES",
    )
)  # fmt: skip


def invoke(*arguments: str, cwd: Path | None = None) -> subprocess.CompletedProcess[str]:
    command = [INVOKE, "-r", str(paths.PROJECT), *arguments]
    return subprocess.run(
        command, cwd=cwd or paths.PROJECT, capture_output=True, text=True, check=False, timeout=120
    )


@pytest.fixture
def box(tmp_path: Path) -> Path:
    """A folder with all that an owner of an old machine has, under names that shells stumble on."""
    folder = tmp_path / "my box's files"
    folder.mkdir()
    (folder / "the config").write_text(CONFIG)
    (folder / "symvers").write_text("0x00000000\txt_register_target\tvmlinux\n")
    (folder / "linux tree").mkdir()
    (folder / "linux tree" / "Makefile").write_bytes(kernel_files(V)["Makefile"][1])
    for name in ("git one", "git two"):
        subprocess.run(["git", "init", "-q", folder / name], check=True)
    return folder


@pytest.mark.parametrize(
    "options",
    [
        ["--kernel", "debian:trixie"],
        ["--kernel", "debian:trixie", "--flavour", "cloud"],
        ["--kernel", "2.6.24", "--arch", "i386", "--iptables", "1.3.8"],
        ["--kernel", "2.6.24", "--config", "the config", "--symvers", "symvers"],
        ["--kernel", "2.6.24", "--release", "2.6.24-1-amd64", "--with-kernel"],
        ["--kernel", "2.6.24", "--kernel-tree", "linux tree", "--trust-on-first-use"],
        ["--kernel", "2.6.24", "--kernel-git", "git one", "--iptables-git", "git two"],
        ["--kernel", "2.6.24", "--kernel-git", "git one", "--ref", "v2.6.24", "--iptables", "none"],
        ["--kernel", "2.6.30", "--image", "local/gcc 4", "--iptables", "none"],
    ],
    ids=" ".join,
)
@pytest.mark.parametrize("mirror", [False, True], ids=["", "--mirror"])
def test_the_line_at_the_end_makes_the_same_plan(
    options: list[str], mirror: bool, box: Path
) -> None:
    """Typed into a shell as it is printed; a build makes its plan from the same options."""
    if mirror:
        options = [*options, "--mirror", os.environ["TARPIT_DEBIAN_MIRROR"]]
    first = invoke("explain", *options, cwd=box)
    assert first.returncode == 0, first.stderr
    line = first.stdout.splitlines()[-1].removeprefix("build it").strip()
    said = shlex.split(line)
    assert said[:2] == ["invoke", "build"]
    given = {word for word in options if word.startswith("--")} - {"--flavour"}
    assert given <= set(said)
    again = invoke("explain", *said[2:], cwd=box)
    assert again.returncode == 0, again.stderr
    assert again.stdout.splitlines()[-1] == first.stdout.splitlines()[-1]
    one, two = (
        json.loads(invoke("explain", *words, "--json", cwd=box).stdout)
        for words in (options, said[2:])
    )
    for facts in (one, two):  # why a kernel was chosen depends on how it was named
        facts["choices"] = [row["value"] for row in facts["choices"]]
    assert one == two


def test_git_mirrors_of_the_environment_are_in_the_line(
    box: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("TARPIT_KERNEL_GIT", str(box / "git one"))
    line = invoke("explain", "--kernel", "2.6.24").stdout.splitlines()[-1]
    assert line.endswith("--kernel-git " + shlex.quote(str(box / "git one")))


@pytest.mark.parametrize(
    ("options", "message"),
    [
        (["--config", "/nope"], "--config /nope cannot be read"),
        (["--config", "the config", "--symvers", "/nope"], "--symvers /nope cannot be read"),
        (["--kernel-tree", "/nope"], "there is no /nope"),
        (["--kernel-tree", "."], "is no kernel tree"),
        (["--kernel-git", "/nope"], "there is no git repository /nope"),
        (["--kernel-git", "linux tree"], "is not a git repository"),
        (["--iptables-git", "nope"], "there is no git repository nope"),
        (["--ref", "v2.6.24"], "--ref names a commit of a repository"),
        (["--kernel-tree", "linux tree", "--kernel-git", "git one"], "excludes"),
        (["--kernel", "2.6.25", "--kernel-tree", "linux tree"], "is Linux 2.6.24, not 2.6.25"),
    ],
)
def test_what_is_not_there_is_refused_as_a_build_would(
    options: list[str], message: str, box: Path
) -> None:
    kernel = [] if "--kernel" in options else ["--kernel", "2.6.24"]
    result = invoke("explain", *kernel, *options, cwd=box)
    assert (result.returncode, result.stdout) == (2, "")
    assert message in result.stderr
    assert len(result.stderr.splitlines()) == 1


def test_debian_sources_and_what_vouches_for_them(archive: Archive) -> None:
    made = make(Request("debian:trixie"), archive)
    sources = [choice for choice in made.choices if choice.topic.strip() == "source"]
    packages = made.kernel.tree.manifest()
    assert [choice.value for choice in sources] == [package["url"] for package in packages]
    for choice, package in zip(sources, packages, strict=True):
        assert str(package["sha256"])[:16] in choice.reason
        assert "a key of Debian's archive signs" in choice.reason


def test_sources_of_a_release_and_what_vouches_for_them(archive: Archive) -> None:
    made = make(Request("2.6.24"), archive)
    sources = {
        choice.value.partition(":")[0]: choice
        for choice in made.choices
        if choice.topic == "source"
    }
    assert sources.keys() == {"linux-2.6.24", "iptables-1.4.0", "linux-2.6.23"}
    assert (
        "https://cdn.kernel.org/pub/linux/kernel/v2.6/linux-2.6.24.tar"
        in sources["linux-2.6.24"].value
    )
    assert "git tree must be 46efd201c070e594" in sources["linux-2.6.24"].reason
    assert "https://www.netfilter.org/" in sources["iptables-1.4.0"].value
    assert "SHA-256" in sources["iptables-1.4.0"].reason


def test_a_source_that_is_in_the_cache_is_said_to_be(archive: Archive, tmp_path: Path) -> None:
    store = archive.store
    kept = store.partial("linux-2.6.24.tar.gz")
    kept.write_bytes(b"anything")
    blob = store.adopt(kept, "linux-2.6.24.tar.gz", "https://example.org/linux-2.6.24.tar.gz")
    store.write_record(
        "linux-2.6.24", {"sha256": blob.name, "origin": "https://example.org/linux-2.6.24.tar.gz"}
    )
    made = make(Request("2.6.24", iptables="none"), archive)
    (source,) = (choice for choice in made.choices if choice.topic == "source")
    assert source.value == "linux-2.6.24: the cache, from https://example.org/linux-2.6.24.tar.gz"


def test_a_release_that_nobody_knows_says_what_it_would_take(archive: Archive) -> None:
    made = make(Request("2.6.27.99", iptables="none"), archive)
    (source,) = (choice for choice in made.choices if choice.topic == "source")
    assert "a signature of kernel.org" in source.reason


def test_without_a_network_the_hint_leads_to_a_mirror_that_is_heeded(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Build says what to do, that is done as it says, and then the build has its source."""
    folder = tmp_path / "mirror"
    folder.mkdir()
    files = kernel_files(V)
    (folder / "linux-2.6.24.tar.xz").write_bytes(COMPRESS[".tar.xz"](tar_of(files, V.stem)))
    catalogue = tmp_path / "catalogue"
    write_catalogue(
        catalogue,
        kernels=[Release(V, tree=git_tree(files, tmp_path / "git"))],
        kernel_mirrors=["http://127.0.0.1:9"],
    )
    monkeypatch.setenv("TARPIT_CATALOGUE", str(catalogue))
    monkeypatch.setenv("TARPIT_TIMEOUT", "1")
    monkeypatch.setenv("DOCKER_HOST", "unix:///nonexistent/docker.sock")
    build = ["build", "--kernel", "2.6.24", "--iptables", "none"]
    result = invoke(*build)
    assert result.returncode == 3
    hint = result.stderr.splitlines()[-1].partition(" — ")[2]
    assert "name a --mirror" not in hint
    (advised,) = re.findall(r"`invoke (fetch [^`]+ --mirror) URL`", hint)
    assert invoke(*advised.split(), f"file://{folder}").returncode == 0
    assert "no container engine" in invoke(*build).stderr  # it came as far as that
