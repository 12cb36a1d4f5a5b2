"""Images and sealed runs: the only file that talks to a container engine.

The engine may be anywhere (``DOCKER_HOST``; Podman's socket too), so nothing is bind-mounted:
what a run reads is copied into volumes through the API, what it made is copied out again, and
both are gone afterwards.  A sealed run has no network, no capabilities, no way to gain any, a
read-only root, an ordinary user, and limits on memory, processes and time.
"""

from __future__ import annotations

import hashlib
import io
import json
import os
import pwd
import re
import shutil
import socket
import subprocess
import tarfile
import tempfile
import threading
import uuid
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import ExitStack, contextmanager, suppress
from dataclasses import dataclass, field, replace
from functools import partial
from pathlib import Path, PurePosixPath
from typing import IO, TYPE_CHECKING, Any

from tarpit_builder import digests, paths, suites
from tarpit_builder.console import Console
from tarpit_builder.errors import (
    BuildError,
    DockerError,
    InfrastructureError,
    TarpitError,
    ToolMissingError,
    UserError,
)
from tarpit_builder.leftovers import scratch_for_others
from tarpit_builder.sources import signatures
from tarpit_builder.sources.mirrors import Mirrors, moment

if TYPE_CHECKING:
    from docker.models.containers import Container

LABEL = "org.tarpit-builder"
# "localhost/" keeps Podman from looking on docker.io
IMAGES = os.environ.get("TARPIT_IMAGES", "localhost/tarpit-builder")
SOCKET = "/var/run/docker.sock"  # where docker-py looks unless DOCKER_HOST says otherwise
BUILDER_UID = 1000
MIB = 1 << 20
KEPT = 48  # volumes with the build trees of kernels, of about 60 MB each
TRUSTED = "/etc/apt/trusted.gpg.d/tarpit-archive.gpg"
SIGKILLED = 128 + 9  # exit status of a process that was killed
ESCAPE = re.compile(r"\x1b(\[[0-?]*[ -/]*[@-~]|[@-Z\\^_])")
PATIENCE = 2  # seconds that another run may hold a lock before we say that we wait
CONNECT_TIMEOUT = 10  # seconds until an engine that does not answer counts as absent
REQUEST_TIMEOUT = 600  # seconds for one API call; image builds stream and are not bound by it


@dataclass(frozen=True, slots=True)
class Recipe:
    """What an image is made of: a suite and a template of ``containers/``.

    *template* is rendered with *variables*; the rendered text, the mirror lines and the base
    make the tag, so an image is rebuilt exactly when its recipe changes.  For sealed runs it must
    have ``/build`` with mode 1777 (engines copy the mode of the folder that they mount over) and
    ``/out``, owned by user 1000.
    """

    template: str
    suite: str
    arch: str
    apt_sources: tuple[str, ...]
    mirror: str
    variables: Mapping[str, Any] = field(default_factory=dict)
    foreign: str = ""
    """An image of the user's own to start from, in place of the suite."""

    distribution: str = suites.DEBIAN
    keyring: str = ""
    """A file with the keys of an archive that the suite itself does not know the keys of."""

    def bare(self) -> Recipe:
        """The same suite with nothing in it, to try packages in as a user would."""
        return replace(self, template="bare", variables={})

    @property
    def base_tag(self) -> str:
        """Tag of the bare suite that this image starts from."""
        if self.foreign:
            return self.foreign
        made_of = f"{self.suite} {self.arch} {self.mirror}"
        if self.keyring:
            made_of += f" {digests.file(Path(self.keyring))}"
        digest = hashlib.sha256(made_of.encode()).hexdigest()
        return f"{IMAGES}/base:{self.suite}-{self.arch}-{digest[:12]}"

    def dockerfile(self) -> str:
        """The recipe rendered, ready for the engine."""
        import jinja2

        environment = jinja2.Environment(
            loader=jinja2.FileSystemLoader(paths.PROJECT / "containers"),
            undefined=jinja2.StrictUndefined,
            keep_trailing_newline=True,
            autoescape=False,  # noqa: S701  (a Dockerfile, not HTML)
        )
        return environment.get_template(f"{self.template}.Dockerfile.j2").render(
            base=self.base_tag,
            suite=self.suite,
            arch=self.arch,
            apt_sources=self.apt_sources,
            uid=BUILDER_UID,
            **self.variables,
        )

    @property
    def tag(self) -> str:
        """Name and tag of the finished image."""
        digest = hashlib.sha256(self.dockerfile().encode()).hexdigest()
        return f"{IMAGES}/{self.template}:{self.suite}-{self.arch}-{digest[:12]}"

    @property
    def identity(self) -> str:
        """The tag as if by no mirror: which one packages came by says nothing about them.

        What does is the moment that a snapshot of the archive shows.
        """
        moments = tuple(sorted(set(map(moment, self.apt_sources)) - {""}))
        return replace(self, apt_sources=moments, mirror="", keyring="").tag


@dataclass(frozen=True, slots=True)
class Files:
    """Members of an input: name in the archive → a file of this machine, or its bytes."""

    members: Mapping[str, Path | bytes]

    @property
    def digest(self) -> str:
        """One digest for names and contents."""
        return digests.tree(self.members)

    def tar(self) -> IO[bytes]:
        """A tar archive of the members, in sorted order and with neutral metadata."""
        spool = tempfile.TemporaryFile(prefix="tarpit-input-")  # noqa: SIM115  (handed on)
        with tarfile.open(fileobj=spool, mode="w") as archive:
            made: set[str] = set()
            for name in sorted(self.members):
                for parent in reversed(Path(name).parents[:-1]):
                    if str(parent) not in made:
                        made.add(str(parent))
                        archive.addfile(_tarinfo(str(parent), mode=0o755, kind=tarfile.DIRTYPE))
                content = self.members[name]
                data = content if isinstance(content, bytes) else content.read_bytes()
                executable = isinstance(content, Path) and os.access(content, os.X_OK)
                info = _tarinfo(name, mode=0o755 if executable else 0o644)
                info.size = len(data)
                archive.addfile(info, io.BytesIO(data))
        spool.seek(0)
        return spool


@dataclass(frozen=True, slots=True)
class Tar:
    """An input that is a tar archive already; *open* returns it uncompressed, at its start."""

    open: Callable[[], IO[bytes]]

    def tar(self) -> IO[bytes]:
        """The archive."""
        return self.open()


def _title(recipe: Recipe) -> str:
    """The name of the distribution that the suite is of."""
    return suites.distributions()[recipe.distribution].title


def tree(root: Path, *, ignore: Sequence[str] = ()) -> Files:
    """Every regular file below *root*, by relative name; *ignore* are glob patterns of names."""
    return Files(
        {
            str(path.relative_to(root)): path
            for path in sorted(root.rglob("*"))
            if path.is_file()
            and not path.is_symlink()
            and not any(path.match(pattern) for pattern in ignore)
        }
    )


@dataclass(frozen=True, slots=True)
class Input:
    """What a run finds, read-only, at *mount*.

    With a *key* (a digest of the content) the volume is kept for later runs that name the same
    key; ``invoke clean`` removes it.
    """

    mount: str
    archives: Sequence[Files | Tar]
    key: str | None = None

    @property
    def digest(self) -> str:
        """The key, or a digest of the files."""
        files = (archive for archive in self.archives if isinstance(archive, Files))
        return self.key or digests.digest(archive.digest for archive in files)


@dataclass(frozen=True, slots=True)
class Limits:
    """Bounds of a run: memory in MiB (working storage included), processes, wall time in s.

    *results* in MiB bounds what is copied out of it, *speech* in MiB what it prints.
    """

    memory: int = 4096
    processes: int = 512
    seconds: int = 3600
    results: int = 8192
    speech: int = 64


@dataclass(frozen=True, slots=True)
class RunResult:
    """How a run ended: its exit status and every line it printed."""

    status: int
    lines: tuple[str, ...]


@dataclass(frozen=True, slots=True)
class Endpoint:
    """Where a container engine is.

    *host* is what ``DOCKER_HOST`` would say, empty for the engine of the environment; *keys* the
    folder with ``ca.pem``, ``cert.pem`` and ``key.pem``, where TLS needs other ones than the
    environment's.
    """

    host: str = ""
    keys: str = ""

    @classmethod
    def named(cls, name: str) -> Endpoint:
        """The one that *name* stands for: an address, or a context of ``docker context``.

        :raises UserError: if it is neither.
        """
        if "://" in name:
            return cls(name)
        if name == "default":
            return LOCAL
        contexts = Path(os.environ.get("DOCKER_CONFIG") or Path.home() / ".docker") / "contexts"
        known = {}
        for file in sorted(contexts.glob("meta/*/meta.json")):
            with suppress(OSError, ValueError, LookupError, TypeError):
                meta = json.loads(file.read_text())
                keys = contexts / "tls" / file.parent.name / "docker"
                host = str(meta["Endpoints"]["docker"]["Host"])
                known[str(meta["Name"])] = cls(host, str(keys) if keys.is_dir() else "")
        if name not in known:
            raise UserError(
                f"{name!r} is no address of a container engine, and no context of Docker's",
                hint="write it like ssh://HOST or tcp://HOST:2376; contexts here: "
                + ", ".join(["default", *known]),
            )
        return known[name]

    @property
    def environment(self) -> dict[str, str]:
        """What makes the engine that of a process's environment."""
        found = {"DOCKER_HOST": self.host} if self.host else {}
        return found | (
            {"DOCKER_TLS_VERIFY": "1", "DOCKER_CERT_PATH": self.keys} if self.keys else {}
        )


LOCAL = Endpoint()


class Engine:
    """A container engine that answered."""

    def __init__(self, client: Any) -> None:
        self._client = client
        self._owner = f"{socket.gethostname()}:{os.getpid()}:{_start_time(os.getpid())}"

    @classmethod
    def connect(cls, endpoint: Endpoint = LOCAL) -> Engine:
        """The engine at *endpoint*.

        :raises DockerError: if none answers within ten seconds.
        """
        import docker

        environment = {**os.environ, **endpoint.environment}
        try:
            client = docker.from_env(timeout=CONNECT_TIMEOUT, environment=environment)
            client.ping()
        except Exception as error:  # what ssh and TLS do not like has types of its own
            where = environment.get("DOCKER_HOST") or f"unix://{SOCKET}"
            raise _unreached(error, where) from error
        client.api.timeout = REQUEST_TIMEOUT
        engine = cls(client)
        engine._sweep()
        return engine

    # -- images ------------------------------------------------------------------------------

    def ensure_image(self, recipe: Recipe, console: Console) -> str:
        """The id of the image of *recipe*, made now if need be.

        :raises DockerError: if the engine fails or goes away.
        :raises InfrastructureError: if the suite can be had neither from a registry nor by
            bootstrapping it.
        :raises UserError: if the recipe starts from an image that is nowhere to be had.
        """
        if recipe.foreign:
            # By its id, because what its name stands for may change.
            recipe = replace(recipe, foreign=self._foreign_id(recipe.foreign, console))
        with _engine_errors():
            if found := self._image_id(recipe.tag):
                return found
        with locked("image-" + recipe.tag.rsplit("-", 1)[1]):
            with _engine_errors():
                if found := self._image_id(recipe.tag):
                    return found
            self._ensure_base(recipe, console)
            with console.stage(f"image {recipe.tag}") as stage, _engine_errors():
                self._build(recipe, stage.note)
            with _engine_errors():
                made = self._image_id(recipe.tag)
            if made is None:
                raise DockerError(
                    f"image {recipe.tag} vanished after it was built", hint="run the command again"
                )
            return made

    def _image_id(self, tag: str) -> str | None:
        import docker.errors

        try:
            return str(self._client.images.get(tag).id)
        except docker.errors.ImageNotFound:
            return None

    def _ensure_base(self, recipe: Recipe, console: Console) -> None:
        if recipe.foreign:
            return
        with locked("image-" + recipe.base_tag.rsplit("-", 1)[1]):
            with _engine_errors():
                if self._image_id(recipe.base_tag):
                    return
            with console.stage(f"suite {recipe.suite} ({recipe.arch})") as stage:
                if self._pull(recipe):
                    stage.done("from a registry")
                else:
                    self._bootstrap(recipe)
                    stage.done(f"bootstrapped from the {_title(recipe)} mirror")

    def _foreign_id(self, name: str, console: Console) -> str:
        import docker.errors
        import requests

        with _engine_errors():
            if found := self._image_id(name):
                return found
            with console.stage(f"image {name}"):
                try:
                    return str(self._client.images.pull(name).id)
                except (docker.errors.APIError, requests.RequestException) as error:
                    raise UserError(
                        f"there is no image {name!r}, here or in its registry",
                        hint="`docker images` lists those that are here",
                    ) from error

    def _pull(self, recipe: Recipe) -> bool:
        import docker.errors
        import requests

        registry = os.environ.get("TARPIT_REGISTRY", "docker.io/library")
        if registry in {"", "none"} or recipe.keyring:
            return False
        image = suites.distributions()[recipe.distribution].image.format(suite=recipe.suite)
        name, _, tag = f"{registry}/{image}".rpartition(":")
        try:
            pulled = self._client.images.pull(name, tag=tag, platform=f"linux/{recipe.arch}")
            pulled.tag(*recipe.base_tag.split(":"))
        except (docker.errors.APIError, requests.RequestException):
            return False
        return True

    def _bootstrap(self, recipe: Recipe) -> None:
        distribution = suites.distributions()[recipe.distribution]
        if shutil.which("mmdebstrap") is None:
            raise ToolMissingError(
                f"no registry has {distribution.image.format(suite=recipe.suite)}, and mmdebstrap "
                "is not installed",
                hint="apt-get install mmdebstrap, or run ./bootstrap",
            )
        with scratch_for_others("base") as (folder, held):
            folder.chmod(0o755)  # without root, mmdebstrap works in it as another user of its own
            self._import(recipe, self._mmdebstrap(recipe, folder), folder, held)

    def _mmdebstrap(self, recipe: Recipe, folder: Path) -> list[str]:
        """The command that writes the suite of *recipe* as a tar archive."""
        distribution = suites.distributions()[recipe.distribution]
        trust = []
        if recipe.keyring or recipe.distribution != suites.DEBIAN:
            mirrors = Mirrors(distribution=recipe.distribution, keyring=recipe.keyring)
            keys = folder / "archive.gpg"
            keys.write_bytes(signatures.public_keys(mirrors.keyring_file(recipe.suite)))
            keys.chmod(0o644)
            trust = [f"--keyring={keys}"]
            if recipe.keyring:
                # For apt in the images, which knows the keys of the suite's own archive only.
                trust.append(f"--customize-hook=upload {keys} {TRUSTED}")
        return [
            "mmdebstrap",
            "--quiet",
            "--variant=minbase",
            f"--architectures={recipe.arch}",
            "--aptopt=APT::Install-Recommends false",
            *(
                ["--aptopt=Acquire::Check-Valid-Until false"]
                if recipe.variables.get("allow_expired")
                else []
            ),
            f"--components={','.join(distribution.components)}",
            *trust,
            "--format=tar",
            recipe.suite,
            "-",
            recipe.mirror,
        ]

    def _import(self, recipe: Recipe, command: list[str], folder: Path, held: int) -> None:
        with (
            tempfile.TemporaryFile(prefix="tarpit-base-") as spool,
            tempfile.TemporaryFile() as log,
        ):
            status = subprocess.run(
                command,
                stdout=spool,
                stderr=log,
                env={**os.environ, "TMPDIR": str(folder)},
                pass_fds=[held],  # it heeds no signal, and cleans up when it is done
                check=False,
            ).returncode
            if status != 0:
                log.seek(0)
                lines = log.read().decode(errors="replace").strip().splitlines()
                raise InfrastructureError(
                    f"cannot bootstrap {recipe.suite}: {lines[-1] if lines else 'no output'}",
                    hint="check the network and the disk with `invoke doctor`; "
                    f"--mirror URL names another {_title(recipe)} mirror",
                )
            spool.seek(0)
            with _engine_errors():
                # In pieces: docker-py announces a chunked body, and requests only sends one so.
                pieces = iter(partial(spool.read, MIB), b"")
                answer = self._client.api.import_image_from_stream(pieces)
                # Podman does not heed the name that an import asks for: give it afterwards.
                made = json.loads(answer.splitlines()[-1])["status"]
                self._client.images.get(made).tag(*recipe.base_tag.split(":"))

    def _build(self, recipe: Recipe, note: Callable[[str], None]) -> None:
        context = Files({"Dockerfile": recipe.dockerfile().encode()}).tar()
        proxies = {
            name: value
            for name in ("http_proxy", "https_proxy", "no_proxy")
            if (value := os.environ.get(name) or os.environ.get(name.upper()))
        }
        tail: list[str] = []
        events = self._client.api.build(
            fileobj=context,
            custom_context=True,
            tag=recipe.tag,
            labels={LABEL: "image"},
            buildargs=proxies,
            rm=True,
            forcerm=True,
            decode=True,
        )
        for event in events:
            if lines := _uncoloured(event.get("stream", "")):
                tail = [*tail[-30:], *lines]
                note(lines[-1])
            if error := event.get("error"):
                if recipe.foreign:
                    raise UserError(
                        f"the image that was named cannot be used: {_cause(tail) or error}",
                        hint="it needs a shell, gcc, make and perl; programs of Debian wheezy and "
                        "older end with status 139 unless this machine boots with vsyscall=emulate",
                    )
                raise InfrastructureError(
                    f"image {recipe.tag} cannot be built: {_cause(tail) or error}",
                    hint=f"check that the {_title(recipe)} mirror can be reached from containers "
                    "(`invoke doctor`); --mirror URL names another",
                )

    # -- runs --------------------------------------------------------------------------------

    def run(
        self,
        image: str,
        argv: Sequence[str],
        *,
        inputs: Sequence[Input] = (),
        output: Path | None = None,
        environment: Mapping[str, str] | None = None,
        limits: Limits | None = None,
        sealed: bool = True,
        capabilities: Sequence[str] = (),
        on_line: Callable[[str], None] | None = None,
    ) -> RunResult:
        """Run *argv* in a fresh container of *image* and remove it afterwards, whatever happens.

        The run works in ``/build`` (empty, in memory) and leaves results in ``/out``, which is
        copied to *output* if it ended with status 0.  With ``sealed=False`` it is root on a
        writable root with network: for trying packages as a user would, never for building;
        *capabilities* are what it may do besides, such as ``NET_ADMIN``.

        :raises DockerError: if the engine fails or goes away.
        :raises BuildError: if the run exceeds one of its *limits*.
        """
        limits = limits or Limits()
        with ExitStack() as cleanup, _engine_errors():
            mounts: dict[str, dict[str, str]] = {}
            for item in inputs:
                volume = self._filled_volume(image, item, cleanup)
                mounts[volume] = {"bind": item.mount, "mode": "ro"}
            outbox = self._volume(cleanup)
            mounts[outbox] = {"bind": "/out", "mode": "rw"}
            container = self._create(
                image,
                list(argv),
                cleanup,
                volumes=mounts,
                environment=dict(environment or {}),
                **(_seal(limits) if sealed else _open(capabilities)),
            )
            lines = self._follow(container, limits, on_line)
            state = container.wait()
            container.reload()
            status = int(state["StatusCode"])
            # Not every engine tells what the kernel killed; nobody else sends SIGKILL here.
            if container.attrs["State"].get("OOMKilled") or status == SIGKILLED:
                raise BuildError(
                    f"the run needed more than its {limits.memory} MiB of memory",
                    hint="fewer processes at once need less: TARPIT_JOBS=1",
                    tail=lines[-20:],
                )
            if status == 0 and output is not None:
                self._fetch(container, "/out", output, limits.results)
            return RunResult(status, lines)

    def _create(self, image: str, argv: list[str], cleanup: ExitStack, **options: Any) -> Container:
        container: Container = self._client.containers.create(
            image, argv, labels={LABEL: self._owner}, **options
        )
        cleanup.callback(_quietly, lambda: container.remove(force=True, v=True))
        return container

    def _volume(self, cleanup: ExitStack) -> str:
        volume = self._client.volumes.create(
            name=f"tarpit-builder-{uuid.uuid4().hex}", labels={LABEL: self._owner}
        )
        cleanup.callback(_quietly, lambda: volume.remove(force=True))
        return str(volume.name)

    def _filled_volume(self, image: str, item: Input, cleanup: ExitStack) -> str:
        if item.key is None:
            name = self._volume(cleanup)
            self._fill(image, name, item)
            return name
        name = _kept_volume(item.key)
        with locked(name):
            self._client.volumes.create(name=name, labels={LABEL: "keep"})
            self._fill(image, name, item, marker=".complete")
        self._evict(name)
        return name

    def _evict(self, used: str) -> None:
        """Remove the kept volumes that were not used for longest, until there are :data:`KEPT`.

        *used* is used now.  The engine does not tell when one was, so this machine notes it; what a
        container of anybody has stays.
        """
        import docker.errors

        notes = paths.make_dir(paths.cache_dir() / "volumes")
        (notes / used).touch()
        by_age = sorted(notes.iterdir(), key=lambda note: note.stat().st_mtime, reverse=True)
        for note in by_age[KEPT:]:
            try:
                self._client.volumes.get(note.name).remove()
            except docker.errors.NotFound:
                pass
            except docker.errors.APIError:
                continue
            note.unlink(missing_ok=True)

    def _fill(self, image: str, volume: str, item: Input, *, marker: str | None = None) -> None:
        import docker.errors

        with ExitStack() as cleanup:
            porter = self._create(
                image,
                ["true"],
                cleanup,
                volumes={volume: {"bind": item.mount, "mode": "rw"}},
                network_disabled=True,
            )
            if marker:
                with suppress(docker.errors.NotFound):
                    porter.get_archive(f"{item.mount}/{marker}")
                    return
            for archive in item.archives:
                with archive.tar() as stream:
                    porter.put_archive(item.mount, stream)
            if marker:
                with Files({marker: b""}).tar() as stream:
                    porter.put_archive(item.mount, stream)

    def _follow(
        self, container: Container, limits: Limits, on_line: Callable[[str], None] | None
    ) -> tuple[str, ...]:
        stream = container.attach(stream=True, stdout=True, stderr=True, logs=True)
        container.start()
        expired = threading.Event()

        def expire() -> None:
            expired.set()
            _quietly(container.kill)

        timer = threading.Timer(limits.seconds, expire)
        timer.daemon = True
        timer.start()
        lines: list[str] = []
        rest = b""
        said = 0
        try:
            for chunk in stream:
                if (said := said + len(chunk)) > limits.speech * MIB:
                    stream.close()  # the engine does not kill what it waits for us to read
                    _quietly(container.kill)
                    raise BuildError(
                        f"the run printed more than {limits.speech} MiB",
                        hint="see the end of the log for what it repeats",
                        tail=tuple(lines[-20:]),
                    )
                *complete, rest = (rest + chunk).split(b"\n")
                for raw in complete:
                    line = _printable(raw)
                    lines.append(line)
                    if on_line:
                        on_line(line)
        finally:
            timer.cancel()
        if rest:
            lines.append(_printable(rest))
            if on_line:
                on_line(lines[-1])
        if expired.is_set():
            raise BuildError(
                f"the run was stopped after its limit of {limits.seconds} s",
                hint="see the end of the log for what it hung on",
                tail=tuple(lines[-20:]),
            )
        return tuple(lines)

    def _fetch(self, container: Container, source: str, target: Path, limit: int) -> None:
        stream, _ = container.get_archive(f"{source}/.")
        with tempfile.TemporaryFile(prefix="tarpit-output-") as spool:
            for chunk in stream:
                spool.write(chunk)
                if spool.tell() > limit * MIB:
                    break
            # With it goes its connection, without whose end the container cannot be removed.
            del stream
            if spool.tell() > limit * MIB:
                raise BuildError(
                    f"the run left more than {limit} MiB of results",
                    hint="do not trust what it was made from",
                )
            spool.seek(0)
            _unpack(spool, target)

    # -- housekeeping ------------------------------------------------------------------------

    def clean(self) -> tuple[int, int]:
        """Remove the images below ``IMAGES`` and the volumes kept with them; how many of each."""
        with _engine_errors():
            kept = [
                volume
                for volume in self._client.volumes.list(filters={"label": f"{LABEL}=keep"})
                if volume.name.startswith(_kept_volume(""))
            ]
            for volume in kept:
                _quietly(partial(volume.remove, force=True))
            tags = [
                tag
                for image in self._client.api.images()
                for tag in image["RepoTags"] or ()
                if tag.startswith(f"{IMAGES}/")
            ]
            for tag in sorted(tags, key=lambda tag: tag.startswith(f"{IMAGES}/base")):
                _quietly(partial(self._client.images.remove, tag))
            return len(tags), len(kept)

    def describe(self) -> str:
        """Name and version of the engine, for reports."""
        with _engine_errors():
            version = self._client.version()
        name = next(
            (part["Name"] for part in version.get("Components", ()) if part.get("Name")), "Docker"
        )
        return f"{name} {version.get('Version', '?')} (API {version.get('ApiVersion', '?')})"

    def storage(self) -> Path | None:
        """The folder that images are in, if the engine is on this machine."""
        with _engine_errors():
            where = Path(self._client.info().get("DockerRootDir") or "/nowhere")
        local = self._client.api.base_url.startswith("http+docker://")
        return where if local and where.is_dir() else None

    def _sweep(self) -> None:
        """Remove what runs of this machine left behind that were killed without notice."""
        with _engine_errors():
            # Runs of others end meanwhile, and the client looks at each container once more.
            for container in self._client.containers.list(
                all=True, filters={"label": LABEL}, ignore_removed=True
            ):
                if _is_orphan(container.labels.get(LABEL, "")):
                    _quietly(partial(container.remove, force=True, v=True))
            for volume in self._client.volumes.list(filters={"label": LABEL}):
                if _is_orphan((volume.attrs.get("Labels") or {}).get(LABEL, "")):
                    _quietly(partial(volume.remove, force=True))


def _unreached(error: Exception, where: str) -> DockerError:
    """Why no engine answers at *where*: none is there, or it is not for this user."""
    if not where.startswith("unix://"):
        hint = "are the keys for it in DOCKER_CERT_PATH, and is REQUESTS_CA_BUNDLE unset?"
        if where.startswith("ssh://"):
            hint = f"`docker -H {where} version` must work, without a question and with a known key"
        if "paramiko" in str(error):
            hint = "pip install --require-hashes -r requirements-cluster.lock"
        why = " ".join(str(error).split()) or type(error).__name__
        return DockerError(f"no container engine answers at {where}: {why}", hint=hint)
    if not _is_refusal(error):
        return DockerError(
            f"no container engine answers at {where}",
            hint="run ./bootstrap, which installs and starts Docker, or set DOCKER_HOST",
        )
    user = _user_name()
    path = Path(where.removeprefix("unix://"))
    group = _group_of(path)
    if group in {"", "root"}:
        hint = f"run this as the owner of {path}, or set DOCKER_HOST to an engine of your own"
    else:
        hint = (
            f"add {user} to the group {group} (sudo usermod -aG {group} {user}) and log in again, "
            "or set DOCKER_HOST to an engine of your own"
        )
    return DockerError(f"the user {user} may not use the container engine at {where}", hint=hint)


def _is_refusal(error: BaseException) -> bool:
    """Whether *error* goes back to a socket that this user may not open; libraries wrap it."""
    causes: list[BaseException] = [error]
    seen: set[int] = set()
    while causes:
        cause = causes.pop()
        if isinstance(cause, PermissionError):
            return True
        if id(cause) not in seen:
            seen.add(id(cause))
            inner = (cause.__cause__, cause.__context__, *cause.args)
            causes += [found for found in inner if isinstance(found, BaseException)]
    return False


def _user_name() -> str:
    try:
        return pwd.getpwuid(os.geteuid()).pw_name
    except KeyError:
        return str(os.geteuid())


def _group_of(path: Path) -> str:
    try:
        return path.group()
    except (OSError, KeyError):
        return ""


def _kept_volume(key: str) -> str:
    return f"{IMAGES.rpartition('/')[2]}-keep-{key[:40]}"


def _open(capabilities: Sequence[str]) -> dict[str, Any]:
    """Root, with *capabilities* that no profile of the engine's host takes back."""
    extra = {"cap_add": list(capabilities), "security_opt": ["apparmor=unconfined"]}
    return {"user": "0:0"} | (extra if capabilities else {})


def _seal(limits: Limits) -> dict[str, Any]:
    return {
        "user": f"{BUILDER_UID}:{BUILDER_UID}",
        "network_disabled": True,
        "network_mode": "none",
        "cap_drop": ["ALL"],
        "security_opt": ["no-new-privileges"],
        "read_only": True,
        "tmpfs": {
            "/build": "exec,nosuid,nodev,mode=1777",  # as in the image: runc copies that
            "/tmp": "exec,nosuid,nodev,mode=1777",  # noqa: S108  (the container's)
        },
        "working_dir": "/build",
        "mem_limit": limits.memory * MIB,
        "memswap_limit": limits.memory * MIB,
        "pids_limit": limits.processes,
    }


def _tarinfo(name: str, *, mode: int, kind: bytes = tarfile.REGTYPE) -> tarfile.TarInfo:
    info = tarfile.TarInfo(name)
    info.mode, info.type = mode, kind
    return info


def _unpack(tar: IO[bytes], target: Path) -> None:
    """Write the regular files of *tar* below *target*; links, devices and the rest are left out.

    Not ``tarfile``'s own extraction, whose filters came with Python 3.11.4 (PEP 706): Debian
    bookworm has 3.11.2.  As there, a file keeps nothing of its mode but whether it may be executed.

    Raises BuildError where a name leads out of *target*.
    """
    with tarfile.open(fileobj=tar) as archive:
        for member in archive:
            content = archive.extractfile(member) if member.type == tarfile.REGTYPE else None
            if content is None:
                continue
            name = PurePosixPath(member.name.lstrip("/"))
            if ".." in name.parts or not name.parts:
                raise BuildError(
                    f"the run left a file whose name leads out of its folder: {member.name!r}",
                    hint="do not trust what it was made from",
                )
            path = target / name
            path.parent.mkdir(parents=True, exist_ok=True)
            with content, path.open("wb") as out:
                shutil.copyfileobj(content, out)
            path.chmod(0o755 if member.mode & 0o100 else 0o644)


def _printable(raw: bytes) -> str:
    """A line of a run, safe to show: control characters could drive the terminal."""
    text = raw.decode(errors="replace").rstrip("\r")
    return "".join(char if char.isprintable() or char == "\t" else "�" for char in text)


def _uncoloured(text: str) -> list[str]:
    """The lines of *text* that say something, without escape sequences.

    Docker's builder colours what commands print on standard error, and ends with a line that has
    nothing but the sequence for the colour's end.
    """
    lines = (ESCAPE.sub("", line).strip() for line in text.splitlines())
    return [line for line in lines if line]


def _cause(lines: Sequence[str]) -> str:
    """The line that a person would point at: apt's first error, else the last of substance."""
    lines = [line for line in lines if not line.startswith(("Removing inter", "--->"))]
    for line in lines:
        if line.startswith(("E: ", "dpkg: error", "Err:")):
            return line
    return lines[-1] if lines else ""


def _start_time(pid: int) -> str:
    """Start of process *pid* in clock ticks since boot (proc(5), field 22), or ``""``."""
    try:
        return Path(f"/proc/{pid}/stat").read_text().rsplit(")", 1)[1].split()[19]
    except OSError:
        return ""


def _is_orphan(owner: str) -> bool:
    """Whether *owner* names a process of this machine that no longer runs."""
    host, _, rest = owner.partition(":")
    pid, _, started = rest.partition(":")
    return host == socket.gethostname() and pid.isdigit() and _start_time(int(pid)) != started


def _quietly(action: Callable[[], object]) -> None:
    """Clean up as far as the engine lets us: the reason for cleaning up matters more."""
    with suppress(Exception):
        action()


@contextmanager
def locked(name: str) -> Iterator[None]:
    """Hold the lock *name*, so that two builds at once do not make the same thing twice."""
    import filelock

    folder = paths.make_dir(paths.cache_dir() / "locks")
    safe = name.replace("/", "_").replace(":", "_")
    lock = filelock.FileLock(folder / f"{safe}.lock")
    try:
        lock.acquire(timeout=PATIENCE)
    except filelock.Timeout:
        Console().say(f"  waiting for another run, which makes the same: {name}")
        lock.acquire()
    try:
        yield
    finally:
        lock.release()


@contextmanager
def _engine_errors() -> Iterator[None]:
    """Name what the engine could not do, and what to try."""
    import docker.errors
    import requests

    try:
        yield
    except TarpitError:
        raise
    except docker.errors.ImageNotFound as error:
        raise DockerError(
            f"the engine lost an image during the run: {error.explanation}",
            hint="run the command again; it rebuilds the image",
        ) from error
    except docker.errors.APIError as error:
        text = str(error.explanation or error)
        if "no space left" in text:
            raise InfrastructureError(
                "the container engine's disk is full",
                hint="`invoke clean` or `docker system prune` frees some",
            ) from error
        raise DockerError(
            f"the container engine refused: {text}",
            hint="its own log says more: `journalctl -u docker`",
        ) from error
    except (
        requests.RequestException,
        docker.errors.DockerException,
        json.JSONDecodeError,
    ) as error:
        raise DockerError(
            "the container engine went away in the middle",
            hint="start it again (./bootstrap does) and repeat the command; nothing was lost",
        ) from error
    except ConnectionError as error:
        raise DockerError(
            "the connection to the container engine broke",
            hint="start it again (./bootstrap does) and repeat the command; nothing was lost",
        ) from error
