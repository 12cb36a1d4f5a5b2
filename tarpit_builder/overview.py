"""What bare ``invoke`` says: what this is, two commands to begin with, the verbs by purpose."""

from __future__ import annotations

from collections.abc import Mapping

from tarpit_builder import __version__

PURPOSES: Mapping[str, tuple[str, ...]] = {
    "find out": ("kernels", "explain", "doctor"),
    "build and prove": ("build", "verify", "fuzz", "coverage", "port", "matrix", "worker", "bench"),
    "publish": ("sign", "attest", "repo", "report"),
    "judge packages of somebody else": ("check", "reproduce"),
    "sources": ("fetch", "cache", "clean", "catalog-update"),
    "patches for trees of your own": ("patch", "regen", "check-patches"),
    "work on the project": ("lint", "analyze", "test", "docs", "release"),
    "this program": ("overview", "version"),
}
BEGIN = (
    ("invoke build", "packages for the current kernel of Debian stable, into dist/"),
    ("invoke verify", "boot that kernel and prove on the wire that they work"),
)


def text(verbs: Mapping[str, str]) -> str:
    """The whole of it; *verbs* are all there are, each with what it does."""
    rows: list[tuple[str, ...]] = [(f"  {command}", what) for command, what in BEGIN]
    for purpose, names in PURPOSES.items():
        rows.append((f"\n{purpose}",))
        rows += [(f"  {name}", verbs[name]) for name in names]
    width = max(len(row[0]) for row in rows if len(row) > 1)
    lines = [f"{row[0]:<{width}}  {row[1]}" if len(row) > 1 else row[0] for row in rows]
    return "\n".join(
        [
            f"tarpit-builder {__version__}: build, package and prove the netfilter target TARPIT",
            "\nbegin with",
            *lines,
            "\n`invoke --help VERB` explains the options of a verb; README.md tells the rest.",
        ]
    )
