"""`invoke check` of what is published: by a server that may be anybody's."""

from __future__ import annotations

import gzip
import hashlib
import json
import lzma
import re
import shutil
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from functools import partial
from http.server import ThreadingHTTPServer
from pathlib import Path
from threading import Thread

import pytest

from tarpit_builder.attest import keys, make, verdict
from tarpit_builder.attest.check import Policy
from tarpit_builder.attest.documents import PROVENANCE, RESULT
from tarpit_builder.attest.outcome import AttestationReport
from tarpit_builder.console import Console
from tarpit_builder.errors import CheckFailedError, NetworkError, SourceError, TarpitError
from tarpit_builder.publish import RepositoryOptions, attestations, fetching, publish
from tarpit_builder.publish import keys as gpg
from tarpit_builder.publish.keys import Key
from tests.attest.kit import ABI, package_set
from tests.mirror import QuietHandler, serve
from tests.publish.kit import small_deb

pytestmark = pytest.mark.docker

PLACE = f"attestations/trixie/{ABI}/1.0.0+deb13"
DKMS = "pool/trixie/xt-tarpit-dkms_1.0.0+deb13_all.deb"


@pytest.fixture(scope="module")
def signer(tmp_path_factory: pytest.TempPathFactory) -> Key:
    """Whoever publishes."""
    return gpg.throwaway(tmp_path_factory.mktemp("gpg") / "k")


@pytest.fixture(scope="module")
def thief(tmp_path_factory: pytest.TempPathFactory) -> Key:
    """Whoever broke into the server."""
    return gpg.throwaway(tmp_path_factory.mktemp("gpg") / "k")


@pytest.fixture(scope="module")
def published(
    tmp_path_factory: pytest.TempPathFactory, signer: Key, pair: tuple[Path, Path]
) -> Path:
    """A repository of one attested package set, which no test changes."""
    folder = tmp_path_factory.mktemp("published")
    package_set(folder / "dist")
    make.attest(folder / "dist", keys.signer(str(pair[0])))
    options = RepositoryOptions(url="https://packages.example.org/tarpit")
    done = publish(folder / "dist", folder / "repo", signer, Console(quiet=True), options=options)
    assert any(note.startswith("attested  1 ") for note in done.notes)
    return folder / "repo"


@pytest.fixture
def repo(tmp_path: Path, published: Path) -> Path:
    """A copy of it, to be changed."""
    return Path(shutil.copytree(published, tmp_path / "repo", symlinks=True))


def judge(where: object, *files: Path) -> AttestationReport:
    return verdict.judge(str(where), files, Policy(), Console(quiet=True))


def test_repository_is_good_in_a_folder_and_by_its_address(
    published: Path, pair: tuple[Path, Path], tmp_path: Path, signer: Key
) -> None:
    theirs = tmp_path / "repository.asc"
    theirs.write_bytes(signer.public())
    with serve(published) as url:
        for where in (published, url, f"{url}/"):
            found = judge(where, pair[1])
            assert not found.wrong
            # Three packages, and the .buildinfo beside the attestations.
            assert (found.files, found.metapackages) == (4, 1)
            assert found.until
            assert "the repository's own signature" in found.notes[0]
            assert not judge(where, pair[1], theirs).notes


def test_repository_by_another_key_than_named_is_none(
    published: Path, pair: tuple[Path, Path], tmp_path: Path, thief: Key
) -> None:
    other = tmp_path / "other.asc"
    other.write_bytes(thief.public())
    with serve(published) as url:
        for where in (published, url):
            with pytest.raises(SourceError, match="no good signature"):
                judge(where, pair[1], other)


def test_attestations_by_another_key_are_none(published: Path, stranger: tuple[Path, Path]) -> None:
    found = judge(published, stranger[1])
    assert found.wrong[0].exit_code == 4
    assert not found.sets


# -- a folder that somebody changed ------------------------------------------------------------


def drop_index(repo: Path) -> None:
    (repo / attestations.INDEX).unlink()


def hide_set(repo: Path) -> None:
    (repo / attestations.INDEX).write_text('{"format": 1, "sets": []}')


def index(place: str, suite: str = "trixie") -> Callable[[Path], None]:
    def change(repo: Path) -> None:
        rows = [{"place": place, "suite": suite, "files": ["manifest.json"]}]
        (repo / attestations.INDEX).write_text(json.dumps({"format": 1, "sets": rows}))

    return change


def put(name: str) -> Callable[[Path], None]:
    def change(repo: Path) -> None:
        (repo / name).parent.mkdir(parents=True, exist_ok=True)
        (repo / name).write_bytes(b"evil")

    return change


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (drop_index, "is attested: it has no attestations/index.json"),
        (hide_set, "is attested: it has no attestations/index.json"),
        (index("../../etc/passwd"), "nobody would name so"),
        (index("trixie/x"), "names a place that is none"),
        (index("trixie/x/1", "sid"), "names a place that is none"),
        (put(DKMS), "is not what was published"),
        (put("pool/trixie/evil_1_all.deb"), "pool/trixie/evil_1_all.deb is a file that nothing"),
        (put("evil.sh"), "evil.sh is a file that nothing vouches for"),
        (put("attestations/trixie/x/1/manifest.json"), "is a file that nothing vouches for"),
        (put(f"{PLACE}/evil"), "is a file that nothing vouches for"),
        (put(f"{PLACE}/{PROVENANCE}"), "is not the JSON"),
        (lambda repo: (repo / PLACE / RESULT).unlink(), "there is no signed proof"),
        (put("dists/trixie/InRelease"), "has no good signature"),
    ],
)
def test_what_was_changed_is_told(
    repo: Path, pair: tuple[Path, Path], change: Callable[[Path], None], message: str
) -> None:
    change(repo)
    with pytest.raises(TarpitError) as caught:
        raise judge(repo, pair[1]).wrong[0]
    assert message in str(caught.value)
    assert "\n" not in str(caught.value)


# -- a server that signs its own indexes -------------------------------------------------------


def sign_again(repo: Path, thief: Key) -> None:
    """Have *thief* sign the indexes as they are, and put the key where users would find it."""
    suite = repo / "dists" / "trixie"
    head = (suite / "Release").read_text().partition("MD5Sum:")[0].partition("SHA")[0]
    rows = []
    for path in sorted((suite / "main").rglob("*")):
        if path.is_file() and "by-hash" not in path.parts:
            data = path.read_bytes()
            value = hashlib.sha256(data).hexdigest()
            rows.append(f" {value} {len(data)} {path.relative_to(suite)}\n")
            (path.parent / "by-hash" / "SHA256" / value).write_bytes(data)
    text = f"{head}SHA256:\n{''.join(rows)}"
    (suite / "Release").write_text(text)
    (suite / "InRelease").write_bytes(thief.clearsign(text.encode()))
    (repo / "tarpit-builder.asc").write_bytes(thief.public())


def packages(repo: Path) -> Path:
    return repo / "dists" / "trixie" / "main" / "binary-amd64" / "Packages"


def rewrite(repo: Path, change: Callable[[str], str], *, all_forms: bool = True) -> None:
    """Change the text of the index of packages, in all its forms or in the compressed ones."""
    text = change(packages(repo).read_text())
    if all_forms:
        packages(repo).write_text(text)
    packages(repo).with_suffix(".xz").write_bytes(lzma.compress(text.encode()))
    packages(repo).with_suffix(".gz").write_bytes(gzip.compress(text.encode(), mtime=0))


def evil(repo: Path, place: str, deb: bytes | None = None) -> str:
    """A package at *place*; the lines of an index that name it."""
    data = deb or small_deb("xt-tarpit-dkms", "1.0.0+deb13", text="evil").build()
    (repo / place).parent.mkdir(parents=True, exist_ok=True)
    (repo / place).write_bytes(data)
    return f"Filename: {place}\nSize: {len(data)}\nSHA256: {hashlib.sha256(data).hexdigest()}\n"


def replaced(repo: Path) -> None:
    """Another package under the name of a good one."""
    lines = evil(repo, DKMS)
    rewrite(repo, lambda text: _with(text, lines))


def beside(repo: Path) -> None:
    """The index names a package of the same name at another place."""
    lines = evil(repo, "pool/evil/xt-tarpit-dkms_1.0.0+deb13_all.deb")
    rewrite(repo, lambda text: _with(text, lines))


def doubled(repo: Path) -> None:
    """Two entries of the same name, the good one last."""
    lines = evil(repo, "pool/evil/xt-tarpit-dkms_1.0.0+deb13_all.deb")
    rewrite(repo, lambda text: f"{_stanza(text, lines)}\n\n{text}")


def added(repo: Path) -> None:
    """One more package."""
    lines = evil(repo, "pool/trixie/xt-tarpit-evil_2_all.deb")
    rewrite(
        repo,
        lambda text: f"{text}\nPackage: xt-tarpit-evil\nVersion: 2\nArchitecture: all\n{lines}\n",
    )


def loaded(repo: Path) -> None:
    """A metapackage with something in it."""
    name = "xt-tarpit-modules-cloud-amd64"
    deb = small_deb(name, "9", "amd64", text="evil").build()
    lines = evil(repo, f"pool/trixie/{name}_9_amd64.deb", deb)
    rewrite(
        repo, lambda text: f"{text}\nPackage: {name}\nVersion: 9\nArchitecture: amd64\n{lines}\n"
    )


def packed(repo: Path) -> None:
    """The compressed index, which apt takes, says something else than the plain one."""
    lines = evil(repo, "pool/evil/xt-tarpit-dkms_1.0.0+deb13_all.deb")
    rewrite(repo, lambda text: _with(text, lines), all_forms=False)


def component(repo: Path) -> None:
    """Another component."""
    other = repo / "dists" / "trixie" / "main" / "evil"
    (other / "by-hash" / "SHA256").mkdir(parents=True)
    (other / "Packages").write_bytes(packages(repo).read_bytes())


def outside(repo: Path) -> None:
    """A name that leads out."""
    rewrite(repo, lambda text: _with(text, "Filename: ../../../etc/passwd\nSHA256: 0\n"))


def absolute(repo: Path) -> None:
    """A name that begins at the root."""
    rewrite(repo, lambda text: _with(text, "Filename: /no/such/file\nSHA256: 0\n"))


def garbled(repo: Path) -> None:
    """No index at all."""
    rewrite(repo, lambda text: "Package: x\n\nnonsense")


def _with(text: str, lines: str) -> str:
    """*text* with *lines* in place of those that say where the package for DKMS is."""
    return text.replace(_of_dkms(text), _stanza(text, lines))


def _of_dkms(text: str) -> str:
    return next(part for part in text.split("\n\n") if "Package: xt-tarpit-dkms\n" in part)


def _stanza(text: str, lines: str) -> str:
    places = r"^(Filename|Size|MD5sum|SHA1|SHA256|SHA512): .*\n"
    kept = re.sub(places, "", _of_dkms(text) + "\n", flags=re.M)
    return (kept + lines).rstrip("\n")


THEFTS: dict[Callable[[Path], None], str] = {
    replaced: "is not what was attested",
    beside: "no place of ours|where none can be",
    doubled: "no place of ours|where none can be",
    added: "xt-tarpit-evil_2_all.deb is in the repository, but no good attestation",
    loaded: "modules-cloud-amd64_9_amd64.deb is in the repository, but no good attestation",
    packed: "says something else than it does unpacked",
    component: "has an index that is not ours: main/evil/Packages",
    outside: "no place of ours|where none can be",
    absolute: "no place of ours|where none can be",
    garbled: "cannot be read",
}


@pytest.mark.parametrize("change", THEFTS, ids=lambda change: change.__name__)
@pytest.mark.parametrize("by", ["folder", "address"])
def test_thief_who_signs_the_indexes_gets_nothing_through(
    repo: Path, pair: tuple[Path, Path], thief: Key, change: Callable[[Path], None], by: str
) -> None:
    change(repo)
    sign_again(repo, thief)
    with serve(repo) as url, pytest.raises(CheckFailedError) as caught:
        raise judge(url if by == "address" else repo, pair[1]).wrong[0]
    assert re.search(THEFTS[change], str(caught.value))
    assert "invoke repo" not in str(caught.value)  # which is no advice for a stranger
    assert "\n" not in str(caught.value)


def test_signing_again_alone_changes_nothing(
    repo: Path, pair: tuple[Path, Path], thief: Key
) -> None:
    sign_again(repo, thief)
    assert not judge(repo, pair[1]).wrong


# -- a server that does not play by the rules --------------------------------------------------


@contextmanager
def hostile(root: Path, path: str, answer: Callable[[QuietHandler], None]) -> Iterator[str]:
    """The files of *root*, but for *path*, to which *answer* is given."""

    class Handler(QuietHandler):
        def do_GET(self) -> None:  # noqa: N802
            if self.path == path:
                with suppress(OSError):  # the client has seen enough
                    answer(self)
            else:
                super().do_GET()

    server = ThreadingHTTPServer(("127.0.0.1", 0), partial(Handler, directory=str(root)))
    server.daemon_threads = True
    Thread(target=server.serve_forever, args=(0.01,), daemon=True).start()
    try:
        yield f"http://127.0.0.1:{server.server_port}"
    finally:
        server.shutdown()
        server.server_close()


def endless(handler: QuietHandler) -> None:
    handler.send_response(200)
    handler.end_headers()
    while True:
        handler.wfile.write(b"{" * (1 << 16))


def enormous(handler: QuietHandler) -> None:
    handler.send_response(200)
    handler.send_header("Content-Length", str(1 << 40))
    handler.end_headers()


def in_circles(handler: QuietHandler) -> None:
    handler.send_response(302)
    handler.send_header("Location", handler.path)
    handler.end_headers()


def to_a_file(handler: QuietHandler) -> None:
    handler.send_response(302)
    handler.send_header("Location", "file:///etc/passwd")
    handler.end_headers()


@pytest.mark.parametrize("answer", [endless, enormous, in_circles, to_a_file])
@pytest.mark.parametrize("path", ["/repository.json", f"/{attestations.INDEX}", f"/{DKMS}"])
def test_server_that_never_ends_is_left(
    published: Path,
    pair: tuple[Path, Path],
    answer: Callable[[QuietHandler], None],
    path: str,
) -> None:
    quoted = path.replace("+", "%2B")
    with (
        hostile(published, quoted, answer) as url,
        pytest.raises((NetworkError, CheckFailedError)) as caught,
    ):
        judge(url, pair[1])
    assert "\n" not in str(caught.value)


# -- what invoke repo keeps --------------------------------------------------------------------


def test_attestations_follow_their_packages(
    tmp_path: Path, signer: Key, pair: tuple[Path, Path]
) -> None:
    console, top = Console(quiet=True), tmp_path / "repo"
    by = keys.signer(str(pair[0]))
    for number, version in enumerate(("1.0.0+deb13", "1.1.0+deb13")):
        dist = tmp_path / str(number)
        package_set(dist, version=version)
        make.attest(dist, by)
        publish(
            dist, top, signer, console, options=RepositoryOptions(url="https://a.example", keep=1)
        )
    # The earlier packages stay for clients that an update overtook, and so does what is about them.
    found = judge(top, pair[1])
    assert not found.wrong
    assert [one.version for one in found.sets] == ["1.1.0+deb13"]
    with serve(top) as url:
        assert not judge(url, pair[1]).wrong
    fetched = tmp_path / "fetched"
    with serve(top) as url:
        fetching.fetch(url, fetched, signer.public(), console)
    assert not judge(fetched, pair[1]).wrong
