"""Whose kernels there are: the origins, and the one that a request is for.

========================  =====================================================================
:mod:`~.kernel`           what an origin finds, and what all that is behind it works on
:mod:`~.apt`              Debian's archive and its like; :mod:`~.headers` their build trees
:mod:`~.release`          releases of kernel.org; :mod:`~.source` their build trees
:mod:`~.machine`          kernels of the machine at hand; :mod:`~.prepared` build trees that lie
                          ready, whose :mod:`~.programs` must run here
:mod:`~.suite`            a suite as the userland; :mod:`~.own` of a kernel built from source;
                          :mod:`~.period` a system of the kernel's own age instead;
                          :mod:`~.host` what a machine has
:mod:`~.rules`            which release gets what; :mod:`~.toolchain` today's compiler for it
:mod:`~.configuration`    the user's ``.config`` and ``Module.symvers``
========================  =====================================================================
"""

from __future__ import annotations

from functools import cache
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from tarpit_builder.kernels.kernel import Kernel, Origin
    from tarpit_builder.request import Request
    from tarpit_builder.sources.debian import Archive


@cache
def origins() -> tuple[Origin, ...]:
    """All origins; a kernel is of the first that owns its name, and the last owns any."""
    from tarpit_builder.kernels import apt
    from tarpit_builder.kernels.machine import MachineKernels
    from tarpit_builder.kernels.release import KernelOrg

    return (KernelOrg(), MachineKernels(), *apt.distributions())


def origin(name: str, tree: str = "") -> Origin:
    """Whose kernel *name*, as in a request, is; with a *tree* of the user's, if there is one."""
    return next(one for one in origins() if one.owns(name, tree))


def find(request: Request, archive: Archive) -> Kernel:
    """The kernel that *request* means.

    :raises UserError: if there is none, or an option means nothing for it.
    """
    owner = origin(request.kernel, request.kernel_tree)
    owner.check(request)
    return owner.find(request, archive)
