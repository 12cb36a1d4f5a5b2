"""``dist/`` as a signed apt repository, which users ``apt install`` from.

``incoming`` takes what was built and refuses what was touched since, ``keys`` signs with a key that
never leaves its owner's GnuPG, ``repository`` makes the indexes in a container and switches from
the old state to the new in one step, ``audit`` judges a repository as it stands.
"""

from tarpit_builder.publish.audit import audit
from tarpit_builder.publish.keys import Key, choose
from tarpit_builder.publish.repository import Options, Published, publish

__all__ = ["Key", "Options", "Published", "audit", "choose", "publish"]
