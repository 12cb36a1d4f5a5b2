"""Proof: boot a kernel in QEMU, drive packets through it, judge them by the contract.

========================  =====================================================================
:mod:`~.verification`     what is proven and how, the one entry point
:mod:`~.initramfs`        what is booted, assembled in a sealed container
:mod:`~.qemu`             the machine; :mod:`~.reactor` its event loop
:mod:`~.guest`            the host's half of the agent's protocol
:mod:`~.wire`             the network behind the guest's cards
:mod:`~.segment`          TCP segments, built and read
:mod:`~.lab`              what a check works with
:mod:`~.registry`         groups of checks; :mod:`~.runner` runs them, :mod:`~.report` tells
:mod:`~.checks`           the contract, line by line
========================  =====================================================================
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from tarpit_builder.proof.initramfs import UserLand
    from tarpit_builder.proof.report import VerifyReport
    from tarpit_builder.proof.verification import Subject, VerifyOptions, verify

__all__ = ["Subject", "UserLand", "VerifyOptions", "VerifyReport", "verify"]

_HOMES = {"UserLand": "initramfs", "VerifyReport": "report"}


def __getattr__(name: str) -> Any:
    """Import the public names on first use: scapy and docker are slow to load."""
    if name not in __all__:
        raise AttributeError(name)
    import importlib

    home = importlib.import_module(f"{__name__}.{_HOMES.get(name, 'verification')}")
    return getattr(home, name)
