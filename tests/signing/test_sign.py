"""Package sets with signatures in their modules: by a key, and by what was signed elsewhere."""

from __future__ import annotations

import json
import shutil
import struct
import subprocess
from pathlib import Path

import pytest
from debian.debfile import DebFile

from tarpit_builder import build, digests, records
from tarpit_builder.attest import check, keys, make, package_set, pinned
from tarpit_builder.attest.check import Policy
from tarpit_builder.console import Console
from tarpit_builder.container import Engine, Files, Input
from tarpit_builder.errors import CheckFailedError, UserError
from tarpit_builder.page import cells
from tarpit_builder.publish import incoming
from tarpit_builder.signing import sign, signature
from tarpit_builder.signing.sign import Signed, Unsigned
from tests.attest.kit import changed, key_pair
from tests.attest.kit import package_set as small_set
from tests.guest.image import archive
from tests.packaging.conftest import Build, built, engine
from tests.publish.kit import small_deb
from tests.signing.kit import Pair

__all__ = ["built", "engine"]

MAGIC = b"~Module signature appended~\n"
PKCS7 = 2
"""What include/linux/module_signature.h calls PKEY_ID_PKCS7."""


def chosen_in(folder: Path) -> Unsigned:
    """The package set in *folder*."""
    [found] = sign.choose(folder.parent, [folder.name])
    return found


def signed_by(folder: Path, pair: Pair, how: sign.Signatures | None = None) -> Signed:
    """The package set in *folder*, signed with the key of *pair*, or as *how* does it."""
    certificate, console = pair.certificate, Console()
    how = how or sign.by_key(str(pair.key), certificate)
    [done] = sign.sign([chosen_in(folder)], certificate, how, archive(), console)
    return done


@pytest.fixture(scope="session")
def original(built: Build) -> Path:
    """A package set as it was built."""
    return built("trixie").folder


@pytest.fixture(scope="session")
def done(original: Path, ours: Pair) -> Signed:
    """The same, signed."""
    return signed_by(original, ours)


def modules_of(package: Path) -> dict[str, bytes]:
    """The modules in *package*."""
    with package.open("rb") as stream:
        data = DebFile(fileobj=stream).data.tgz()
        found = {
            Path(member.name).name: data.extractfile(member).read()
            for member in data
            if member.isreg()
        }
    return {name: content for name, content in found.items() if name.endswith(".ko")}


def the_modules(folder: Path) -> Path:
    [package] = folder.glob("xt-tarpit-modules-*.deb")
    return package


# -- what is in them -------------------------------------------------------------------------------


@pytest.mark.docker
@pytest.mark.network
def test_module_is_what_it_was_and_a_signature(original: Path, done: Signed, ours: Pair) -> None:
    before, after = modules_of(the_modules(original)), modules_of(the_modules(done.folder))
    assert set(after) == set(before) == {"xt_TARPIT.ko", "tarpit.ko"}
    for name, content in after.items():
        made = (done.folder / f"{name}.p7s").read_bytes()
        # struct module_signature: algorithm, hash, kind, two lengths, three bytes, length.
        end = struct.pack(">5B3xI", 0, 0, PKCS7, 0, 0, len(made)) + MAGIC
        assert content == before[name] + made + end
        # RSA by PKCS #1 v1.5 has no random part: whoever has the key makes these bytes.
        unsigned = done.folder.parent / name
        unsigned.write_bytes(before[name])
        assert made == signature.make(unsigned, str(ours.key), ours.certificate)
        unsigned.unlink()


@pytest.mark.docker
@pytest.mark.network
def test_sign_file_with_the_key_makes_the_same(
    original: Path, done: Signed, ours: Pair, engine: Engine, tmp_path: Path
) -> None:
    plan = pinned.plan(package_set.load(original), archive())
    tree, userland, console = plan.kernel.tree, plan.kernel.userland, Console()
    given: dict[str, Path | bytes] = {"key": ours.key, "crt": ours.crt}
    script = "cp /in/*.ko /out && for m in /out/*.ko; do $(echo /usr/src/linux-headers-*-amd64)"
    script += "/scripts/sign-file sha256 /in/key /in/crt $m || exit 1; done"
    inputs = [
        tree.input(console),  # type: ignore[attr-defined]
        Input("/in", [Files({**given, **modules_of(the_modules(original))})]),
    ]
    image = engine.ensure_image(userland.recipes[0], console)
    run = engine.run(image, ["sh", "-c", script], inputs=inputs, output=tmp_path)
    assert run.status == 0, run.lines
    for name, content in modules_of(the_modules(done.folder)).items():
        assert (tmp_path / name).read_bytes() == content


@pytest.mark.docker
@pytest.mark.network
def test_package_replaces_the_unsigned_one_and_says_whose_it_is(
    original: Path, done: Signed, ours: Pair
) -> None:
    control = {}
    for name, folder in (("old", original), ("new", done.folder)):
        with the_modules(folder).open("rb") as stream:
            control[name] = dict(DebFile(fileobj=stream).debcontrol())
    old, new = control["old"], control["new"]
    day = f"{ours.certificate.begins:%Y%m%d}"
    assert new["Version"] == f"{old['Version']}+signed{day}"
    assert done.package == f"{old['Package']}_{new['Version']}_amd64.deb"
    # As dpkg has it where a package was not built from the source's own version.
    assert new.pop("Source") == f"{old['Package']} ({old['Version']})"
    assert int(new.pop("Installed-Size")) > int(old.pop("Installed-Size")) - 4
    old.pop("Source", None)
    assert {**old, "Version": new["Version"]} == new
    later = ["dpkg", "--compare-versions"]
    for one, other in ((old["Version"], new["Version"]), (new["Version"], "1.0.1+deb13")):
        subprocess.run([*later, one, "lt", other], check=True)
    with the_modules(done.folder).open("rb") as stream:
        package = DebFile(fileobj=stream)
        sums = package.md5sums(encoding="utf-8")
        files = {m.name.removeprefix("./") for m in package.data.tgz() if m.isreg()}
        assert set(sums) == files
        [certificate] = [name for name in files if name.endswith("/certificate.der")]
        assert package.data.get_content(certificate) == ours.der.read_bytes()
        owners = {(m.uid, m.gid, m.mode & 0o22) for m in package.data.tgz() if not m.issym()}
        assert owners == {(0, 0, 0)}


@pytest.mark.docker
@pytest.mark.network
def test_signed_again_it_is_there_already(original: Path, done: Signed, ours: Pair) -> None:
    assert done.fresh
    before = build.finished(done.folder)
    again = signed_by(original, ours)
    assert (again.fresh, again.package) == (False, done.package)
    assert build.finished(done.folder) == before
    assert 'signed by "Modules of example"' in sign.table([again], ours.certificate)


@pytest.mark.docker
@pytest.mark.network
def test_what_was_signed_elsewhere_comes_out_the_same(
    original: Path, done: Signed, ours: Pair, tmp_path: Path
) -> None:
    folder = Path(shutil.copytree(original, tmp_path / "dist" / original.name))
    out = tmp_path / "out"
    said = sign.export([chosen_in(folder)], out)
    assert f"--signatures {out}" in said
    missing = sign.from_folder(out, ours.certificate)
    with pytest.raises(UserError, match=r"there is no signature .*tarpit.ko.p7s"):
        signed_by(folder, ours, missing)
    for module in out.glob("*/*.ko"):
        command = signature.HOW.replace("MODULE.ko", str(module))
        command = command.replace("CERTIFICATE", f"'{ours.crt}'").replace("KEY", f"'{ours.key}'")
        subprocess.run(command, shell=True, check=True)  # noqa: S602  (it is what users are told)
        module.unlink()
    found = signed_by(folder, ours, sign.from_folder(out, ours.certificate))
    for name in ("xt_TARPIT.ko.p7s", done.package):
        assert digests.file(found.folder / name) == digests.file(done.folder / name)

    # And a signature of another module is none of this one.
    [one, other] = sorted(out.glob("*/*.p7s"))
    shutil.copyfile(one, other)
    with pytest.raises(CheckFailedError, match="is no signature of"):
        signed_by(folder, ours, sign.from_folder(out, ours.certificate))


# -- what others make of them ----------------------------------------------------------------------


@pytest.mark.docker
@pytest.mark.network
def test_signed_set_is_attested_published_and_shown_beside_the_other(
    original: Path, done: Signed, tmp_path: Path
) -> None:
    pem, pub = key_pair(tmp_path)
    dist = tmp_path / "dist"
    for folder in (original, done.folder):
        shutil.copytree(folder, dist / folder.name)
    make.attest(dist, keys.signer(str(pem)))
    with keys.trusted([pub]) as trusted:
        for folder in (original, done.folder):
            found = check.check(dist / folder.name, trusted, Policy((), unproven=True))
            assert found.files
    manifest = json.loads((dist / done.folder.name / "manifest.json").read_text())
    unsigned = the_modules(original)
    assert manifest["signed"]["package"] == {
        "file": unsigned.name,
        "sha256": digests.file(unsigned),
    }
    assert manifest["sources"][-1]["sha256"] == digests.file(unsigned)
    assert "+signed" in package_set.load(done.folder).version
    with pytest.raises(UserError, match="is of a signed package set"):
        pinned.plan(package_set.load(done.folder), archive())
    pool = incoming.collect(dist)
    assert {f"pool/trixie/{name}" for name in (unsigned.name, done.package)} <= set(pool)
    shown = {cell.userland for cell in cells.collect(dist) if cell.built and cell.folder}
    assert shown == {"trixie", "trixie, signed"}
    assert len(list(records.found(dist))) == 1


# -- what is refused -------------------------------------------------------------------------------


def test_set_that_was_changed_is_not_signed(tmp_path: Path) -> None:
    folder = small_set(tmp_path)
    with the_modules(folder).open("ab") as package:
        package.write(b"more")
    with pytest.raises(CheckFailedError, match="is not what was built"):
        sign.choose(tmp_path)


def test_nothing_to_sign(tmp_path: Path) -> None:
    with pytest.raises(UserError, match="there is no package set in .* — build one"):
        sign.choose(tmp_path)
    folder = small_set(tmp_path)
    with pytest.raises(UserError, match="no package set called '9.9"):
        sign.choose(tmp_path, ["9.9*"])
    plan = json.loads((folder / "manifest.json").read_text())["plan"]
    changed(folder / "manifest.json", plan={k: v for k, v in plan.items() if k != "suite"})
    with pytest.raises(UserError, match="a kernel of one's own has its own key"):
        sign.choose(tmp_path)


def test_package_without_a_module_is_told(tmp_path: Path) -> None:
    folder = small_set(tmp_path)
    package = the_modules(folder)
    package.write_bytes(small_deb(package.name.partition("_")[0], "1.0.0+deb13", "amd64").build())
    outputs = json.loads((folder / "manifest.json").read_text())["outputs"]
    for item in outputs:
        item["sha256"] = digests.file(folder / item["file"])
    changed(folder / "manifest.json", outputs=outputs)
    [one] = sign.choose(tmp_path)
    with pytest.raises(CheckFailedError, match="has no modules"):
        one.unpack(tmp_path / "out")
