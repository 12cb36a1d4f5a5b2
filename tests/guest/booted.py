"""A guest: a booted machine of an image, and the host's half of its agent's protocol."""

from __future__ import annotations

import io
import re
import shlex
import tarfile
import time
from collections.abc import Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass
from functools import partial
from pathlib import Path

from tarpit_builder.proof.qemu import Machine, MachineSpec
from tarpit_builder.proof.reactor import Reactor
from tests.guest.firmware import Firmware
from tests.guest.image import Image, copy_disk

BOOT = 180.0  # seconds that a boot may take on a machine that has other things to do
UNUSED = "kvm,kvm_amd,ata_piix,ata_generic,powernow_k8,efi_pstore,qemu_fw_cfg"
"""Modules that udev would load in vain; on an emulated processor that takes seconds."""
DIALOGUE = 60.0  # seconds until firmware shows what it is asked for
KEYS = 0.3  # seconds between keys, as somebody at the console would press them
GRACE = 30.0  # seconds that the agent gets beyond what a command itself may take


@dataclass(frozen=True, slots=True)
class DiskSpec(MachineSpec):
    """A machine with a disk, and with its agent's port on virtio: a UART moves too little.

    It is booted directly, unless it has *firmware*.
    """

    disk: Path = Path()
    firmware: Firmware | None = None


class DiskMachine(Machine):
    """QEMU with a disk."""

    spec: DiskSpec

    def command(self) -> list[str]:
        """QEMU's command line."""
        command = super().command()
        at = command.index("chardev:agent") - 1
        port = "virtserialport,chardev=agent,name=tarpit.agent"
        command[at : at + 2] = ["-device", "virtio-serial-pci", "-device", port]
        drive = f"file={self.spec.disk},format=raw,if=virtio,cache=unsafe,discard=unmap"
        command += ["-drive", drive, "-device", "virtio-rng-pci"]
        return self.spec.firmware.through(command) if self.spec.firmware else command


def _shows(machine: Machine, text: str, since: int) -> bool:
    """Whether *text* is on the console, after its first *since* characters."""
    return machine.console.find(text, since) >= 0


@dataclass(frozen=True, slots=True)
class Result:
    """How a command in the guest ended; 124 is the status of one that took too long."""

    command: str
    status: int
    stdout: str
    stderr: str

    @property
    def output(self) -> str:
        """All that it printed."""
        return self.stdout + self.stderr


class GuestError(AssertionError):
    """The guest, or a command in it, did not do what was expected of it."""


class Guest:
    """A machine with a disk of its own; a context manager that leaves no process behind.

    *kernel* is the ABI to boot, by default the first of the image's recipe; *options* are more of
    the kernel's command line, at every boot.  With *firmware* it boots with Secure Boot on, and has
    one processor: of several, emulated with SMM, one tripped over code that another patched.
    """

    def __init__(
        self,
        image: Image,
        folder: Path,
        *,
        kernel: str = "",
        options: str = "",
        memory: int = 1024,
        cpus: int = 2,
        firmware: Firmware | None = None,
    ) -> None:
        """Boot it, and wait until systemd has started everything.

        :raises GuestError: if it does not boot.
        """
        self.image = image
        self.kernel = kernel or image.recipe.kernels[0]
        self.boot_seconds = 0.0
        self.consoles: list[str] = []
        self._options, self._memory, self._cpus = options, memory, cpus
        self._firmware = firmware
        self._folder = folder
        self._disk = copy_disk(image, folder / "disk")
        self._kernels = {abi: image.kernel(abi) for abi in image.recipe.kernels}
        self._machine: DiskMachine | None = None
        self._received = bytearray()
        self._boot()

    # -- what tests use ------------------------------------------------------------------------

    def run(self, command: str, *, seconds: float = 60, stdin: bytes = b"") -> Result:
        """Run shell *command* as root; its status is not looked at."""
        status, stdout, stderr = self._exchange(command.encode(), stdin, seconds)
        return Result(
            command, status, stdout.decode(errors="replace"), stderr.decode(errors="replace")
        )

    def ok(self, command: str, *, seconds: float = 60, stdin: bytes = b"") -> str:
        """What *command* prints on standard output.

        :raises GuestError: if it ends with a status other than 0.
        """
        result = self.run(command, seconds=seconds, stdin=stdin)
        if result.status:
            raise GuestError(f"`{command}` ended with {result.status}:\n{result.output.strip()}")
        return result.stdout

    def spawn(self, name: str, command: str) -> None:
        """Start shell *command* as the transient unit *name*, and go on.

        ``journalctl -u NAME`` has what it prints, ``systemctl stop NAME`` ends it.
        """
        argv = ["systemd-run", "--quiet", f"--unit={name}", "sh", "-c", command]
        self.ok(shlex.join(argv))

    def wait(self, command: str, *, seconds: float = 30) -> str:
        """Repeat *command* until it succeeds; what it prints then.

        :raises GuestError: if it still fails after *seconds*.
        """
        deadline = time.monotonic() + seconds
        while (result := self.run(command)).status:
            if time.monotonic() > deadline:
                raise GuestError(f"`{command}` failed for {seconds:.0f} s:\n{result.output}")
            time.sleep(0.2)
        return result.stdout

    def copy_in(self, files: Mapping[str, Path | bytes | str]) -> None:
        """Write *files*: absolute path in the guest → a file of this machine, bytes or text."""
        spool = io.BytesIO()
        with tarfile.open(fileobj=spool, mode="w") as archive:
            for name, content in files.items():
                if isinstance(content, Path):
                    data, mode = content.read_bytes(), content.stat().st_mode & 0o777
                else:
                    data, mode = content.encode() if isinstance(content, str) else content, 0o644
                info = tarfile.TarInfo(name.lstrip("/"))
                info.size, info.mode = len(data), mode
                archive.addfile(info, io.BytesIO(data))
        self.ok("tar -x -C / -f - --no-same-owner", stdin=spool.getvalue(), seconds=300)

    def copy_out(self, path: str) -> bytes:
        """The bytes of the file at *path* in the guest."""
        status, content, errors = self._exchange(f"cat {shlex.quote(path)}".encode(), b"", 300)
        if status:
            raise GuestError(errors.decode(errors="replace"))
        return content

    def reboot(self, kernel: str = "") -> None:
        """Shut down in an orderly way and boot *kernel*, by default the same again.

        A kernel that was installed in the guest is taken from its /boot.

        :raises GuestError: if it does not shut down or boot.
        """
        kernel = kernel or self.kernel
        if kernel not in self._kernels:
            self._kernels[kernel] = (
                self._keep(f"/boot/vmlinuz-{kernel}"),
                self._keep(f"/boot/initrd.img-{kernel}"),
            )
        self.shut_down()
        self.kernel = kernel
        self._boot()

    def shut_down(self) -> None:
        """Shut down in an orderly way, and stay off.

        :raises GuestError: if it does not.
        """
        machine = self._running()
        # Later, so that the agent still answers: a minimal system is down in no time.
        self.ok("(sleep 0.5; systemctl reboot) </dev/null >/dev/null 2>&1 &")
        if not machine.reactor.wait(lambda: not machine.running, BOOT):
            raise GuestError(f"the guest does not shut down:\n{self._tail()}")
        self.close()

    def at_the_console(self, steps: Sequence[tuple[str, bytes]]) -> None:
        """Boot as far as the firmware's own dialogue, and go through *steps* until it reboots.

        :param steps: what the console shows, and the keys that somebody then presses, one by one.
        :raises GuestError: if it does not show that, or does not reboot.
        """
        with DiskMachine(self._spec(), Reactor()) as machine:
            seen = 0
            for text, keys in steps:
                if not machine.reactor.wait(partial(_shows, machine, text, seen), DIALOGUE):
                    raise GuestError(f"no {text!r} on the console:\n{machine.console[seen:]}")
                seen = machine.console.find(text, seen) + len(text)
                for key in re.findall(rb"\x1b\[.|.", keys, re.DOTALL):
                    machine.reactor.wait(lambda: False, KEYS)
                    machine.console_port.send(key)
            machine.reactor.wait(lambda: not machine.running, DIALOGUE)
            self.consoles.append(machine.console)
            if machine.running:
                raise GuestError(f"it does not reboot:\n{machine.console[seen:]}")

    def start(self) -> None:
        """Boot again, after :meth:`shut_down`."""
        self._boot()

    @property
    def console(self) -> str:
        """What the machine printed on its console since it was booted last."""
        return self._machine.console if self._machine else self.consoles[-1]

    def close(self) -> None:
        """Switch it off."""
        if self._machine is not None:
            self._machine.close()
            self.consoles.append(self._machine.console)
            self._machine = None

    def __enter__(self) -> Guest:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    # -- the machine -----------------------------------------------------------------------------

    def _spec(self) -> DiskSpec:
        kernel, initrd = self._kernels[self.kernel]
        return DiskSpec(
            kernel=kernel,
            initrd=initrd,
            memory=self._memory,
            cpus=1 if self._firmware else self._cpus,
            cards=0,
            cmdline="root=/dev/vda rw systemd.show_status=0"
            f" module_blacklist={UNUSED} {self._options}",
            disk=self._disk,
            firmware=self._firmware,
        )

    def _boot(self) -> None:
        began = time.monotonic()
        reactor = Reactor()
        machine = self._machine = DiskMachine(self._spec(), reactor)
        self._received.clear()
        reactor.add(machine.agent_port, self._receive)
        try:
            self._line(BOOT)
            # "degraded" is an answer too, and what failed is for the test to judge.
            self.run("systemctl is-system-running --wait", seconds=BOOT)
        except BaseException:
            self.close()
            raise
        self.boot_seconds = time.monotonic() - began

    def _keep(self, path: str) -> Path:
        target = self._folder / Path(path).name
        target.write_bytes(self.copy_out(path))
        return target

    def _running(self) -> DiskMachine:
        if self._machine is None:
            raise GuestError("the guest is switched off")
        return self._machine

    def _tail(self) -> str:
        return "\n".join(self.console.splitlines()[-15:])

    # -- the protocol ------------------------------------------------------------------------------

    def _exchange(self, script: bytes, stdin: bytes, seconds: float) -> tuple[int, bytes, bytes]:
        machine = self._running()
        machine.agent_port.setblocking(True)
        machine.agent_port.settimeout(GRACE)
        try:
            header = f"{len(script)} {len(stdin)} {seconds:g}\n".encode()
            machine.agent_port.sendall(header + script + stdin)
        except OSError as error:
            raise GuestError(f"the guest does not listen: {error}\n{self._tail()}") from error
        finally:
            machine.agent_port.setblocking(False)
        status, output, errors = map(int, self._line(seconds + GRACE).split())
        return status, self._take(output), self._take(errors)

    def _receive(self) -> None:
        machine = self._running()
        with suppress(BlockingIOError):
            data = machine.agent_port.recv(1 << 20)
            if not data:
                machine.reactor.remove(machine.agent_port)
            self._received += data

    def _line(self, seconds: float) -> str:
        self._await(lambda: b"\n" in self._received, seconds)
        line, _, rest = bytes(self._received).partition(b"\n")
        self._received[:] = rest
        return line.decode()

    def _take(self, size: int) -> bytes:
        self._await(lambda: len(self._received) >= size, 300)
        data = bytes(self._received[:size])
        del self._received[:size]
        return data

    def _await(self, until: object, seconds: float) -> None:
        machine = self._running()
        assert callable(until)
        machine.reactor.wait(lambda: until() or not machine.running, seconds)
        if not until():
            raise GuestError(f"{machine.obituary().message}\n{self._tail()}")
