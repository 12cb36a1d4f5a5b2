"""Patches for source trees: generate them from ``dkms/``, check them, apply them.

======================  ==========================================================
:mod:`.diff`            patches as data: build, read, write, apply to the line
:mod:`.tree`            a source tree to look at: a folder, or a commit in git
:mod:`.rules`           ``rules/patches.toml``: which release gets what, and why
:mod:`.ctokens`         C as a sequence of tokens that joins to the same bytes
:mod:`.conditions`      ``#if`` with some symbols known
:mod:`.resolve`         the compatibility layer, melted into the source
:mod:`.rewrite`         idioms of one age said in the idiom of another
:mod:`.layout`          lines of at most 80 columns, aligned as in the kernel
:mod:`.macros`          wrappers written out where they are used
:mod:`.prune`           what nothing needs any more, out
:mod:`.generate`        all of it together: the patch for one release
:mod:`.committed`       the patches in ``patches/``
:mod:`.demand`          the patch for whatever release and tree
:mod:`.apply`           ``invoke patch``: into a user's tree and out again
:mod:`.regen`           ``invoke regen`` and ``check-patches``: against real trees
:mod:`.show`            what the tasks print
======================  ==========================================================

:mod:`tarpit_builder.patches` is the door to this room.
"""
