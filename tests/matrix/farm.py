"""A scheduler and workers on this machine, each with a ``dist`` of its own."""

from __future__ import annotations

import os
import socket
import subprocess
import sys
import time
from collections.abc import Mapping, Sequence
from contextlib import ExitStack
from pathlib import Path
from types import MappingProxyType

from distributed import Client

from tarpit_builder import paths
from tarpit_builder.matrix import RunOptions
from tests.matrix.fake import fake_invoke
from tests.processes import kill_tree

INVOKE = Path(sys.executable).parent / "invoke"
FILE = '[[build]]\nkernels = ["debian:trixie", "debian:forky", "debian:sid"]\nmemory = 2000\n'
FAKE = """
import hashlib, json, os, pathlib, sys, time
kernel = sys.argv[sys.argv.index("--kernel") + 1]
with open(os.environ["SEEN"], "a") as seen:
    seen.write(f"{sys.argv[1]} {kernel} {os.environ['WORKER']}\\n")
print("making", kernel, flush=True)
time.sleep(float(os.environ.get("PACE", "0")))
folder = pathlib.Path(os.environ["TARPIT_DIST"]) / kernel.replace(":", "-")
fresh = not folder.exists()
folder.mkdir(parents=True, exist_ok=True)
(folder / "x.deb").write_text(kernel)
digest = hashlib.sha256(kernel.encode()).hexdigest()
(folder / "manifest.json").write_text(json.dumps({
    "format": 1, "key": kernel, "outputs": [{"file": "x.deb", "sha256": digest}]
}))
status = int(os.environ.get("STATUS", "0"))
if status:
    raise SystemExit(print("error: no luck — try again") or status)
pathlib.Path(sys.argv[sys.argv.index("--json") + 1]).write_text(json.dumps({
    "folder": str(folder), "fresh": fresh, "key": kernel, "packages": ["x.deb"], "stages": []
}))
"""


class Farm:
    """A scheduler, and workers as they are asked for."""

    def __init__(
        self,
        folder: Path,
        cleanup: ExitStack,
        host: str = "127.0.0.1",
        environment: Mapping[str, str] = MappingProxyType({}),
        protocol: str = "tcp",
    ) -> None:
        self.folder, self._cleanup, self._environment = folder, cleanup, environment
        with socket.create_server((host, 0)) as probe:
            port = probe.getsockname()[1]
        self.address = f"{protocol}://{host}:{port}"
        self._seen = folder / "seen"
        self._seen.write_text("")
        self._fake = fake_invoke(folder / "fake", FAKE)
        command = [sys.executable, "-m", "dask", "scheduler", "--no-dashboard", "--no-show"]
        command += ["--protocol", protocol, "--host", host, "--port", str(port)]
        self._start("scheduler", command, {})

    def _start(
        self,
        name: str,
        command: Sequence[str],
        environment: dict[str, str],
        checkout: Path = paths.PROJECT,
    ) -> subprocess.Popen[bytes]:
        with (self.folder / f"{name}.log").open("wb") as log:
            process = subprocess.Popen(
                command,
                cwd=checkout,
                env={
                    **os.environ,
                    "DASK_DISTRIBUTED__SCHEDULER__WORKER_TTL": "8s",
                    **self._environment,
                    **environment,
                },
                stdout=log,
                stderr=log,
            )
        self._cleanup.callback(lambda: kill_tree(process))
        return process

    def worker(
        self,
        name: str,
        *,
        fake: bool = True,
        checkout: Path = paths.PROJECT,
        wrapper: Sequence[str] = (),
        **environment: str,
    ) -> subprocess.Popen[bytes]:
        """One called *name*, in *checkout*, which builds in earnest or only as a *fake*."""
        serve = f"cluster.serve({self.address!r}, jobs=1, memory=5000)"
        command = [sys.executable, "-c", f"from tarpit_builder.matrix import cluster; {serve}"]
        environment |= {"TARPIT_DIST": str(self.folder / name), "SEEN": str(self._seen)}
        environment |= {"WORKER": name}
        environment |= {"PYTHONPATH": self._fake} if fake else {}
        return self._start(name, [*wrapper, *command], environment, checkout)

    def await_workers(self, count: int) -> None:
        """Return once so many have joined."""
        with Client(self.address, set_as_default=False) as client:
            client.wait_for_workers(count, timeout=60)

    def seen(self) -> list[list[str]]:
        """What fakes were told to do: step, kernel, worker."""
        return [line.split() for line in self._seen.read_text().splitlines()]

    def await_seen(self, count: int, seconds: float = 60) -> None:
        """Return once so much was seen."""
        deadline = time.monotonic() + seconds
        while len(self.seen()) < count:
            assert time.monotonic() < deadline, self.logs()
            time.sleep(0.05)

    def logs(self) -> str:
        """What scheduler and workers say."""
        return "\n".join(path.read_text() for path in self.folder.glob("*.log"))

    @property
    def options(self) -> RunOptions:
        """For a run on it."""
        store = str(self.folder / "store")
        return RunOptions(dist=self.folder / "dist", cluster=self.address, store=store)

    def command(self, cells: str = FILE) -> list[str]:
        """The same as a command, of the matrix *cells*."""
        file = self.folder / "cells.toml"
        file.write_text(cells)
        words = [str(INVOKE), "matrix", "--run", "--file", str(file), "--cluster", self.address]
        return [*words, "--store", str(self.folder / "store")]
