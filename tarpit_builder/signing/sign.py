"""Package sets of ``dist/`` with signatures in their modules: ``NAME-signed`` beside each."""

from __future__ import annotations

import fnmatch
import json
import shutil
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path
from typing import TYPE_CHECKING, Any

from tarpit_builder import build, builder, digests, paths
from tarpit_builder.attest import package_set, pinned
from tarpit_builder.attest.package_set import PACKAGE
from tarpit_builder.build import LOG, MANIFEST, finished, holding
from tarpit_builder.console import format_table
from tarpit_builder.container import Engine, Files
from tarpit_builder.errors import CheckFailedError, UserError
from tarpit_builder.leftovers import scratch
from tarpit_builder.machine import cores
from tarpit_builder.packaging.contents import MODULES
from tarpit_builder.sealed import Workshop
from tarpit_builder.signing import signature
from tarpit_builder.signing.certificate import Certificate

if TYPE_CHECKING:
    from tarpit_builder.attest.package_set import AttestedSet
    from tarpit_builder.console import Console
    from tarpit_builder.sources.debian import Archive

SIGNED = "-signed"
"""What the folder of a signed package set is called after that of the other."""

CERTIFICATE = "certificate.der"
LEFT_OUT = ".changes"
"""A list of what was built, by digest: of a signed set it would not be true."""

Signatures = Callable[[Path], bytes]
"""The signature of the module in a file, which lies in a folder called like the package set."""


@dataclass(frozen=True, slots=True)
class Unsigned:
    """A package set *of* which the *package* has modules that can be signed."""

    of: AttestedSet
    package: str

    @property
    def folder(self) -> Path:
        """Where the signed one goes."""
        return self.of.folder.with_name(self.of.folder.name + SIGNED)

    def unpack(self, folder: Path) -> tuple[Path, ...]:
        """Write the modules below *folder*.

        :raises CheckFailedError: if there are none, or one is signed.
        """
        from debian.debfile import DebFile

        found = []
        with (self.of.folder / self.package).open("rb") as stream:
            archive = DebFile(fileobj=stream).data.tgz()
            for member in archive:
                name = Path(member.name).name
                if not (member.isreg() and name.endswith(".ko")):
                    continue
                content = archive.extractfile(member)
                assert content is not None  # it is a regular file
                path = paths.make_dir(folder / self.of.folder.name) / name
                path.write_bytes(content.read())
                found.append(path)
        if not found:
            raise CheckFailedError(
                f"{self.package} has no modules", hint=f"{self.of.manifest['command']} --force"
            )
        return tuple(sorted(found))


@dataclass(frozen=True, slots=True)
class Signed:
    """The signed package set in *folder*: its *package* of modules, whether it was made now."""

    folder: Path
    package: str
    fresh: bool


def choose(dist: Path, only: Sequence[str] = ()) -> tuple[Unsigned, ...]:
    """The package sets in *dist*, or of them those that fit *only*, that can be signed.

    :raises UserError: if there are none.
    :raises CheckFailedError: if a file of one is not what was built.
    """
    found, others = [], []
    for path in sorted(dist.glob(f"*/{MANIFEST}")):
        name = path.parent.name
        if name.endswith(SIGNED) or (only and not any(fnmatch.fnmatch(name, o) for o in only)):
            continue
        of = package_set.load(path.parent)
        packages = [n for n in of.outputs if n.startswith(f"{MODULES}-") and n.endswith(PACKAGE)]
        # What a distribution's kernel trusts is up to whoever runs it; a kernel of one's own has
        # a key of its own.
        if len(packages) != 1 or "suite" not in of.plan:
            others.append(name)
            continue
        if finished(path.parent) is None:
            raise CheckFailedError(
                f"{path.parent} is not what was built: a file has another SHA-256",
                hint=f"find out who changed it; {of.manifest['command']} makes it again",
            )
        found.append(Unsigned(of, packages[0]))
    if not found:
        fits = f" called {only[0]!r}" if only else ""
        raise UserError(
            f"there is no package set{fits} in {dist} whose modules can be signed",
            hint=f"{', '.join(others)}: a kernel of one's own has its own key, and its tree "
            "scripts/sign-file"
            if others
            else "build one for a distribution's kernel: invoke build",
        )
    return tuple(found)


def by_key(key: str, certificate: Certificate) -> Signatures:
    """Signatures made here; see :func:`tarpit_builder.signing.signature.make`."""
    return lambda module: signature.make(module, key, certificate)


def from_folder(folder: Path, certificate: Certificate) -> Signatures:
    """Signatures made elsewhere: ``NAME/MODULE.ko.p7s`` below *folder*."""

    def find(module: Path) -> bytes:
        path = folder / module.parent.name / f"{module.name}{signature.SUFFIX}"
        if not path.is_file():
            raise UserError(
                f"there is no signature {path}",
                hint=f"--export FOLDER writes what is to be signed; then: {signature.HOW}",
            )
        with path.open("rb") as stream:
            data = stream.read(signature.LARGEST + 1)
        signature.check(data, module, certificate, path)
        return data

    return find


def export(chosen: Sequence[Unsigned], folder: Path) -> str:
    """Write the modules of *chosen* to *folder*, to be signed elsewhere; what to do then."""
    count = sum(len(one.unpack(paths.make_dir(folder))) for one in chosen)
    return (
        f"{count} modules of {len(chosen)} package sets in {folder}; for each:\n"
        f"  {signature.HOW}\n"
        f"then: invoke sign --certificate CERTIFICATE --signatures {folder}"
    )


def sign(
    chosen: Sequence[Unsigned],
    certificate: Certificate,
    signatures: Signatures,
    archive: Archive,
    console: Console,
) -> tuple[Signed, ...]:
    """Make the signed package sets of *chosen*, but for those that are there already.

    :raises UserError: if a key cannot be used or a signature is missing.
    :raises CheckFailedError: if a signature is not good.
    :raises SourceError: if the headers of a kernel cannot be had any more.
    :raises BuildError: if the package cannot be made.
    """
    with scratch("modules") as folder:
        # All signatures first: a token that is not there is told before anything is made.
        found = [
            (one, {path.name: signatures(path) for path in one.unpack(folder)}) for one in chosen
        ]
        return tuple(_signed(one, certificate, made, archive, console) for one, made in found)


def table(done: Sequence[Signed], certificate: Certificate) -> str:
    """What was signed, and what users do with it."""
    rows = [(one.folder.name, one.package, "" if one.fresh else "as before") for one in done]
    abi = done[0].package.removeprefix(f"{MODULES}-").partition("_")[0]
    return "\n".join(
        [
            format_table(rows, header=("package set", "modules", "")),
            "",
            f'signed by "{certificate.signer}", {certificate.sha256[:16]}, which is valid until '
            f"{certificate.ends:%Y-%m-%d}",
            f"install   sudo apt install ./xt-tarpit-common_*.deb ./{done[0].package}",
            f"enroll    sudo mokutil --import /usr/lib/xt-tarpit/{abi}/{CERTIFICATE}",
            "          then reboot and confirm it on the console, once per machine",
        ]
    )


def version(unsigned: str, certificate: Certificate) -> str:
    """The version of a package of modules with signatures.

    It sorts after *unsigned* and before the next release, and a newer certificate makes it higher.
    """
    return f"{unsigned}+signed{certificate.begins:%Y%m%d}"


def _signed(
    one: Unsigned,
    certificate: Certificate,
    made: Mapping[str, bytes],
    archive: Archive,
    console: Console,
) -> Signed:
    plan = pinned.plan(one.of, archive)
    userland = plan.kernel.userland
    now = version(one.package.split("_")[1], certificate)
    beside = Files(
        {CERTIFICATE: certificate.der}
        | {f"{name}{signature.SUFFIX}": data for name, data in made.items()}
    )
    key = digests.digest([one.of.sha256, beside.digest, now, userland.signing().digest])
    with holding(one.folder):
        manifest = finished(one.folder, key)
        if fresh := manifest is None:
            pinned.demand_sources(one.of, plan, console)
            began = datetime.now(UTC)
            with paths.staged_dir(one.folder) as stage:
                workshop = Workshop(Engine.connect(), one.of.name, console, stage / LOG, cores())
                userland.sign(workshop, one.of.folder / one.package, beside, now, stage)
                _complete(one, beside, stage)
                manifest = _manifest(one, certificate, key, began, stage)
                (stage / MANIFEST).write_text(json.dumps(manifest, indent=2) + "\n")
    assert manifest is not None
    [package] = [
        item["file"]
        for item in manifest["outputs"]
        if item["file"].startswith(f"{MODULES}-") and item["file"].endswith(PACKAGE)
    ]
    return Signed(one.folder, package, fresh)


def _complete(one: Unsigned, beside: Files, stage: Path) -> None:
    """Put the rest of the package set into *stage*, and the signatures: they reproduce it."""
    for name in one.of.outputs:
        if name != one.package and not name.endswith(LEFT_OUT):
            target = stage / name
            paths.make_dir(target.parent)
            shutil.copyfile(one.of.folder / name, target)
    for name, data in beside.members.items():
        assert isinstance(data, bytes)
        (stage / name).write_bytes(data)


def _manifest(
    one: Unsigned, certificate: Certificate, key: str, began: datetime, stage: Path
) -> dict[str, Any]:
    of = one.of
    return {
        **of.manifest,
        "key": key,
        "command": f"invoke sign --only {of.folder.name} --certificate {CERTIFICATE}",
        "sources": [
            *of.manifest["sources"],
            {"name": one.package, "sha256": of.outputs[one.package], "version": of.version},
        ],
        "signed": {
            "manifest": of.sha256,
            "package": {"file": one.package, "sha256": of.outputs[one.package]},
            "certificate": certificate.sha256,
            "signer": certificate.signer,
            "until": f"{certificate.ends:%Y-%m-%dT%H:%M:%SZ}",
        },
        "outputs": build.outputs(stage),
        "builder": builder.facts(),
        "started": f"{began:%Y-%m-%dT%H:%M:%SZ}",
        "finished": f"{datetime.now(UTC):%Y-%m-%dT%H:%M:%SZ}",
    }
