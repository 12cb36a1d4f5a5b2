"""Built and installed for other distributions, from archives that stand in for theirs."""

from __future__ import annotations

import json
import os
import subprocess
from collections.abc import Iterator
from pathlib import Path

import docker
import pytest

from tarpit_builder import paths, suites
from tarpit_builder import plan as planning
from tarpit_builder.console import Console
from tarpit_builder.container import Engine, Files, Input, Limits
from tarpit_builder.kernels.headers import obtain
from tarpit_builder.kernels.suite import SuiteUserland
from tarpit_builder.request import Request
from tarpit_builder.sources.debian import Archive, DebianKernel, Mirrors
from tarpit_builder.sources.store import Store
from tests import standin
from tests.mirror import Signer

pytestmark = [
    pytest.mark.docker,
    pytest.mark.skipif(not standin.reachable(), reason="containers cannot reach this machine"),
]

GENERIC, PVE = "6.8.0-60-generic", "6.8.12-4-pve"
HERE = Path(__file__).parent


@pytest.fixture(scope="module")
def kernel() -> DebianKernel:
    """The kernel that is given other names."""
    return _archive().newest(suites.known()["bookworm"], "", "amd64")


@pytest.fixture(scope="module")
def original(kernel: DebianKernel, tmp_path_factory: pytest.TempPathFactory) -> standin.Original:
    """Its headers, and what boots."""
    archive, quiet = _archive(), Console(quiet=True)
    where = tmp_path_factory.mktemp("debian")
    standin.unpack(obtain(kernel.packages, "headers", archive, quiet), where)
    return standin.Original(kernel, where, obtain(kernel.image, "kernel", archive, quiet))


@pytest.fixture(scope="module")
def proxmox(
    original: standin.Original,
    tmp_path_factory: pytest.TempPathFactory,
    signer: Signer,
) -> Iterator[str]:
    """The archive of Proxmox VE; it has no packages but kernels."""
    tmp_path = tmp_path_factory.mktemp("proxmox")
    top = tmp_path / "debian/pve"
    found = standin.proxmox(top, tmp_path / "work", original, PVE)
    lists = {"pve-no-subscription": standin.stanzas(found, ".gz")}
    standin.publish(top, "bookworm", lists, signer, suffix=".gz")
    with standin.serve(tmp_path) as url:
        yield f"{url}/debian/pve"


@pytest.fixture
def ubuntu(original: standin.Original, tmp_path: Path, signer: Signer) -> Iterator[str]:
    """The archive of Ubuntu; what is no kernel is bookworm's."""
    top, mirror = tmp_path / "ubuntu", Mirrors.choose(None).main
    found = standin.ubuntu(top, tmp_path / "work", original, GENERIC)
    components = suites.distributions()["ubuntu"].components
    for pocket in ("noble", "noble-updates", "noble-security"):
        lists = dict.fromkeys(components, standin.empty())
        if pocket == "noble":
            lists["universe"] = standin.debians_list(mirror, "bookworm")
        if pocket == "noble-updates":
            lists["main"] = standin.stanzas(found)
        standin.publish(top, pocket, lists, signer)
    known = _images(":noble-")
    with standin.serve(tmp_path, mirror) as url:
        yield f"{url}/ubuntu"
    # The mirror's address is another one each time, so nobody will ask for them again.
    for tag in _images(":noble-") - known:
        docker.from_env().images.remove(tag)


@pytest.mark.slow
def test_raspberry_pi_os(tmp_path: Path, signer: Signer) -> None:
    top = tmp_path / "debian"
    pi = _archive().newest(suites.known()["bookworm"], "", "arm64")
    files = obtain(pi.packages, "headers", _archive(), Console(quiet=True))
    found = standin.raspios(top, tmp_path / "work", pi, files, "6.12.25+rpt")
    here = [stanza for stanza in found if "Architecture: arm64" not in stanza]
    there = [stanza for stanza in found if "Architecture: amd64" not in stanza]
    lists = {"main": standin.stanzas(here), "main/arm64": standin.stanzas(there)}
    standin.publish(top, "bookworm", lists, signer)
    with standin.serve(tmp_path) as url:
        result = build("raspios:bookworm", f"{url}/debian", tmp_path, signer, "--arch", "arm64")
    modules = fields(result, "xt-tarpit-modules-6.12.25+rpt-rpi-v8")
    assert (modules["Architecture"], modules["Version"][-9:]) == ("arm64", "0+rpios12")
    assert modules["Depends"].startswith("linux-image-6.12.25+rpt-rpi-v8,")
    recommended = fields(result, "xt-tarpit-dkms")["Recommends"]
    assert recommended == "linux-headers-rpi-v8 | linux-headers-rpi-2712"


@pytest.fixture(scope="module")
def engine() -> Engine:
    """The container engine."""
    return Engine.connect()


@pytest.fixture(scope="module")
def for_proxmox(proxmox: str, tmp_path_factory: pytest.TempPathFactory, signer: Signer) -> Path:
    """The packages for its kernel."""
    return build("proxmox:8", proxmox, tmp_path_factory.mktemp("dist"), signer)


def test_proxmox_ve(for_proxmox: Path, signer: Signer) -> None:
    result = for_proxmox
    manifest = json.loads((result / "manifest.json").read_text())
    plan = manifest["plan"]
    assert (plan["kernel"], plan["distribution"], plan["compiler"]) == (PVE, "proxmox", "gcc-12")
    assert f"--keyring {signer.keyring}" in manifest["command"]
    modules = fields(result, f"xt-tarpit-modules-{PVE}")
    assert modules["Depends"].startswith(f"proxmox-kernel-{PVE}-signed | proxmox-kernel-{PVE}")
    assert modules["Version"].endswith("+pve8")
    dkms = fields(result, "xt-tarpit-dkms")
    assert dkms["Recommends"] == "proxmox-default-headers"


@pytest.mark.slow
def test_a_host_of_proxmox_ve(
    for_proxmox: Path, proxmox: str, signer: Signer, engine: Engine
) -> None:
    installs("proxmox:8", for_proxmox, proxmox, signer, engine, PVE, "proxmox-default-headers")


@pytest.mark.slow
def test_a_kernel_of_proxmox_ve(proxmox: str, tmp_path: Path, signer: Signer) -> None:
    run = invoke("verify", "proxmox:8", proxmox, tmp_path, signer)
    assert run.returncode == 0, run.stderr
    assert f"Linux {PVE}: passed" in run.stdout + run.stderr


@pytest.mark.slow
def test_ubuntu(ubuntu: str, tmp_path: Path, signer: Signer, engine: Engine) -> None:
    result = build("ubuntu:24.04", ubuntu, tmp_path, signer)
    modules = fields(result, f"xt-tarpit-modules-{GENERIC}")
    assert modules["Version"].endswith("+ubuntu24.04")
    assert modules["Depends"].startswith(f"linux-image-{GENERIC} | linux-image-unsigned-{GENERIC}")
    assert fields(result, "xt-tarpit-dkms")["Recommends"].startswith("linux-headers-generic |")
    again = invoke("build", "ubuntu:noble", ubuntu, tmp_path, signer)
    assert "nothing to do" in again.stdout
    assert "xt-tarpit-dkms_*.deb linux-headers-generic" in again.stdout
    run = invoke("verify", "ubuntu:noble", ubuntu, tmp_path, signer)
    assert run.returncode == 0, run.stderr
    assert f"Linux {GENERIC}: passed" in run.stdout + run.stderr
    installs("ubuntu:noble", result, ubuntu, signer, engine, GENERIC, "linux-headers-generic")


def invoke(
    verb: str, kernel: str, mirror: str, folder: Path, signer: Signer, *more: str
) -> subprocess.CompletedProcess[str]:
    """What a user would type."""
    options = ["--kernel", kernel, "--mirror", mirror, "--keyring", str(signer.keyring)]
    return subprocess.run(
        ["invoke", verb, *options, *more],
        cwd=paths.PROJECT,
        env={**os.environ, "TARPIT_DIST": str(folder / "dist")},
        capture_output=True,
        text=True,
        check=False,
    )


def build(kernel: str, mirror: str, folder: Path, signer: Signer, *more: str) -> Path:
    """The folder with the result of ``invoke build``."""
    run = invoke("build", kernel, mirror, folder, signer, *more)
    assert run.returncode == 0, run.stderr
    (result,) = (folder / "dist").iterdir()
    return result


def installs(
    kernel: str,
    result: Path,
    mirror: str,
    signer: Signer,
    engine: Engine,
    abi: str,
    headers: str,
) -> None:
    """On a host of the stand-in's userland, DKMS builds the module and iptables takes its rule."""
    mirrors = Mirrors.choose(mirror, keyring=str(signer.keyring))
    archive = Archive(Store(paths.cache_dir()), mirrors, Console(quiet=True))
    userland = planning.make(Request(kernel), archive).kernel.userland
    assert isinstance(userland, SuiteUserland)
    recipe = userland.recipe.bare()
    packages = Files({path.name: path for path in result.glob("*.deb")})
    keys = {"archive.gpg": signer.keyring}
    suite = userland.tree.kernel.suite
    line = f"deb {mirror} {suite.name} {' '.join(suite.of.components)}"
    run = engine.run(
        engine.ensure_image(recipe, Console(quiet=True)),
        ["sh", "/test/installs.sh", abi, headers, line],
        inputs=[
            Input("/packages", [packages]),
            Input("/test", [Files({"installs.sh": HERE / "installs.sh", **keys})]),
        ],
        limits=Limits(seconds=900),
        sealed=False,
    )
    assert run.status == 0, "\n".join(run.lines[-60:])
    assert run.lines[-1] == "done"


def fields(result: Path, package: str) -> dict[str, str]:
    """The control fields of *package*."""
    (file,) = result.glob(f"{package}_*.deb")
    text = subprocess.run(
        ["dpkg-deb", "--field", file], check=True, capture_output=True, text=True
    ).stdout
    pairs = (line.partition(": ") for line in text.splitlines() if not line.startswith(" "))
    return {name: value for name, _, value in pairs}


def _images(part: str) -> set[str]:
    """The tags of images that have *part* in their names."""
    return {tag for one in docker.from_env().images.list() for tag in one.tags if part in tag}


def _archive() -> Archive:
    return Archive(Store(paths.cache_dir()), Mirrors.choose(None), Console(quiet=True))
