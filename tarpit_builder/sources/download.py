"""One file from one of several places, resumed where it stopped.

What arrives is not trusted: the caller checks it.  This module sees to it that it arrives, that
it is not larger than agreed, and that whatever happens ends in one line that says what to do.
"""

from __future__ import annotations

import json
import os
import random
import re
import socket
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Literal
from urllib.parse import unquote, urlsplit, urlunsplit

from tarpit_builder import __version__, paths
from tarpit_builder.console import Stage
from tarpit_builder.errors import NetworkError, SourceError, UserError

if TYPE_CHECKING:
    import requests

CHUNK = 1 << 14  # bytes; what is lost when a connection stalls in the middle of one
REDIRECTS = 5
FORGIVEN = 60.0  # seconds after which a place that did not answer is asked again


@dataclass(frozen=True, slots=True)
class Patience:
    """How long to wait (seconds) and how often to try before a place counts as gone.

    *attempts* counts tries that brought nothing; a connection that was cut after some data is
    taken up again at once, as long as each try brings more.  *pace* is the least that must
    arrive in every *read* seconds, in bytes: what is slower has stalled.
    """

    connect: float = 10
    read: float = 30
    attempts: int = 4
    pause: float = 1.0
    pause_limit: float = 30.0
    pace: int = 16 << 10

    @classmethod
    def from_environment(cls) -> Patience:
        """The defaults, with ``$TARPIT_TIMEOUT`` seconds between two reads if that is set.

        :raises UserError: if that is no number of seconds.
        """
        said = os.environ.get("TARPIT_TIMEOUT", "").strip()
        if not said:
            return cls()
        if not re.fullmatch(r"\d{1,6}(\.\d{1,6})?", said, re.ASCII) or float(said) < 1:
            raise UserError(
                f"TARPIT_TIMEOUT={said}: not a number of seconds",
                hint="set it to 1 or more, or unset it to wait 30 s",
            )
        return cls(read=float(said))


@dataclass(frozen=True, slots=True)
class _State:
    """What is known of a partial file: where from, and the server's name for that version."""

    url: str = ""
    validator: str = ""


class _NextPlaceError(Exception):
    """This place will not do: *absent* if it said that it has no such file, *unreachable* if it
    said nothing at all, so that there is no use in asking it for another file soon.
    """

    def __init__(
        self, reason: str, *, absent: bool = False, unreachable: bool = False, hint: str = ""
    ) -> None:
        super().__init__(reason)
        self.absent = absent
        self.unreachable = unreachable
        self.hint = hint


class _TryAgainError(Exception):
    """A failure that may pass; *pause* is what the server asked for, in seconds."""

    def __init__(
        self, reason: str, *, pause: float | None = None, unreachable: bool = False
    ) -> None:
        super().__init__(reason)
        self.pause = pause
        self.unreachable = unreachable


class AbsentError(SourceError):
    """Every place answered that it has no such file."""


class UnreachedError(NetworkError):
    """No place answered, for no reason that its user could mend; another place might."""


@dataclass(frozen=True, slots=True)
class Downloader:
    """Fetches files; *sleep* is there for those who have no time."""

    patience: Patience = Patience()
    sleep: Callable[[float], None] = time.sleep
    _gone: dict[str, tuple[float, _NextPlaceError]] = field(default_factory=dict)

    def fetch(
        self,
        name: str,
        urls: Sequence[str],
        partial: Path,
        *,
        limit: int,
        size: int | None = None,
        stage: Stage | None = None,
    ) -> str:
        """Bring *partial* to its full length from the first of *urls* that can; which it was.

        *partial* may hold the beginning already and survives failures.  *limit* and *size* are
        in bytes.

        :raises AbsentError: if every place says that there is no such file.
        :raises NetworkError: if none can be reached, or all fail.
        :raises InfrastructureError: if the disk refuses or is full.
        """
        reasons: list[_NextPlaceError] = []
        for url in urls:
            since, reason = self._gone.get(_host(url), (0.0, None))
            if reason is not None and time.monotonic() - since < FORGIVEN:
                reasons.append(reason)
                continue
            try:
                self._from(url, name, partial, limit, size, stage)
            except _NextPlaceError as error:
                reasons.append(error)
                if error.unreachable:
                    self._gone[_host(url)] = (time.monotonic(), error)
            else:
                return _public(url)
        if not reasons:
            raise NetworkError(f"no place is known for {name}", hint="name one with --mirror URL")
        if all(reason.absent for reason in reasons):
            raise AbsentError(
                f"there is no {name} at {_places(urls)}",
                hint="check the version with `invoke kernels`, or name a --mirror that has it",
            )
        worst = next(reason for reason in reasons if not reason.absent)
        if worst.hint:
            raise NetworkError(f"cannot fetch {name}: {worst}", hint=worst.hint)
        raise UnreachedError(
            f"cannot fetch {name}: {worst}",
            hint="run the same command again to go on where it stopped, or name a --mirror URL",
        )

    def _from(
        self,
        url: str,
        name: str,
        partial: Path,
        limit: int,
        size: int | None,
        stage: Stage | None,
    ) -> None:
        failures = 0
        while True:
            before = _length(partial)
            try:
                if urlsplit(url).scheme == "file":
                    self._copy(url, partial, limit)
                else:
                    self._request(url, partial, limit, size, stage)
            except _TryAgainError as error:
                failures = 0 if _length(partial) > before else failures + 1
                if failures >= self.patience.attempts:
                    raise _NextPlaceError(
                        f"{_host(url)}: {error}", unreachable=error.unreachable
                    ) from error
                if stage:
                    stage.note(f"{error}; trying {_host(url)} again")
                self.sleep(self._pause(failures, error.pause))
            else:
                return

    def _pause(self, failures: int, asked: float | None) -> float:
        if asked is not None:
            return min(asked, self.patience.pause_limit)
        if failures == 0:
            return 0.0
        # Jitter, so that many builds that lost the same mirror do not all return at once.
        backed_off = min(self.patience.pause * 2.0 ** (failures - 1), self.patience.pause_limit)
        return backed_off * random.uniform(0.5, 1.0)  # noqa: S311

    def _copy(self, url: str, partial: Path, limit: int) -> None:
        source = Path(unquote(urlsplit(url).path))
        try:
            with source.open("rb") as data:
                if os.fstat(data.fileno()).st_size > limit:
                    raise _NextPlaceError(f"{source} is larger than any release")
                _discard(partial)
                with _writing(partial, "wb") as out:
                    while chunk := data.read(CHUNK):
                        out.write(chunk)
        except FileNotFoundError as error:
            raise _NextPlaceError(f"no file {source}", absent=True) from error
        except OSError as error:
            raise _NextPlaceError(f"cannot read {source}: {error.strerror}") from error

    def _request(
        self, url: str, partial: Path, limit: int, size: int | None, stage: Stage | None
    ) -> None:
        import requests
        import urllib3.exceptions

        have = _length(partial)
        state = _read_state(partial)
        if have and (have > limit or (size is not None and have > size)):
            _discard(partial)
            have = 0
        if have and have == size:
            return
        headers = {"User-Agent": f"tarpit-builder/{__version__}", "Accept-Encoding": "identity"}
        if have:
            headers["Range"] = f"bytes={have}-"
            if state.url == _public(url) and state.validator:
                headers["If-Range"] = state.validator
        try:
            with requests.Session() as session:
                session.max_redirects = REDIRECTS
                with session.get(
                    url,
                    headers=headers,
                    stream=True,
                    timeout=(self.patience.connect, self.patience.read),
                ) as response:
                    self._receive(response, url, partial, have, limit, stage)
        except requests.TooManyRedirects as error:
            raise _NextPlaceError(f"{_host(url)} redirects in circles") from error
        except requests.exceptions.SSLError as error:
            raise _NextPlaceError(
                f"the certificate of {_host(url)} is not accepted ({_innermost(error)})",
                hint="check this machine's clock and ca-certificates; behind a proxy that "
                "intercepts TLS, name its certificate in REQUESTS_CA_BUNDLE",
            ) from error
        except requests.exceptions.ProxyError as error:
            raise _NextPlaceError(
                f"the proxy fails ({_innermost(error)})",
                hint="check http_proxy, https_proxy and no_proxy",
            ) from error
        except (
            requests.exceptions.MissingSchema,
            requests.exceptions.InvalidSchema,
            requests.exceptions.InvalidURL,
        ) as error:
            raise _NextPlaceError(
                f"{_public(url)!r} is not an address",
                hint="write a mirror as https://… or file://…",
            ) from error
        except (requests.RequestException, urllib3.exceptions.HTTPError) as error:
            reason = _innermost(error)
            if isinstance(_cause(error), socket.gaierror):
                raise _NextPlaceError(f"{_host(url)}: {reason}", unreachable=True) from error
            unreachable = isinstance(error, requests.exceptions.ConnectionError)
            raise _TryAgainError(reason, unreachable=unreachable) from error

    def _receive(
        self,
        response: requests.Response,
        url: str,
        partial: Path,
        have: int,
        limit: int,
        stage: Stage | None,
    ) -> None:
        if response.status_code == 416 and _full_length(response) == have:
            return  # all of it had arrived, and then something else went wrong
        have = self._judge_status(response, url, partial, have)
        length = response.headers.get("Content-Length", "")
        total = have + int(length) if length.isdigit() else None
        if total is not None and total > limit:
            raise _NextPlaceError(f"{_host(url)} offers {total} bytes, more than any release has")
        if have == 0:
            _discard(partial)
        _write_state(partial, _State(_public(url), _validator(response)))
        window, window_bytes = time.monotonic(), 0
        if stage:
            stage.progress(have, total)
        with _writing(partial, "ab") as out:
            for chunk in response.raw.stream(CHUNK, decode_content=False):
                out.write(chunk)
                have += len(chunk)
                window_bytes += len(chunk)
                if have > limit:
                    raise _NextPlaceError(f"{_host(url)} sends more than any release has")
                if stage:
                    stage.progress(have, total)
                now = time.monotonic()
                if now - window > self.patience.read:
                    if window_bytes < self.patience.pace:
                        raise _TryAgainError("it stalls")
                    window, window_bytes = now, 0
        if total is not None and have < total:
            raise _TryAgainError(f"the connection was cut after {have} of {total} bytes")

    def _judge_status(self, response: requests.Response, url: str, partial: Path, have: int) -> int:
        """From which byte on the answer goes."""
        match response.status_code:
            case 200:
                return 0
            case 206 if _range_start(response) == have:
                return have
            case 206 | 416:
                # The server has another idea of the file than the one that was begun.
                _discard(partial)
                raise _TryAgainError("the file on the server changed")
            case 404 | 410:
                raise _NextPlaceError(f"{_host(url)} has no such file", absent=True)
            case 401 | 403 | 407 | 451:
                raise _NextPlaceError(f"{_host(url)} refuses ({response.status_code})")
            case 408 | 425 | 429 | 500 | 502 | 503 | 504:
                raise _TryAgainError(
                    f"it answers {response.status_code}", pause=_retry_after(response)
                )
            case status:
                raise _NextPlaceError(f"{_host(url)} answers {status}")


# -- the partial file ------------------------------------------------------------------------


class _writing:  # noqa: N801  (used like a function)
    """Open a partial file for writing; a full disk is reported as such, and not retried."""

    def __init__(self, path: Path, mode: Literal["ab", "wb"]) -> None:
        self._path, self._mode = path, mode

    def __enter__(self) -> _writing:
        try:
            self._file = self._path.open(self._mode, buffering=0)
        except OSError as error:
            raise paths.explain_os_error(error, self._path) from error
        return self

    def write(self, data: bytes) -> None:
        view = memoryview(data)
        try:
            while view:
                view = view[self._file.write(view) :]
        except OSError as error:
            raise paths.explain_os_error(error, self._path) from error

    def __exit__(self, *_: object) -> None:
        self._file.close()


def _state_file(partial: Path) -> Path:
    return partial.with_name(partial.name + ".json")


def _read_state(partial: Path) -> _State:
    try:
        found = json.loads(_state_file(partial).read_text())
        return _State(str(found["url"]), str(found["validator"]))
    except (OSError, ValueError, KeyError, TypeError):
        return _State()


def _write_state(partial: Path, state: _State) -> None:
    with paths.replacing(_state_file(partial)) as stage:
        stage.write_text(json.dumps({"url": state.url, "validator": state.validator}))


def _discard(partial: Path) -> None:
    _state_file(partial).unlink(missing_ok=True)
    partial.unlink(missing_ok=True)


def discard(partial: Path) -> None:
    """Forget what was fetched so far."""
    try:
        _discard(partial)
    except OSError as error:
        raise paths.explain_os_error(error, partial) from error


def _length(path: Path) -> int:
    try:
        return path.stat().st_size
    except FileNotFoundError:
        return 0
    except OSError as error:
        raise paths.explain_os_error(error, path) from error


# -- reading answers -------------------------------------------------------------------------


def _validator(response: requests.Response) -> str:
    """What If-Range may name: a strong entity tag, else the date (RFC 9110, 13.1.5)."""
    tag = response.headers.get("ETag", "")
    if tag and not tag.startswith("W/"):
        return tag
    return response.headers.get("Last-Modified", "")


def _range_start(response: requests.Response) -> int | None:
    unit, _, rest = response.headers.get("Content-Range", "").partition(" ")
    start, _, _ = rest.partition("-")
    return int(start) if unit == "bytes" and start.isdigit() else None


def _full_length(response: requests.Response) -> int | None:
    """How long the file is, of an answer that has none of the range asked for."""
    length = response.headers.get("Content-Range", "").removeprefix("bytes */")
    return int(length) if length.isdigit() else None


def _retry_after(response: requests.Response) -> float | None:
    value = response.headers.get("Retry-After", "")
    return float(value) if value.isdigit() else None


def _host(url: str) -> str:
    parts = urlsplit(url)
    return parts.netloc.rpartition("@")[2] or parts.path or url


def _public(url: str) -> str:
    """*url* without user name and password: it goes into manifests and logs."""
    parts = urlsplit(url)
    if "@" not in parts.netloc:
        return url
    return urlunsplit(parts._replace(netloc=parts.netloc.rpartition("@")[2]))


public_url = _public


def _places(urls: Sequence[str]) -> str:
    hosts = list(dict.fromkeys(map(_host, urls)))
    if len(hosts) > 3:
        return ", ".join(hosts[:3]) + f" and {len(hosts) - 3} more"
    return " or ".join(hosts)


def _cause(error: BaseException) -> BaseException:
    """The exception at the bottom of a chain of them."""
    while True:
        reason = getattr(error, "reason", None)
        inner = reason if isinstance(reason, BaseException) else error.__cause__
        if inner is None and error.args and isinstance(error.args[-1], BaseException):
            inner = error.args[-1]
        if inner is None:
            return error
        error = inner


def _innermost(error: BaseException) -> str:
    """The reason at the bottom of a chain of exceptions, without addresses of objects."""
    cause = _cause(error)
    if isinstance(cause, OSError) and cause.strerror:
        return cause.strerror
    text = str(cause).rpartition(">: ")[2] or type(cause).__name__
    return text.rstrip(".")


__all__ = ["AbsentError", "Downloader", "Patience", "discard", "public_url"]
