"""The host's half of the agent's protocol (``containers/proof/agent.c`` is the other).

Everything the guest does, it does because a method here was called, and one after the other.
"""

from __future__ import annotations

import os
import re
import shlex
import socket
import struct
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass
from enum import IntEnum, auto

from tarpit_builder import architectures
from tarpit_builder.errors import InfrastructureError
from tarpit_builder.proof.qemu import Machine

PROTOCOL = 2
ETH_P_ALL = 0x0003
BLOCK = 1024
GRACE = 15.0  # seconds that the agent gets beyond what an operation itself may take

LOG_HEAD = re.compile(r"^<\d+>(?:\[ *\d+\.\d+\] ?)?(?:\[ *[TC]\d+\] ?)?")
"""What stands before a message of the kernel: its level and, where the kernel is built or told so,
the time and who said it.  A message may have brackets of its own: the name of a module."""

Value = int | bytes | str


class Op(IntEnum):
    """The agent's operations, in its order."""

    HELLO = 0
    RUN = auto()
    WAIT = auto()
    READ = auto()
    WRITE = auto()
    RMMOD = auto()
    KLOG = auto()
    SOCKET = auto()
    BIND = auto()
    LISTEN = auto()
    ACCEPT = auto()
    CONNECT = auto()
    SEND = auto()
    RECEIVE = auto()
    DRAIN = auto()
    SHUTDOWN = auto()
    CLOSE = auto()
    SETSOCKOPT = auto()
    GETSOCKOPT = auto()
    IOCTL = auto()
    GETSOCKNAME = auto()
    FLOOD = auto()
    SPAWN_FLOOD = auto()
    SLEEP = auto()
    CLOCK = auto()
    BATCH = auto()


@dataclass(frozen=True, slots=True)
class Finished:
    """How a program in the guest ended; *status* is negative for a signal, like subprocess'."""

    argv: tuple[str, ...]
    status: int
    stdout: str
    stderr: str

    @property
    def command(self) -> str:
        """The command as one would type it."""
        return shlex.join(self.argv)


@dataclass(frozen=True, slots=True)
class AgentCall:
    """One operation, ready to be sent alone or in a batch; *seconds* is what it may take."""

    op: Op
    args: tuple[Value, ...] = ()
    netns: str = ""
    seconds: float = 0.0

    def encode(self) -> bytes:
        """The bytes of the protocol."""
        return bytes([self.op]) + _encode([self.netns, *self.args])


@dataclass(frozen=True, slots=True)
class Reply:
    """What the agent answered."""

    errno: int
    results: tuple[int | bytes, ...]

    @classmethod
    def decode(cls, data: bytes) -> Reply:
        """Read the bytes of the protocol."""
        return cls(struct.unpack_from("<I", data)[0], _decode(data[4:]))

    def check(self, request: AgentCall) -> tuple[int | bytes, ...]:
        """The results.

        :raises OSError: if the operation failed.
        """
        if self.errno:
            what = " ".join(str(arg)[:60] for arg in request.args[:4])
            raise OSError(self.errno, f"{os.strerror(self.errno)} ({request.op.name} {what})")
        return self.results


def _encode(values: Iterable[Value]) -> bytes:
    out = bytearray()
    for value in values:
        if isinstance(value, int):
            out += b"i" + struct.pack("<q", value)
        else:
            raw = value.encode() if isinstance(value, str) else value
            out += b"s" + struct.pack("<I", len(raw)) + raw
    return bytes(out)


def _decode(data: bytes) -> tuple[int | bytes, ...]:
    values: list[int | bytes] = []
    at = 0
    while at < len(data):
        if data[at : at + 1] == b"i":
            values.append(struct.unpack_from("<q", data, at + 1)[0])
            at += 9
        else:
            length = struct.unpack_from("<I", data, at + 1)[0]
            values.append(data[at + 5 : at + 5 + length])
            at += 5 + length
    return tuple(values)


class Guest:
    """A booted machine's agent."""

    def __init__(self, machine: Machine, *, boot_seconds: float) -> None:
        """Wait for the agent to speak.

        :raises MachineDied: if the machine crashes, or is silent for *boot_seconds*.
        :raises InfrastructureError: if the agent is of another version.
        """
        self.machine = machine
        self._port = machine.agent_port
        self._received = bytearray()
        self._slots = 0
        self._lost = False
        machine.reactor.add(self._port, self._read)
        protocol, release, version, arch = self._reply(boot_seconds).results
        if protocol != PROTOCOL:
            raise InfrastructureError(
                f"the guest's agent speaks protocol {protocol!r}, not {PROTOCOL}",
                hint="`invoke clean` removes the cached initramfs that holds it",
            )
        assert isinstance(release, bytes)
        assert isinstance(version, bytes)
        assert isinstance(arch, bytes)
        self.c = architectures.c(machine.spec.arch)
        """How structures look that its kernel reads."""
        self.release = release.decode()
        self.version = version.decode()
        self.arch = arch.decode()

    # -- the protocol ------------------------------------------------------------------------

    def call(self, request: AgentCall) -> tuple[int | bytes, ...]:
        """Carry out *request*.

        :raises OSError: if it failed in the guest.
        :raises MachineDied: if the guest is gone.
        """
        return self.submit(request).check(request)

    def submit(self, request: AgentCall) -> Reply:
        """Carry out *request* and hand back the reply, failed or not."""
        if self._lost:
            raise self.machine.obituary()
        self._write(request.encode())
        return self._reply(request.seconds + GRACE)

    def batch(self, requests: Sequence[AgentCall]) -> list[Reply]:
        """Carry out *requests* back to back, without the host in between."""
        out: list[Reply] = []
        for at in range(0, len(requests), 60):
            part = requests[at : at + 60]
            seconds = sum(request.seconds for request in part)
            whole = AgentCall(Op.BATCH, tuple(r.encode() for r in part), seconds=seconds)
            replies = self.call(whole)
            out += [Reply.decode(reply) for reply in replies if isinstance(reply, bytes)]
        return out

    def _write(self, payload: bytes) -> None:
        self._send(struct.pack("<I", len(payload)))
        for at in range(0, len(payload), BLOCK):
            self._send(payload[at : at + BLOCK])
            if at + BLOCK < len(payload):
                if not self._wait(lambda: len(self._received) >= 1, GRACE):
                    raise self.machine.obituary()
                del self._received[:1]

    def _send(self, data: bytes) -> None:
        view = memoryview(data)
        while view:
            try:
                view = view[self._port.send(view) :]
            except BlockingIOError:
                self.machine.reactor.wait(lambda: False, 0.01)
            except OSError as error:
                raise self.machine.obituary() from error

    def _reply(self, seconds: float) -> Reply:
        if not self._wait(self._complete, seconds):
            self._lost = True  # what comes late would be taken for the answer to something else
            raise self.machine.obituary()
        length = struct.unpack_from("<I", self._received)[0]
        data = bytes(self._received[4 : 4 + length])
        del self._received[: 4 + length]
        return Reply.decode(data)

    def _wait(self, until: Callable[[], bool], seconds: float) -> bool:
        self.machine.reactor.wait(lambda: until() or not self.machine.running, seconds)
        return until()

    def _complete(self) -> bool:
        if len(self._received) < 4:
            return False
        length: int = struct.unpack_from("<I", self._received)[0]
        return len(self._received) >= 4 + length

    def _read(self) -> None:
        try:
            data = self._port.recv(1 << 16)
        except BlockingIOError:
            return
        except OSError:
            data = b""
        if not data:
            self.machine.reactor.remove(self._port)
        self._received += data

    # -- programs ----------------------------------------------------------------------------

    def attempt(
        self, *argv: str, netns: str = "", stdin: str = "", seconds: float = 60.0
    ) -> Finished:
        """Run a program to its end, whatever its exit status.

        :raises OSError: ETIME if it takes longer than *seconds*.
        """
        request = AgentCall(Op.RUN, (int(seconds * 1000), stdin, *argv), netns, seconds)
        status, stdout, stderr = self.call(request)
        assert isinstance(status, int)
        assert isinstance(stdout, bytes)
        assert isinstance(stderr, bytes)
        return Finished(
            argv,
            os.waitstatus_to_exitcode(status),
            stdout.decode(errors="replace"),
            stderr.decode(errors="replace"),
        )

    def run(self, *argv: str, netns: str = "", stdin: str = "", seconds: float = 60.0) -> str:
        """Run a program and return its standard output.

        :raises InfrastructureError: if it fails: nothing can be concluded from a set-up that
            did not take place.
        """
        done = self.attempt(*argv, netns=netns, stdin=stdin, seconds=seconds)
        if done.status:
            said = (done.stderr or done.stdout).strip().splitlines()[-1:] or ["nothing"]
            raise InfrastructureError(
                f"in the guest, `{done.command}` failed: {said[0]}",
                hint="this kernel or user land lacks something that this check needs",
            )
        return done.stdout

    def wait(self, job: int, *, seconds: float, kill: int = 0) -> int:
        """Wait for a background job, after sending it the signal *kill*; its exit status."""
        (status,) = self.call(AgentCall(Op.WAIT, (job, int(seconds * 1000), kill), seconds=seconds))
        assert isinstance(status, int)
        return os.waitstatus_to_exitcode(status)

    # -- files and modules -------------------------------------------------------------------

    def read(self, path: str, *, netns: str = "") -> str:
        """The content of a file."""
        return self.read_bytes(path, netns=netns).decode(errors="replace")

    def read_bytes(self, path: str, *, netns: str = "", most: int = 4 << 20) -> bytes:
        """The same as it is; no more is asked for once there are *most* bytes."""
        (data,) = self.call(AgentCall(Op.READ, (path, most), netns))
        assert isinstance(data, bytes)
        return data

    def write(self, path: str, text: str | bytes, *, netns: str = "", seconds: float = 0.0) -> None:
        """Write a file, a sysctl, anything below /proc or /sys, which may take *seconds*."""
        self.call(AgentCall(Op.WRITE, (path, text), netns, seconds))

    def sysctl(self, name: str, value: int | str, *, netns: str = "") -> None:
        """Set a kernel parameter by its dotted name."""
        # No line feed: of net.ipv6.conf.all.forwarding 6.1 says that it took one byte.
        self.write("/proc/sys/" + name.replace(".", "/"), str(value), netns=netns)

    def rmmod(self, name: str) -> None:
        """Unload a module; EWOULDBLOCK (EAGAIN) if it is in use."""
        self.call(AgentCall(Op.RMMOD, (name,)))

    def modules(self) -> dict[str, int]:
        """Names of the modules that are loaded, and how often each is used."""
        lines = self.read("/proc/modules").splitlines()
        return {line.split()[0]: int(line.split()[2]) for line in lines}

    def kernel_log(self) -> list[str]:
        """The lines of the kernel's message buffer, without level and time."""
        (text,) = self.call(AgentCall(Op.KLOG))
        assert isinstance(text, bytes)
        lines = text.decode(errors="replace").splitlines()
        return [LOG_HEAD.sub("", line) for line in lines]

    # -- sockets -----------------------------------------------------------------------------

    def socket(self, family: int, kind: int, protocol: int = 0, *, netns: str = "") -> GuestSocket:
        """A socket in the guest."""
        sock = GuestSocket(self, self._new_slot())
        self.call(AgentCall(Op.SOCKET, (sock.slot, family, kind, protocol), netns))
        return sock

    def sockaddr(self, address: str, port: int) -> bytes:
        """A ``sockaddr_in`` or ``sockaddr_in6``."""
        six = ":" in address
        family = socket.AF_INET6 if six else socket.AF_INET
        raw = socket.inet_pton(family, address)
        head = struct.pack(f"{self.c.mark}H", family) + struct.pack(">H", port)
        return head + (bytes(4) + raw + bytes(4) if six else raw + bytes(8))

    def packet_address(self, interface: int, protocol: int = ETH_P_ALL) -> bytes:
        """A ``sockaddr_ll``: an interface by number, every protocol unless told otherwise."""
        head = struct.pack(f"{self.c.mark}H", socket.AF_PACKET) + struct.pack(">H", protocol)
        return head + struct.pack(f"{self.c.mark}iHBB8s", interface, 0, 0, 6, bytes(8))

    def htons(self, number: int) -> int:
        """*number* as the guest has it after htons(3)."""
        return int.from_bytes(number.to_bytes(2, "big"), self.c.order)

    def _new_slot(self) -> int:
        self._slots += 1
        return self._slots

    # -- time --------------------------------------------------------------------------------

    def clock(self) -> float:
        """Seconds since the guest booted, by its own clock."""
        (nanoseconds,) = self.call(AgentCall(Op.CLOCK))
        assert isinstance(nanoseconds, int)
        return nanoseconds / 1e9

    def sleep(self, seconds: float) -> None:
        """Let the guest sleep by its own clock (which an instruction-counting QEMU warps)."""
        self.call(AgentCall(Op.SLEEP, (int(seconds * 1000),), seconds=seconds))


class GuestSocket:
    """A socket in the guest, with the methods of Python's own."""

    def __init__(self, guest: Guest, slot: int) -> None:
        self.guest = guest
        self.slot = slot

    def _call(self, op: Op, *args: Value, seconds: float = 0.0) -> tuple[int | bytes, ...]:
        return self.guest.call(AgentCall(op, (self.slot, *args), seconds=seconds))

    def bind(self, address: bytes) -> None:
        """Bind to *address*, as :meth:`Guest.sockaddr` or :meth:`Guest.packet_address` make it."""
        self._call(Op.BIND, address)

    def listen(self, backlog: int = 5) -> None:
        """Accept connections."""
        self._call(Op.LISTEN, backlog)

    def accept(self, *, seconds: float) -> GuestSocket:
        """The next connection."""
        new = GuestSocket(self.guest, self.guest._new_slot())
        self._call(Op.ACCEPT, new.slot, int(seconds * 1000), seconds=seconds)
        return new

    def connect(self, address: bytes, *, seconds: float) -> None:
        """Connect; TimeoutError (ETIMEDOUT) or ETIME if it takes too long."""
        self._call(Op.CONNECT, address, int(seconds * 1000), seconds=seconds)

    def send(self, data: bytes, flags: int = 0, address: bytes = b"") -> int:
        """Send what the socket takes; the number of bytes."""
        (count,) = self._call(Op.SEND, data, flags, address)
        assert isinstance(count, int)
        return count

    def recv(self, most: int, *, seconds: float) -> bytes:
        """Receive; empty at the end of the stream.

        :raises OSError: ETIME if nothing comes.
        """
        (data,) = self._call(Op.RECEIVE, most, int(seconds * 1000), seconds=seconds)
        assert isinstance(data, bytes)
        return data

    def shutdown(self, how: int) -> None:
        """End one direction or both."""
        self._call(Op.SHUTDOWN, how)

    def close(self) -> None:
        """Close; what is unsent is left to the kernel."""
        self._call(Op.CLOSE)

    def setsockopt(self, level: int, name: int, value: int | bytes) -> None:
        """Set an option; a number becomes a C ``int``."""
        order = self.guest.c.mark
        raw = struct.pack(f"{order}i", value) if isinstance(value, int) else value
        self._call(Op.SETSOCKOPT, level, name, raw)

    def getsockopt(self, level: int, name: int, size: int = 4, given: bytes = b"") -> bytes:
        """Read an option; some read the structure *given* first."""
        (data,) = self._call(Op.GETSOCKOPT, level, name, given, size)
        assert isinstance(data, bytes)
        return data

    def getsockname(self) -> bytes:
        """The address that the socket is bound to."""
        (data,) = self._call(Op.GETSOCKNAME)
        assert isinstance(data, bytes)
        return data

    @property
    def port(self) -> int:
        """The local port."""
        return int(struct.unpack_from(">H", self.getsockname(), 2)[0])

    @property
    def state(self) -> int:
        """State of the TCP connection, as ``TCP_INFO`` numbers them (1 is ESTABLISHED)."""
        return self.getsockopt(socket.IPPROTO_TCP, socket.TCP_INFO, 104)[0]

    def ioctl(self, request: int, data: bytes) -> bytes:
        """An ioctl whose argument is a structure; the structure afterwards."""
        (result,) = self._call(Op.IOCTL, request, data)
        assert isinstance(result, bytes)
        return result

    def drain(self, most: int = 65535) -> list[bytes]:
        """Every datagram that waits."""
        values = self._call(Op.DRAIN, most, seconds=20)
        return [value for value in values[2::4] if isinstance(value, bytes)]

    def flood(self, count: int, frames: Sequence[bytes], *, seconds: float) -> tuple[int, int, int]:
        """Send *frames* in turn, *count* in all: how many went out, nanoseconds, TSC cycles."""
        sent, duration, cycles = self._call(Op.FLOOD, count, *frames, seconds=seconds)
        assert isinstance(sent, int)
        assert isinstance(duration, int)
        assert isinstance(cycles, int)
        return sent, duration, cycles

    def spawn_flood(self, frames: Sequence[bytes]) -> int:
        """A background job that sends *frames* until it is killed."""
        (job,) = self._call(Op.SPAWN_FLOOD, *frames)
        assert isinstance(job, int)
        return job
