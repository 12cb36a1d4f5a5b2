"""Stand-ins for GitHub and GitLab on loopback, as strict as their documentation says they are.

Each keeps what it was sent, counts requests, and can be told to fail or to end somebody at one.
"""

from __future__ import annotations

import hashlib
import json
import re
import threading
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any
from urllib.parse import parse_qsl, quote, urlsplit

TOKEN = "token-for-the-tests"
PROJECT = "example/tarpit-builder"
NAME = re.compile(r"[A-Za-z0-9_-][A-Za-z0-9._-]*[A-Za-z0-9_-]")
"""Names that GitHub keeps as they are."""

Reply = tuple[int, Any]
Routes = Mapping[str, Callable[..., Reply]]
"""By method and path; the groups of the path are arguments."""


def page(entries: list[Any], query: dict[str, str]) -> list[Any]:
    """The part of *entries* that is asked for."""
    number, size = int(query["page"]), int(query["per_page"])
    return entries[(number - 1) * size : number * size]


@dataclass
class Forge:
    """What both have in common: *tags* of the remote that releases can be made of."""

    tags: Callable[[], set[str]]
    requests: list[str] = field(default_factory=list)
    fail: Callable[[str, str], Reply | None] = lambda method, path: None
    """What to answer instead, for what is asked."""
    cut: Callable[[str, str, int], bool] = lambda method, path, size: False
    """Whether to drop the connection once *size* bytes have come; asked again and again."""
    lose: Callable[[str, str], bool] = lambda method, path: False
    """Whether to drop the connection when all is done, and before the answer."""
    url: str = ""
    number: int = 0

    @property
    def writes(self) -> list[str]:
        """What changed, or would have."""
        return [one for one in self.requests if not one.startswith("GET ")]

    def answer(self, method: str, path: str, query: dict[str, str], body: bytes) -> Reply:
        """What the forge answers."""
        for pattern, reply in self.routes(query, body).items():
            if match := re.fullmatch(pattern, f"{method} {path}"):
                return reply(*match.groups())
        return 404, {"message": "Not Found"}

    def routes(self, query: dict[str, str], body: bytes) -> Routes:
        """What is asked, and what answers."""
        raise NotImplementedError

    def new(self) -> int:
        """A number that nothing has."""
        self.number += 1
        return self.number


class GitHub(Forge):
    """Releases of GitHub, with drafts, at ``URL/api/v3``."""

    header, value = "Authorization", f"Bearer {TOKEN}"
    variables = ("GITHUB_TOKEN", "GITHUB_API_URL", "/api/v3")
    kind = "github"

    def __init__(self, tags: Callable[[], set[str]]) -> None:
        super().__init__(tags)
        self.releases: list[dict[str, Any]] = []
        self.contents: dict[str, bytes] = {}

    def published(self) -> dict[str, bytes]:
        """The assets of the one release that users see."""
        [release] = [one for one in self.releases if not one["draft"]]
        return {asset["name"]: self.contents[asset["name"]] for asset in release["assets"]}

    def routes(self, query: dict[str, str], body: bytes) -> Routes:
        """What is asked, and what answers."""
        top = rf"/api/(?:v3|uploads)/repos/{PROJECT}/releases"
        return {
            f"GET {top}": lambda: (200, page(self.releases, query)),
            f"POST {top}": lambda: self._create(json.loads(body)),
            rf"GET {top}/(\d+)/assets": lambda of: (200, page(self._release(of)["assets"], query)),
            rf"POST {top}/(\d+)/assets": lambda of: self._upload(of, query.get("name", ""), body),
            rf"DELETE {top}/assets/(\d+)": self._remove,
            rf"PATCH {top}/(\d+)": lambda of: self._change(of, json.loads(body)),
        }

    def cut_off(self, path: str, query: dict[str, str]) -> None:
        """What stays of an upload that did not come to its end."""
        if match := re.search(r"/releases/(\d+)/assets$", path):
            release = self._release(match[1])
            names = [one["name"] for one in release["assets"]]
            if query["name"] not in names:
                release["assets"].append(self._asset(query["name"], b"", "starter"))

    def _release(self, number: str) -> dict[str, Any]:
        return next(one for one in self.releases if one["id"] == int(number))

    def _remove(self, number: str) -> Reply:
        for release in self.releases:
            left = [one for one in release["assets"] if one["id"] != int(number)]
            if len(left) < len(release["assets"]):
                release["assets"] = left
                return 204, None
        return 404, {"message": "Not Found"}

    def _change(self, number: str, asked: dict[str, Any]) -> Reply:
        release = self._release(number)
        if asked == {"draft": False} and release["tag_name"] not in self.tags():
            return 422, {"message": "Validation Failed"}
        release.update(asked)
        return 200, release

    def _create(self, asked: dict[str, Any]) -> Reply:
        tag = asked["tag_name"]
        taken = [r for r in self.releases if r["tag_name"] == tag and not r["draft"]]
        if taken:  # of drafts there may be several
            errors = [{"resource": "Release", "code": "already_exists", "field": "tag_name"}]
            return 422, {"message": "Validation Failed", "errors": errors}
        if not asked.get("draft") and tag not in self.tags():
            return 422, {"message": "Validation Failed"}
        number = self.new()
        release = {
            **{name: asked[name] for name in ("tag_name", "name", "body")},
            "id": number,
            "draft": bool(asked.get("draft")),
            "html_url": f"{self.url}/{PROJECT}/releases/tag/{tag}",
            "upload_url": f"{self.url}/api/uploads/repos/{PROJECT}/releases/{number}/assets"
            "{?name,label}",
            "assets": [],
        }
        self.releases.insert(0, release)
        return 201, release

    def _upload(self, number: str, name: str, body: bytes) -> Reply:
        release = self._release(number)
        if not body:
            return 400, {"message": "Bad Content-Length"}
        kept = name if NAME.fullmatch(name) else re.sub(r"[^A-Za-z0-9._-]", ".", name).strip(".")
        if kept in {one["name"] for one in release["assets"]}:
            errors = [{"resource": "ReleaseAsset", "code": "already_exists", "field": "name"}]
            return 422, {"message": "Validation Failed", "errors": errors}
        asset = self._asset(kept, body, "uploaded")
        release["assets"].append(asset)
        self.contents[kept] = body
        return 201, asset

    def _asset(self, name: str, body: bytes, state: str) -> dict[str, Any]:
        digest = f"sha256:{hashlib.sha256(body).hexdigest()}" if state == "uploaded" else None
        return {
            "id": self.new(),
            "name": name,
            "size": len(body),
            "state": state,
            "digest": digest,
        }


class GitLab(Forge):
    """Releases of GitLab and its registry of generic packages, at ``URL/api/v4``."""

    header, value = "PRIVATE-TOKEN", TOKEN
    variables = ("GITLAB_TOKEN", "CI_API_V4_URL", "/api/v4")
    kind = "gitlab"

    def __init__(self, tags: Callable[[], set[str]]) -> None:
        super().__init__(tags)
        self.releases: dict[str, dict[str, Any]] = {}
        self.packages: dict[tuple[str, str], int] = {}
        self.files: dict[int, list[dict[str, Any]]] = {}
        self.contents: dict[str, bytes] = {}

    def published(self) -> dict[str, bytes]:
        """The files that the one release links to."""
        [release] = self.releases.values()
        return {
            link["name"]: self.contents[link["url"].rpartition("/")[2]]
            for link in release["assets"]["links"]
        }

    def cut_off(self, path: str, query: dict[str, str]) -> None:
        """Nothing stays of an upload that did not come to its end."""

    def routes(self, query: dict[str, str], body: bytes) -> Routes:
        """What is asked, and what answers."""
        top = rf"/api/v4/projects/{quote(PROJECT, safe='')}"
        package = r"packages/generic/([\w.-]+)/(\d+\.\d+\.\d+)/([\w.+~@-]+)"
        return {
            f"POST {top}/releases": lambda: self._create(json.loads(body)),
            f"GET {top}/releases/([^/]+)": self._show,
            f"POST {top}/releases/([^/]+)/assets/links": lambda tag: self._link(
                self.releases[tag], json.loads(body)
            ),
            f"GET {top}/packages": lambda: (200, page(self._search(query["package_name"]), query)),
            rf"GET {top}/packages/(\d+)/package_files": lambda of: (
                200,
                page(self.files[int(of)], query),
            ),
            f"PUT {top}/{package}": lambda name, version, file: self._put(
                name, version, file, body
            ),
        }

    def _show(self, tag: str) -> Reply:
        release = self.releases.get(tag)
        return (200, release) if release else (404, {"message": "404 Not Found"})

    def _search(self, name: str) -> list[dict[str, Any]]:
        return [
            {"id": number, "name": of[0], "version": of[1], "package_type": "generic"}
            for of, number in self.packages.items()
            if name in of[0]
        ]

    def _put(self, name: str, version: str, file: str, body: bytes) -> Reply:
        number = self.packages.setdefault((name, version), 0) or self.new()
        self.packages[name, version] = number
        digest = hashlib.sha256(body).hexdigest()
        # The same name again is one more file.
        self.files.setdefault(number, []).append(
            {"id": self.new(), "file_name": file, "size": len(body), "file_sha256": digest}
        )
        self.contents[file] = body
        return 201, {"message": "201 Created"}

    def _create(self, asked: dict[str, Any]) -> Reply:
        tag = asked["tag_name"]
        if tag in self.releases:
            return 409, {"message": "Release already exists"}
        if tag not in self.tags():
            return 422, {"message": "Ref is not specified"}
        self.releases[tag] = {
            **{key: asked[key] for key in ("tag_name", "name", "description")},
            "_links": {"self": f"{self.url}/{PROJECT}/-/releases/{tag}"},
            "assets": {"links": []},
        }
        for link in asked["assets"]["links"]:
            status, said = self._link(self.releases[tag], link)
            if status != 201:
                del self.releases[tag]
                return status, said
        return 201, self.releases[tag]

    def _link(self, release: dict[str, Any], link: dict[str, Any]) -> Reply:
        links = release["assets"]["links"]
        for key in ("name", "url"):
            if link[key] in {one[key] for one in links}:
                return 400, {"message": {key: ["has already been taken"]}}
        if not link["url"].startswith("http") or not link["direct_asset_path"].startswith("/"):
            return 400, {"message": {"url": ["is blocked"]}}
        links.append({**link, "id": self.new()})
        return 201, links[-1]


class _Handler(BaseHTTPRequestHandler):
    """One request, as the forge answers it."""

    protocol_version = "HTTP/1.1"
    forge: GitHub | GitLab

    def log_message(self, format: str, *args: object) -> None:
        pass

    def _serve(self) -> None:
        forge = self.forge
        parts = urlsplit(self.path)
        query = dict(parse_qsl(parts.query))
        shown = f"{parts.path} {query.get('name', '')}".strip()
        forge.requests.append(f"{self.command} {shown}")
        body = self._body(parts.path, query)
        if body is None:
            return
        answer = forge.fail(self.command, parts.path)
        if answer is None and self.headers.get(forge.header) != forge.value:
            answer = (401, {"message": "Bad credentials"})
        if answer is None:
            answer = forge.answer(self.command, parts.path, query, body)
        if forge.lose(self.command, parts.path):
            self.close_connection = True
            return
        status, document = answer
        data = document if isinstance(document, bytes) else json.dumps(document).encode()
        self.send_response(status)
        if 300 <= status < 400:
            self.send_header("Location", "http://other.example.org/")
        self.send_header("Content-Length", str(0 if status == 204 else len(data)))
        self.end_headers()
        if status != 204:
            self.wfile.write(data)

    def _body(self, path: str, query: dict[str, str]) -> bytes | None:
        """What was sent; None if it did not come to its end."""
        size = int(self.headers.get("Content-Length", "0"))
        body = b""
        while len(body) < size:
            chunk = self.rfile.read1(min(1024, size - len(body)))
            body += chunk
            if not chunk or self.forge.cut(self.command, path, len(body)):
                self.forge.cut_off(path, query)
                self.close_connection = True
                return None
        return body

    do_GET = do_POST = do_PUT = do_PATCH = do_DELETE = _serve  # noqa: N815


@contextmanager
def serve(forge: GitHub | GitLab) -> Iterator[None]:
    """Have *forge* answer on a free port of loopback, at its ``url``."""
    handler = type("Handler", (_Handler,), {"forge": forge})
    server = ThreadingHTTPServer(("127.0.0.1", 0), handler)
    server.daemon_threads = True
    forge.url = f"http://127.0.0.1:{server.server_port}"
    thread = threading.Thread(target=server.serve_forever, args=(0.01,), daemon=True)
    thread.start()
    try:
        yield
    finally:
        server.shutdown()
        server.server_close()
