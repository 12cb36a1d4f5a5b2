"""Removing what can be made again."""

from __future__ import annotations

import shutil

from tarpit_builder import paths
from tarpit_builder.errors import DockerError


def run(*, dist: bool, images: bool) -> str:
    """Remove the cache, and on request results and images; returns what went, in words.

    :raises InfrastructureError: if the file system refuses.
    """
    done = []
    targets = [paths.cache_dir(), *([paths.dist_dir()] if dist else [])]
    for target in targets:
        if target.exists():
            size = sum(path.lstat().st_size for path in target.rglob("*") if not path.is_dir())
            try:
                shutil.rmtree(target)
            except OSError as error:
                raise paths.explain_os_error(error, target) from error
            done.append(f"removed {target} ({size / 1e6:,.0f} MB)")
    if images:
        from tarpit_builder.container import Engine

        try:
            count, volumes = Engine.connect().clean()
            done.append(f"removed {count} images and {volumes} volumes")
        except DockerError as error:
            done.append(f"images stay: {error.message}")
    return "\n".join(done) or "nothing to remove"


def drop_stale() -> str:
    """Remove the results that this checkout would build differently, and nothing else.

    :raises InfrastructureError: if the file system refuses.
    """
    from tarpit_builder.stale import stale

    done = []
    for folder in stale(paths.dist_dir()):
        try:
            shutil.rmtree(folder)
        except OSError as error:
            raise paths.explain_os_error(error, folder) from error
        done.append(f"removed {folder}, which this checkout would build differently")
    return "\n".join(done) or "no result is stale"
