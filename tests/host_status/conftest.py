"""Packages of each suite, built once for all tests of this room."""

from tests.packaging.conftest import built, built_later, engine

__all__ = ["built", "built_later", "engine"]
