"""Contract section 5: what a kernel answers that has booted, and has no random numbers yet."""

from __future__ import annotations

from tarpit_builder.proof.checks.state import counters, grown
from tarpit_builder.proof.lab import Deviation, Lab, Unavailable
from tarpit_builder.proof.registry import Group
from tarpit_builder.proof.segment import Segment
from tarpit_builder.versions import KernelVersion

early = Group(
    "early",
    "before the kernel has random numbers",
    order=85,
    backends=("legacy",),
    fresh=True,
    randomness=False,
)

RANDOM = "/dev/random"
WAITS_FOR_THE_GENERATOR = KernelVersion.parse("5.6")
"""Before, what /dev/random waits for is not what the generator needs."""


def is_ready(lab: Lab) -> bool:
    """Whether the kernel's generator is; the agent does not wait for what it reads."""
    return bool(lab.guest.read_bytes(RANDOM, most=1))


@early.check("no key is drawn before the generator is ready: silence, then answers", section="5")
def keyless(lab: Lab) -> None:
    if lab.kernel < WAITS_FOR_THE_GENERATOR:
        raise Unavailable("before 5.6 nothing tells whether the generator is ready")
    lab.tarpit()
    before = counters(lab)
    probes = [lab.probe(family, "S") for family in lab.families]
    replies = lab.answers(*probes)
    seen = grown(before, counters(lab))
    if is_ready(lab):
        raise Unavailable("the generator was ready too early")
    if replies:
        raise Deviation("answered without a key", [*probes, *replies])
    if seen != {"no_key": len(probes)}:
        raise Deviation(f"counted {seen}, expected {len(probes)} no_key")

    lab.guest.run("sh", "-c", f"read -r line <{RANDOM}")
    for family in lab.families:
        probe: Segment = lab.probe(family, "S")
        lab.expect(probe, lab.answers(probe), "a SYN once there is a key", flags="SA", window=5)
