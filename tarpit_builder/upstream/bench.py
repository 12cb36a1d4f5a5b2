"""How long a build for a kernel of kernel.org takes."""

from __future__ import annotations

import time
from collections.abc import Callable
from pathlib import Path

from tarpit_builder.bench import Measurement, environment
from tarpit_builder.console import Console
from tarpit_builder.leftovers import scratch
from tarpit_builder.sources.debian import Mirrors
from tarpit_builder.upstream.build import build
from tarpit_builder.upstream.plan import UpstreamRequest
from tarpit_builder.upstream.trees import Trees

ROUNDS = 3  # the fastest counts
AIM = "≤ 20 s"


def measure(
    request: UpstreamRequest, trees: Trees, mirrors: Mirrors, console: Console
) -> list[Measurement]:
    """Measure building for *request*, with its sources and images at hand.

    :raises TarpitError: as a build does.
    """
    with scratch("bench") as name:

        def once(*, force: bool = True) -> float:
            began = time.monotonic()
            quiet = Console(quiet=True)
            build(request, trees, quiet, mirrors=mirrors, dist=Path(name, "dist"), force=force)
            return time.monotonic() - began

        with console.stage("builds"):
            once()
            warm = min(once() for _ in range(ROUNDS))
            idle = min(once(force=False) for _ in range(ROUNDS))
        with console.stage("builds, iptables included"):
            whole = min(_from_scratch(once) for _ in range(ROUNDS))
    return [
        Measurement("module, iptables and packages", whole, "s", AIM),
        Measurement("module and packages, iptables there", warm, "s", AIM),
        Measurement("no-op: nothing changed", idle, "s", "≤ 1 s"),
    ]


def _from_scratch(action: Callable[[], float]) -> float:
    """*action* without what builds keep; the store of sources is another matter."""
    with (
        scratch("bench") as name,
        environment(TARPIT_CACHE=str(name)),
    ):
        return action()
