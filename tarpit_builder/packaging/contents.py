"""What the packages are made of, in whatever form, and who answers for them."""

from __future__ import annotations

import getpass
import os
import re
import socket
import subprocess
import textwrap
import tomllib
from collections.abc import Mapping, Sequence
from functools import cache
from pathlib import Path
from typing import Any

from tarpit_builder import paths
from tarpit_builder.container import Files
from tarpit_builder.errors import UserError

DKMS = paths.PROJECT / "dkms"
MAIN = "xt-tarpit"
MODULES = "xt-tarpit-modules"
MODULE = "xt_TARPIT"
RULES = Path(__file__).resolve().parent.parent / "rules"

MODULE_SOURCES = (
    *("Kbuild", "Makefile", "xt_TARPIT.c", "xt_TARPIT.h"),
    *("tarpit.c", "tarpit_core.h", "compat/**/*"),
)
"""Patterns below ``dkms/``: what compiling the kernel modules takes, and nothing else."""

EXTENSION_SOURCES = ("libxt_TARPIT.[ch]", "xt-tarpit.8", "tarpit.4", "examples/*", "host/**/*")
"""Patterns below ``dkms/``: what else the kernel-independent packages are made of."""

ADDRESS = re.compile(r"[^\s<>@]+@[^\s<>@]+")
WEB_PAGE = re.compile(r"https?://[^\s/]+(/\S*)?")


def maintainer() -> str:
    """Who answers for the packages, found as Debian's own tools do.

    ``DEBFULLNAME`` and ``DEBEMAIL``, else what git is configured with, else the user at this host.
    It is part of what is built, so the manifest records it.

    :raises UserError: if that makes no address.
    """
    name = os.environ.get("DEBFULLNAME", "").strip()
    email = os.environ.get("DEBEMAIL", "").strip()
    name = name or _git_config("user.name") or getpass.getuser()
    email = email or _git_config("user.email") or f"{getpass.getuser()}@{socket.gethostname()}"
    if not ADDRESS.fullmatch(email) or re.search(r"[<>\n]", name):
        raise UserError(
            f"DEBFULLNAME and DEBEMAIL do not make an address: {name} <{email}>",
            hint="set them as in DEBFULLNAME='Jane Doe' DEBEMAIL=jane@example.org",
        )
    return f"{name} <{email}>"


def homepage() -> str:
    """The packages' home page: ``TARPIT_HOMEPAGE``, or none.

    :raises UserError: if it is no address of a web page.
    """
    url = os.environ.get("TARPIT_HOMEPAGE", "").strip()
    if url and not WEB_PAGE.fullmatch(url):
        raise UserError(
            f"TARPIT_HOMEPAGE is not the address of a web page: {url}",
            hint="write it as https://example.org/tarpit, or unset it",
        )
    return url


@cache
def _git_config(key: str) -> str:
    """git's setting *key*, as it holds for this project; empty where there is none."""
    try:
        found = subprocess.run(
            ["git", "-C", str(paths.PROJECT), "config", "--get", key],
            capture_output=True,
            text=True,
            check=False,
        )
    except FileNotFoundError:
        return ""
    return found.stdout.strip()


def in_package_name(release: str) -> str:
    """*release*, as ``uname -r`` says it, in the letters that a package's name may have."""
    return re.sub(r"[^a-z0-9.+-]", "-", release.lower())


def matching(patterns: Sequence[str]) -> list[Path]:
    """The files below ``dkms/`` that fit one of *patterns*."""
    return sorted(path for pattern in patterns for path in DKMS.glob(pattern) if path.is_file())


def module_source(module: str = MODULE) -> Files:
    """The module's source as the kernel's build system takes it, for a module called *module*."""
    members: dict[str, Path | bytes] = {
        str(path.relative_to(DKMS)): path for path in matching(MODULE_SOURCES)
    }
    if module != MODULE:
        members[f"{module}.c"] = members.pop(f"{MODULE}.c")
        kbuild = (DKMS / "Kbuild").read_text()
        members["Kbuild"] = kbuild.replace(f"{MODULE}.o", f"{module}.o").encode()
    return Files(members)


def extension_source() -> Files:
    """The source of the extension, its manual, and the header that it shares with the module."""
    files = matching(("libxt_TARPIT.*", "xt_TARPIT.h"))
    return Files({path.name: path for path in files})


def description(
    package: str, values: Mapping[str, str] | None = None, *, today: bool = False
) -> str:
    """The ``Description`` of *package*, from ``rules/packages.toml`` with *values* put in.

    :param today: with what is added for systems of today.
    """
    table = _descriptions()
    row: dict[str, Any] = table[package]
    paragraphs = [table["what"]] if row.get("tarpit", True) else []
    more = f"  {row['today']}" if today and "today" in row else ""
    paragraphs.append((row["text"] + more).format_map(values or {}))
    # Two blanks after a full stop, as in the rest of Debian's texts; Policy wants one in front.
    text = "\n .\n".join(
        textwrap.fill(
            paragraph,
            79,
            initial_indent=" ",
            subsequent_indent=" ",
            break_on_hyphens=False,
            break_long_words=False,
        )
        for paragraph in paragraphs
    )
    return f"{row['synopsis'].format_map(values or {})}\n{text}"


@cache
def _descriptions() -> dict[str, Any]:
    return tomllib.loads((RULES / "packages.toml").read_text())
