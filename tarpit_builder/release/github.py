"""Releases of GitHub: a draft that nobody sees, its assets, then the release.

https://docs.github.com/en/rest/releases
"""

from __future__ import annotations

import os
import re
from pathlib import Path
from typing import Any
from urllib.parse import urlencode

from tarpit_builder.errors import CheckFailedError, InfrastructureError, NetworkError, UserError
from tarpit_builder.release.api import Api
from tarpit_builder.release.forge import ForgeState, Notes

PUBLIC, ITS_API = "github.com", "https://api.github.com"
PROJECT = re.compile(r"[A-Za-z0-9-]+/(?!\.{1,2}$)[A-Za-z0-9._-]+")
UPLOADED = "uploaded"
"""The state of an asset that is whole; an upload that was cut off may leave ``starter``."""


class GitHub:
    """The release *tag* of *project* (``OWNER/NAME``) at *host*."""

    title = "GitHub"

    def __init__(self, host: str, project: str, tag: str, version: str) -> None:
        if not PROJECT.fullmatch(project):
            raise UserError(
                f"{project!r} is no project of GitHub",
                hint="the address of the remote ends in OWNER/NAME.git",
            )
        base = ITS_API if host == PUBLIC else f"https://{host}/api/v3"
        self._api = Api(
            os.environ.get("GITHUB_API_URL") or base,  # which GitHub's runners set
            title=self.title,
            variable="GITHUB_TOKEN",
            header="Authorization",
            scheme="Bearer ",
            needs="the permission `contents: write` of that repository",
            accept={
                "Accept": "application/vnd.github+json",
                "X-GitHub-Api-Version": "2022-11-28",
            },
        )
        self._path = f"repos/{project}"
        self._tag = tag
        self._release: dict[str, Any] | None = None
        self._cut_off: dict[str, int] = {}

    def look(self) -> ForgeState:
        """What is there; a draft is in the list only, and not under its tag."""
        path = f"{self._path}/releases"
        found = [one for one in self._api.pages(path) if one.get("tag_name") == self._tag]
        if len(found) > 1:
            raise CheckFailedError(
                f"GitHub has {len(found)} releases and drafts of {self._tag}",
                hint="delete all but one there, and give the same command again",
            )
        self._release = found[0] if found else None
        self._cut_off = {}
        if self._release is None:
            return ForgeState()
        try:
            number, url = int(self._release["id"]), str(self._release["html_url"])
            published = self._release["draft"] is False
            files: dict[str, frozenset[str]] = {}
            for asset in self._api.pages(f"{path}/{number}/assets"):
                if asset["state"] == UPLOADED:
                    files[str(asset["name"])] = frozenset({_digest(asset)})
                else:
                    self._cut_off[str(asset["name"])] = int(asset["id"])
        except (KeyError, TypeError, ValueError) as error:
            raise self._api.unexpected(path) from error
        return ForgeState(url, published, files, frozenset(files))

    def begin(self, notes: Notes) -> None:
        """Make the draft, if there is none."""
        if self._release is None:
            document = {
                "tag_name": notes.tag,
                "name": notes.version,
                "body": notes.text,
                "draft": True,
            }
            self._release = self._api.send("POST", f"{self._path}/releases", document=document)

    def upload(self, path: Path, digest: str) -> None:
        """Upload the file *path*, in place of what is left of it, and see that it has come."""
        if number := self._cut_off.pop(path.name, 0):
            self._api.send("DELETE", f"{self._path}/releases/assets/{number}", none=(404,))
        try:
            where = str((self._release or {})["upload_url"]).partition("{")[0]
        except (KeyError, TypeError) as error:
            raise self._api.unexpected(f"{self._path}/releases") from error
        made = self._api.send("POST", f"{where}?{urlencode({'name': path.name})}", file=path)
        try:
            name, got = made["name"], _digest(made)
        except (KeyError, TypeError) as error:
            raise self._api.unexpected(where) from error
        if (name, got) != (path.name, digest):
            raise NetworkError(
                f"GitHub has kept {path.name} as {name}, or with other bytes",
                hint="remove it there, and give the same command again",
            )

    def finish(self, notes: Notes, names: list[str]) -> None:
        """Make the draft a release."""
        number = int((self._release or {})["id"])
        self._api.send("PATCH", f"{self._path}/releases/{number}", document={"draft": False})


def _digest(asset: dict[str, Any]) -> str:
    """The SHA-256 of *asset*."""
    kind, _, value = str(asset.get("digest") or "").partition(":")
    if kind != "sha256":
        raise InfrastructureError(
            f"this GitHub does not tell the SHA-256 of {asset['name']}",
            hint="GitHub Enterprise Server does so in newer releases; or --forge none, and upload "
            "by hand",
        )
    return value
