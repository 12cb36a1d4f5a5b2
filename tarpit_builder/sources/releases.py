"""Release tarballs of kernel.org and netfilter.org, from any mirror, in any compression.

kernel.org signs the uncompressed tar (``.tar.sign``) and keeps a signed list of digests in each
folder (``sha256sums.asc``); netfilter.org signs the compressed file (``.sig``).
"""

from __future__ import annotations

import gzip
import re
import shutil
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path

from tarpit_builder.console import Stage
from tarpit_builder.errors import NetworkError, SourceError, TarpitError
from tarpit_builder.paths import explain_os_error
from tarpit_builder.sources import archive
from tarpit_builder.sources.catalogue import Digest, Release
from tarpit_builder.sources.context import Context, near
from tarpit_builder.sources.download import AbsentError, UnreachedError
from tarpit_builder.sources.signatures import UnknownSignerError
from tarpit_builder.sources.store import Store, sha256_of
from tarpit_builder.sources.tree import FetchedTree, archive_opener
from tarpit_builder.versions import IptablesVersion, KernelVersion, Version

SIGNATURE_LIMIT = 1 << 16  # bytes
SUMS_LIMIT = 8 << 20  # bytes; v6.x has 300 kB
KERNEL_LIMIT = 1 << 30  # bytes, compressed; linux 7.x has 250 MB as .gz
IPTABLES_LIMIT = 16 << 20
# xz first: kernel.org offers all releases in it, and it takes half the time of gz to fetch.
SUFFIXES: tuple[str, ...] = (".tar.xz", ".tar.bz2", ".tar.gz")


@dataclass(frozen=True, slots=True)
class _Offer:
    """Where a release may be found, and how it can be checked.

    *urls* by file name, in the order to try; *digests* are those that the catalogue has for them,
    by file name; *whole* are addresses of a signature over the
    uncompressed tar, *sums* of a signed list of digests; with *each* every file has a signature
    of its own beside it.  *tree* is the git tree id that the content must have, or ``""``.
    """

    release: Release[KernelVersion] | Release[IptablesVersion]
    known: tuple[Version, ...]
    role: str
    urls: Mapping[str, Sequence[str]]
    digests: Mapping[str, Digest]
    limit: int
    limits: archive.TreeLimits
    tree: str = ""
    whole: Sequence[str] = ()
    sums: Sequence[str] = ()
    each: bool = False

    @property
    def name(self) -> str:
        return self.release.version.stem

    @property
    def elsewhere(self) -> str:
        """How to get it from another place; builds know no mirror but Debian's, and need none."""
        return (
            f"`invoke fetch --{self.role} {self.release.version} --mirror URL` takes it from "
            "another server, or from a folder as file:///FOLDER, for all later builds"
        )


def fetch_kernel(version: KernelVersion, context: Context) -> FetchedTree:
    """The tarball of *version*.

    :raises SourceError: if there is none, or it cannot be verified.
    :raises NetworkError: if no mirror can be reached.
    """
    release = context.catalogue.kernel(version)
    stem = version.stem
    mirrors = context.places("TARPIT_KERNEL_MIRROR", context.catalogue.places.kernel)
    # A folder of one's own with nothing but tarballs in it is a mirror, too.
    bases = [f"{mirror}/{folder}" for folder in version.folders for mirror in mirrors]
    bases += [mirror for mirror in mirrors if mirror not in context.catalogue.places.kernel]
    if version.rc is not None:
        bases += context.catalogue.places.candidates
    names = kernel_files(version, context)
    return _fetch(
        _Offer(
            release=release,
            known=tuple(context.catalogue.kernels),
            role="kernel",
            urls={name: [f"{base}/{name}" for base in bases] for name in names},
            digests=context.catalogue.tarballs,
            limit=KERNEL_LIMIT,
            limits=archive.KERNEL,
            tree=release.tree,
            whole=[f"{base}/{stem}.tar.sign" for base in bases],
            sums=[f"{base}/sha256sums.asc" for base in bases],
        ),
        context,
    )


def fetch_iptables(version: IptablesVersion, context: Context) -> FetchedTree:
    """The tarball of *version*.

    :raises SourceError: if there is none, or it cannot be verified.
    :raises NetworkError: if no mirror can be reached.
    """
    release = context.catalogue.iptables_release(version)
    mirrors = context.places("TARPIT_IPTABLES_MIRROR", context.catalogue.places.iptables)
    names = iptables_files(version, context)
    return _fetch(
        _Offer(
            release=release,
            known=tuple(context.catalogue.iptables),
            role="iptables",
            urls={name: [f"{mirror}/{name}" for mirror in mirrors] for name in names},
            digests=context.catalogue.tarballs,
            limit=IPTABLES_LIMIT,
            limits=archive.IPTABLES,
            each=True,
        ),
        context,
    )


def kernel_files(version: KernelVersion, context: Context) -> list[str]:
    """The names of the tarball of *version*, in the order in which they are tried."""
    if version.rc is not None:
        return [f"{version.stem}.tar.gz"]
    names = [f"{version.stem}{suffix}" for suffix in SUFFIXES]
    if context.catalogue.kernel(version).tree:  # which says the same of every compression
        return names
    return _proven_first(names, context)


def iptables_files(version: IptablesVersion, context: Context) -> list[str]:
    """The names of the tarball of *version*, in the order in which they are tried."""
    names = [f"{version.stem}.tar.bz2", f"{version.stem}.tar.xz"]
    if version > IptablesVersion((1, 8, 8)):
        names.reverse()  # netfilter.org changed from bzip2 to xz with 1.8.9
    return _proven_first(names, context)


def _proven_first(names: Sequence[str], context: Context) -> list[str]:
    """*names* with those first that the catalogue can check by itself, else in their order."""
    known = context.catalogue.tarballs
    return sorted(names, key=lambda name: not (name in known and known[name].is_proof))


def keep(tree: FetchedTree, store: Store) -> bool:
    """Pack the release *tree* of a repository into *store*, for builds that name no repository.

    A tarball that is there already stays.  Whoever vouched for the tree is written down beside
    it, and the tree id is checked again whenever it is read.

    :raises SourceError: if the repository changed meanwhile.
    :raises InfrastructureError: if the disk refuses or is full.
    """
    if tree.path is not None or not isinstance(tree.version, Version):
        return False
    with store.lock(tree.name):
        record = store.record(tree.name)
        if record is not None and store.checked(str(record.get("sha256", ""))) is not None:
            return False
        name = f"{tree.name}.tar.gz"
        partial = store.partial(name)
        try:
            with (
                tree.tar(folder=tree.name) as content,
                partial.open("wb") as raw,
                gzip.GzipFile(tree.name, "wb", compresslevel=1, fileobj=raw, mtime=0) as packed,
            ):
                shutil.copyfileobj(content, packed, 1 << 20)
            path = store.adopt(partial, name, tree.origin)
        except OSError as error:
            raise explain_os_error(error, partial) from error
        finally:
            partial.unlink(missing_ok=True)
        store.write_record(
            tree.name,
            {
                "archive": name,
                "origin": tree.origin,
                "sha256": path.name,
                "signed": list(tree.vouchers),
                "tree": tree.tree,
            },
        )
    return True


def _fetch(offer: _Offer, context: Context) -> FetchedTree:
    with context.store.lock(offer.name):
        kept = _kept(offer, context)
        if kept is not None:
            return kept
        if context.store.offline:
            raise context.absent(offer.name)
        with context.console.stage(f"fetch {offer.name}") as stage:
            try:
                fetched = _download(offer, context, stage)
            except UnreachedError as error:
                hint = f"check the network and run the same command again; {offer.elsewhere}"
                raise NetworkError(error.message, hint=hint) from error
            stage.done(fetched.vouchers[0])
        return fetched


def _kept(offer: _Offer, context: Context) -> FetchedTree | None:
    """The tree from the cache, if it is there and would still be accepted today."""
    record = context.store.record(offer.name)
    if record is None or not {"archive", "origin", "sha256", "signed", "tree"} <= record.keys():
        return None
    path = context.store.checked(str(record["sha256"]))
    if path is None:
        return None
    tree, origin = str(record["tree"]), str(record["origin"])
    vouchers = context.judge.vouchers(
        offer.name,
        tree,
        expected=offer.tree,
        vouchers=[str(voucher) for voucher in record["signed"]],
        origin=origin,
    )
    return _tree(offer, path, str(record["archive"]), tree, origin, vouchers, cached=True)


def _tree(
    offer: _Offer,
    path: Path,
    name: str,
    tree: str,
    origin: str,
    vouchers: tuple[str, ...],
    *,
    cached: bool,
) -> FetchedTree:
    return FetchedTree(
        name=offer.name,
        version=offer.release.version,
        tree=tree,
        origin=origin,
        digests={"sha256": path.name},
        vouchers=vouchers,
        opener=archive_opener(path, name, offer.limits),
        path=path,
        cached=cached,
    )


def _download(offer: _Offer, context: Context, stage: Stage) -> FetchedTree:
    evidence = _evidence(offer, context, stage)
    failure: TarpitError | None = None
    for name, urls in offer.urls.items():
        check = _Check(offer, context, stage, name, evidence)
        try:
            if offer.each and not check.pinned:
                check.signature = _small([f"{url}.sig" for url in urls], f"{name}.sig", context)
            if not check.has_evidence and not context.judge.may_accept(offer.name):
                failure = evidence.unreached or context.judge.unknown(offer.name)
                continue
            path = context.store.fetch(name, urls, check=check, limit=offer.limit, stage=stage)
        except AbsentError as error:
            failure = failure or AbsentError(
                error.message, hint=near(offer.release.version, offer.known)
            )
            continue
        except NetworkError as error:  # some mirror that was reached may have another compression
            failure = error
            continue
        origin = context.store.origin(path)
        context.store.write_record(
            offer.name,
            {
                "archive": name,
                "origin": origin,
                "sha256": path.name,
                "signed": check.signed,
                "tree": check.tree,
            },
        )
        return _tree(offer, path, name, check.tree, origin, check.vouchers, cached=False)
    assert failure is not None
    raise failure


# -- evidence --------------------------------------------------------------------------------


@dataclass(frozen=True, slots=True)
class _Evidence:
    """What is known about all files of a release before any of them is fetched.

    *sums* are SHA-256 digests by file name that *sums_by* signed, *whole* is a signature over
    the uncompressed tar.  *unreached* tells why some of it could not be asked for, which is no
    sign that there is none.
    """

    sums: Mapping[str, str] = field(default_factory=dict)
    sums_by: str = ""
    whole: bytes | None = None
    unreached: NetworkError | None = None


def _evidence(offer: _Offer, context: Context, stage: Stage) -> _Evidence:
    if offer.tree:
        return _Evidence()  # the tree id says it all, and no mirror can lack it
    stage.note("looking for signatures")
    unreached: NetworkError | None = None
    whole = text = signed = None
    try:
        whole = _small(offer.whole, f"{offer.name}.tar.sign", context)
    except NetworkError as error:
        unreached = error
    try:
        text = _small(offer.sums, f"{offer.name}.sha256sums.asc", context, limit=SUMS_LIMIT)
        if text is not None:
            signed, signature = context.keys.verify_clear(
                text, "sha256sums.asc", f"{offer.role}-checksums"
            )
    except NetworkError as error:  # also for the key; the release may be signed by itself
        unreached = error
    if signed is None:
        return _Evidence(whole=whole, unreached=unreached)
    rows = re.findall(r"^([0-9a-f]{64})  (\S+)$", signed.decode(errors="replace"), re.MULTILINE)
    return _Evidence({name: digest for digest, name in rows}, f"sha256sums.asc, {signature}", whole)


def _small(
    urls: Sequence[str], name: str, context: Context, *, limit: int = SIGNATURE_LIMIT
) -> bytes | None:
    """What a small file says, or nothing if no place has it.

    :raises NetworkError: if no place can be asked.
    """
    if not urls:
        return None
    try:
        return context.store.read(name, urls, limit=limit)
    except AbsentError:
        return None


@dataclass(slots=True)
class _Check:
    """The whole truth about a downloaded file, in one pass; the store calls it.

    Afterwards *tree* is the git tree id of the content, *signed* who vouches for it by digest or
    signature, and *vouchers* everybody who does.
    """

    offer: _Offer
    context: Context
    stage: Stage
    name: str
    evidence: _Evidence
    signature: bytes | None = None
    tree: str = ""
    signed: list[str] = field(default_factory=list)
    vouchers: tuple[str, ...] = ()

    @property
    def known(self) -> Digest | None:
        """The digest that the catalogue has for this very file."""
        return self.offer.digests.get(self.name)

    @property
    def pinned(self) -> bool:
        """Whether the catalogue's digest is enough to accept the file."""
        return self.known is not None and self.known.is_proof

    @property
    def has_evidence(self) -> bool:
        """Whether anybody might vouch for the file."""
        evidence = self.evidence
        return bool(
            self.offer.tree
            or self.pinned
            or self.name in evidence.sums
            or evidence.whole
            or self.signature
        )

    def __call__(self, file: Path) -> None:
        """Check *file*.

        :raises SourceError: if it is not the release, or cannot be verified.
        """
        self.stage.note("checking")
        self.signed = []
        digest = sha256_of(file)
        self._digests(file, digest)
        content = self._content(file)
        self.tree = content.tree
        if not self.offer.tree:
            self._identity(content)
            self._hint(digest)
        self.vouchers = self.context.judge.vouchers(
            self.offer.name,
            content.tree,
            expected=self.offer.tree,
            vouchers=self.signed,
            origin=self.name,
        )

    def _digests(self, file: Path, digest: str) -> None:
        known = self.known if self.pinned else None
        listed = self.evidence.sums.get(self.name, "")
        for wanted, whose in (
            (known.sha256 if known else "", str(known)),
            (listed, self.evidence.sums_by),
        ):
            if wanted == digest:
                self.signed.append(f"SHA-256 {digest} is in {whose}")
            elif wanted and not self.offer.tree:  # a mirror may compress anew what the tree pins
                raise SourceError(
                    f"{self.name} is not the file that {whose} names: its SHA-256 differs",
                    hint=f"nothing was kept; {self.offer.elsewhere}",
                )
        if self.signature is not None:
            with self._unless_trusted():
                verdict = self.context.keys.verify(
                    file.read_bytes(), self.signature, self.name, self.offer.role
                )
                self.signed.append(str(verdict))

    def _hint(self, digest: str) -> None:
        """One recipe's word accepts nothing, but what goes against it is not trusted blindly."""
        if self.known and not self.signed and self.known.sha256 != digest:
            raise SourceError(
                f"{self.name} is not the file that a distribution's package recipe names: its "
                "SHA-256 differs, and nothing else speaks for it",
                hint="use another --mirror; or unpack it, check it and name it: --kernel-tree",
            )

    def _content(self, file: Path) -> archive.Content:
        """One pass over the content: the tree id, and the signature over the whole tar."""
        opener = archive_opener(file, self.name, self.offer.limits)
        if self.evidence.whole is None:
            with opener() as entries:
                return archive.examine(entries, self.name)
        content: archive.Content | None = None
        with self._unless_trusted():
            with self.context.keys.detached(
                self.evidence.whole, self.name, self.offer.role
            ) as whole:
                opener = archive_opener(file, self.name, self.offer.limits, tap=whole.feed)
                with opener() as entries:
                    content = archive.examine(entries, self.name)
            self.signed.insert(0, str(whole.result))
        assert content is not None  # an unknown signer is told after all was read
        return content

    @contextmanager
    def _unless_trusted(self) -> Iterator[None]:
        """Pass over a signature of somebody unknown if the user trusts what is there anyway."""
        try:
            yield
        except UnknownSignerError:
            if not self.context.judge.may_accept(self.offer.name):
                raise

    def _identity(self, content: archive.Content) -> None:
        """Signed is not enough: an old release under a new name is signed, too."""
        inside = content.folder
        if isinstance(self.offer.release.version, KernelVersion):
            found = makefile_version(content.heads.get("Makefile", b""))
            if found != self.offer.release.version and inside == self.offer.name:
                inside = f"Linux {found}"
        if inside != self.offer.name:
            raise SourceError(
                f"{self.name} holds {inside}, not {self.offer.name}",
                hint=f"nothing was kept; {self.offer.elsewhere}",
            )


def makefile_version(makefile: bytes) -> KernelVersion | None:
    """The release that a kernel's top *makefile* names; what vendors append is left out."""
    text = makefile[:4096].decode(errors="replace")
    found = dict(
        re.findall(r"^(VERSION|PATCHLEVEL|SUBLEVEL|EXTRAVERSION)[ \t]*=[ \t]*(\S*)", text, re.M)
    )
    numbers = [found.get(name, "") for name in ("VERSION", "PATCHLEVEL", "SUBLEVEL")]
    if not all(number.isdigit() for number in numbers[:2]):
        return None
    values = [int(number or 0) for number in numbers]
    if values[0] >= 3 and values[2] == 0:
        values.pop()
    extra = re.match(r"(?:\.(\d+))?(?:-rc(\d+))?", found.get("EXTRAVERSION", ""))
    if extra and extra[1] and values[0] == 2:
        values.append(int(extra[1]))
    return KernelVersion(tuple(values), int(extra[2]) if extra and extra[2] else None)
