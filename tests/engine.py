"""A Docker daemon of the tests' own, which may be killed without harm to the machine's."""

from __future__ import annotations

import os
import shutil
import subprocess
import tempfile
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import IO

import pytest

from tarpit_builder import container

LIST = ["docker", "images", "--format", "{{.Repository}}:{{.Tag}}"]
PATIENCE = 60  # seconds for a daemon to answer


class OwnEngine:
    """The daemon at *host* and everything it starts, in namespaces of their own.

    *data* is what its images are in.  Its first process takes all others along when it dies, as a
    power cut would.
    """

    def __init__(self, home: Path, data: Path) -> None:
        self.host = f"unix://{home}/docker.sock"
        self._home, self._data = home, data
        self._process: subprocess.Popen[bytes] | None = None

    def start(self) -> None:
        """Start it, and return once it answers."""
        # A network of its own: with --bridge=none it would take docker0 from the other.
        command = ["unshare", "--net", "--mount", "--pid", "--fork", "--kill-child=SIGKILL"]
        command += ["--mount-proc", "dockerd", "--host", self.host, "--data-root", str(self._data)]
        command += ["--exec-root", str(self._home / "exec"), "--pidfile", str(self._home / "pid")]
        command += ["--bridge=none", "--iptables=false", "--ip6tables=false"]
        # Their numbers are others' in a new namespace, and a power cut leaves nothing in /run.
        (self._home / "pid").unlink(missing_ok=True)
        shutil.rmtree(self._home / "exec", ignore_errors=True)
        log = self._home / "dockerd.log"
        with log.open("wb") as out:
            self._process = subprocess.Popen(command, stdout=out, stderr=out)
        deadline = time.monotonic() + PATIENCE
        while not self.answers():
            assert self._process.poll() is None, log.read_text()
            assert time.monotonic() < deadline, f"the daemon does not answer: {log.read_text()}"
            time.sleep(0.1)

    def answers(self) -> bool:
        """Whether it does."""
        return self.docker("info", check=False).returncode == 0

    def load(self, *images: str) -> None:
        """Give it those of *images* that it lacks, from the machine's engine, under all names."""
        have = _tags(self.docker(*LIST[1:]))
        if not (images := tuple(name for name in images if name not in have)):
            return
        with subprocess.Popen(["docker", "save", *images], stdout=subprocess.PIPE) as save:
            self.docker("load", stdin=save.stdout)
        assert save.returncode == 0

    def docker(
        self, *arguments: str, check: bool = True, stdin: IO[bytes] | None = None
    ) -> subprocess.CompletedProcess[str]:
        """What the ``docker`` command says to *arguments* here."""
        return subprocess.run(
            ["docker", "-H", self.host, *arguments],
            stdin=stdin,
            capture_output=True,
            text=True,
            check=check,
        )

    def kill(self) -> None:
        """End it and all that runs in it, this very moment."""
        if self._process is not None:
            self._process.kill()
            self._process.wait()

    def left(self) -> list[str]:
        """Containers, and volumes that are not kept on purpose."""
        volumes = self.docker("volume", "ls", "-q").stdout.split()
        kept = [name for name in volumes if "-keep-" not in name]
        return self.docker("ps", "-aq").stdout.split() + kept


def images_of(suite: str) -> list[str]:
    """The images of *suite* that the machine's engine has for builds and proofs."""
    names = _tags(subprocess.run(LIST, capture_output=True, text=True, check=True))
    return [
        name
        for name in names
        if name.startswith(container.IMAGES) and f"{suite}-amd64" in name and "/analyze" not in name
    ]


def _tags(listed: subprocess.CompletedProcess[str]) -> list[str]:
    return listed.stdout.split()


@contextmanager
def own_engine(data: Path | None = None) -> Iterator[OwnEngine]:
    """One that runs until the block ends, with its images in *data*, which is the caller's."""
    if os.geteuid() != 0 or shutil.which("dockerd") is None:
        pytest.skip("a daemon of one's own needs root and dockerd")
    # Not tmp_path: names of sockets are limited to 107 bytes (unix(7)).
    home = Path(tempfile.mkdtemp(prefix="tarpit-dockerd-"))
    engine = OwnEngine(home, data or home / "data")
    try:
        engine.start()
        yield engine
    finally:
        engine.kill()
        for line in reversed(Path("/proc/mounts").read_text().splitlines()):
            if (mount := line.split()[1]).startswith(str(home)):
                subprocess.run(["umount", "--lazy", mount], check=True)
        shutil.rmtree(home, ignore_errors=True)
