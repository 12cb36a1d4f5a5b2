"""A release, from a changelog to what users download: ``invoke release``.

``drafting`` writes it down as a commit with a tag, ``checks`` are what must pass first.
``publishing`` takes all steps up to a release on GitHub or GitLab, those of ``steps`` and
``outward``, each of which first looks whether it is done: ``course`` is what they share, ``proven``
judges the results of the matrix, ``assets`` packs what users download, ``remote`` pushes, and
``forge`` uploads, to ``github`` or ``gitlab``, by way of ``api``.
"""

from tarpit_builder.release.checks import CHECKS, run_checks
from tarpit_builder.release.drafting import CHANGELOG, INIT, Draft, draft, write
from tarpit_builder.release.options import PublishOptions, matrix_words
from tarpit_builder.release.publishing import Published, preview, publish_release

__all__ = [
    "CHANGELOG",
    "CHECKS",
    "INIT",
    "Draft",
    "PublishOptions",
    "Published",
    "draft",
    "matrix_words",
    "preview",
    "publish_release",
    "run_checks",
    "write",
]
