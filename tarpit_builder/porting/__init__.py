"""A kernel that nobody has tried yet: fetch, probe, build, boot, verify; or one report of why not.

==================  =============================================================================
:mod:`.port`        the steps in order, what was proven, and what is to be added where
:mod:`.log`         a build's log: what the probes found, and the first error of the compiler
:mod:`.history`     commits of a git tree that may have caused it
:mod:`.failure`     the report
==================  =============================================================================
"""

from tarpit_builder.porting.port import Ported, port

__all__ = ["Ported", "port"]
