"""A build tree that a kernel's source becomes: verified, configured, prepared in the build."""

from __future__ import annotations

import os
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any

from tarpit_builder import architectures, paths, sources
from tarpit_builder.console import Console
from tarpit_builder.container import Engine, Files, Input, Recipe, Tar
from tarpit_builder.digests import content, digest
from tarpit_builder.errors import UserError
from tarpit_builder.kernels import rules
from tarpit_builder.kernels.configuration import KernelFiles
from tarpit_builder.kernels.kernel import Choice, KernelTree
from tarpit_builder.kernels.toolchain import Layer
from tarpit_builder.request import Request
from tarpit_builder.sources import (
    MODULE_BUILD,
    FetchedTree,
    GitRepository,
    IptablesSource,
    SourceOptions,
    Tarball,
    outlook,
)
from tarpit_builder.sources.context import Context
from tarpit_builder.sources.debian import Archive
from tarpit_builder.sources.store import Store
from tarpit_builder.versions import IptablesVersion, KernelVersion

SCRIPTS = paths.PROJECT / "containers" / "upstream"
DEFAULT_CONFIG = SCRIPTS / "default.config"
SUITE_CONFIG = SCRIPTS / "suite.config"
KERNEL_ARCHITECTURES = {name: architectures.known()[name].make for name in architectures.sources()}
"""Debian's names and the kernel's."""


@dataclass(frozen=True, slots=True)
class SourcePlaces:
    """Where source trees come from: release tarballs, unless *request* names other places."""

    archive: Archive
    request: Request

    @classmethod
    def of(cls, request: Request, archive: Archive) -> SourcePlaces:
        """Those of *request*; the environment names git repositories, too."""
        kernel_git = request.kernel_git
        if not kernel_git and not request.kernel_tree:
            kernel_git = os.environ.get("TARPIT_KERNEL_GIT", "")
        iptables_git = request.iptables_git or os.environ.get("TARPIT_IPTABLES_GIT", "")
        return cls(archive, request.but(kernel_git=kernel_git, iptables_git=iptables_git))

    @property
    def store(self) -> Store:
        """Where they are kept."""
        return self.archive.store

    @property
    def options(self) -> SourceOptions:
        """How they are verified."""
        return SourceOptions(trust_on_first_use=self.request.trust_on_first_use)

    def kernel(self, version: KernelVersion, console: Console) -> FetchedTree:
        """The verified tree of the kernel that is built for.

        :raises UserError: if ``--kernel-tree`` or ``--ref`` is another release.
        """
        tree = sources.fetch_kernel(
            self._kernel(version), self.store, console, options=self.options
        )
        if isinstance(tree.version, KernelVersion) and tree.version != version:
            raise UserError(
                f"{tree.origin} is Linux {tree.version}, not {version}",
                hint=f"add --kernel {tree.version}, or name another tree",
            )
        return tree

    def headers(self, version: KernelVersion, console: Console) -> FetchedTree:
        """The verified tree of another release, whose headers iptables needs."""
        source = sources.kernel_source(version, git=self.request.kernel_git)
        return sources.fetch_kernel(source, self.store, console, options=self.options)

    def iptables(self, version: IptablesVersion, console: Console) -> FetchedTree:
        """The verified tree of an iptables release."""
        source = self._iptables(version)
        return sources.fetch_iptables(source, self.store, console, options=self.options)

    def outlook(self, version: KernelVersion | IptablesVersion, *, headers: bool = False) -> Choice:
        """Where that tree comes from, and how it is checked; nothing is fetched.

        :param headers: of a kernel, whether it is the one for :meth:`headers`.
        :raises UserError: if options contradict each other, or name what is not there.
        """
        context = Context.of(self.store, Console(quiet=True), self.options)
        if isinstance(version, IptablesVersion):
            seen = outlook.of_iptables(self._iptables(version), version, context)
        elif headers:
            source = sources.kernel_source(version, git=self.request.kernel_git)
            seen = outlook.of_kernel(source, version, context)
        else:
            seen = outlook.of_kernel(self._kernel(version), version, context)
        return Choice("source", f"{version.stem}: {seen.place}", f"verified by: {seen.verified}")

    def _kernel(self, version: KernelVersion) -> sources.KernelSource:
        named = self.request
        return sources.kernel_source(
            version,
            git=named.kernel_git,
            ref=named.ref,
            tree=named.kernel_tree,
            archive=self.archive,
        )

    def _iptables(self, version: IptablesVersion) -> IptablesSource:
        place = self.request.iptables_git
        return GitRepository(place, version) if place else Tarball(version)


@dataclass(slots=True)
class Source(KernelTree):
    """The source of Linux *version*, from *places*, for *arch*.

    *layer* makes the module and *image_layer* a whole kernel, in the image of *recipe*; *files*
    are the user's, *fragments* what ours is configured by, *suffix* is what follows the version
    in ``uname -r``, if they say so; *untried* is what to say of a release that nobody has built.
    """

    version: KernelVersion
    arch: str
    places: SourcePlaces
    layer: Layer
    image_layer: Layer
    recipe: Recipe
    files: KernelFiles
    fragments: tuple[Path, ...] = (DEFAULT_CONFIG,)
    suffix: str = ""
    untried: tuple[str, ...] = ()
    _tree: FetchedTree | None = None

    @property
    def karch(self) -> str:
        """The architecture, by the kernel's name."""
        return KERNEL_ARCHITECTURES[self.arch]

    @property
    def image(self) -> str:
        """What the Makefile of the kernel calls an image that can be booted."""
        return architectures.sources()[self.arch].image

    @property
    def debug(self) -> rules.DebugRule | None:
        """What finds mistakes of the module in it, if that is asked for."""
        kind = self.places.request.debug
        return rules.debug(kind) if kind else None

    @property
    def patch(self) -> Path | None:
        """The in-tree form of TARPIT for this release, if there is one."""
        return rules.patch(self.version)

    def choices(self) -> tuple[Choice, ...]:
        """Where it comes from, how it is patched, configured and compiled."""
        request, patch = self.places.request, self.patch
        compiler = (
            Choice("compiler", f"that of {request.image}", "asked for with --image")
            if request.image
            else Choice(
                "compiler",
                " ".join(self.layer.compiler),
                f"that of Debian {self.recipe.suite}, still served",
            )
        )
        return (
            self.places.outlook(self.version),
            Choice(
                "patch", patch.name, "the same source for the kernel's own tree, handed out along"
            )
            if patch
            else Choice("patch", "none", "there is none for this release; the module needs none"),
            Choice("config", str(request.config), "of the kernel that the module is for")
            if request.config
            else Choice(
                "config",
                " and ".join(str(path.relative_to(paths.PROJECT)) for path in self.fragments),
                "SMP, module unloading, no symbol versions; --config names another",
            ),
            compiler,
            *(Choice("  fix", fix.name, fix.why) for fix in self.layer.fixes),
        )

    def warnings(self) -> tuple[str, ...]:
        """What its configuration leaves to be wished for."""
        if self.places.request.config:
            return (*self.untried, *self.files.warnings)
        return (
            *self.untried,
            "built for this project's default configuration, which is not that of a distribution's "
            "kernel; --config names another",
            *self.files.warnings,
        )

    def facts(self) -> dict[str, Any]:
        """The fixes of the toolchain."""
        return {"toolchain": list(self.layer.names)}

    def inputs(self) -> tuple[str, ...]:
        """Digests of toolchain, image, configuration and patch."""
        return (
            self.recipe.identity,
            content(*self.layer.files().values()),
            content(*(value for _, value in sorted(self.configuration().items()))),
            content(*([self.patch.read_bytes()] if self.patch else [])),
        )

    def fetch(self, console: Console) -> tuple[str, ...]:
        """Fetch and verify the tree; an image of the user's may change under its name, too."""
        tree = self.tree(console).tree
        if not self.recipe.foreign:
            return (tree,)
        return (tree, Engine.connect().ensure_image(self.recipe, console))

    def tree(self, console: Console) -> FetchedTree:
        """The verified tree, fetched once."""
        if self._tree is None:
            self._tree = self.places.kernel(self.version, console)
        return self._tree

    def manifest(self) -> list[dict[str, object]]:
        """The tree, if it was fetched."""
        return [self._tree.manifest()] if self._tree else []

    def configuration(self, settings: str = "") -> dict[str, bytes]:
        """What the scripts configure the kernel by, with *settings* beside it."""
        files = self.files
        request = (
            {"config": files.config + settings.encode()}
            if files.config is not None
            else {
                "fragment": b"".join(path.read_bytes() for path in self.fragments)
                + settings.encode()
            }
        )
        return request | ({"symvers": files.symvers} if files.symvers is not None else {})


def for_modules(tree: FetchedTree, arch: str = architectures.BUILD) -> Input:
    """What building modules for *arch* against *tree* takes of it, at ``/kernel``."""
    parts = (*MODULE_BUILD, *architectures.sources()[arch].tree)
    return Input("/kernel", [Tar(partial(tree.tar, only=parts))], digest([tree.tree, *parts]))


def whole(tree: FetchedTree, mount: str) -> Input:
    """All of *tree*, at *mount*."""
    return Input(mount, [Tar(tree.tar)], digest([tree.tree, "whole"]))


def layer_input(layer: Layer) -> Input:
    """*layer*, where the scripts look for it."""
    return Input("/layer", [Files(layer.files())])
