"""The documentation as a static site: the pages of ``docs/`` and every manual page of ours.

Sphinx renders it, offline, and any warning of its own ends the build: a link that leads nowhere,
a page that no menu names, a heading that skips a level.
"""

from __future__ import annotations

import html
import os
import re
import shutil
import subprocess
import sys
import tempfile
from pathlib import Path

from tarpit_builder import paths
from tarpit_builder.errors import CheckFailedError, ToolMissingError
from tarpit_builder.packaging import changelog

DOCS = paths.PROJECT / "docs"
BESIDE = ("CHANGELOG.md", "CONTRIBUTING.md", "SECURITY.md", "patches/README.md")
"""What pages of ``docs/`` include from elsewhere in the checkout."""


def build(output: Path) -> int:
    """Build the site into *output*, which is replaced as a whole; returns the number of pages.

    :raises CheckFailedError: if Sphinx or mandoc finds fault with a page.
    :raises ToolMissingError: if either is not installed.
    """
    with tempfile.TemporaryDirectory(prefix="tarpit-docs-") as scratch:
        source = _stage(Path(scratch))
        with paths.staged_dir(output) as stage:
            _sphinx(source, stage)
            return len(list(stage.rglob("*.html")))


def manual_pages() -> list[Path]:
    """The sources of our manual pages, by name."""
    return sorted((paths.PROJECT / "dkms").rglob("*.[1-8]"), key=lambda path: path.name)


def manual_page(source: Path) -> str:
    """The manual page *source* as a page for Sphinx: headings in Markdown, the rest in HTML.

    :raises CheckFailedError: if mandoc finds fault with it.
    """
    try:
        run = subprocess.run(
            ["mandoc", "-T", "html", "-O", "fragment", "-W", "warning,stop", source],
            capture_output=True,
            text=True,
            check=False,
        )
    except FileNotFoundError as error:
        raise ToolMissingError(
            "mandoc is not installed", hint="run ./bootstrap invoke docs, or apt install mandoc"
        ) from error
    if run.returncode != 0:
        raise CheckFailedError(
            f"{source.name} is not a sound manual page: {run.stderr.strip()}",
            hint=f"correct it; mandoc -T lint {os.path.relpath(source)} lists its faults",
        )
    body = run.stdout.partition('<div class="manual-text">')[2].rpartition("</div>\n<table")[0]
    body = re.sub(r"</?section[^>]*>\n?", "", body)
    # Its anchors are replaced by those that Sphinx gives to the headings.
    body = re.sub(
        r' id="[^"]*"', "", re.sub(r'<a[^>]* href="#[^>]*>(.*?)</a>', r"\1", body, flags=re.S)
    )
    return f"# {source.stem}({source.suffix[1:]})\n\n{_sections(_linked(body, source))}"


def _sections(body: str) -> str:
    """*body* with its headings as Markdown's, so that Sphinx has them in its menus and search."""
    parts = re.split(r'<h([12]) class="S[hs]">(.*?)</h[12]>', body, flags=re.S)
    text = _raw(parts[0])
    for level, title, content in zip(parts[1::3], parts[2::3], parts[3::3], strict=True):
        heading = " ".join(html.unescape(re.sub("<[^>]+>", "", title)).split())
        heading = heading.capitalize() if heading.isupper() and level == "1" else heading
        text += f"{'#' * (int(level) + 1)} {heading}\n\n{_raw(content)}"
    return text


def _raw(content: str) -> str:
    return f"``````{{raw}} html\n{content.strip()}\n``````\n\n" if content.strip() else ""


def _linked(body: str, source: Path) -> str:
    """*body* with references to our other manual pages as links."""
    for page in manual_pages():
        if page.name != source.name:
            name, section = page.stem, page.suffix[1:]
            body = re.sub(
                rf"<b>{re.escape(name)}</b>\({section}\)",
                f'<a href="{page.name}.html"><b>{name}</b>({section})</a>',
                body,
            )
    return body


def _stage(scratch: Path) -> Path:
    """What Sphinx reads: a copy of ``docs/``, what it includes, and the manual pages."""
    source = scratch / "docs"
    shutil.copytree(DOCS, source)
    for name in BESIDE:
        (scratch / name).parent.mkdir(exist_ok=True)
        shutil.copyfile(paths.PROJECT / name, scratch / name)
    folder = paths.make_dir(source / "man")
    for page in manual_pages():
        (folder / f"{page.name}.md").write_text(manual_page(page), encoding="utf-8")
    return source


def _sphinx(source: Path, output: Path) -> None:
    command = [sys.executable, "-m", "sphinx", "-b", "html", "-q", "-E", "-n", "-W", "--keep-going"]
    with tempfile.TemporaryDirectory(prefix="tarpit-doctrees-") as doctrees:
        run = subprocess.run(
            [*command, "-d", doctrees, source, output],
            capture_output=True,
            text=True,
            check=False,
            env={**os.environ, "SOURCE_DATE_EPOCH": str(changelog.source_date_epoch())},
        )
    said = run.stderr.replace(f"{source.parent}/", "")
    if "No module named sphinx" in said:
        raise ToolMissingError(
            "Sphinx is not installed in this environment", hint="run ./bootstrap invoke docs"
        )
    if run.returncode != 0:
        print(said, end="", file=sys.stderr)
        raise CheckFailedError(
            f"the documentation does not build (Sphinx ended with {run.returncode})",
            hint="correct the pages that its lines above name",
        )
