"""A release, from a changelog to what users download: ``invoke release``.

``drafting`` says what it will be, ``checks`` are what must pass first, and ``committing`` writes it
down as a commit with a tag.
``publishing`` takes all steps up to a release on GitHub or GitLab, those of ``steps`` and
``outward``, each of which first looks whether it is done: ``course`` is what they share, ``proven``
judges the results of the matrix, ``assets`` packs what users download, ``remote`` pushes, and
``forge`` uploads, to ``github`` or ``gitlab``, by way of ``api``.
"""

from tarpit_builder.release.checks import CHECKS, run_checks
from tarpit_builder.release.committing import write
from tarpit_builder.release.drafting import CHANGELOG, INIT, Draft, draft
from tarpit_builder.release.options import ReleaseOptions, matrix_words
from tarpit_builder.release.publishing import PublishedRelease, preview, publish_release

__all__ = [
    "CHANGELOG",
    "CHECKS",
    "INIT",
    "Draft",
    "PublishedRelease",
    "ReleaseOptions",
    "draft",
    "matrix_words",
    "preview",
    "publish_release",
    "run_checks",
    "write",
]
