"""Releases of GitLab: files in the package registry, then a release with links to all of them.

There are no drafts; the release, which is made last and in one call, is what shows them.
https://docs.gitlab.com/api/releases/ and https://docs.gitlab.com/user/packages/generic_packages/
"""

from __future__ import annotations

import os
import re
from collections import defaultdict
from pathlib import Path
from typing import Any
from urllib.parse import quote

from tarpit_builder.errors import CheckFailedError, UserError
from tarpit_builder.release.api import Api
from tarpit_builder.release.forge import ForgeState, Notes

PROJECT = re.compile(r"\w[\w.-]*(/\w[\w.-]*)+", re.ASCII)
PACKAGE = "tarpit-builder"
TOKEN, JOB = "GITLAB_TOKEN", "CI_JOB_TOKEN"  # the second is that of a job of its pipelines


class GitLab:
    """The release *tag* of *project* (``GROUP/NAME``) at *host*, with the *version* as package."""

    title = "GitLab"

    def __init__(self, host: str, project: str, tag: str, version: str) -> None:
        if not PROJECT.fullmatch(project):
            raise UserError(
                f"{project!r} is no project of GitLab",
                hint="the address of the remote ends in GROUP/NAME.git",
            )
        job = JOB if os.environ.get(JOB) and not os.environ.get(TOKEN) else ""
        self._api = Api(
            os.environ.get("CI_API_V4_URL") or f"https://{host}/api/v4",  # as its runners set it
            title=self.title,
            variable=job or TOKEN,
            header="JOB-TOKEN" if job else "PRIVATE-TOKEN",
            needs="the scope `api` and the role Developer of that project",
        )
        self._path = f"projects/{quote(project, safe='')}"
        self._registry = f"{self._path}/packages/generic/{PACKAGE}/{version}"
        self._tag, self._version = tag, version
        self._links: dict[str, str] | None = None

    def look(self) -> ForgeState:
        """What is there: files of the registry, and what the release, if there is one, links to."""
        path = f"{self._path}/releases/{self._tag}"
        release = self._api.get(path, absent=True)
        try:
            self._links = None if release is None else _links(release)
            url = "" if release is None else str(release["_links"]["self"])
            files = self._files()
        except (KeyError, TypeError, ValueError, AttributeError) as error:
            raise self._api.unexpected(path) from error
        for name, where in (self._links or {}).items():
            if name in files and where != self._url(name):
                raise CheckFailedError(
                    f"the release on GitLab links {name} to another place",
                    hint="remove that link there, and give the same command again",
                )
        listed = frozenset(self._links or ())
        return ForgeState(url, self._links is not None, files, listed)

    def begin(self, notes: Notes) -> None:
        """Nothing: the registry takes files before there is a release."""

    def upload(self, path: Path, digest: str) -> None:
        """Put the file *path* into the registry."""
        self._api.send("PUT", f"{self._registry}/{quote(path.name)}?status=default", file=path)

    def finish(self, notes: Notes, names: list[str]) -> None:
        """Make the release with all links, or add those that it lacks."""
        links = [
            {
                "name": name,
                "url": self._url(name),
                "direct_asset_path": f"/{name}",
                "link_type": "package",
            }
            for name in names
            if name not in (self._links or {})
        ]
        if self._links is not None:
            for link in links:
                where = f"{self._path}/releases/{self._tag}/assets/links"
                self._api.send("POST", where, document=link)
            return
        document = {
            "tag_name": notes.tag,
            "name": notes.version,
            "description": notes.text,
            "assets": {"links": links},
        }
        self._api.send("POST", f"{self._path}/releases", document=document)

    def _files(self) -> dict[str, frozenset[str]]:
        """The digests of the package's files; a name that came twice is there twice."""
        found: dict[str, set[str]] = defaultdict(set)
        asked = {"package_type": "generic", "package_name": PACKAGE, "status": "default"}
        for package in self._api.pages(f"{self._path}/packages", **asked):
            # The search is fuzzy.
            if (package["name"], package["version"]) == (PACKAGE, self._version):
                path = f"{self._path}/packages/{int(package['id'])}/package_files"
                for file in self._api.pages(path):
                    found[str(file["file_name"])].add(str(file["file_sha256"]))
        return {name: frozenset(values) for name, values in found.items()}

    def _url(self, name: str) -> str:
        return f"{self._api.base}/{self._registry}/{quote(name)}"


def _links(release: dict[str, Any]) -> dict[str, str]:
    return {str(link["name"]): str(link["url"]) for link in release["assets"]["links"]}
