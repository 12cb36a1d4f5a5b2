"""HTTP with a token, which goes to one host over TLS and is in no argument, message or file."""

from __future__ import annotations

import json
import os
import re
import time
from collections.abc import Iterator, Mapping
from contextlib import ExitStack
from pathlib import Path
from typing import TYPE_CHECKING, Any
from urllib.parse import urlsplit

from tarpit_builder import __version__
from tarpit_builder.errors import InfrastructureError, NetworkError, TarpitError, UserError

if TYPE_CHECKING:
    import requests

CONNECT, READ, WHOLE = 30, 120, 300  # seconds: to connect and between two reads; for an answer
LARGEST = 16 << 20  # bytes of an answer
PAGE, PAGES = 100, 50  # entries of a page, and pages that are read
ATTEMPTS, PAUSE = 3, 1.0  # of what may be repeated; seconds in between
LOOPBACK = frozenset({"127.0.0.1", "::1", "localhost"})
AGAIN = "the same command again goes on where this one stopped"


class Api:
    """The API at *base* of the forge called *title*.

    *header* is the one that has the token, *scheme* what stands before it there, *variable* the
    one of the environment that it is from, *needs* what it must be allowed to.
    """

    def __init__(
        self,
        base: str,
        *,
        title: str,
        variable: str,
        header: str,
        needs: str,
        scheme: str = "",
        accept: Mapping[str, str] | None = None,
    ) -> None:
        self.base = base.rstrip("/")
        self.title = title
        self._variable = variable
        self._needs = needs
        self._token = token(variable, title, needs)
        self._header, self._value = header, f"{scheme}{self._token}"
        self._accept = dict(accept or {})
        try:
            _ = urlsplit(self.base).port
        except ValueError as error:
            raise UserError(
                f"the address of the API of {title} is none", hint="write it like https://HOST/PATH"
            ) from error
        self.demand_safe(self.base)

    def demand_safe(self, url: str) -> None:
        """See that the token may go to *url*: over TLS, and to no other host than the API's.

        :raises UserError: if not so.
        """
        ours = urlsplit(self.base)
        try:
            theirs = urlsplit(url)
            same_port = theirs.port == ours.port
        except ValueError as error:
            raise self.unexpected(url) from error
        host, api = theirs.hostname or "", ours.hostname or ""
        # uploads.github.com belongs to api.github.com
        family = api.removeprefix("api.") if api.startswith("api.") else ""
        if not (host == api and same_port) and not (family and host == f"uploads.{family}"):
            raise UserError(
                f"{self.title} at {api} names another host, {host}, to send the token to",
                hint="see what answers there",
            )
        if theirs.scheme != "https" and not (theirs.scheme == "http" and host in LOOPBACK):
            raise UserError(
                f"{self.title} at {host} would get the token without TLS",
                hint="name an address of the API that begins with https://",
            )

    def get(
        self, path: str, query: Mapping[str, str | int] | None = None, *, absent: bool = False
    ) -> Any:
        """What is at *path*; with *absent* None if there is nothing.

        :raises TarpitError: as :meth:`send` does.
        """
        for attempt in range(1, ATTEMPTS + 1):
            try:
                return self.send("GET", path, query=query, none=(404,) if absent else ())
            except NetworkError:
                if attempt == ATTEMPTS:
                    raise
                time.sleep(PAUSE * attempt)
        raise AssertionError

    def pages(self, path: str, **query: str | int) -> Iterator[dict[str, Any]]:
        """The entries of the list at *path*."""
        for number in range(1, PAGES + 1):
            page = self.get(path, {**query, "per_page": PAGE, "page": number})
            if not isinstance(page, list) or not all(isinstance(one, dict) for one in page):
                raise self.unexpected(path)
            yield from page
            if len(page) < PAGE:
                return
        raise InfrastructureError(
            f"{self.title} lists more than {PAGE * PAGES} entries at {path}",
            hint="remove what is not needed any more",
        )

    def send(
        self,
        method: str,
        path: str,
        *,
        query: Mapping[str, str | int] | None = None,
        document: Mapping[str, object] | None = None,
        file: Path | None = None,
        none: tuple[int, ...] = (),
    ) -> Any:
        """Ask once; *path* is below the base, or a whole URL.

        :param none: statuses that are answered with None.
        :raises UserError: if the token or the request is refused.
        :raises NetworkError: if nothing comes, or the server fails.
        :raises InfrastructureError: if there is no more room.
        """
        url = path if "://" in path else f"{self.base}/{path}"
        self.demand_safe(url)
        with ExitStack() as stack:
            stream = stack.enter_context(file.open("rb")) if file else None
            status, data = self._exchange(method, url, params=query, json=document, data=stream)
        if status in none:
            return None
        if not 200 <= status < 300:
            raise self._refusal(status, data, path.partition("?")[0])
        return data

    def _exchange(self, method: str, url: str, **content: Any) -> tuple[int, Any]:
        """The status and the document that are answered; *content* is as requests takes it."""
        import requests

        headers = {"User-Agent": f"tarpit-builder/{__version__}", **self._accept}
        if content["data"]:
            headers["Content-Type"] = "application/octet-stream"
        try:
            with requests.Session() as session:
                session.auth = self._sign  # a function, so that no ~/.netrc comes between
                with session.request(
                    method, url, headers=headers, stream=True, allow_redirects=False,
                    timeout=(CONNECT, READ), **content,
                ) as response:  # fmt: skip
                    return response.status_code, self._body(response)
        except requests.RequestException as error:
            raise NetworkError(
                f"{self.title} at {urlsplit(url).hostname} does not answer: {type(error).__name__}",
                hint=f"see whether this machine reaches it; {AGAIN}",
            ) from None  # whose text may have the request in it

    def unexpected(self, path: str) -> NetworkError:
        """What to raise of an answer that is none of the API's."""
        return NetworkError(
            f"{self.title} answers {path.partition('?')[0]} with something else than its API has",
            hint=f"see that {urlsplit(self.base).hostname} is {self.title}; {AGAIN}",
        )

    def _sign(self, request: requests.PreparedRequest) -> requests.PreparedRequest:
        request.headers[self._header] = self._value
        return request

    def _body(self, response: requests.Response) -> Any:
        body = bytearray()
        deadline = time.monotonic() + WHOLE
        for chunk in response.iter_content(1 << 16):
            body += chunk
            if len(body) > LARGEST or time.monotonic() > deadline:
                raise NetworkError(
                    f"{self.title} sends more than {LARGEST >> 20} MiB, or takes longer than "
                    f"{WHOLE} s, for one answer",
                    hint=f"see what answers there; {AGAIN}",
                )
        try:
            return json.loads(body) if body else {}
        except (ValueError, RecursionError):
            return None if response.ok else {}

    def _refusal(self, status: int, data: Any, path: str) -> TarpitError:
        said = self._plain(_message(data))
        text = f"{self.title} answers {status} to {path}{f': {said}' if said else ''}"
        kind: type[TarpitError] = UserError
        hint = f"mend what it names; {AGAIN}"
        if status == 401:
            hint = f"the token in {self._variable} may have expired; make one with {self._needs}"
        elif status == 429 or (status == 403 and "rate limit" in said):
            kind, hint = NetworkError, f"wait, as it asks; {AGAIN}"
        elif status == 403:
            hint = f"the token in {self._variable} needs {self._needs}"
        elif status == 404:
            hint = (
                f"there is no such project, or the token in {self._variable} may not see it: it "
                f"needs {self._needs}"
            )
        elif status in {413, 507}:
            kind = InfrastructureError
            hint = f"there is no room: remove what is not needed, or have its limit raised; {AGAIN}"
        elif status >= 500:
            kind, hint = NetworkError, AGAIN
        elif status < 400:
            hint = "the project has moved: name its new address with git remote set-url"
        return kind(text, hint=hint)

    def _plain(self, text: str) -> str:
        """*text* of a server, short and without the token."""
        return text.replace(self._token, "…")[:200]


def token(variable: str, title: str, needs: str) -> str:
    """The token in the environment's *variable*.

    :raises UserError: if there is none, or it cannot be one.
    """
    value = os.environ.get(variable, "").strip()
    if not value:
        raise UserError(
            f"there is no token for {title}", hint=f"put one with {needs} into {variable}"
        )
    if not re.fullmatch(r"[!-~]{1,1024}", value):
        raise UserError(
            f"{variable} holds something that is no token of {title}",
            hint="copy it again; it has neither blanks nor line breaks",
        )
    return value


def _message(data: Any) -> str:
    """What the document *data* of a refusal says; both forges are free in its form."""
    if not isinstance(data, dict):
        return ""
    parts = [data.get("message") or data.get("error") or ""]
    errors = data.get("errors")
    for one in errors if isinstance(errors, list) else ():
        if isinstance(one, dict):
            words = (one.get("resource"), one.get("field"), one.get("code"), one.get("message"))
            parts.append(" ".join(str(word) for word in words if word))
    return "; ".join(part if isinstance(part, str) else json.dumps(part) for part in parts if part)
