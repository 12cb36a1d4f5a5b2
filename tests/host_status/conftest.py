"""Packages of each suite, built once for all tests of this room, and machines to boot."""

from tests.guest.conftest import boot, built, built_later, engine

__all__ = ["boot", "built", "built_later", "engine"]
