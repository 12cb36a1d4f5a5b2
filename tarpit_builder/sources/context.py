"""What every kind of source is given: the cache, the console, and the rules of the request."""

from __future__ import annotations

import os
from collections.abc import Sequence
from dataclasses import dataclass, field

from tarpit_builder.console import Console
from tarpit_builder.errors import SourceError, UserError
from tarpit_builder.sources.catalogue import Catalogue
from tarpit_builder.sources.signatures import Keys
from tarpit_builder.sources.store import Store
from tarpit_builder.sources.trust import Judge, TrustFile, lock_file
from tarpit_builder.versions import Version, suggest


@dataclass(frozen=True, slots=True)
class SourceOptions:
    """How sources are to be had; *mirrors* come before those of the catalogue."""

    mirrors: tuple[str, ...] = ()
    trust_on_first_use: bool = False
    catalogue: Catalogue | None = None
    trust: TrustFile | None = None


@dataclass(frozen=True, slots=True)
class Context:
    """One request's surroundings; made by :meth:`of`."""

    store: Store
    console: Console
    catalogue: Catalogue
    judge: Judge
    keys: Keys
    mirrors: tuple[str, ...] = field(default=())

    @classmethod
    def of(cls, store: Store, console: Console, options: SourceOptions) -> Context:
        """The surroundings that *options* describe."""
        catalogue = options.catalogue or Catalogue.load()
        return cls(
            store=store,
            console=console,
            catalogue=catalogue,
            judge=Judge(options.trust or TrustFile(lock_file()), options.trust_on_first_use),
            keys=Keys(catalogue.keys, store),
            mirrors=options.mirrors,
        )

    def places(self, variable: str, defaults: Sequence[str]) -> tuple[str, ...]:
        """Mirrors in order: ``--mirror``, the environment's *variable*, then *defaults*.

        :raises UserError: if one is no URL.
        """
        chosen = (*self.mirrors, *os.environ.get(variable, "").split())
        for url in chosen:
            if not url.startswith(("https://", "http://", "file:///")):
                raise UserError(
                    f"the mirror {url!r} is not a URL",
                    hint="write https://HOST/PATH, http://HOST/PATH or file:///PATH",
                )
        return tuple(dict.fromkeys(url.rstrip("/") for url in (*chosen, *defaults)))

    def absent(self, what: str) -> SourceError:
        """The refusal of something that would have to be fetched while offline."""
        return SourceError(
            f"{what} is not in the cache, and --offline forbids fetching it",
            hint="run `invoke fetch` for it while there is a network",
        )


def near(version: Version, known: Sequence[Version]) -> str:
    """A hint naming the releases that look like *version*."""
    others = [str(other) for other in sorted(known) if other != version]
    found = suggest(str(version), others)
    return f"did you mean {' or '.join(found)}?" if found else "`invoke kernels` lists releases"
