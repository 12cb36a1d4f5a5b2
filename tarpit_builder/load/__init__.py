"""What holding connections costs a host, beside everything else that could be done with them.

``invoke bench --load``: one guest for each contender, with the same attackers.  Its half in the
guest is ``containers/proof/load.c``.
"""

from tarpit_builder.load.session import LoadOptions, LoadReport, run

__all__ = ["LoadOptions", "LoadReport", "run"]
