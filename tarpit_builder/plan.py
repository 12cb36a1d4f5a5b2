"""From a request to a plan, with the reason of every choice."""

from __future__ import annotations

import json
import shlex
from dataclasses import asdict, dataclass
from typing import TYPE_CHECKING, Any

from tarpit_builder import kernels
from tarpit_builder.digests import digest
from tarpit_builder.kernels.kernel import Choice, Kernel

if TYPE_CHECKING:
    from tarpit_builder.request import Request
    from tarpit_builder.sources.debian import Archive
    from tarpit_builder.sources.mirrors import Mirrors


@dataclass(frozen=True, slots=True)
class Plan:
    """Everything that a build does, decided before it starts; *mirrors* have the kernel."""

    kernel: Kernel
    mirrors: Mirrors

    @property
    def name(self) -> str:
        """The folder of the result below ``dist/``."""
        return self.kernel.name

    @property
    def command(self) -> str:
        """The command that makes the same again."""
        words = (*self.kernel.request.words(), *self.mirrors.words())
        return shlex.join(["invoke", "build", *words])

    @property
    def choices(self) -> tuple[Choice, ...]:
        """Every choice, with its reason."""
        kernel = self.kernel
        return (
            *kernel.choices,
            *kernel.tree.choices(),
            *kernel.userland.choices(),
            Choice("mirror", self.mirrors.main, self.mirrors.why),
            *self._security(),
        )

    def _security(self) -> tuple[Choice, ...]:
        if self.mirrors.security == self.mirrors.main:
            return ()
        return (Choice("  security", self.mirrors.security, self.mirrors.why_security),)

    @property
    def warnings(self) -> tuple[str, ...]:
        """What is to be known of it before it is carried out."""
        return (*self.kernel.tree.warnings(), *self.kernel.userland.warnings())

    def facts(self) -> dict[str, Any]:
        """The plan as plain data, for the manifest."""
        return {
            **self._identity(),
            "choices": [asdict(choice) for choice in self.choices],
            "warnings": list(self.warnings),
        }

    def key(self) -> str:
        """A digest of every input that the plan names; sources and scripts come on top."""
        parts = (*self.kernel.tree.inputs(), *self.kernel.userland.inputs())
        return digest([json.dumps(self._identity(), sort_keys=True), *parts])

    def _identity(self) -> dict[str, Any]:
        kernel = self.kernel
        return {**kernel.facts, **kernel.tree.facts(), **kernel.userland.facts()}


def make(request: Request, archive: Archive) -> Plan:
    """The plan for *request*; nothing is built, and of sources only indexes are read.

    :raises UserError: if the request cannot be met, or names what is not there.
    """
    owner = kernels.origin(request.kernel, request.kernel_tree)
    mirrors = owner.archive(request, archive).mirrors
    return Plan(kernels.find(request, archive), mirrors)
