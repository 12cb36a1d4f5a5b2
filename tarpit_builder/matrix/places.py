"""The file systems of a store that fsspec does not open as a store needs them.

By ssh a host must be known already: fsspec takes any key that it is shown.  By HTTP a store is
written to, which takes WebDAV (RFC 4918).
"""

from __future__ import annotations

from contextlib import suppress
from typing import Any
from urllib.parse import urlsplit, urlunsplit

import paramiko
from fsspec import AbstractFileSystem
from fsspec.core import url_to_fs
from fsspec.implementations.sftp import SFTPFileSystem
from fsspec.utils import infer_storage_options

GLOBAL_HOSTS = "/etc/ssh/ssh_known_hosts"


class KnownHost(SFTPFileSystem):  # type: ignore[misc]
    """A host by sftp whose key is in one of the files that ``ssh`` looks into."""

    def _connect(self) -> None:
        self.client = paramiko.SSHClient()
        with suppress(OSError):
            self.client.load_system_host_keys(GLOBAL_HOSTS)
        self.client.load_system_host_keys()
        self.client.set_missing_host_key_policy(paramiko.RejectPolicy())
        self.client.connect(self.host, **self.ssh_kwargs)
        self.ftp = self.client.open_sftp()


def place(url: str) -> tuple[AbstractFileSystem, str]:
    """The file system that *url* is in, and its path there.

    :raises ValueError: if nothing can reach it.
    :raises ImportError: if a package for it is missing.
    """
    match url.partition("://")[0]:
        case "sftp" | "ssh":
            where = infer_storage_options(url)
            given = {name: where[name] for name in ("host", "port", "username") if name in where}
            return KnownHost(**given), where["path"]
        case "http" | "https":
            return _webdav(url)
    files, root = url_to_fs(url)
    return files, str(root)


def _webdav(url: str) -> tuple[AbstractFileSystem, str]:
    import httpx
    from webdav4.fsspec import WebdavFileSystem

    class WebDav(WebdavFileSystem):  # type: ignore[misc]
        """One where what is moved may replace what is there, as in a folder."""

        def mv(self, path1: str, path2: str, **_: Any) -> None:
            self.client.move(path1, path2, overwrite=True)

    parts = urlsplit(url)
    auth = None
    with suppress(FileNotFoundError):
        auth = httpx.NetRCAuth()
    base = urlunsplit((parts.scheme, parts.netloc, "", "", ""))
    return WebDav(base, auth=auth), parts.path.strip("/")
