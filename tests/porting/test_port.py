"""``invoke port``: what it proves, and what it reports of a kernel that was changed."""

from __future__ import annotations

import re
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from tarpit_builder import paths, porting, prove, records
from tarpit_builder.console import Console
from tarpit_builder.errors import BuildError, CheckFailedError, UserError
from tarpit_builder.kernels.source import SourcePlaces
from tarpit_builder.porting.port import UnprovenError
from tarpit_builder.request import Request
from tarpit_builder.sources import MODULE_BUILD, FetchedTree
from tarpit_builder.sources.buildtree import WHOLE_SOURCE
from tarpit_builder.sources.debian import Archive, Mirrors
from tarpit_builder.sources.store import Store
from tarpit_builder.versions import KernelVersion
from tests.patches.trees import git

pytestmark = pytest.mark.docker

X_TABLES = "include/linux/netfilter/x_tables.h"
FLOW = "include/net/flow.h"


@pytest.fixture(scope="module")
def real() -> Archive:
    """Debian's archive, and the user's cache."""
    return Archive(Store(paths.cache_dir()), Mirrors.choose(None), Console(quiet=True))


@pytest.fixture(scope="module")
def history(real: Archive, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Path]:
    """A repository whose first commit, as v2.6.23, is what modules of 2.6.24 are built against.

    It says that it is 2.6.24.99, of which the catalogue has no tree.
    """
    from tarpit_builder.errors import NetworkError, SourceError

    try:
        places = SourcePlaces.of(Request("2.6.24"), real)
        tree: FetchedTree = places.kernel(KernelVersion.parse("2.6.24"), Console(quiet=True))
    except (NetworkError, SourceError) as error:
        pytest.skip(f"Linux 2.6.24 was not exercised: {error.message}")
    folder = tmp_path_factory.mktemp("clone") / "linux"
    tree.unpack(folder, MODULE_BUILD)
    makefile = folder / "Makefile"
    makefile.write_text(makefile.read_text().replace("EXTRAVERSION =", "EXTRAVERSION = .99", 1))
    git(folder, "init", "-q")
    git(folder, "add", "-f", ".")
    git(folder, "commit", "-qm", "Linux")
    git(folder, "tag", "v2.6.23")
    yield folder


@pytest.fixture
def clone(history: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """The same, to be changed; 2.6.23 is recorded as built, and results go elsewhere."""
    git(history, "checkout", "-q", "-B", "main", "v2.6.23")
    monkeypatch.setenv("TARPIT_DIST", str(tmp_path / "dist"))
    monkeypatch.setenv("TARPIT_LOCK", str(tmp_path / "lock.toml"))
    built = records.Record("2.6.23", "amd64", "none", "gcc", "0", "release", "0", "2026-01-01")
    monkeypatch.setattr(records, "read", lambda: (built,))
    return history


def commit(clone: Path, subject: str, file: str, change: Callable[[str], str]) -> str:
    """Change *file* of *clone* by a commit; its id."""
    path = clone / file
    text = path.read_text(encoding="latin-1")
    changed = change(text)
    assert changed != text
    path.write_text(changed, encoding="latin-1")
    git(clone, "commit", "-qam", subject)
    return git(clone, "rev-parse", "--short", "HEAD").strip()


def request(clone: Path, **more: object) -> Request:
    options = {"kernel_git": str(clone), "ref": "main", "trust_on_first_use": True, **more}
    return Request("2.6.24.99", iptables="none", **options)  # type: ignore[arg-type]


def failed(clone: Path, real: Archive, **more: object) -> str:
    """The report on *clone*."""
    with pytest.raises(BuildError) as caught:
        porting.port(request(clone, **more), real, Console(quiet=True))
    match = re.search(r"the report is (\S+);", str(caught.value))
    assert match
    path = Path(match[1])
    assert [other.name for other in path.parent.iterdir()] == ["port.md"]
    return path.read_text()


def test_the_commit_that_renamed_a_member_is_named(clone: Path, real: Archive) -> None:
    other = commit(clone, "net: say it better", FLOW, lambda text: f"/* flows */\n{text}")
    guilty = commit(
        clone,
        "netfilter: call it bytes",
        X_TABLES,
        lambda text: re.sub(r"\btargetsize\b", "target_bytes", text),
    )
    commit(clone, "Makefile: nothing", "Makefile", lambda text: f"# nothing\n{text}")
    said = failed(clone, real)
    assert "# 2.6.24.99-amd64-iptables-none: failed at build" in said
    assert re.search(r"^xt_TARPIT\.c:\d+: 'struct xt_target' has no member", said, re.MULTILINE)
    assert "Between 2.6.23, the last release seen good, and main" in said
    commits = said.partition("## Commits")[2].partition("##")[0]
    assert f"- {guilty} " in commits
    assert "netfilter: call it bytes" in commits
    assert other not in commits
    assert "Makefile: nothing" not in commits
    assert "Found: " in said
    assert "NF_INET_LOCAL_IN" in said
    assert "implicit declaration" in said  # of a probe


@pytest.mark.slow
def test_headers_that_do_not_compile_are_named(clone: Path, real: Archive) -> None:
    guilty = commit(clone, "net: break it", FLOW, lambda text: text.replace("nl_u", "layer_u", 1))
    said = failed(clone, real)
    assert "failed at probe" in said
    assert "the kernel headers do not compile" in said
    assert f"- {guilty} " in said


def test_a_tree_is_built_and_a_clone_searched(clone: Path, real: Archive) -> None:
    guilty = commit(clone, "x", X_TABLES, lambda text: re.sub(r"\btargetsize\b", "bytes", text))
    whole = clone / WHOLE_SOURCE  # what headers alone do not have
    whole.parent.mkdir(exist_ok=True)
    whole.touch()
    said = failed(clone, real, kernel_tree=str(clone))
    whole.unlink()
    assert "failed at build" in said
    assert f"- {guilty} " in said


@pytest.mark.slow
def test_without_a_good_release_it_says_so(
    clone: Path, real: Archive, monkeypatch: pytest.MonkeyPatch
) -> None:
    commit(clone, "x", X_TABLES, lambda text: re.sub(r"\btargetsize\b", "target_bytes", text))
    monkeypatch.setattr(records, "read", tuple)
    assert "no release that was seen good" in failed(clone, real)


def test_what_cannot_be_booted_is_said(
    clone: Path, real: Archive, monkeypatch: pytest.MonkeyPatch
) -> None:
    def refuse(*_: object) -> None:
        raise UserError("nothing to boot", hint="find something")

    monkeypatch.setattr(prove, "prove", refuse)
    done = porting.port(request(clone), real, Console(quiet=True))
    assert done.proven == "not booted: nothing to boot — find something"
    said = done.table()
    assert "not booted" in said
    assert "invoke kernels --record" in said
    (setting,) = re.findall(r"of matrix.toml with (.*)", said)
    assert f"\n{setting}\n" in (paths.PROJECT / "matrix.toml").read_text()
    built = records.Record("2.6.24", "amd64", "none", "gcc", "0", "release", "0", "2026-01-01")
    monkeypatch.setattr(records, "read", lambda: (built,))
    # Built before, and to be entered as proven now.
    said = porting.port(request(clone), real, Console(quiet=True)).table()
    assert "invoke kernels --record" in said
    assert "matrix.toml" not in said
    assert done.log.probed
    assert "NF_INET_LOCAL_IN" in done.log.missing


@pytest.mark.slow
def test_checks_that_fail_are_reported(
    clone: Path, real: Archive, monkeypatch: pytest.MonkeyPatch
) -> None:
    def refuse(*_: object) -> None:
        raise UnprovenError("2 of 9 failed", "wire  2 failed")

    monkeypatch.setattr(prove, "prove", refuse)
    with pytest.raises(CheckFailedError, match="the report is") as caught:
        porting.port(request(clone), real, Console(quiet=True))
    match = re.search(r"the report is (\S+);", str(caught.value))
    assert match
    said = Path(match[1]).read_text()
    assert "failed at boot and verify" in said
    assert "    wire  2 failed" in said


def test_a_request_that_is_wrong_leaves_no_report(clone: Path, real: Archive) -> None:
    with pytest.raises(UserError):
        porting.port(request(clone, release="3.0"), real, Console(quiet=True))
    with pytest.raises(UserError, match="there is no"):
        porting.port(request(clone, kernel_tree=str(clone / "gone")), real, Console(quiet=True))
    assert not paths.dist_dir().exists()
