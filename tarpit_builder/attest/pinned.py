"""The kernel that a manifest tells of, with its sources pinned by their digests.

No index is asked: what a distribution has today under the same name may be something else.
"""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, fields
from pathlib import Path
from typing import TYPE_CHECKING, Any

from tarpit_builder import kernels, suites
from tarpit_builder import plan as planning
from tarpit_builder.attest import provenance, strict
from tarpit_builder.errors import NetworkError, SourceError, UserError
from tarpit_builder.kernels.headers import Headers
from tarpit_builder.kernels.kernel import Kernel
from tarpit_builder.kernels.suite import SuiteUserland
from tarpit_builder.plan import Plan
from tarpit_builder.request import Request
from tarpit_builder.sources.debian import DebianKernel, Package
from tarpit_builder.sources.store import Blob

if TYPE_CHECKING:
    from tarpit_builder.attest.package_set import AttestedSet
    from tarpit_builder.console import Console
    from tarpit_builder.sources.debian import Archive

SNAPSHOT = "https://snapshot.debian.org/archive"


@dataclass(frozen=True, slots=True)
class Pinned(Package):
    """A package known by its digest, wherever it is now: *urls* are tried in order."""

    urls: tuple[str, ...] = ()

    def blob(self) -> Blob:
        """The .deb, for the store."""
        name = self.url.rsplit("/", 1)[1]
        return Blob(name=name, sha256=self.sha256, urls=self.urls, size=self.size)


def plan(of: AttestedSet, archive: Archive) -> Plan:
    """How *of* was built; of a distribution's kernel, *archive* need not have it any more.

    :raises UserError: if the manifest does not say it, or it cannot be met here.
    """
    request = _request(of)
    if "suite" in of.plan and all("package" in row for row in of.manifest["sources"]):
        owner = kernels.origin(request.kernel)
        found = owner.archive(request, archive)
        return Plan(_of_archive(of, request, found), found.mirrors)
    return planning.make(request, archive)


def demand_sources(of: AttestedSet, made: Plan, console: Console) -> None:
    """Fetch what *made* needs, and see that it is what *of* was built from.

    :raises SourceError: if something cannot be had, or is something else.
    """
    tree, userland = made.kernel.tree, made.kernel.userland
    if isinstance(tree, Headers):
        _obtain(tree, console)
        return
    tree.fetch(console)
    userland.fetch(console)
    now = [_identity(row) for row in (*tree.manifest(), *userland.manifest())]
    for row in of.manifest["sources"]:
        if _identity(row) not in now:
            name = row.get("name") or row.get("origin") or "a source"
            digest = row.get("git-tree") or row.get("sha256") or ""
            raise SourceError(
                f"{name} is not what the manifest names: {digest[:16]} is asked for",
                hint=f"it was taken from {row.get('origin', 'a place that it does not say')}; name "
                "that release again with the options of the command in the manifest",
            )


def snapshot(of: AttestedSet, archive: str = "debian") -> str:
    """Where *archive* is kept as it was when *of* was built."""
    stamp = str(of.manifest.get("finished") or "29991231T000000Z")
    return f"{SNAPSHOT}/{archive}/{stamp.replace('-', '').replace(':', '')}/"


def _identity(row: Mapping[str, Any]) -> tuple[str, str]:
    return str(row.get("git-tree") or ""), str(row.get("sha256") or "")


def _request(of: AttestedSet) -> Request:
    """What was asked for."""
    command = str(of.manifest.get("command", ""))
    if "signed" in of.manifest:
        raise UserError(
            "the manifest is of a signed package set, which is made from another one",
            hint="reproduce that one, then: invoke sign --signatures FOLDER, with the .p7s of this",
        )
    if not command.startswith("invoke build "):
        raise UserError(f"the manifest names no command that builds: {command[:80]}", hint="see it")
    known = {field.name for field in fields(Request)}
    given: dict[str, Any] = {}
    for option, value in provenance.request(command).items():
        name = option.replace("-", "_")
        if name in known:
            given[name] = value
        elif name not in {"mirror", "keyring"}:  # which are a matter of where one is
            raise UserError(
                f"the manifest was made with --{option}, which this release does not know",
                hint="use the release of tarpit-builder that made it",
            )
    for name in ("config", "symvers"):
        if name in given:
            given[name] = Path(str(given[name]))
    return Request(**given)


def _of_archive(of: AttestedSet, request: Request, archive: Archive) -> Kernel:
    """The kernel of a distribution's archive, from the manifest alone."""
    facts = of.plan
    suite = suites.find(facts.get("distribution", suites.DEBIAN), str(facts["suite"]))
    number = re.match(r"gcc-\d+", str(facts.get("compiler", "")))
    if suite is None or number is None:
        raise UserError(
            f"the manifest is for the suite {facts['suite']!r}, which this release does not know",
            hint="use the release of tarpit-builder that made it",
        )
    version = str(facts["kernel-package-version"])
    packages = tuple(_package(row, of, suite, archive) for row in of.manifest["sources"])
    kernel = DebianKernel(
        abi=str(facts["kernel"]),
        flavour="" if facts["flavour"] == "default" else str(facts["flavour"]),
        arch=str(facts["arch"]),
        version=version,
        suite=suite,
        compiler=number[0],
        packages=packages,
        image=(),
        # The image of such a suite is made with its old index, too.
        expired="then" if any(" expired on " in text for text in facts["warnings"]) else "",
    )
    tree = Headers(kernel, archive)
    names = ("kernel", "arch", "flavour", "suite", "distribution")
    return Kernel(
        request=request,
        name=request.kernel.replace("/", "-"),
        tree=tree,
        userland=SuiteUserland(tree),
        choices=(),
        facts={name: facts[name] for name in names if name in facts},
    )


def _package(
    row: Mapping[str, Any], of: AttestedSet, suite: suites.Suite, archive: Archive
) -> Pinned:
    """The source *row* of a manifest, and all places where it may be."""
    url = str(row["url"])
    name = strict.file_name(url.rsplit("/", 1)[-1], "the manifest")
    urls = [url]
    area, pool, path = url.partition("/pool/")
    if pool:
        urls += [f"{base}/pool/{path}" for base in (archive.mirrors.main, archive.mirrors.security)]
        if suite.distribution == suites.DEBIAN:
            stamp = (
                re.sub(r"[-:]", "", str(of.manifest.get("finished") or "")) or "29991231T000000Z"
            )
            kind = "debian-security" if area.endswith("security") else "debian"
            urls.append(f"{SNAPSHOT}/{kind}/{stamp}/pool/{path}")
    return Pinned(
        name=str(row["package"]),
        version=str(row["version"]),
        arch=name.removesuffix(".deb").rpartition("_")[2],
        source=str(of.plan.get("kernel-source", "linux")),
        depends="",
        url=url,
        size=int(row["size"]),
        sha256=strict.sha256(row["sha256"], "the manifest"),
        suite=suite.name,
        urls=tuple(dict.fromkeys(urls)),
    )


def _obtain(tree: Headers, console: Console) -> None:
    packages: Sequence[Package] = tree.kernel.packages
    for package in packages:
        if tree.archive.store.has(package.blob()):
            continue  # whose digest is checked when it is used
        try:
            with console.stage(package.blob().name) as stage:
                tree.archive.store.get(package.blob(), stage)
        except (SourceError, NetworkError) as error:
            places = " or ".join(package.blob().urls)
            raise SourceError(
                f"{package.name} {package.version} with the SHA-256 {package.sha256} cannot be "
                f"had: {error.message}",
                hint=f"it was looked for at {places}; name with --mirror a place that has it below "
                "pool/",
            ) from error
