"""Releases on GitHub and GitLab: what is there is looked at, and the token goes nowhere else."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import pytest

from tarpit_builder import digests, paths
from tarpit_builder.console import Console
from tarpit_builder.errors import CheckFailedError, InfrastructureError, NetworkError, UserError
from tarpit_builder.release import api
from tarpit_builder.release import forge as forges
from tarpit_builder.release.forge import Notes
from tests.release.forges import PROJECT, TOKEN, GitHub, GitLab
from tests.release.kit import TAG, VERSION

NOTES = Notes(TAG, VERSION, "- A change.\n")
QUIET = Console(quiet=True)
PROGRAM = f"""
import sys
from pathlib import Path
from tarpit_builder.console import Console
from tarpit_builder.release import forge
files = {{path.name: path for path in sorted(Path(sys.argv[2]).iterdir())}}
made = forge.choose(sys.argv[1], "", {PROJECT!r}, {TAG!r}, {VERSION!r})
forge.publish(made, forge.Notes({TAG!r}, {VERSION!r}, "- A change."), files, Console())
"""
Stand = GitHub | GitLab


@pytest.fixture(autouse=True)
def at_hand(forge: Stand, monkeypatch: pytest.MonkeyPatch) -> None:
    """The token and the address in the environment, a tag that was pushed, and no patience."""
    token, address, path = forge.variables
    forge.tags = lambda: {TAG}
    monkeypatch.setenv(token, TOKEN)
    monkeypatch.setenv(address, f"{forge.url}{path}")
    monkeypatch.delenv("CI_JOB_TOKEN", raising=False)
    monkeypatch.setattr(api, "PAUSE", 0.0)
    monkeypatch.setattr(forges, "PAUSE", 0.0)


@pytest.fixture
def files(tmp_path: Path) -> dict[str, Path]:
    """Three assets."""
    folder = tmp_path / "assets"
    folder.mkdir()
    for name, size in (("a.tar.gz", 5000), ("b.tar.gz", 7000), ("SHA256SUMS", 100)):
        (folder / name).write_bytes(name.encode() * size)
    return {path.name: path for path in sorted(folder.iterdir())}


def chosen(stand: Stand, project: str = PROJECT) -> forges.Forge:
    """The product's side of *stand*."""
    found = forges.choose(stand.kind, "", project, TAG, VERSION)
    assert found is not None
    return found


def publish(stand: Stand, files: dict[str, Path]) -> str:
    """Publish *files*."""
    return forges.publish(chosen(stand), NOTES, files, QUIET)


def contents(files: dict[str, Path]) -> dict[str, bytes]:
    """What the assets have to be."""
    return {name: path.read_bytes() for name, path in files.items()}


def test_all_assets_are_there_before_anybody_sees_the_release(
    forge: Stand, files: dict[str, Path]
) -> None:
    url = publish(forge, files)
    assert url.startswith(forge.url)
    assert forge.published() == contents(files)
    shows = ("PATCH", "POST /api/v4")
    assert [one.startswith(shows) for one in forge.writes].index(True) == len(forge.writes) - 1


def test_second_time_writes_nothing(forge: Stand, files: dict[str, Path]) -> None:
    first = publish(forge, files)
    before = len(forge.writes)
    assert publish(forge, files) == first
    assert len(forge.writes) == before


def test_many_assets_are_on_several_pages(forge: Stand, files: dict[str, Path]) -> None:
    folder = files["a.tar.gz"].parent
    for number in range(120):
        (folder / f"n{number}").write_bytes(b"%d" % number)
    many = {path.name: path for path in sorted(folder.iterdir())}
    publish(forge, many)
    publish(forge, many)
    assert forge.published() == contents(many)
    assert sum(one.startswith(("POST", "PUT")) for one in forge.writes) == len(many) + 1


def test_other_bytes_under_the_same_name_are_refused(forge: Stand, files: dict[str, Path]) -> None:
    publish(forge, files)
    files["b.tar.gz"].write_bytes(b"other")
    before = len(forge.writes)
    with pytest.raises(CheckFailedError, match=r"has b\.tar\.gz already, with other bytes"):
        publish(forge, files)
    assert len(forge.writes) == before


def test_file_of_somebody_else_is_not_shown_as_ours(forge: Stand, files: dict[str, Path]) -> None:
    forge.fail = lambda method, path: (500, {}) if method == "PATCH" else None
    strange = files["a.tar.gz"].with_name("strange")
    strange.write_bytes(b"strange")
    ours = chosen(forge)
    ours.look()
    ours.begin(NOTES)
    ours.upload(strange, digests.file(strange))
    with pytest.raises(CheckFailedError, match="has strange, which is no file of this release"):
        publish(forge, files)


def test_asset_that_was_taken_away_is_uploaded_again(forge: Stand, files: dict[str, Path]) -> None:
    publish(forge, files)
    if isinstance(forge, GitHub):
        del forge.releases[0]["assets"][1]
    else:
        [number] = forge.files
        del forge.files[number][1]
    publish(forge, files)
    assert forge.published() == contents(files)


REFUSALS = [
    (401, {"message": "Bad credentials"}, UserError, "may have expired"),
    (403, {"message": "Resource not accessible"}, UserError, "Resource not accessible.* needs"),
    (403, {"message": "API rate limit exceeded"}, NetworkError, "wait, as it asks"),
    (404, {"message": "Not Found"}, UserError, "no such project"),
    (422, {"message": "Validation Failed"}, UserError, "Validation Failed"),
    (400, {"message": {"base": ["is wrong"]}}, UserError, r"is wrong"),
    (413, {"message": "File is too large"}, InfrastructureError, "there is no room"),
    (507, {}, InfrastructureError, "there is no room"),
    (429, {}, NetworkError, "wait"),
    (502, b"<html>Bad gateway", NetworkError, "answers 502"),
    (301, {}, UserError, "the project has moved"),
]


@pytest.mark.parametrize(("status", "said", "kind", "text"), REFUSALS)
def test_refusals_are_one_line_that_says_what_to_do(
    forge: Stand,
    files: dict[str, Path],
    status: int,
    said: object,
    kind: type[Exception],
    text: str,
) -> None:
    forge.fail = lambda method, path: (status, said) if method in {"PUT", "POST"} else None
    with pytest.raises(kind, match=text) as caught:
        publish(forge, files)
    assert "\n" not in str(caught.value)
    forge.fail = lambda method, path: None
    publish(forge, files)
    assert forge.published() == contents(files)


def test_server_that_repeats_the_token_does_not_bring_it_into_an_error(
    forge: Stand, files: dict[str, Path]
) -> None:
    forge.fail = lambda method, path: (422, {"message": f"no {TOKEN}", "errors": [{"code": TOKEN}]})
    with pytest.raises(UserError) as caught:
        publish(forge, files)
    assert TOKEN not in str(caught.value)


@pytest.mark.parametrize("method", ["GET", "PUT", "POST"])
def test_failure_that_passes_is_outlived(forge: Stand, files: dict[str, Path], method: str) -> None:
    failures: list[tuple[int, object]] = [(503, {}), (503, {})]

    def fail(asked: str, path: str) -> tuple[int, object] | None:
        wanted = asked == method and (method == "GET" or path.endswith(("/assets", ".tar.gz")))
        return failures.pop() if wanted and failures else None

    forge.fail = fail
    publish(forge, files)
    assert forge.published() == contents(files)


@pytest.mark.parametrize("when", ["cut", "lose"])
def test_connection_that_breaks_in_an_upload_leaves_no_second_file(
    forge: Stand, files: dict[str, Path], when: str
) -> None:
    broken: list[str] = []

    def once(method: str, path: str, size: int = 6000) -> bool:
        wanted = method in {"PUT", "POST"} and path.endswith(("/assets", ".tar.gz"))
        if wanted and size > 5000 and not broken:
            broken.append(path)
            return True
        return False

    setattr(forge, when, once)
    publish(forge, files)
    assert broken
    assert forge.published() == contents(files)
    if isinstance(forge, GitLab):
        [kept] = forge.files.values()
        assert sorted(one["file_name"] for one in kept) == sorted(files)


def moments(kind: str) -> dict[str, Callable[[str, str, int], bool]]:
    """When the stand-in ends the command, in the order in which it comes there: *size* bytes of a
    request have come, or (-1) it is done and the answer is due.
    """
    made = {
        "draft": lambda method, path, size: method == "POST" and path.endswith("/releases"),
        "draft made": lambda method, path, size: (
            method == "POST" and path.endswith("/releases") and size < 0
        ),
    }
    uploads = {
        "in an upload": lambda method, path, size: path.endswith(("/assets", "gz")) and size > 9000,
        "uploaded": lambda method, path, size: (
            method in {"PUT", "POST"} and path.endswith(("/assets", "gz")) and size < 0
        ),
    }
    if kind == "gitlab":  # whose release is made last
        return {**uploads, **made}
    shown = {
        "shown": lambda method, path, size: method == "PATCH",
        "shown already": lambda method, path, size: method == "PATCH" and size < 0,
    }
    return {**made, **uploads, **shown}


def test_killed_at_any_moment_it_ends_with_the_same_release(
    forge: Stand, files: dict[str, Path]
) -> None:
    folder = files["a.tar.gz"].parent
    command = [sys.executable, "-c", PROGRAM, forge.kind, str(folder)]
    killed: list[str] = []
    for moment, due in moments(forge.kind).items():
        process = subprocess.Popen(
            command, cwd=paths.PROJECT, env=os.environ, stderr=subprocess.DEVNULL
        )

        def end(
            method: str,
            path: str,
            size: int = -1,
            *,
            name: str = moment,
            due: Callable[[str, str, int], bool] = due,
            process: subprocess.Popen[bytes] = process,
        ) -> bool:
            if name in killed or not due(method, path, size):
                return False
            killed.append(name)
            process.send_signal(signal.SIGKILL)
            process.wait()
            return True

        forge.cut = forge.lose = end
        process.wait(60)
    forge.cut, forge.lose = (lambda *_: False), (lambda *_: False)
    publish(forge, files)
    assert forge.published() == contents(files)
    assert killed == list(moments(forge.kind))
    if isinstance(forge, GitHub):
        assert len(forge.releases) == 1


@pytest.mark.parametrize("value", ["", " ", "two words", "line\nbreak", "é"])
def test_without_a_token_nothing_is_asked(
    forge: Stand, value: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv(forge.variables[0], value)
    with pytest.raises(UserError) as caught:
        chosen(forge)
    assert forge.variables[0] in str(caught.value)
    assert not value.strip() or value not in str(caught.value)
    assert forge.requests == []


def test_token_needs_tls_but_on_loopback(forge: Stand, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv(forge.variables[1], "http://forge.example.org/api")
    with pytest.raises(UserError, match="would get the token without TLS"):
        chosen(forge)


@pytest.mark.parametrize("address", ["http://[/", "https://127.0.0.1:99999/", "file:///etc", "x"])
def test_address_that_is_none(forge: Stand, address: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv(forge.variables[1], address)
    with pytest.raises(UserError):
        chosen(forge)


def test_token_goes_to_no_other_host(forge: Stand, files: dict[str, Path]) -> None:
    ours = chosen(forge)
    ours.look()
    ours.begin(NOTES)
    if isinstance(forge, GitHub):
        forge.releases[0]["upload_url"] = "http://localhost:9/assets{?name}"
        with pytest.raises(UserError, match="names another host, localhost"):
            publish(forge, files)
        for broken in ("http://127.0.0.1:99999/{?name}", "http://[/", 7):
            forge.releases[0]["upload_url"] = broken
            with pytest.raises((NetworkError, UserError)):
                publish(forge, files)
    made = ours._api  # type: ignore[attr-defined]
    made.base = "https://api.github.com"
    made.demand_safe("https://uploads.github.com/x")
    for url in (
        "https://github.com.example.org",
        "https://uploads.github.com.example.org/",
        "https://api.github.com:8443/",
    ):
        with pytest.raises(UserError, match="names another host"):
            made.demand_safe(url)
    with pytest.raises(UserError, match="without TLS"):
        made.demand_safe("http://api.github.com/x")


def test_netrc_does_not_come_between(
    forge: Stand, files: dict[str, Path], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    netrc = tmp_path / "netrc"
    netrc.write_text("machine 127.0.0.1 login somebody password else\n")
    monkeypatch.setenv("NETRC", str(netrc))
    publish(forge, files)


@pytest.mark.parametrize(
    "said", [b"<html>", b"[1]", b"{}", b"[" * 100_000, b'[{"tag_name": "v1.1.0"}]']
)
def test_what_is_no_forge_is_named(forge: Stand, files: dict[str, Path], said: bytes) -> None:
    forge.fail = lambda method, path: (200, said)
    with pytest.raises(NetworkError, match="something else than its API has"):
        publish(forge, files)


def test_answer_without_end_is_given_up(
    forge: Stand, files: dict[str, Path], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(api, "LARGEST", 1000)
    forge.fail = lambda method, path: (200, b" " * 5000)
    with pytest.raises(NetworkError, match="for one answer"):
        publish(forge, files)


@pytest.mark.parametrize("project", ["", "x", "../x", "a/b?c", "a b/c", "a/..", "-/%2e%2e/x y"])
def test_what_is_no_project(forge: Stand, project: str) -> None:
    with pytest.raises(UserError, match="is no project of"):
        chosen(forge, project)


def test_no_host_gets_a_token_that_nobody_named(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("GITHUB_TOKEN", TOKEN)
    monkeypatch.delenv("GITHUB_API_URL", raising=False)
    found = forges.choose("", "github.com", PROJECT, TAG, VERSION)
    assert found is not None
    assert found._api.base == "https://api.github.com"  # type: ignore[attr-defined]
    for host in ("git.example.org", "github.com.example.org", "gitlab.example.org", ""):
        with pytest.raises(UserError, match="the remote does not tell its forge"):
            forges.choose("", host, PROJECT, TAG, VERSION)
    with pytest.raises(UserError, match="--forge hub is not known"):
        forges.choose("hub", "github.com", PROJECT, TAG, VERSION)
    assert forges.choose("none", "github.com", PROJECT, TAG, VERSION) is None


def test_two_drafts_are_told(forge: Stand, files: dict[str, Path]) -> None:
    if isinstance(forge, GitLab):
        # It has no drafts; what it may have twice is a file.
        publish(forge, files)
        [number] = forge.files
        forge.files[number].append({**forge.files[number][0], "file_sha256": "0" * 64})
        with pytest.raises(CheckFailedError, match="with other bytes"):
            publish(forge, files)
        return
    for _ in range(2):
        forge._create({"tag_name": TAG, "name": VERSION, "body": "", "draft": True})
    with pytest.raises(CheckFailedError, match=r"2 releases and drafts of v1\.1\.0"):
        publish(forge, files)


def test_job_of_a_pipeline_has_a_token_of_its_own(
    forge: Stand, files: dict[str, Path], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("CI_JOB_TOKEN", TOKEN)
    if isinstance(forge, GitLab):
        monkeypatch.delenv("GITLAB_TOKEN")
        forge.header = "JOB-TOKEN"
    publish(forge, files)
    assert forge.published() == contents(files)
