"""Servers for stores and engines, each on a port of its own on the loopback interface."""

from __future__ import annotations

import asyncio
import ssl
import subprocess
import threading
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path

import asyncssh
from cheroot import wsgi
from moto.server import ThreadedMotoServer
from wsgidav.wsgidav_app import WsgiDAVApp

HOST = "127.0.0.1"


class SshServer:
    """A host that lets in the owner of ``.ssh/id_ed25519`` in *home*, and runs commands.

    That key and ``known_hosts`` are made for its client.
    """

    def __init__(self, home: Path, environment: dict[str, str]) -> None:
        self._folder = home / ".ssh"
        self._folder.mkdir(mode=0o700, parents=True)
        self._environment = environment
        self._key = asyncssh.generate_private_key("ssh-ed25519")
        self.port = 0

    async def start(self) -> asyncssh.SSHAcceptor:
        """Listen, and have the client know it."""
        own = asyncssh.generate_private_key("ssh-ed25519")
        own.write_private_key(self._folder / "id_ed25519")
        own.write_public_key(self._folder / "authorized_keys")
        server = await asyncssh.listen(
            HOST,
            0,
            server_host_keys=[self._key],
            authorized_client_keys=str(self._folder / "authorized_keys"),
            sftp_factory=True,
            process_factory=self._run,
            encoding=None,
        )
        self.port = server.get_port()
        self.known_as(self._key)
        return server

    def known_as(self, key: asyncssh.SSHKey | None) -> None:
        """Have the client know the host by *key*, or not at all."""
        line = f"[{HOST}]:{self.port} {key.export_public_key().decode()}" if key else ""
        (self._folder / "known_hosts").write_text(line)

    async def _run(self, process: asyncssh.SSHServerProcess[bytes]) -> None:
        with subprocess.Popen(
            ["sh", "-c", process.command or ""],
            env=self._environment,
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
        ) as child:
            await process.redirect(child.stdin, child.stdout, child.stderr)
            await process.stdout.drain()
            process.exit(child.wait())


@contextmanager
def _loop() -> Iterator[asyncio.AbstractEventLoop]:
    """An event loop in a thread of its own, whose tasks end with the block."""
    loop = asyncio.new_event_loop()
    thread = threading.Thread(target=loop.run_forever)
    thread.start()

    async def stop() -> None:
        rest = asyncio.all_tasks() - {asyncio.current_task()}
        for task in rest:
            task.cancel()
        await asyncio.gather(*rest, return_exceptions=True)

    try:
        yield loop
    finally:
        asyncio.run_coroutine_threadsafe(stop(), loop).result(30)
        loop.call_soon_threadsafe(loop.stop)
        thread.join()
        loop.close()


@contextmanager
def ssh_server(home: Path, **environment: str) -> Iterator[SshServer]:
    """One until the block ends, whose commands have *environment*."""
    server = SshServer(home, environment)
    with _loop() as loop:
        acceptor = asyncio.run_coroutine_threadsafe(server.start(), loop).result(30)
        try:
            yield server
        finally:
            loop.call_soon_threadsafe(acceptor.close)


def certificates(folder: Path) -> None:
    """Keys for TLS as Docker names them, for both sides, in *folder*."""
    folder.mkdir()
    new = ["openssl", "req", "-x509", "-newkey", "ec", "-pkeyopt", "ec_paramgen_curve:P-256"]
    new += ["-nodes", "-days", "2"]
    signed = ["-CA", "ca.pem", "-CAkey", "ca-key.pem"]
    for name, more in (
        ("ca", ["-addext", "basicConstraints=critical,CA:TRUE"]),
        ("server", [*signed, "-addext", f"subjectAltName=IP:{HOST}"]),
        ("client", [*signed, "-addext", "extendedKeyUsage=clientAuth"]),
    ):
        files = ["-keyout", f"{name}-key.pem", "-out", f"{name}.pem", "-subj", f"/CN={name}"]
        subprocess.run([*new, *files, *more], cwd=folder, check=True, capture_output=True)
    (folder / "client.pem").rename(folder / "cert.pem")
    (folder / "client-key.pem").rename(folder / "key.pem")


@contextmanager
def tls_server(keys: Path, socket_file: str) -> Iterator[str]:
    """The address where who has a key of *keys* reaches *socket_file*: ``dockerd --tlsverify``."""
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    context.load_cert_chain(keys / "server.pem", keys / "server-key.pem")
    context.load_verify_locations(keys / "ca.pem")
    context.verify_mode = ssl.CERT_REQUIRED

    async def pump(source: asyncio.StreamReader, sink: asyncio.StreamWriter) -> None:
        with suppress(OSError):
            while data := await source.read(1 << 16):
                sink.write(data)
                await sink.drain()
        sink.close()

    async def relay(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        from_engine, to_engine = await asyncio.open_unix_connection(socket_file)
        await asyncio.gather(pump(reader, to_engine), pump(from_engine, writer))

    with _loop() as loop:
        starting = asyncio.start_server(relay, HOST, 0, ssl=context)
        server = asyncio.run_coroutine_threadsafe(starting, loop).result(30)
        try:
            yield f"tcp://{HOST}:{server.sockets[0].getsockname()[1]}"
        finally:
            loop.call_soon_threadsafe(server.close)


@contextmanager
def webdav_server(folder: Path, user: str = "", password: str = "") -> Iterator[str]:
    """The address of *folder*, which whoever knows *password* may write to."""
    users = {user: {"password": password}} if user else True
    app = WsgiDAVApp(
        {
            "provider_mapping": {"/": str(folder)},
            "simple_dc": {"user_mapping": {"*": users}},
            "verbose": 0,
        }
    )
    server = wsgi.Server((HOST, 0), app)
    server.prepare()
    thread = threading.Thread(target=server.serve)
    thread.start()
    try:
        yield f"http://{HOST}:{server.bind_addr[1]}"
    finally:
        server.stop()
        thread.join()


@contextmanager
def bucket_server() -> Iterator[str]:
    """The address of a service with buckets (``AWS_ENDPOINT_URL``)."""
    server = ThreadedMotoServer(HOST, 0, verbose=False)
    server.start()
    try:
        host, port = server.get_host_and_port()
        yield f"http://{host}:{port}"
    finally:
        server.stop()
