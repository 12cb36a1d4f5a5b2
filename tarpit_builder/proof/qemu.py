"""A machine to prove things on: QEMU, a kernel, an initramfs, and sockets instead of a network.

The guest has a console (its first serial port, which is only read), a port to its agent (a second
one, or what the machine has in place of it) and network cards whose other ends are sockets of this
process. Nothing else leaves the machine; no root, no bridge, no tap device.
"""

from __future__ import annotations

import contextlib
import re
import shutil
import signal
import socket
import subprocess
import tempfile
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from itertools import pairwise
from pathlib import Path
from typing import IO

from tarpit_builder import architectures
from tarpit_builder.architectures import Hardware
from tarpit_builder.errors import InfrastructureError, ToolMissingError, UserError
from tarpit_builder.machine import end_with_parent
from tarpit_builder.proof.reactor import Reactor

TROUBLE = re.compile(
    r"Kernel panic|\bBUG:|\bOops\b|general protection|KASAN|UBSAN|KCSAN|KMSAN|"
    r"WARNING: |[Uu]nable to handle|divide error|stack segment|double fault|"
    r"possible recursive locking|possible circular locking|inconsistent lock state|"
    r"suspicious RCU usage|sleeping function called|scheduling while atomic|"
    r"soft lockup|rcu_sched (self-)?detected|rcu: INFO|hung_task|blocked for more than|"
    r"kmemleak: \d+ new suspected|refcount_t|list_(add|del) corruption|Bad page state|"
    r"unregister_netdevice: waiting for|invoked oom-killer|System is deadlocked on memory"
)
"""What a kernel says when something is wrong with it; expected warnings are none of these."""
TIME = re.compile(r"^\[ *\d+\.\d+\] ?(?:\[ *[TC]\d+\] ?)?")
OUT_OF_MEMORY = re.compile(r"invoked oom-killer|System is deadlocked on memory|Out of memory")
RACE = "BUG: KCSAN: data-race in "
RULER = re.compile(r"={20,}")  # above and below a race that is reported
ACCESS = re.compile(r"(read|write|read-write|assert)\b.* to 0x[0-9a-f]+ of \d+ bytes by ")
OURS = re.compile(r"\[(xt_TARPIT|tarpit)\]")


def complaints(lines: Iterable[str]) -> Iterator[str]:
    """The *lines* that tell of a kernel in trouble, without the time.

    The kernel has data races of its own, and a debug kernel reports them as well: they are none,
    unless one of the two accesses is the module's.
    """
    told = (line for line in without_foreign_races(lines) if TROUBLE.search(line))
    return (TIME.sub("", line).strip() for line in told)


def without_foreign_races(lines: Iterable[str]) -> Iterator[str]:
    """*lines* without what KCSAN says of accesses that are all the kernel's own.

    A report is between two rulers; its accesses are described by a line each, with the place
    where they happened, and how that was reached, below it.
    """
    report: list[str] | None = None
    for line in lines:
        if report is None:
            if RULER.search(line):
                report = [line]
            else:
                yield line
            continue
        report.append(line)
        if len(report) == 2 and RACE not in line:
            yield from report  # other tools have rulers, too
            report = None
        elif RULER.search(line):
            places = (at for by, at in pairwise(report) if ACCESS.search(by))
            if any(OURS.search(place) for place in places):
                yield from report
            report = None
    if report and len(report) == 1:
        yield from report


@dataclass(frozen=True, slots=True)
class MachineSpec:
    """A machine: *memory* in MiB, *icount* as QEMU's option of that name takes it.

    Its kernel takes the processor's random numbers for a start, unless *randomness* is false.
    Without a *card_model* the cards are those that the machine usually has.
    """

    kernel: Path
    initrd: Path
    arch: str = "amd64"
    memory: int = 512
    cpus: int = 1
    accel: str = "tcg"
    cards: int = 2
    card_model: str = ""
    icount: str | None = None
    randomness: bool = True
    cmdline: str = ""


def emulator(arch: str) -> Hardware:
    """The machine that QEMU shows to kernels for *arch*.

    :raises UserError: if none is known.
    :raises ToolMissingError: if its QEMU is not installed.
    """
    machines = {name: row.machine for name, row in architectures.known().items() if row.machine}
    if arch not in machines:
        raise UserError(f"no machine to prove {arch} on", hint="there are " + ", ".join(machines))
    hardware = machines[arch]
    if shutil.which(hardware.emulator) is None:
        raise ToolMissingError(
            f"{hardware.emulator} is not installed",
            hint=f"apt-get install {hardware.package}, or run ./bootstrap",
        )
    return hardware


def card_mac(index: int) -> str:
    """Hardware address of the guest's card number *index*."""
    return f"02:00:00:00:00:{index + 1:02x}"


class MachineDied(InfrastructureError):  # noqa: N818  (it is an event, not a mistake)
    """The machine ended or panicked while something was expected of it.

    *killed* is true if somebody else ended it, which says nothing about the kernel.
    """

    def __init__(self, message: str, *, hint: str, killed: bool = False) -> None:
        super().__init__(message, hint=hint)
        self.killed = killed


class Machine:
    """A running QEMU; a context manager that never leaves a process behind."""

    def __init__(self, spec: MachineSpec, reactor: Reactor) -> None:
        """Start the machine.

        :raises ToolMissingError: if QEMU for this architecture is not installed.
        :raises InfrastructureError: if it cannot be started.
        """
        self.spec = spec
        self.reactor = reactor
        self.console = ""
        self._errors: IO[bytes] = tempfile.TemporaryFile(prefix="tarpit-qemu-")  # noqa: SIM115
        self._theirs: list[socket.socket] = []
        self.console_port = self._pair()
        self.agent_port = self._pair()
        self.cards = [self._pair() for _ in range(spec.cards)]
        try:
            self._process = subprocess.Popen(
                self.command(),
                stdin=subprocess.DEVNULL,
                stdout=self._errors,
                stderr=self._errors,
                pass_fds=[sock.fileno() for sock in self._theirs],
                start_new_session=True,
                preexec_fn=end_with_parent,  # noqa: PLW1509  (one system call, which needs no lock)
            )
        except OSError as error:
            raise InfrastructureError(
                f"cannot start QEMU: {error}", hint="`invoke doctor` looks for the cause"
            ) from error
        for sock in self._theirs:
            sock.close()
        reactor.add(self.console_port, self._read_console)

    def _pair(self) -> socket.socket:
        ours, theirs = socket.socketpair(socket.AF_UNIX, socket.SOCK_STREAM)
        for end in (ours, theirs):
            end.setsockopt(socket.SOL_SOCKET, socket.SO_SNDBUF, 1 << 20)
        ours.setblocking(False)
        self._theirs.append(theirs)
        return ours

    def command(self) -> list[str]:
        """QEMU's command line."""
        spec = self.spec
        hardware = emulator(spec.arch)
        console, agent, *cards = (sock.fileno() for sock in self._theirs)
        command = [hardware.emulator, "-nodefaults", "-no-user-config", "-no-reboot"]
        command += ["-display", "none", "-m", str(spec.memory)]
        # A kernel without ACPI has processors from SeaBIOS' table, which names one of each socket.
        command += ["-smp", f"{spec.cpus},sockets={spec.cpus}"]
        command += ["-machine", f"{hardware.machine},accel={spec.accel}"]
        command += ["-cpu", "host" if spec.accel == "kvm" else hardware.cpu]
        command += ["-kernel", str(spec.kernel), "-initrd", str(spec.initrd)]
        # What a kernel does not know, it hands to init, which is the agent, in the environment.
        command += [
            "-append",
            f"console={hardware.console} panic=-1 oops=panic loglevel=5 {hardware.arguments} "
            f"random.trust_cpu={'on' if spec.randomness else 'off'} "
            "nokaslr mitigations=off net.ifnames=0 "
            f"AGENT_PORT={hardware.port} {spec.cmdline}".strip(),
        ]
        command += ["-chardev", f"socket,id=console,fd={console}"]
        command += ["-chardev", f"socket,id=agent,fd={agent}", *hardware.devices]
        model = spec.card_model or hardware.card
        rom = "" if model.endswith("-ccw") else ",romfile="
        for index, card in enumerate(cards):
            command += ["-netdev", f"socket,id=net{index},fd={card}"]
            device = f"{model},netdev=net{index},mac={card_mac(index)}{rom}"
            command += ["-device", device]
        if not cards:
            command += ["-nic", "none"]
        if spec.icount:
            command += ["-icount", spec.icount]
        return command

    @property
    def pid(self) -> int:
        """QEMU's process."""
        return self._process.pid

    @property
    def running(self) -> bool:
        """Whether QEMU is still there."""
        return self._process.poll() is None

    @property
    def trouble(self) -> str | None:
        """The console's first line that tells of a kernel in trouble."""
        return next(complaints(self.console.splitlines()), None)

    def obituary(self) -> MachineDied:
        """Why nothing can be expected of this machine any more."""
        if trouble := self.trouble:
            if OUT_OF_MEMORY.search(trouble):
                return MachineDied(
                    f"the guest ran out of memory: {trouble}",
                    hint="what is allocated and not freed? `invoke verify --debug` names it",
                )
            return MachineDied(
                f"the guest's kernel crashed: {trouble}",
                hint="--log FILE keeps the whole console",
            )
        if self.running:
            last = self.console.strip().splitlines()[-1:] or ["it printed nothing"]
            return MachineDied(
                f"the guest stopped answering; last line of its console: {last[0]}",
                hint="is this kernel built for this machine, with a serial console and initramfs?",
            )
        if self._process.returncode == -signal.SIGKILL:
            return MachineDied(
                "QEMU was killed",
                hint="is there memory for so many guests? try --jobs 1",
                killed=True,
            )
        self._errors.seek(0)
        errors = self._errors.read().decode(errors="replace").strip().splitlines()
        last = errors[-1:] or self.console.strip().splitlines()[-1:] or ["it printed nothing"]
        return MachineDied(
            f"QEMU ended early: {last[0]}", hint="`invoke doctor` checks QEMU; see the console log"
        )

    def close(self) -> None:
        """End the machine."""
        if self.running:
            self._process.send_signal(signal.SIGKILL)
        self._process.wait()
        self._read_console()
        for sock in (self.console_port, self.agent_port, *self.cards):
            self.reactor.remove(sock)
            sock.close()
        self._errors.close()

    def __enter__(self) -> Machine:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    def _read_console(self) -> None:
        with contextlib.suppress(BlockingIOError, ConnectionError, OSError):
            data = self.console_port.recv(65536)
            if not data:
                self.reactor.remove(self.console_port)
            self.console += data.decode(errors="replace").replace("\r", "")
