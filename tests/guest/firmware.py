"""What a machine with Secure Boot begins with: OVMF, shim and GRUB, as an image's suite has them.

Firmware trusts Microsoft, who signed shim; shim trusts Debian, who signed GRUB and the kernel; and
both trust what is enrolled, in ``db`` by :meth:`Firmware.enroll` or in shim's own list.
"""

from __future__ import annotations

import shutil
import subprocess
import sys
from collections.abc import Sequence
from pathlib import Path

from tests.guest.image import Image

PACKAGES = ("ovmf", "shim-signed", "grub-efi-amd64-signed", "mokutil", "openssl")
"""What an image's recipe needs to have."""

OWNER = "605dab50-e046-4300-abb6-3dd810dd8b23"
"""Who enrolled a key, as EFI has it: shim's own GUID, which nothing looks at."""

DOWN, ENTER = b"\x1b[B", b"\r"


class Firmware:
    """The firmware of one machine: its variables, and the system partition it boots from."""

    def __init__(self, image: Image, folder: Path) -> None:
        parts = image.folder / "firmware"
        self._code = parts / "OVMF_CODE_4M.secboot.fd"
        self._variables = folder / "variables.fd"
        shutil.copyfile(parts / "OVMF_VARS_4M.ms.fd", self._variables)
        self._partition = folder / "esp"
        boot = self._partition / "EFI" / "BOOT"
        boot.mkdir(parents=True)
        for name, target in (
            ("shimx64.efi.signed", "BOOTX64.EFI"),
            ("mmx64.efi.signed", "mmx64.efi"),
            ("grubx64.efi.signed", "grubx64.efi"),
        ):
            shutil.copyfile(parts / name, boot / target)
        (self._partition / "EFI" / "debian").mkdir()
        self._set("--sb")

    def enroll(self, certificate: Path, where: str = "mok") -> None:
        """Put *certificate* into shim's list (``mok``), into ``db``, or, revoked, into ``dbx``.

        As it is before a boot: what a running machine does is up to ``mokutil``.
        """
        option = {"mok": "--add-mok", "db": "--add-db", "dbx": "--add-dbx-cert"}[where]
        self._set(option, OWNER, str(certificate))

    def through(self, command: Sequence[str]) -> list[str]:
        """QEMU's *command*, that boots a kernel directly, such that it boots by this firmware."""
        changed = list(command)
        kernel, initrd, arguments = (
            _taken(changed, option) for option in ("-kernel", "-initrd", "-append")
        )
        shutil.copyfile(kernel, self._partition / "vmlinuz")
        shutil.copyfile(initrd, self._partition / "initrd")
        (self._partition / "EFI" / "debian" / "grub.cfg").write_text(
            f"linux /vmlinuz {arguments}\ninitrd /initrd\nboot\n"
        )
        machine = changed.index("-machine") + 1
        changed[machine] = changed[machine].replace("pc,", "q35,smm=on,")
        flash = "if=pflash,format=raw"
        return [
            *changed,
            *("-global", "driver=cfi.pflash01,property=secure,value=on"),
            *("-drive", f"{flash},unit=0,readonly=on,file={self._code}"),
            *("-drive", f"{flash},unit=1,file={self._variables}"),
            *("-drive", f"file=fat:rw:{self._partition},format=raw,if=none,id=esp"),
            *("-device", "ide-hd,drive=esp,bootindex=1"),
        ]

    def _set(self, *arguments: str) -> None:
        program = Path(sys.executable).parent / "virt-fw-vars"
        command = [str(program), "--inplace", str(self._variables), *arguments]
        subprocess.run(command, check=True, capture_output=True)


def _taken(command: list[str], option: str) -> str:
    """Remove *option* from *command*; its value."""
    at = command.index(option)
    _, value = command[at : at + 2]
    del command[at : at + 2]
    return value
