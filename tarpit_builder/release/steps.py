"""The steps of a release up to its assets.

Each first looks at the world whether it is done, so that a release which was killed goes on.
"""

from __future__ import annotations

from pathlib import Path
from typing import Protocol

from tarpit_builder import digests, evidence, paths
from tarpit_builder.attest import check, keys, make
from tarpit_builder.attest.check import Policy
from tarpit_builder.build import MANIFEST, finished
from tarpit_builder.errors import CheckFailedError, InfrastructureError, TarpitError
from tarpit_builder.leftovers import scratch
from tarpit_builder.publish import attestations, audit, choose, demand_valid, incoming
from tarpit_builder.publish.audit import KEY
from tarpit_builder.release import assets, checks, committing, drafting, proven
from tarpit_builder.release.course import Course
from tarpit_builder.release.options import MATRIX
from tarpit_builder.signing import certificate as certificates
from tarpit_builder.signing import sign, signature

REMEDY = "fix what the output above says, and give the same command again"


class ReleaseStep(Protocol):
    """A step: its *title*, and what it does in a few words (*plan*)."""

    title: str
    plan: str

    def done(self, course: Course) -> str:
        """What there is if it is done, ``""`` if it is not; changes nothing."""

    def take(self, course: Course) -> None:
        """Do it."""


class Checks:
    """The tests and the patches, on the commit that the release is made from."""

    title, plan = "checks", "invoke test; invoke check-patches"

    def done(self, course: Course) -> str:
        """Those that were passed."""
        wanted = [name for name in course.made.checks if name != MATRIX]
        if not set(wanted) <= checks.passed(course.checks_file, course.checked):
            return ""
        return f"{', '.join(wanted) or 'nothing'} passed at {course.checked[:12]}"

    def take(self, course: Course) -> None:
        """Run them, and remember each that passes."""
        commit = course.checked
        for name in course.made.checks:
            if name != MATRIX and name not in checks.passed(course.checks_file, commit):
                made = course.made
                checks.run_check(name, made.root, made.version, course.environment())
                checks.remember(course.checks_file, commit, name)


class CommitChanges:
    """Changelog and version, written down."""

    title, plan = "commit", "write changelog and version, and commit"

    def done(self, course: Course) -> str:
        """The commit."""
        return "" if course.made.files else course.commit[:12]

    def take(self, course: Course) -> None:
        """Write it."""
        made = course.made
        committing.commit(made)
        course.made = drafting.draft(made.version, made.root, skip=course.options.skip, tagged=True)


class Matrix:
    """Every cell built from that commit, and proven."""

    title, plan = "matrix", "build every cell from that commit, and prove it"

    def done(self, course: Course) -> str:
        """How many cells are proven."""
        judged = course.judge()
        if judged.problems or not judged.sets or judged.strays(course.results):
            return ""
        return f"{len(judged.sets)} cells proven"

    def take(self, course: Course) -> None:
        """Run the matrix, or take what was built elsewhere."""
        if built := course.options.built:
            judged = proven.judge(built, course.cells, course.commit)
            judged.demand(
                f"push the branch, let CI build and prove {course.commit[:12]}, and put what its "
                "jobs left in dist/ into --built"
            )
            proven.take(built, judged, course.results)
            return
        words = ("matrix", "--run", "--verify", *course.options.words())
        status = course.run(words)
        judged = course.judge()
        remedy = REMEDY
        if "--cluster" in words:
            remedy += (
                f"; workers need {course.commit[:12]}, so push the branch and bring them to it"
            )
        machines = status == InfrastructureError.exit_code
        judged.demand(remedy, InfrastructureError if machines else CheckFailedError)
        if status != 0:
            raise CheckFailedError(f"invoke {' '.join(words)} ends with {status}", hint=remedy)
        proven.leave_out(course.results, judged, course.work / "left-out")


class Sign:
    """Modules signed for Secure Boot, and proven again."""

    title, plan = "sign", "sign the modules for Secure Boot, and prove them again"

    def done(self, course: Course) -> str:
        """How many package sets are signed."""
        wanted = self._wanted(course)
        ours = certificates.load(Path(course.options.certificate).expanduser()).sha256
        for one in wanted:
            manifest = finished(one)
            if manifest is None or manifest.get("signed", {}).get("certificate") != ours:
                return ""
            if evidence.proven(one) is None:
                return ""
        return f"{len(wanted)} package sets" if wanted else ""

    def take(self, course: Course) -> None:
        """Sign them with the key that was named, and boot each kernel with what came of it."""
        options = course.options
        words = ["sign", "--certificate", options.certificate, "--key", options.module_key]
        words += ["--mirror", options.sources.mirror] if options.sources.mirror else []
        words += ["--offline"] if options.sources.offline else []
        course.invoke(
            words,
            CheckFailedError("the modules cannot be signed: invoke sign fails", hint=REMEDY),
            keep=(signature.PASSPHRASE,),
        )
        signed = self._wanted(course)
        by_folder = {folder: cell for cell, folder in course.judge().sets.items()}
        cells = {cell.name: cell for cell in course.cells}
        for folder in signed:
            if evidence.proven(folder) is None:
                cell = cells[by_folder[folder.with_name(folder.name.removesuffix(sign.SIGNED))]]
                given = (*cell.arguments, *options.sources.arguments(cell))
                course.invoke(
                    ("verify", *given, "--packages", str(folder)),
                    CheckFailedError(f"{folder.name} is signed and not proven", hint=REMEDY),
                )

    def _wanted(self, course: Course) -> tuple[Path, ...]:
        return tuple(one.folder for one in sign.choose(course.results))


class Attest:
    """What everything is, and that it was proven, signed."""

    title, plan = "attest", "sign where packages come from and what was proven of them"

    def done(self, course: Course) -> str:
        """How many package sets are attested."""
        sets = course.sets()
        if not sets or not course.attest_public.is_file() or self._left(course):
            return ""
        return f"{len(sets)} package sets"

    def take(self, course: Course) -> None:
        """Attest those that are not yet."""
        with paths.replacing(course.attest_public) as stage:
            stage.write_bytes(public_key(course))
        names = [folder.name for folder in self._left(course)]
        make.attest(course.results, course.signer, only=names, builder=course.options.builder)
        for error in self._left(course).values():
            raise error

    def _left(self, course: Course) -> dict[Path, TarpitError]:
        """Package sets that do not pass ``invoke check`` by the public key, each with why."""
        left = {}
        with keys.trusted((course.attest_public,)) as trusted:
            for folder in course.sets():
                try:
                    check.check(folder, trusted, Policy())
                except TarpitError as error:
                    left[folder] = error
        return left


class Repository:
    """The packages in the signed apt repository."""

    title, plan = "repository", "add the packages to the signed apt repository"

    def done(self, course: Course) -> str:
        """Until when it is valid, with all packages and attestations in it."""
        top = course.options.repo
        try:
            files = incoming.collect(course.results)
            there = audit(top)
            until = demand_valid(top)
            known = {
                digests.file(top / attestations.FOLDER / entry.place / MANIFEST)
                for entry in attestations.entries(top)
            }
        except (TarpitError, OSError):
            return ""
        attested = {digests.file(file.path.parent / MANIFEST) for file in files.values()}
        whole = all(
            pool in there and there[pool].sha256 == file.sha256 for pool, file in files.items()
        )
        return f"in {top}, valid until {until}" if whole and attested <= known else ""

    def take(self, course: Course) -> None:
        """Publish, as ``invoke repo`` does."""
        options = course.options
        words = ["repo", "--output", str(options.repo.absolute()), "--key", options.key]
        words += ["--gpg-home", str(options.gpg_home.absolute())] if options.gpg_home else []
        words += ["--url", options.url] if options.url else []
        words += ["--fetch"] if options.fetch and not options.repo.exists() else []
        course.invoke(words, CheckFailedError("the apt repository cannot be made", hint=REMEDY))


class Assets:
    """What users download, packed once and then kept."""

    title, plan = "assets", "make the report, and pack what users download"

    def done(self, course: Course) -> str:
        """How many there are."""
        try:
            key = assets.key_of(course.sets(), self._others(course))
        except (TarpitError, OSError):
            return ""
        found = assets.load(course.assets, key)
        return f"{len(found)} files in {course.assets}" if found else ""

    def take(self, course: Course) -> None:
        """Make them."""
        with scratch("report") as folder:
            words = ("report", "--output", str(folder / "report.html"), "--files")
            course.invoke(
                (*words, "--repo", str(course.options.repo.absolute())),
                CheckFailedError("the report cannot be made", hint=REMEDY),
            )
            sets = course.sets()
            version = course.made.version
            assets.make(course.assets, version, course.epoch, sets, self._others(course), folder)

    def _others(self, course: Course) -> tuple[Path, ...]:
        certificate = course.options.certificate
        own = (Path(certificate).expanduser(),) if certificate else ()
        return (course.attest_public, course.options.repo / KEY, *own)


def public_key(course: Course) -> bytes:
    """The public key of the attestations, in PEM or of OpenPGP."""
    from cryptography.hazmat.primitives.serialization import Encoding, PublicFormat
    from securesystemslib.signer import SSlibKey

    if course.options.attest_public:
        return course.options.attest_public.read_bytes()
    key = course.signer.public_key
    if isinstance(key, SSlibKey):
        crypto = key._crypto_key()
        return crypto.public_bytes(Encoding.PEM, PublicFormat.SubjectPublicKeyInfo)
    return choose(course.options.attest_key.partition(":")[2]).public()
