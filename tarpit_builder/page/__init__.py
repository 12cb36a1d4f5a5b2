"""One page made from records: ``invoke report``.

=================  ==========================================================================
:mod:`.reading`    files that are not to be believed, as typed values or a sentence
:mod:`.cells`      what is on record of each kernel: builds, proofs, the matrix, the table
:mod:`.contract`   every check with its results, and what is wrong
:mod:`.ladder`     packets as a drawing
:mod:`.charts`     what was measured
:mod:`.write`      the page itself, within its budget
``templates/``     its HTML, style and script
=================  ==========================================================================

The page is one file: it loads nothing, and what it cannot hold of logs it links to.
"""

from tarpit_builder.page.write import Made, make

__all__ = ["Made", "make"]
