"""What else holds connections, as a suite's own packages have it: for comparisons."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING

from tarpit_builder.bench import DKMS_BY_HAND
from tarpit_builder.errors import BuildError

if TYPE_CHECKING:
    from tarpit_builder.kernels.suite import SuiteUserland
    from tarpit_builder.sealed import Workshop

MODULE = "peer_TARPIT"
"""The file that xtables-addons' module is loaded from; the module calls itself as ours does."""

MODULE_SCRIPT = f"""{DKMS_BY_HAND}
apt-get install -yq --no-install-recommends linux-headers-$1 xtables-addons-dkms xz-utils zstd
source=$(echo /usr/src/xtables-addons-[0-9]*)
version=${{source#/usr/src/xtables-addons-}}
dkms add -m xtables-addons -v "$version" || true
dkms build -m xtables-addons -v "$version" -k "$1"
cd /var/lib/dkms/xtables-addons/"$version/$1"/*/module
for module in xt_TARPIT compat_xtables; do
    [ ! -e $module.ko.xz ] || xz -d $module.ko.xz
    [ ! -e $module.ko.zst ] || zstd -dq $module.ko.zst
done
cp xt_TARPIT.ko /out/{MODULE}.ko
[ ! -e compat_xtables.ko ] || cp compat_xtables.ko /out/
"""
PROGRAMS_SCRIPT = """
set -eu
apt-get update -q
cd /out
for package in endlessh labrea libdumbnet1; do
    apt-get download -q "$package" || echo "$package is not in this suite"
done
"""
"""LaBrea's other libraries are those of nmap, which every guest has."""


def module(workshop: Workshop, suite: SuiteUserland) -> tuple[Path, ...]:
    """xtables-addons' module as the suite's own package builds it for this kernel.

    Nothing where that does not install or build, which is said.
    """
    abi = suite.tree.kernel.abi
    return _fetch(workshop, suite, "xtables-addons", MODULE_SCRIPT, "*.ko", abi)


def programs(workshop: Workshop, suite: SuiteUserland) -> tuple[Path, ...]:
    """Packages of tarpits in user space that the suite has."""
    return _fetch(workshop, suite, "tarpits in user space", PROGRAMS_SCRIPT, "*.deb")


def _fetch(
    workshop: Workshop, suite: SuiteUserland, title: str, script: str, pattern: str, *arguments: str
) -> tuple[Path, ...]:
    """What *script* leaves in ``/out``, run with network in a bare image of the suite's."""
    engine, console = workshop.engine, workshop.console
    output = workshop.log.parent / title.replace(" ", "-")
    output.mkdir()
    with console.stage(title) as stage:
        image = engine.ensure_image(suite.recipe.bare(), console)
        command = ["sh", "-c", script, "sh", *arguments]
        try:
            outcome = engine.run(image, command, output=output, sealed=False)
        except BuildError as error:
            stage.done(error.message)
            return ()
        found = tuple(sorted(output.glob(pattern)))
        said = next((line for line in reversed(outcome.lines) if line.strip()), "nothing")
        stage.done(f"{len(found)} found" if found else f"none: {said}")
    return found
