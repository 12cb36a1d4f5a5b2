"""Patches for kernel and iptables trees: choose, apply, regenerate, check.

``patches/`` holds one patch for each range of releases in ``rules/patches.toml``; all of them are
made from ``dkms/`` and none is edited by hand::

    patches.committed(KernelVersion.parse("2.6.24")).path          # the file that serves it
    patches.apply(Path("linux-2.6.24"), None)                      # what `invoke patch` does
    patches.regenerate_all(ranges, trees, console)                 # what `invoke regen` does

The work is done in :mod:`tarpit_builder.patching`.
"""

from tarpit_builder.patching.apply import Applied, apply, identify
from tarpit_builder.patching.committed import (
    FOLDER,
    Committed,
    ReleaseVersion,
    asked_for,
    committed,
    emit,
    formatted,
)
from tarpit_builder.patching.demand import write_out
from tarpit_builder.patching.regen import (
    RangeVerdict,
    Regenerated,
    ReleaseTrees,
    check,
    check_all,
    demand_good,
    demand_whole,
    export,
    regenerate,
    regenerate_all,
    select,
    strays,
    write,
)
from tarpit_builder.patching.show import applied, regenerated, verdicts

__all__ = [
    "FOLDER",
    "Applied",
    "Committed",
    "RangeVerdict",
    "Regenerated",
    "ReleaseTrees",
    "ReleaseVersion",
    "applied",
    "apply",
    "asked_for",
    "check",
    "check_all",
    "committed",
    "demand_good",
    "demand_whole",
    "emit",
    "export",
    "formatted",
    "identify",
    "regenerate",
    "regenerate_all",
    "regenerated",
    "select",
    "strays",
    "verdicts",
    "write",
    "write_out",
]
