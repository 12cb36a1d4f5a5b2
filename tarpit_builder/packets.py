"""What an answer costs, beside REJECT, DROP and the peer: ``invoke bench --packets``."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING

from tarpit_builder import build as building
from tarpit_builder import evidence, paths, prove
from tarpit_builder import plan as planning
from tarpit_builder.bench import DKMS_BY_HAND
from tarpit_builder.errors import BuildError
from tarpit_builder.kernels.suite import Suite
from tarpit_builder.proof import VerifyOptions, VerifyReport, verify

if TYPE_CHECKING:
    from tarpit_builder.console import Console
    from tarpit_builder.request import Request
    from tarpit_builder.sealed import Workshop
    from tarpit_builder.sources.debian import Archive

RESULTS = "bench"
"""Folder in ``dist/`` for what was measured; `invoke report` shows it."""

PEER = "peer_TARPIT"
"""The file that xtables-addons' module is loaded from; the module calls itself as ours does."""

SCRIPT = f"""{DKMS_BY_HAND}
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
cp xt_TARPIT.ko /out/{PEER}.ko
[ ! -e compat_xtables.ko ] || cp compat_xtables.ko /out/
"""


def run(request: Request, archive: Archive, console: Console) -> VerifyReport:
    """Count the instructions that the kernel of *request* spends on packets.

    Its notes are the tables, one for each backend of iptables.

    :raises TarpitError: as a build and its proof do.
    """
    plan = planning.make(request, archive)
    userland = plan.kernel.userland
    userland.demand_provable(given=False, in_tree="")
    built = building.carry_out(plan, console)
    with prove.staged(plan, console, built.packages(), built) as (subject, workshop):
        modules = peer(workshop, userland) if isinstance(userland, Suite) else ()
        judged = replace(
            subject,
            packages=(*subject.packages, *modules),
            tools=replace(subject.tools, peer=PEER if modules else ""),
        )
        report = verify(judged, VerifyOptions(only=("cost",), jobs=1), workshop.engine, console)
    with paths.replacing(paths.dist_dir() / RESULTS / f"packets-{plan.name}.json") as stage:
        stage.write_text(evidence.document(report))
    return report


def peer(workshop: Workshop, suite: Suite) -> tuple[Path, ...]:
    """xtables-addons' module as the suite's own package builds it for this kernel.

    Nothing where that does not install or build, which is said.
    """
    abi = suite.tree.kernel.abi
    engine, console = workshop.engine, workshop.console
    output = workshop.log.parent / "peer"
    output.mkdir()
    with console.stage("xtables-addons") as stage:
        image = engine.ensure_image(suite.recipe.bare(), console)
        command = ["sh", "-c", SCRIPT, "sh", abi]
        try:
            outcome = engine.run(image, command, output=output, sealed=False)
        except BuildError as error:
            stage.done(error.message)
            return ()
        modules = tuple(sorted(output.glob("*.ko")))
        said = next((line for line in reversed(outcome.lines) if line.strip()), "nothing")
        stage.done(f"{len(modules)} modules" if modules else f"not for {abi}: {said}")
    return modules
