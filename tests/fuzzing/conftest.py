"""A real kernel with mutants of the module, as the proof has it."""

from tests.proof.conftest import bench

__all__ = ["bench"]
