"""What an origin finds: a kernel, its build tree and its userland, behind one interface each.

Everything that builds, packs, proves or measures works on these and does not know of origins.
"""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any, ClassVar

from tarpit_builder.errors import UserError
from tarpit_builder.request import Request, option

if TYPE_CHECKING:
    from tarpit_builder.console import Console
    from tarpit_builder.container import Files, Recipe
    from tarpit_builder.proof import Subject
    from tarpit_builder.sealed import Workshop
    from tarpit_builder.sources.catalogue import Catalogue
    from tarpit_builder.sources.debian import Archive


@dataclass(frozen=True, slots=True)
class Choice:
    """One line of ``invoke explain``: what was chosen, and why."""

    topic: str
    value: str
    reason: str


class Part(ABC):
    """What a build tree and a userland have in common: they are planned, then fetched."""

    @abstractmethod
    def choices(self) -> tuple[Choice, ...]:
        """What was chosen, and why."""

    def warnings(self) -> tuple[str, ...]:
        """What is to be known before it is used."""
        return ()

    @abstractmethod
    def facts(self) -> dict[str, Any]:
        """The choices as plain data, for the manifest and the key of the build."""

    @abstractmethod
    def inputs(self) -> tuple[str, ...]:
        """Digests of what goes into a build and is known before anything is fetched."""

    def fetch(self, console: Console) -> tuple[str, ...]:
        """Fetch what has to be seen before a build can tell whether it is there already.

        Digests of that are returned.

        :raises TarpitError: if it cannot be had or verified.
        """
        return ()

    def manifest(self) -> list[dict[str, object]]:
        """The sources that were used, after :meth:`fetch`."""
        return []


class KernelTree(Part):
    """Where the kernel's headers and build system come from."""


class Userland(Part):
    """What the packages are for: the iptables and the package tools that are there."""

    @property
    @abstractmethod
    def recipes(self) -> tuple[Recipe, ...]:
        """The images that are built in; the first makes the module."""

    @abstractmethod
    def source(self) -> Files:
        """What the packages are made of, as far as it is this project's."""

    @abstractmethod
    def build(self, workshop: Workshop, stage: Path) -> None:
        """Make packages, and what else the user gets, in *stage*.

        :raises BuildError: if a step fails.
        :raises UserError: if a step finds that the request cannot be met.
        """

    @abstractmethod
    def install(self, manifest: Mapping[str, Any]) -> tuple[str, ...]:
        """How to install what *manifest* is of, in lines, with ``{folder}`` for its folder."""

    def signing(self) -> Files:
        """The scripts that put signatures into the modules of a package.

        :raises UserError: if there is no such package.
        """
        raise UserError(
            "modules are signed for kernels of a distribution",
            hint="a kernel of one's own has a key of its own, and scripts/sign-file in its tree",
        )

    def sign(
        self, workshop: Workshop, package: Path, signatures: Files, version: str, stage: Path
    ) -> None:
        """Make *package*, with *signatures* in its modules, as *version* in *stage*.

        :param signatures: ``MODULE.ko.p7s`` of each module, and ``certificate.der``.
        :raises BuildError: if that fails.
        """
        raise NotImplementedError

    @abstractmethod
    def demand_provable(self, *, given: bool, in_tree: str) -> None:
        """Refuse what cannot be proven, before anything is built.

        :param given: the packages under proof are not what was built.
        :param in_tree: ``m`` or ``y`` to have TARPIT in the kernel's own tree instead.
        :raises UserError: if that cannot be proven.
        :raises SourceError: if there are headers for the kernel but not the kernel.
        """

    @abstractmethod
    def subject(
        self, workshop: Workshop, packages: tuple[Path, ...], built: Path | None, in_tree: str
    ) -> Subject:
        """What is booted, and proven.

        :param packages: those under proof.
        :param built: the folder with what else was built along; None if *packages* are another's.
        """


@dataclass(frozen=True, slots=True)
class Kernel:
    """One kernel, with all that building for it and booting it takes.

    *request* names exactly this kernel, *name* is its folder below ``dist/``; *choices* say who
    it is, and why this one; *facts* are the same as data.
    """

    request: Request
    name: str
    tree: KernelTree
    userland: Userland
    choices: tuple[Choice, ...]
    facts: Mapping[str, Any] = field(default_factory=dict)

    @property
    def arch(self) -> str:
        """The architecture, by Debian's name."""
        return self.request.arch


class Origin(ABC):
    """Whoever makes kernels: resolves their names, and knows tree, compiler and userland."""

    architectures: tuple[str, ...]
    """By Debian's names; the first is the default."""

    takes: ClassVar[frozenset[str]]
    """The fields of a request, beside kernel and arch, that mean something here."""

    shares_image: ClassVar[bool]
    """All kernels are built in one image, which is worth making once for all."""

    @abstractmethod
    def owns(self, name: str, tree: str = "") -> bool:
        """Whether *name*, as in a request, is written as a kernel of this origin.

        :param tree: the tree of the user's that goes with it, ``""`` if none is named.
        """

    @abstractmethod
    def find(self, request: Request, archive: Archive) -> Kernel:
        """The kernel that *request* means.

        :raises UserError: if there is none; the message suggests near ones.
        """

    def archive(self, request: Request, archive: Archive) -> Archive:
        """Where the kernel of *request* is looked for; *archive* is Debian's, or one like it."""
        return archive

    @abstractmethod
    def expand(self, name: str, take: str, catalogue: Catalogue) -> tuple[str, ...]:
        """The kernels that *name*, in a matrix, stands for.

        :param take: of a range, ``first`` or ``last`` of each series, or ``all``.
        :raises UserError: if it stands for none.
        """

    @abstractmethod
    def refusal(self, option: str, kernel: str) -> UserError:
        """What to say of an *option* that means nothing for *kernel*."""

    def check(self, request: Request) -> None:
        """Refuse options that mean nothing for a kernel of this origin.

        :raises UserError: naming the first.
        """
        taken = {"--arch", *map(option, self.takes)}
        for name in request.given():
            if name not in taken:
                raise self.refusal(name, request.kernel)


IN_TREE = {"m": "a module", "y": "a part of the image"}
"""How TARPIT can be in a kernel's own tree."""


def refuse_in_tree(in_tree: str) -> None:
    """Refuse TARPIT *in_tree*, for a kernel whose tree is not built here.

    :raises UserError: if it is asked for.
    """
    if in_tree:
        raise UserError(
            "--in-tree is for releases of kernel.org",
            hint="name one that has a patch, such as --kernel 2.6.24",
        )
