"""``dist/`` as a signed apt repository, which users ``apt install`` from.

``incoming`` takes what was built and refuses what was touched since, ``metapackages`` adds those
that follow the newest kernel, ``keys`` signs with a key that never leaves its owner's GnuPG,
``repository`` makes the indexes in a container, ``states`` switches from the old state to the new
in one step, ``settings`` remembers what users rely on, ``audit`` judges a repository as it stands,
``salvage`` finds what is left of one that was damaged, and ``fetching`` brings one back from where
it is published.
"""

from tarpit_builder.publish.audit import audit, demand_valid
from tarpit_builder.publish.keys import Key, choose
from tarpit_builder.publish.repository import PublishedRepository, RepositoryOptions, publish

__all__ = [
    "Key",
    "PublishedRepository",
    "RepositoryOptions",
    "audit",
    "choose",
    "demand_valid",
    "publish",
]
