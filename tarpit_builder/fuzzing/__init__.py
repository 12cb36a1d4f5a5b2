"""``invoke fuzz``: hostile frames, made in the guest, and what comes of them.

==================  ===========================================================================
:mod:`~.corpus`     genomes: the cases that are worth starting from, in a file
:mod:`~.world`      a guest with all ways to the module open, and a fuzzer at each end
:mod:`~.session`    rounds of cases, until time or packets are used up
:mod:`~.findings`   a case that was dealt with wrongly: made small, and kept with its packets
==================  ===========================================================================

``containers/proof/fuzz.c`` is the half that runs in the guest: it makes the frames and judges them.
"""

from tarpit_builder.fuzzing.session import FuzzOptions, FuzzReport, fuzz

__all__ = ["FuzzOptions", "FuzzReport", "fuzz"]
