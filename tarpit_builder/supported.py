"""What is supported, said from the tables that decide it: no list of its own."""

from __future__ import annotations

from collections.abc import Iterable
from itertools import groupby
from typing import TYPE_CHECKING

from tarpit_builder import architectures, names, records, suites
from tarpit_builder.console import format_table
from tarpit_builder.errors import UserError
from tarpit_builder.kernels import rules
from tarpit_builder.kernels.release import KernelOrg
from tarpit_builder.sources.catalogue import Catalogue
from tarpit_builder.versions import KernelVersion

if TYPE_CHECKING:
    from tarpit_builder.sources.debian import Archive

HOSTS = (
    "any Linux with Python 3.11 and a container engine that speaks Docker's API; "
    "./bootstrap sets up Debian 12, Ubuntu 24.04 and later"
)


def releases_table(catalogue: Catalogue, *, everything: bool = False) -> str:
    """The releases of kernel.org, a line per series or with *everything* each: whether it is
    built, and whether there is a patch for its own tree.
    """
    known = sorted(catalogue.releases())
    if everything:
        rows = [
            (str(version), catalogue.kernel(version).date or "?", built(version), patched(version))
            for version in known
        ]
        return format_table(rows, header=("--kernel", "date", "built", "patch for its tree"))
    rows = []
    for series, found in groupby(known, key=lambda version: version.series):
        group = list(found)
        rows.append((str(series), str(group[-1]), built(series), patched(series)))
    return format_table(rows, header=("--kernel", "newest", "built", "patch for its tree"))


def built(version: KernelVersion) -> str:
    """Whether *version* is built, and if not, why or how it could be."""
    try:
        rules.kernel(version)
    except UserError as error:
        return f"no: {error.message.partition(': ')[2]}"
    return "yes" if records.tried(version) else "not tried"


def patched(version: KernelVersion) -> str:
    """The patch for the tree of *version* that `invoke patch` has, or a dash."""
    patch = rules.patch(version)
    return patch.name if patch else "–"


def statement() -> str:
    """On which hosts this runs, and for which targets it builds, in lines."""
    targets = [
        f"{one.title}'s {_suites(one)}: {_join(one.architectures)}"
        for one in suites.distributions().values()
    ]
    tried = records.series(one for one in records.read() if not one.distribution)
    return format_table(
        [
            ("hosts", HOSTS),
            ("targets", targets[0]),
            *(("", target) for target in targets[1:]),
            ("", f"Linux {tried} from source: {_join(_limited(KernelOrg.architectures))}"),
        ]
    )


def _limited(names: Iterable[str]) -> list[str]:
    """Architectures, with the releases that are built for them where that is not all."""
    rules = architectures.sources()
    return [f"{name} ({rules[name].releases})" if rules[name].why else name for name in names]


def archive(kernel: str, arch: str, debian: Archive) -> tuple[Archive, str]:
    """The archive of the distribution that *kernel* names, if not *debian*, and an architecture.

    :raises UserError: if there is no such distribution, or it is not for *arch*.
    """
    name = names.kernel(kernel).partition(":")[0] if kernel else suites.DEBIAN
    known = suites.distributions()
    if name not in known:
        raise UserError(
            f"{kernel!r} is not the name of a distribution", hint=f"there are {', '.join(known)}"
        )
    wanted = names.architecture(arch) if arch else known[name].architectures[0]
    if wanted not in known[name].architectures:
        raise UserError(
            f"architecture {wanted!r} is not supported for {known[name].title}'s kernels",
            hint=f"supported: {', '.join(known[name].architectures)}",
        )
    return debian.of(known[name], wanted), wanted


def _suites(distribution: suites.Distribution) -> str:
    return ", ".join(
        name if suite.number.endswith("~sid") or suite.base != name else f"{name} ({suite.number})"
        for name, suite in distribution.suites.items()
    )


def _join(names: Iterable[str]) -> str:
    *most, last = names
    return f"{', '.join(most)} and {last}" if most else last
