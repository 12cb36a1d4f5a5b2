"""What decides how a release is published."""

from __future__ import annotations

from dataclasses import asdict, dataclass, field
from pathlib import Path

from tarpit_builder import paths
from tarpit_builder.errors import UserError
from tarpit_builder.matrix import Sources
from tarpit_builder.request import option

MATRIX = "matrix"


@dataclass(frozen=True, slots=True)
class ReleaseOptions:
    """How to publish.

    *skip* names checks that are left out, *sign* has the tag signed.  The cells are those of the
    matrix *file* that fit *only*; ``invoke matrix`` gets *matrix* and *sources*, or *built* is a
    folder with what came of it elsewhere.  *certificate* and *module_key* are for Secure Boot,
    *attest_key* with *attest_public* for attestations, which name the *builder*.  *key* in
    *gpg_home* is for the apt repository in *repo*, which users find at *url*; with *fetch* it
    begins with what is there.  *remote* is pushed to, *forge* says what is there: ``github``,
    ``gitlab`` or ``none``, else its address tells.
    """

    skip: tuple[str, ...] = ()
    sign: bool = False
    only: tuple[str, ...] = ()
    file: Path | None = None
    matrix: tuple[str, ...] = ()
    sources: Sources = field(default_factory=Sources)
    built: Path | None = None
    certificate: str = ""
    module_key: str = ""
    attest_key: str = ""
    attest_public: Path | None = None
    builder: str = ""
    key: str = ""
    gpg_home: Path | None = None
    url: str = ""
    fetch: bool = False
    repo: Path = field(default_factory=lambda: paths.dist_dir() / "repo")
    remote: str = "origin"
    forge: str = ""

    def check(self) -> None:
        """See that they go together.

        :raises UserError: if they do not.
        """
        if MATRIX in self.skip:
            raise UserError(
                "--publish and --skip matrix contradict each other: what is published is proven",
                hint="--only takes fewer cells, --built what another machine has proven",
            )
        if bool(self.certificate) != bool(self.module_key):
            raise UserError(
                "--certificate and --module-key go together",
                hint="name both to sign the modules for Secure Boot, or neither",
            )
        if self.built and not self.built.is_dir():
            raise UserError(
                f"--built {self.built}: there is no such folder",
                hint="put what the jobs of CI left in dist/ into one folder, and name that",
            )

    def words(self) -> tuple[str, ...]:
        """What ``invoke matrix`` gets."""
        chosen = [word for pattern in self.only for word in ("--only", pattern)]
        chosen += ["--file", str(self.file.absolute())] if self.file else []
        return (*chosen, *self.matrix, *matrix_words(**asdict(self.sources)))


def matrix_words(**given: str | bool | list[str] | None) -> tuple[str, ...]:
    """*given* options, those that were left out excepted, as they are typed."""
    words: list[str] = []
    for name, value in given.items():
        for one in value if isinstance(value, list) else [value]:
            if one and one != "0":
                words += [option(name)] if one is True else [option(name), str(one)]
    return tuple(words)
