"""Machines for tests to boot."""

from __future__ import annotations

import shutil
from collections.abc import Callable, Iterator
from contextlib import ExitStack
from pathlib import Path

import pytest

from tests.guest.booted import Guest
from tests.guest.image import Image
from tests.packaging.conftest import built, built_later, engine

__all__ = ["Boot", "boot", "built", "built_later", "engine"]

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
