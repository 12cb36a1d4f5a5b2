"""Machines for tests to boot."""

from __future__ import annotations

import shutil
from collections.abc import Callable, Iterator
from contextlib import ExitStack
from pathlib import Path

import pytest

from tarpit_builder.build import BuildResult
from tests.guest.booted import Guest
from tests.guest.image import Image
from tests.packaging.conftest import built, built_later, engine

__all__ = ["Boot", "boot", "built", "built_later", "engine", "install"]

Boot = Callable[..., Guest]


@pytest.fixture
def boot(tmp_path: Path) -> Iterator[Boot]:
    """Boots guests of images, each with a disk of its own; they end with the test."""
    count = 0
    with ExitStack() as cleanup:

        def start(image: Image, **how: object) -> Guest:
            nonlocal count
            count += 1
            folder = tmp_path / f"guest-{count}"
            folder.mkdir()
            cleanup.callback(shutil.rmtree, folder, ignore_errors=True)
            return cleanup.enter_context(Guest(image, folder, **how))  # type: ignore[arg-type]

        yield start


def install(guest: Guest, result: BuildResult, folder: str = "/root") -> str:
    """Install the prebuilt module and what belongs to it; what apt said.

    The packages of *result* stay in *folder* of the guest.
    """
    debs = [path for path in result.packages() if "-dkms_" not in path.name]
    guest.copy_in({f"{folder}/{path.name}": path for path in debs})
    names = " ".join(f"{folder}/{path.name}" for path in debs)
    done = guest.run(f"apt-get install -yq {names}", seconds=300)
    assert done.status == 0, done.output
    return done.output
