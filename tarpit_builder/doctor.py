"""Is this machine fit for the work?  One line for each need, with the way to mend it."""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
from collections.abc import Callable, Iterator
from dataclasses import dataclass, replace
from pathlib import Path

from tarpit_builder import architectures, paths
from tarpit_builder.console import format_table
from tarpit_builder.errors import InfrastructureError, TarpitError

NEEDED_CACHE = 2  # GB: indexes, headers and the kernels that are booted
NEEDED_IMAGES = 3  # GB: the image of one suite and what a build needs beside it


@dataclass(frozen=True, slots=True)
class Examination:
    """One look: *topic*, whether it is *good*, what was seen, and how to mend it."""

    topic: str
    good: bool
    seen: str
    mend: str = ""


def run(mirror: str) -> None:
    """Print all findings.

    :raises InfrastructureError: if something needs mending.
    """
    findings = list(_findings(mirror))
    rows = [
        (
            "ok" if item.good else "✗",
            item.topic,
            item.seen if item.good else f"{item.seen} — {item.mend}",
        )
        for item in findings
    ]
    print(format_table(rows))
    bad = [item for item in findings if not item.good]
    if bad:
        raise InfrastructureError(
            f"{len(bad)} of {len(findings)} checks failed: {', '.join(item.topic for item in bad)}",
            hint="each line above says how; ./bootstrap does most of it",
        )


def _findings(mirror: str) -> Iterator[Examination]:
    yield _python()
    yield from _docker()
    yield _disk("cache disk", paths.cache_dir(), NEEDED_CACHE, "TARPIT_CACHE")
    yield _disk("result disk", paths.dist_dir(), 1, "TARPIT_DIST")
    yield from _network(mirror)
    yield _qemu()
    yield _tool("mmdebstrap", "mmdebstrap", "mmdebstrap", "makes images where no registry answers")
    yield _tool("gpgv", "gpgv", "gpgv debian-archive-keyring", "checks signatures")


def _python() -> Examination:
    version = ".".join(map(str, sys.version_info[:3]))
    return Examination("Python", sys.version_info >= (3, 11), version, "3.11 or newer is needed")


def _docker() -> Iterator[Examination]:
    from tarpit_builder.container import Engine

    try:
        engine = Engine.connect()
        yield Examination("container engine", True, engine.describe())
        if where := engine.storage():
            yield _room("image disk", where, NEEDED_IMAGES, "the engine's data root")
    except TarpitError as error:
        yield Examination("container engine", False, error.message, error.hint)


def _disk(topic: str, path: Path, needed: int, variable: str) -> Examination:
    place = path
    while not os.path.lexists(place):
        place = place.parent
    if not place.is_dir():
        return Examination(topic, False, f"{place} is not a folder", f"point {variable} elsewhere")
    if not os.access(place, os.R_OK | os.W_OK | os.X_OK):
        mend = f"make it writable for this user, or point {variable} elsewhere"
        return Examination(topic, False, f"{place} cannot be written", mend)
    return _room(topic, place, needed, variable)


def _room(topic: str, place: Path, needed: int, variable: str) -> Examination:
    free = shutil.disk_usage(place).free / 1e9
    good = free >= needed
    return Examination(
        topic,
        good,
        f"{free:.0f} GB free at {place}",
        f"{needed} GB are needed: free some or point {variable} elsewhere",
    )


def _network(mirror: str) -> Iterator[Examination]:
    from tarpit_builder.sources.mirrors import Mirrors, apt_proxy

    mirrors = Mirrors.choose(mirror)
    yield _mirror("Debian mirror", f"{mirrors.main}/dists/stable", mirrors.why)
    yield _mirror(
        "security mirror", f"{mirrors.security}/dists/stable-security", mirrors.why_security
    )
    proxy = apt_proxy()
    if proxy and not (os.environ.get("http_proxy") or os.environ.get("HTTP_PROXY")):
        seen = f"apt goes through {proxy}, and nothing here does"
        yield Examination("proxy", False, seen, f"if it is needed: export http_proxy={proxy}")


def _mirror(topic: str, folder: str, why: str) -> Examination:
    import requests

    url = f"{folder}/InRelease"
    try:
        response = requests.head(url, timeout=10, allow_redirects=True)
    except requests.RequestException as error:
        return Examination(
            topic,
            False,
            f"{url} does not answer ({type(error).__name__}; {why})",
            "check the network and http_proxy, or name a --mirror",
        )
    return Examination(
        topic,
        response.ok,
        f"{url} answers {response.status_code} ({why})",
        "name another with --mirror URL, or TARPIT_DEBIAN_SECURITY_MIRROR",
    )


def _tool(topic: str, program: str, packages: str, use: str) -> Examination:
    where = shutil.which(program)
    if where is None:
        return Examination(
            topic, False, f"{program} is not installed ({use})", f"apt-get install {packages}"
        )
    return Examination(topic, True, _version(program))


def _qemu() -> Examination:
    """The machine of this architecture's kernels, and of which others there are."""
    machines = {name: row.machine for name, row in architectures.known().items() if row.machine}
    usual = machines[architectures.BUILD]
    found = _tool("QEMU", usual.emulator, usual.package, "invoke verify boots kernels with it")
    there = [name for name, machine in machines.items() if shutil.which(machine.emulator)]
    return replace(found, seen=f"{found.seen}, for {', '.join(there)}") if found.good else found


def _version(program: str) -> str:
    run: Callable[..., subprocess.CompletedProcess[str]] = subprocess.run
    answer = run([program, "--version"], capture_output=True, text=True, check=False)
    return (answer.stdout.splitlines() or [program])[0]
