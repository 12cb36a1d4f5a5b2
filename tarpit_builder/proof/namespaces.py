"""A second host inside the guest: a network namespace at the other end of a veth pair."""

from __future__ import annotations

from tarpit_builder.proof.lab import Lab, Unavailable


class Pair:
    """A context with a namespace called ``other``, joined to the first one by veth."""

    netns = "other"
    here = "veth0"
    there = "veth1"

    def __init__(self, lab: Lab) -> None:
        self._lab = lab

    def address(self, family: int) -> str:
        """The first namespace's address."""
        return "fd03::1" if family == 6 else "10.3.0.1"

    def other(self, family: int) -> str:
        """The second namespace's address."""
        return "fd03::2" if family == 6 else "10.3.0.2"

    def __enter__(self) -> Pair:
        lab = self._lab
        if not lab.has_program("ip"):
            raise Unavailable("this user land has no iproute2")
        if lab.guest.attempt("ip", "netns", "add", self.netns).status:
            raise Unavailable("this kernel has no network namespaces")
        ends = f"link add {self.here} type veth peer name {self.there} netns {self.netns}"
        if lab.guest.attempt("ip", *ends.split()).status:
            lab.guest.run("ip", "netns", "del", self.netns)
            raise Unavailable("this kernel has no veth")
        for netns, interface, number in (("", self.here, 1), (self.netns, self.there, 2)):
            commands = [f"addr add 10.3.0.{number}/24 dev {interface}"]
            if 6 in lab.families:
                commands.append(f"addr add fd03::{number}/64 dev {interface} nodad")
            commands += [f"link set {interface} up", "link set lo up"]
            where = ("-n", netns) if netns else ()
            lab.guest.run("ip", *where, "-batch", "-", stdin="\n".join(commands) + "\n")
        return self

    def __exit__(self, *_: object) -> None:
        if self._lab.machine.running:
            # The link by itself: the end of a namespace frees its interfaces some time later.
            self._lab.guest.attempt("ip", "link", "del", self.here)
            self._lab.guest.attempt("ip", "netns", "del", self.netns)
