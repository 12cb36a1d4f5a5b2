"""The machine at hand, or another one's build tree: whatever distribution it is of.

``--kernel running`` where the running kernel is none that an apt archive has, and
``--kernel-tree`` with a tree that lies ready to build modules in.
"""

from __future__ import annotations

import os
from pathlib import Path
from typing import TYPE_CHECKING

from tarpit_builder import architectures, suites
from tarpit_builder.errors import UserError
from tarpit_builder.kernels import host, prepared, rules
from tarpit_builder.kernels.kernel import Choice, Kernel, Origin
from tarpit_builder.kernels.prepared import Facts, Prepared
from tarpit_builder.request import ARCHITECTURE, Request
from tarpit_builder.sources import buildtree, local

if TYPE_CHECKING:
    from tarpit_builder.sources.catalogue import Catalogue
    from tarpit_builder.sources.debian import Archive

RUNNING = "running"
BUILD = "/lib/modules/{release}/build"
"""Where the build tree of an installed kernel is, on every distribution (modules_install)."""


class MachineKernels(Origin):
    """Kernels that a machine has, with the tree that is there to build modules for them."""

    architectures = architectures.built_for()
    takes = frozenset({"kernel_tree", "userland"})
    shares_image = False

    def owns(self, name: str, tree: str = "") -> bool:
        """That of a *tree* that lies ready, and the kernel that runs, where no archive has such."""
        if name == RUNNING:
            return bool(tree) or not in_an_archive(os.uname().release)
        return is_ready(tree)

    def find(self, request: Request, archive: Archive) -> Kernel:
        """The kernel of the tree that *request* names, or of the one that runs.

        :raises UserError: if there is no tree, it is of another kernel, or cannot be built in.
        """
        folder = Path(request.kernel_tree or BUILD.format(release=os.uname().release))
        if not request.kernel_tree and not (folder.exists() or folder.is_symlink()):
            raise UserError(
                f"this machine runs {folder.parent.name}, which is in no archive, and has no build "
                f"tree at {folder}",
                hint=_install(),
            )
        tree = buildtree.find(folder)
        facts = prepared.read(tree)
        _check(request, facts, tree.folder)
        system = host.system(tree, facts, request.userland)
        bench = prepared.workbench(tree, facts, archive, system.debian)
        source = Prepared(tree, facts, bench)
        exact = Request(
            facts.release,
            facts.arch,
            userland=request.userland,
            kernel_tree=str(tree.folder),
        )
        userland = host.HostUserland(source, system, archive.of(system.of, facts.arch).userland())
        why = "this machine runs it" if request.kernel == RUNNING else "what the build tree is for"
        return Kernel(
            request=exact,
            name="-".join(filter(None, (facts.release, request.userland, "tree"))),
            tree=source,
            userland=userland,
            choices=(Choice("kernel", f"{facts.release}, {facts.arch}", why),),
            facts={"kernel": facts.release, "arch": facts.arch, "module": "xt_TARPIT"},
        )

    def expand(self, name: str, take: str, catalogue: Catalogue) -> tuple[str, ...]:
        """None: what lies on one machine is for no matrix."""
        return ()

    def refusal(self, option: str, kernel: str) -> UserError:
        """Options about sources and configurations, which a tree that lies ready has."""
        return UserError(
            f"{option} means nothing for a build tree that lies ready",
            hint=f"leave {option} out: the tree has what it says",
        )


def in_an_archive(release: str) -> bool:
    """Whether a kernel that calls itself *release* is one of a known distribution's archive."""
    others = (one for name, one in suites.distributions().items() if name != suites.DEBIAN)
    return bool(architectures.of_kernel(release)) or any(one.is_abi(release) for one in others)


def is_ready(folder: str) -> bool:
    """Whether ``--kernel-tree`` *folder* is a tree that lies ready, and no kernel's source."""
    path = Path(folder).expanduser()
    return bool(folder) and buildtree.is_ready(path)


def name_of(folder: str) -> str:
    """What ``--kernel`` calls the kernel that ``--kernel-tree`` *folder* is of; ``""`` if unknown.

    :raises UserError: if there is nothing to read it from.
    """
    path = Path(folder).expanduser()
    if is_ready(folder):
        return prepared.read(buildtree.find(path)).release
    if buildtree.leads_nowhere(path) or path.is_file():
        buildtree.find(path)  # which says what is missing
    return str(local.release_of(path) or "") if path.is_dir() else ""


def _check(request: Request, facts: Facts, folder: Path) -> None:
    """Refuse what contradicts the tree.

    :raises UserError: naming it.
    """
    asked = os.uname().release if request.kernel == RUNNING else request.kernel
    if asked != facts.release:
        runs = ", which this machine runs" if request.kernel == RUNNING else ""
        raise UserError(
            f"{folder} is the build tree of {facts.release}, not of {asked}{runs}",
            hint=f"add --kernel {facts.release}, or name the tree of the other",
        )
    if request.arch not in {facts.arch, ARCHITECTURE}:
        raise UserError(
            f"the configuration of {folder} is of {facts.arch}, not {request.arch}",
            hint=f"leave --arch out, or name a tree of {request.arch}",
        )


def _install() -> str:
    """How build trees are installed here."""
    identity = host.os_release(Path("/"))
    for row in rules.table("machines.toml")["system"]:
        if identity.get("ID") in row["ids"]:
            return f"{row['headers']}, and run this again"
    return "install its headers or development package, or name its build tree with --kernel-tree"
