"""Fetches and unpacks a kernel again and again, and is killed while it does.

Run as a program with a catalogue, a cache, a lock file and a target.  It reads a number of seconds
per line and prints how the attempt ended: ``killed`` that long after its start, ``done``, or
``failed`` with the reason.  A negative number means: let it finish.
"""

from __future__ import annotations

import os
import signal
import sys
import time
from pathlib import Path

import filelock
import requests

from tarpit_builder.console import Console
from tarpit_builder.sources import SourceOptions, Tarball, fetch_kernel, repository
from tarpit_builder.sources.catalogue import Catalogue
from tarpit_builder.sources.store import Store
from tarpit_builder.sources.trust import TrustFile
from tarpit_builder.versions import KernelVersion

LOADED = (filelock.FileLock, requests.get, repository.fetch)  # before forking, to fork quickly


def attempt(catalogue: Path, cache: Path, lock: Path, target: Path, version: str) -> None:
    """What each child does."""
    options = SourceOptions(catalogue=Catalogue.load(catalogue), trust=TrustFile(lock))
    source = Tarball(KernelVersion.parse(version))
    tree = fetch_kernel(source, Store(cache), Console(quiet=True), options=options)
    tree.unpack(target)


def main(arguments: list[str]) -> None:
    """Serve one attempt for each line of standard input."""
    catalogue, cache, lock, target = map(Path, arguments[:4])
    for line in sys.stdin:
        delay = float(line)
        child = os.fork()
        if child == 0:
            try:
                attempt(catalogue, cache, lock, target, arguments[4])
            except BaseException as error:
                print(f"failed {error}", flush=True)
                os._exit(1)
            os._exit(0)
        if delay >= 0:
            time.sleep(delay)
            os.kill(child, signal.SIGKILL)
        _, status = os.waitpid(child, 0)
        print("killed" if os.WIFSIGNALED(status) else ("done" if status == 0 else ""), flush=True)


if __name__ == "__main__":
    main(sys.argv[1:])
