"""What was asked for, in the one shape that tasks, matrix, plans and records pass around."""

from __future__ import annotations

from dataclasses import dataclass, fields, replace
from pathlib import Path

from tarpit_builder import architectures, names

EVERY = "all"  # of *debug*: one kind after the other
ARCHITECTURE = architectures.BUILD


@dataclass(frozen=True, slots=True)
class Request:
    """The options of ``invoke build`` and its like; each field is the option of that name.

    *kernel* and *arch* are as people call them, *flavour* is that of a distribution's kernel,
    ``""`` the ordinary one.  *iptables* is a version, ``""`` for the one that fits, or ``none``;
    *extension* asks for the extension for it alone; *userland* is a suite of Debian, ``period``,
    or ``""`` for what fits.
    *config* and *symvers* are ``.config`` and ``Module.symvers`` of the kernel that the module is
    for, and *release* what ``uname -r`` says there.  *image* names a container image with a
    compiler of the kernel's age; *debug* has the kernel look for mistakes of the module with
    ``kasan`` or ``kcsan``.  The others say where sources come from.
    """

    kernel: str
    arch: str = ARCHITECTURE
    flavour: str = ""
    iptables: str = ""
    extension: bool = False
    userland: str = ""
    config: Path | None = None
    symvers: Path | None = None
    release: str = ""
    image: str = ""
    with_kernel: bool = False
    debug: str = ""
    kernel_git: str = ""
    ref: str = ""
    kernel_tree: str = ""
    iptables_git: str = ""
    trust_on_first_use: bool = False

    def __post_init__(self) -> None:
        """What people call a kernel is read once, here.

        :raises UserError: if it is no kernel, and what is meant can be guessed.
        """
        object.__setattr__(self, "kernel", names.kernel(self.kernel))
        arch = names.architecture(self.arch)
        if arch == ARCHITECTURE:  # a kernel's full name says it as well
            arch = architectures.of_kernel(self.kernel) or arch
        object.__setattr__(self, "arch", arch)

    def given(self) -> dict[str, str]:
        """The options beside the kernel that differ from their default, with their values."""
        values = {field.name: getattr(self, field.name) for field in fields(self)[1:]}
        defaults = {field.name: field.default for field in fields(self)[1:]}
        return {
            option(name): "" if value is True else str(value)
            for name, value in values.items()
            if value != defaults[name]
        }

    def words(self) -> tuple[str, ...]:
        """The arguments of a command that ask for the same."""
        pairs = {"--kernel": self.kernel, **self.given()}
        return tuple(word for pair in pairs.items() for word in pair if word)

    def but(self, **changes: str) -> Request:
        """The same with *changes*."""
        return replace(self, **changes)  # type: ignore[arg-type]


def option(field: str) -> str:
    """The option of a command for *field* of a request."""
    return f"--{field.replace('_', '-')}"
