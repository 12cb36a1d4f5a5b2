"""The site that `invoke docs` makes: every link leads somewhere, every page can be reached."""

from __future__ import annotations

import os
import subprocess
from collections.abc import Iterator
from html.parser import HTMLParser
from pathlib import Path
from urllib.parse import unquote, urldefrag, urlsplit

import pytest

from tarpit_builder import paths, site
from tarpit_builder.errors import CheckFailedError, ToolMissingError

GENERATED = {"genindex.html", "search.html"}
"""Pages of the theme's own that only the search box leads to."""


class Page(HTMLParser):
    """Where a page leads, what it fetches, and the places in it."""

    def __init__(self, path: Path) -> None:
        super().__init__()
        self.links: set[str] = set()
        self.fetched: set[str] = set()
        self.places: set[str] = set()
        self.feed(path.read_text(encoding="utf-8"))

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        """Collect from one tag."""
        values = {name: value or "" for name, value in attrs}
        self.places.update(values[name] for name in ("id", "name") if name in values)
        if tag == "a" and "href" in values:
            self.links.add(values["href"])
        elif tag in {"link", "script", "img"}:
            self.fetched.update(values[name] for name in ("href", "src") if name in values)


@pytest.fixture(scope="module")
def built(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("docs") / "site"
    assert site.build(folder) == len(list(folder.rglob("*.html")))
    return folder


@pytest.fixture(scope="module")
def pages(built: Path) -> dict[Path, Page]:
    return {path: Page(path) for path in built.rglob("*.html")}


def targets(path: Path, page: Page) -> Iterator[tuple[str, Path, str]]:
    """Each link of *page* to this site: as written, its file, its place in there."""
    for link in page.links:
        if not urlsplit(link).scheme:
            file, place = urldefrag(link)
            yield link, (path.parent / unquote(file)).resolve() if file else path, unquote(place)


def test_every_internal_link_leads_to_a_place_that_is_there(pages: dict[Path, Page]) -> None:
    broken = [
        f"{path.name}: {link}"
        for path, page in pages.items()
        for link, file, place in targets(path, page)
        if file not in pages or (place and place not in pages[file].places)
    ]
    assert broken == []


def test_every_page_can_be_reached_from_the_first(built: Path, pages: dict[Path, Page]) -> None:
    seen = {built / "index.html"}
    queue = list(seen)
    while queue:
        path = queue.pop()
        for _, file, _ in targets(path, pages[path]):
            if file in pages and file not in seen:
                seen.add(file)
                queue.append(file)
    assert {path.name for path in pages.keys() - seen} <= GENERATED


def test_nothing_is_fetched_from_elsewhere(pages: dict[Path, Page]) -> None:
    away = {
        address for page in pages.values() for address in page.fetched if urlsplit(address).netloc
    }
    assert away == set()


def test_every_page_of_docs_and_every_manual_page_is_in_it(built: Path) -> None:
    for source in site.DOCS.glob("*.md"):
        assert (built / f"{source.stem}.html").exists()
    assert site.manual_pages()
    for manual in site.manual_pages():
        text = (built / "man" / f"{manual.name}.html").read_text(encoding="utf-8")
        assert "<h2>Name" in text


def test_same_bytes_every_time(built: Path, tmp_path: Path) -> None:
    again = tmp_path / "again"
    site.build(again)
    files = {path.relative_to(again) for path in again.rglob("*") if path.is_file()}
    assert files == {path.relative_to(built) for path in built.rglob("*") if path.is_file()}
    differ = [name for name in files if (again / name).read_bytes() != (built / name).read_bytes()]
    assert differ == []


def test_a_dead_link_ends_the_build_and_keeps_the_old_site(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capfd: pytest.CaptureFixture[str]
) -> None:
    copy = tmp_path / "docs"
    subprocess.run(["cp", "-R", site.DOCS, copy], check=True)
    with (copy / "operator.md").open("a", encoding="utf-8") as page:
        page.write("\n[nowhere](nowhere.md)\n")
    monkeypatch.setattr(site, "DOCS", copy)
    output = tmp_path / "site"
    output.mkdir()
    (output / "index.html").write_text("old")
    with pytest.raises(CheckFailedError, match="does not build"):
        site.build(output)
    assert "docs/operator.md" in capfd.readouterr().err
    assert (output / "index.html").read_text() == "old"


def test_a_faulty_manual_page_is_refused(tmp_path: Path) -> None:
    page = tmp_path / "broken.8"
    page.write_text(".TH BROKEN 8 2026-11-24\n.SH NAME\n.TP\n")
    with pytest.raises(CheckFailedError, match=r"broken\.8 is not a sound manual page"):
        site.manual_page(page)


def test_a_manual_page_has_no_links_to_places_of_mandocs(tmp_path: Path) -> None:
    page = tmp_path / "two.8"
    page.write_text(
        ".TH TWO 8 2026-11-24\n.SH NAME\ntwo \\- x\n.SH FINDINGS\n.TP\n.B Secure Boot\nis on\n"
    )
    assert 'href="#' not in site.manual_page(page)


def test_without_mandoc_it_says_what_to_install(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(os.environ, "PATH", "/nowhere")
    with pytest.raises(ToolMissingError, match="mandoc is not installed"):
        site.manual_page(paths.PROJECT / "dkms" / "xt-tarpit.8")
