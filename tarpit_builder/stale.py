"""Results in ``dist/`` that the checkout as it is would build differently.

They pile up where a kernel is superseded, so that nothing builds it again, and the source changes.
Packages that do not depend on the kernel are then there with one version and several contents,
which no repository may have.
"""

from __future__ import annotations

import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from tarpit_builder import digests, suites
from tarpit_builder.build import MANIFEST
from tarpit_builder.container import Files
from tarpit_builder.packaging import contents, modern


def stale(dist: Path) -> tuple[Path, ...]:
    """The folders of such results; what cannot be read as a result is none."""
    found = []
    for path in sorted(dist.glob(f"*/{MANIFEST}")):
        try:
            manifest = json.loads(path.read_text())
            built, now = manifest["module"], digests.members(_source(manifest).members)
        except (OSError, ValueError, KeyError, TypeError, AttributeError):
            continue
        if built != now:
            found.append(path.parent)
    return tuple(found)


def _source(manifest: Mapping[str, Any]) -> Files:
    """What the packages of *manifest* would be made of today."""
    plan = manifest["plan"]
    suite = suites.find(plan.get("distribution", suites.DEBIAN), plan.get("suite", ""))
    if suite is None:
        return contents.module_source(
            next(name[:-2] for name in manifest["module"] if "TARPIT.c" in name)
        )
    return modern.source_files(
        modern.PackageSet.of(
            suite,
            plan["arch"],
            plan["kernel"],
            plan["kernel-package-version"],
            plan.get("kernel-source", "linux"),
        )
    )
