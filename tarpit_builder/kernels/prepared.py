"""A build tree that lies ready: on this machine, or unpacked from a package of headers.

Nobody vouches for it but whoever put it there; its digest is a part of what is built.
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Any

from tarpit_builder import architectures, paths, suites
from tarpit_builder.container import Files, Input, Recipe, Tar
from tarpit_builder.digests import content, digest
from tarpit_builder.errors import NetworkError, SourceError, UserError
from tarpit_builder.kernels import configuration, programs, rules, toolchain
from tarpit_builder.kernels.kernel import Choice, KernelTree
from tarpit_builder.kernels.toolchain import Layer
from tarpit_builder.packaging import changelog, contents, modern
from tarpit_builder.sealed import Step, Workshop
from tarpit_builder.sources import buildtree
from tarpit_builder.sources.buildtree import BuildTree
from tarpit_builder.sources.releases import makefile_version
from tarpit_builder.versions import KernelVersion

if TYPE_CHECKING:
    from tarpit_builder.console import Console
    from tarpit_builder.sources.debian import Archive

SCRIPTS = paths.PROJECT / "containers" / "machine"
SHARED = paths.PROJECT / "containers" / "upstream"
UTS_RELEASE = re.compile(r'^#define\s+UTS_RELEASE\s+"(?P<release>[^"]+)"', re.MULTILINE)
GCC = re.compile(r"\bgcc\b[^\n]*?\b(?P<major>\d+)\.\d+\.\d+")
FIT_RELEASE = re.compile(r"[A-Za-z0-9][A-Za-z0-9.+~_-]{0,63}", re.ASCII)
HERE = "on the machine itself, `make -C dkms` of this project builds the module"
"""What to do where no image will do."""


@dataclass(frozen=True, slots=True)
class Facts:
    """What a tree says of its kernel.

    *release* is what ``uname -r`` says there, *version* whose Makefile it has; *gcc* is the major
    version of the compiler that built it, *said* how the tree names that compiler.
    """

    release: str
    version: KernelVersion
    arch: str
    gcc: int
    said: str
    settings: Mapping[str, str]
    needs: programs.Needs
    sources: bool
    symvers: bool

    def is_set(self, name: str) -> bool:
        """Whether ``CONFIG_``\\ *name* is on."""
        return self.settings.get(f"CONFIG_{name}") == "y"


@dataclass(frozen=True, slots=True)
class Workbench:
    """The image that a tree is built in, and *why* that one; *rebuild* its programs first."""

    recipe: Recipe
    package: str
    layer: Layer
    why: str
    rebuild: bool = False


def read(tree: BuildTree) -> Facts:
    """What *tree* says of its kernel.

    :raises UserError: if it says nothing, contradicts itself, or no module of ours works there.
    :raises InfrastructureError: if it cannot be read.
    """
    config = tree.read(".config").decode(errors="replace")
    if not config:
        config = tree.read("include/config/auto.conf").decode(errors="replace")
    if not config:
        raise UserError(
            f"the build tree {tree.folder} has no configuration (.config)",
            hint="name the folder that /lib/modules/RELEASE/build leads to, or put the .config of "
            "that kernel into it and run `make modules_prepare`",
        )
    settings = configuration.settings(config)
    version = _version(tree)
    release = _release(tree, version)
    arch = _arch(tree, settings)
    configuration.demand_netfilter(settings, f"the configuration of {tree.folder}")
    table = rules.table("machines.toml")["programs"]
    found = (
        path
        for pattern in table["patterns"]
        for path in sorted(tree.find(str(Path(pattern).parent)).glob(Path(pattern).name))
        if path.is_file()
    )
    needs = programs.needs(found)
    sources = all(tree.find(name).is_file() for name in table["sources"])
    if not tree.find("scripts/basic/fixdep").is_file() and not needs.foreign:
        needs = programs.Needs(foreign="fixdep is missing")
    return Facts(
        release=release,
        version=version,
        arch=arch,
        **_compiler(tree, settings),
        settings=settings,
        needs=needs,
        sources=sources,
        symvers=_symvers(tree, settings),
    )


def _release(tree: BuildTree, version: KernelVersion) -> str:
    """What the kernel calls itself.

    What modules are marked with (``vermagic``) is in ``utsrelease.h``; ``kernel.release`` of
    Debian's kernels up to bookworm says something else.

    :raises UserError: if the tree does not say it, or lies in the place of another kernel.
    """
    names = ("include/generated/utsrelease.h", "include/linux/utsrelease.h")
    text = "".join(tree.read(name).decode(errors="replace") for name in names)
    said = UTS_RELEASE.search(text)
    release = (
        said["release"]
        if said
        else tree.read("include/config/kernel.release").decode(errors="replace")
    )
    release = release.strip()
    if not FIT_RELEASE.fullmatch(release):
        raise UserError(
            f"the build tree {tree.folder} does not say what its kernel calls itself",
            hint="it has no include/generated/utsrelease.h: run `make modules_prepare` in it, or "
            "name a tree that is ready",
        )
    parts = tree.folder.parts
    installed = parts[-2] if parts[-1:] == ("build",) and "modules" in parts[-3:-2] else release
    if installed != release:
        raise UserError(
            f"{tree.folder} is the place of the tree of {installed}, and what lies there is that "
            f"of {release}: a module of it is refused by {installed}",
            hint=f"install the headers of {installed}, or name the tree of {release} by its own "
            "place",
        )
    # A vendor may call its kernel by a name, or count on; another series is a mixture of trees.
    if re.match(r"\d+\.\d", release) and not re.match(
        rf"{re.escape(str(version.series))}(\D|$)", release
    ):
        raise UserError(
            f"the build tree {tree.folder} contradicts itself: its Makefile is of Linux {version}, "
            f"and its kernel calls itself {release}",
            hint="unpack the headers of that kernel anew, all of its packages from one version",
        )
    return release


def _version(tree: BuildTree) -> KernelVersion:
    try:
        head = tree.makefile.read_bytes()[:4096]
    except OSError as error:
        raise paths.explain_os_error(error, tree.makefile) from error
    version = makefile_version(head)
    if version is None:
        raise UserError(
            f"{tree.makefile} names no version of Linux",
            hint="name the folder that /lib/modules/RELEASE/build leads to",
        )
    return version


def _arch(tree: BuildTree, settings: Mapping[str, str]) -> str:
    arch = architectures.named_by(settings)
    half = arch == "s390x" and settings.get("CONFIG_64BIT") != "y"
    if half or arch not in architectures.built_for():
        raise UserError(
            f"the configuration of {tree.folder} is of an architecture that nothing is packed for",
            hint=f"there are {', '.join(architectures.built_for())}; {HERE}",
        )
    return arch


def _compiler(tree: BuildTree, settings: Mapping[str, str]) -> dict[str, Any]:
    """The compiler that built the kernel.

    ``CONFIG_GCC_VERSION`` is there since 4.18; ``compile.h`` has it in words since ever.

    :raises UserError: if it was not gcc, or nothing says which.
    """
    said = settings.get("CONFIG_CC_VERSION_TEXT", "").strip('"')
    if not said:
        header = tree.read("include/generated/compile.h") or tree.read("include/linux/compile.h")
        line = re.search(
            r'^#define LINUX_COMPILER\s+"([^"]*)"', header.decode(errors="replace"), re.M
        )
        said = line[1] if line else ""
    if settings.get("CONFIG_CC_IS_CLANG") == "y" or "clang" in said:
        raise UserError(
            f"the kernel of {tree.folder} was compiled by {said or 'clang'}, and here is only gcc",
            hint="on the machine itself, `make -C dkms LLVM=1` of this project builds the module",
        )
    number = settings.get("CONFIG_GCC_VERSION", "")
    if number.isdigit() and int(number):
        return {"gcc": int(number) // 10000, "said": said or f"gcc {int(number) // 10000}"}
    if match := GCC.search(said):
        return {"gcc": int(match["major"]), "said": said.partition(", GNU ld")[0]}
    raise UserError(
        f"the build tree {tree.folder} does not say which compiler built its kernel",
        hint="it has neither CONFIG_GCC_VERSION nor include/generated/compile.h: "
        "name a tree that is ready",
    )


def _symvers(tree: BuildTree, settings: Mapping[str, str]) -> bool:
    """Whether the tree says what its kernel exports.

    :raises UserError: if it does not, and the kernel checks it; or if it is of another kernel.
    """
    text = tree.read("Module.symvers").decode(errors="replace")
    versions = settings.get("CONFIG_MODVERSIONS") == "y"
    if text:
        configuration.check_symvers(text, versions=versions, what=f"Module.symvers of {tree.tree}")
    elif versions:
        raise UserError(
            f"the build tree {tree.folder} has no Module.symvers, and its kernel checks the "
            "versions of symbols (CONFIG_MODVERSIONS)",
            hint="a complete package of headers has it; so has the folder that the kernel was "
            "built in",
        )
    return bool(text)


@dataclass(slots=True)
class Prepared(KernelTree):
    """*tree*, which says *facts* of its kernel, and the *bench* that it is built on."""

    tree: BuildTree
    kernel: Facts
    bench: Workbench
    _digest: str = ""

    @property
    def recipe(self) -> Recipe:
        """The image that the module is made in."""
        return self.bench.recipe

    def choices(self) -> tuple[Choice, ...]:
        """The tree, and what builds in it."""
        of, bench = self.kernel, self.bench
        others = [f"/{place}" for place in self.tree.places.values()]
        need = f"its programs need C library {of.needs.text}"
        need = need if of.needs.glibc and not bench.rebuild else ""
        return (
            Choice(
                "headers",
                str(self.tree.folder),
                "a build tree that lies ready, as it is: nobody vouches for it; "
                f"it consists of {', '.join(others)}",
            ),
            Choice("compiler", bench.package, f"{of.said} built this kernel"),
            Choice("image", bench.recipe.tag, f"{bench.why}{f'; {need}' if need else ''}"),
            *(Choice("  fix", fix.name, fix.why) for fix in bench.layer.fixes),
            Choice(
                "module", "xt_TARPIT, from dkms/", "one source for all; probes adapt it to the tree"
            ),
        )

    def warnings(self) -> tuple[str, ...]:
        """What keeps the kernel from loading the module, or us from knowing."""
        of = self.kernel
        said = []
        if of.is_set("MODULE_SIG_FORCE"):
            said.append(
                f"{of.release} loads signed modules only (CONFIG_MODULE_SIG_FORCE), and this one "
                "is not signed: docs/secure-boot.md says how to"
            )
        if not of.symvers:
            said.append(
                f"{self.tree.folder} has no Module.symvers, so whether the kernel exports what the "
                "module calls shows only when it is loaded"
            )
        if of.gcc < min(row["gcc"][0] for row in images()):
            said.append(
                f"no suite has gcc {of.gcc} any more, which built this kernel: the module is made "
                f"by {self.bench.package}, with what kernels of that age take"
            )
        return tuple(said)

    def facts(self) -> dict[str, Any]:
        """The compiler and the fixes of the toolchain."""
        return {
            "compiler": self.bench.package,
            "toolchain": list(self.bench.layer.names),
            "kernel-version": str(self.kernel.version),
        }

    def inputs(self) -> tuple[str, ...]:
        """Digests of image, toolchain and scripts."""
        return (
            self.recipe.identity,
            content(*self.bench.layer.files().values()),
            scripts("module.sh").digest,
            contents.module_source().digest,
        )

    def fetch(self, console: Console) -> tuple[str, ...]:
        """A digest of all that the tree consists of."""
        if not self._digest:
            with console.stage(f"read {self.tree.tree.name}"):
                self._digest = self.tree.digest()
        return (self._digest,)

    def manifest(self) -> list[dict[str, object]]:
        """The tree, with its digest."""
        return [
            {
                "origin": str(self.tree.folder),
                "places": [str(place) for place in self.tree.places.values()],
                "sha256": self._digest,
            }
        ]

    def input(self, console: Console) -> Input:
        """The tree, below ``/kernel``; the volume is kept for the next build."""
        (found,) = self.fetch(console)
        return Input(
            buildtree.MOUNT, [Tar(partial(self.tree.tar, found))], digest(["build tree", found])
        )

    def module(self, workshop: Workshop, output: Path) -> None:
        """``xt_TARPIT.ko`` in *output*, with ``toolchain.txt``."""
        of = self.kernel
        prefix = "" if of.arch == architectures.BUILD else f"{architectures.c(of.arch).triplet}-"
        step = Step(
            title=f"{contents.MODULE} for {of.release}",
            script="module.sh",
            scripts=scripts("module.sh"),
            recipe=self.recipe,
            inputs=(
                self.input(workshop.console),
                Input("/src", [contents.module_source()]),
                Input("/layer", [Files(self.bench.layer.files())]),
            ),
            environment={
                "TREE": str(self.tree.place),
                "KARCH": architectures.known()[of.arch].make,
                "CROSS": prefix,
                "MODULE": contents.MODULE,
                "REBUILD": "yes" if self.bench.rebuild else "",
                "RELEASE": of.release,
                "TARPIT_VERSION": changelog.version(),
            },
            done=lambda _: of.release,
        )
        workshop.run(step, output)


def scripts(name: str) -> Files:
    """The script *name*, and what it sources."""
    return Files(
        {
            name: SCRIPTS / name,
            "lib.sh": SHARED / "lib.sh",
            "plain-calls.pl": SHARED / "plain-calls.pl",
        }
    )


def images() -> list[dict[str, Any]]:
    """The rows of suites that there are images of, the oldest first."""
    found: list[dict[str, Any]] = rules.table("machines.toml")["image"]
    return found


def workbench(tree: BuildTree, facts: Facts, archive: Archive, preferred: str = "") -> Workbench:
    """The image for *tree*.

    :param preferred: the suite of Debian that the machine itself has, if it has one.
    :raises UserError: if no compiler is new enough, or the tree's programs run in no image and
        cannot be made again.
    """
    rows = sorted(images(), key=lambda row: row["suite"] != preferred)
    newest = max(row["gcc"][-1] for row in rows)
    if facts.gcc > newest:
        raise UserError(
            f"the kernel of {tree.folder} was compiled by gcc {facts.gcc}, which no suite has: the "
            f"newest is gcc-{newest}",
            hint=f"{HERE}; a suite that has it gets a row in tarpit_builder/rules/machines.toml",
        )
    ours = next(row for row in images() if row["suite"] == toolchain.suite())
    exact = [row for row in rows if facts.gcc in row["gcc"]]
    fixes = toolchain.for_kernel(facts.version, facts.arch, image=False).fixes if not exact else ()
    runs = not facts.needs.foreign
    for row in exact or [ours]:
        if runs and programs.version(row["glibc"]) >= facts.needs.glibc:
            why = (
                "the machine's own userland"
                if row["suite"] == preferred
                else f"{row['suite']} is the first suite with that compiler"
                if exact
                else "the compiler that kernels of every age are built with"
            )
            return _bench(row["suite"], facts, archive, why, fixes)
    problem = facts.needs.foreign or (
        f"its programs need C library {facts.needs.text}, and that of "
        f"{(exact or [ours])[-1]['suite']} is {(exact or [ours])[-1]['glibc']}"
    )
    if not facts.sources or facts.arch not in {"amd64", "i386"}:
        raise UserError(
            f"the programs of the build tree {tree.folder} do not run in an image here: {problem}",
            hint=f"their sources are not in the tree either; {HERE}" if not facts.sources else HERE,
        )
    row = (exact or [ours])[0]
    why = f"{problem}: they are compiled anew from the tree's own sources"
    return _bench(row["suite"], facts, archive, why, fixes, rebuild=True)


def image(suite: suites.Suite, arch: str, compiler: str, archive: Archive) -> Recipe:
    """The image that builds packages of *suite* for *arch*; an index that has expired will do.

    :param compiler: ``""`` for the newest of the suite, which its own kernels are built with, so
        that the image may be there already.
    """
    rows = (row for row in images() if row["suite"] == suite.name)
    compiler = compiler or next((f"gcc-{row['gcc'][-1]}" for row in rows), "gcc")
    try:
        pockets = (suite.name, *suite.pockets)
        expired = any(archive.index(one, architectures.BUILD).expired for one in pockets)
    except (NetworkError, SourceError, UserError):
        expired = False  # the image may be there already; if not, that is said then
    return modern.recipe(suite, arch, compiler, archive.mirrors, expired=expired)


def _bench(
    suite: str,
    facts: Facts,
    archive: Archive,
    why: str,
    fixes: tuple[toolchain.Fix, ...],
    *,
    rebuild: bool = False,
) -> Workbench:
    known = suites.known()[suite]
    has = next(row["gcc"] for row in images() if row["suite"] == suite)
    native = f"gcc-{facts.gcc}" if facts.gcc in has else toolchain.compiler()
    package = architectures.compiler(native, facts.arch)
    if rebuild or (facts.gcc not in has and facts.arch in {"amd64", "i386"}):
        # That image has what compiling a kernel's programs takes, and makes code for i386, too.
        package = native
        recipe = toolchain.image(archive.mirrors, of=suite, native=native)
        command = native
    else:
        recipe = image(known, facts.arch, native, archive)
        cross = facts.arch != architectures.BUILD
        command = f"{architectures.c(facts.arch).triplet}-{native}" if cross else native
    return Workbench(recipe, package, Layer((command,), fixes), why, rebuild)
