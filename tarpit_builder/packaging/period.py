"""Packages in the form of 2007, which need no package tools: templates in, ``.deb`` files out."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

from tarpit_builder.packaging import changelog, contents
from tarpit_builder.packaging.deb import Deb, from_files

EXTENSION = "libxt_TARPIT.so"
TEMPLATES = Path(__file__).resolve().parent.parent / "templates" / "period"


def everything(module: str) -> Iterator[bytes]:
    """The content of all that the packages are made of before anything is built."""
    for _, content in sorted(contents.module_source(module).members.items()):
        yield content if isinstance(content, bytes) else content.read_bytes()
    for path in (*sorted(TEMPLATES.iterdir()), contents.RULES / "packages.toml"):
        yield path.read_bytes()
    yield contents.maintainer().encode()


def make(name: str, arch: str, iptables: str, results: Path) -> Iterator[Deb]:
    """The packages for a module called *name*, from what the build left in *results*.

    :param iptables: its version, ``""`` if none was built.
    """
    release = (results / "release").read_text().strip()
    module = f"{name}.ko"
    version = changelog.version()
    values = {
        "arch": arch,
        "iptables": iptables,
        "kernel": f"Linux {release}",
        "maintainer": contents.maintainer(),
        "module": name,
        "package_suffix": contents.in_package_name(release),
        "release": release,
        "version": version,
    }
    epoch = changelog.source_date_epoch()
    yield Deb(
        control=_control("modules", values),
        files={f"/lib/modules/{release}/extra/{module}": ((results / module).read_bytes(), 0o644)},
        scripts={kind: _render(f"modules.{kind}", values) for kind in ("postinst", "postrm")},
        epoch=epoch,
    )
    folder = f"/usr/src/xt-tarpit-{version}"
    configuration = _render("dkms.conf", values).encode()
    yield Deb(
        control=_control("dkms", values),
        files={
            **from_files(contents.module_source(), folder),
            f"{folder}/dkms.conf": (configuration, 0o644),
        },
        scripts={kind: _render(f"dkms.{kind}", values) for kind in ("postinst", "prerm")},
        epoch=epoch,
    )
    if (results / EXTENSION).is_file():
        yield Deb(
            control=_control("extension", values),
            # Where Debian's iptables 1.4 looks.
            files={f"/lib/xtables/{EXTENSION}": ((results / EXTENSION).read_bytes(), 0o644)},
            epoch=epoch,
        )
    elif iptables:
        yield Deb(
            control=_control("iptables", values),
            files=_iptables_files(results / "iptables"),
            epoch=epoch,
        )


def _control(package: str, values: dict[str, str]) -> str:
    text = _render(f"{package}.control", values)
    return f"{text.rstrip()}\nDescription: {contents.description(package, values)}\n"


def _iptables_files(results: Path) -> dict[str, tuple[bytes, int]]:
    files = {
        f"/sbin/{path.name}": (path.read_bytes(), 0o755)
        for path in sorted((results / "sbin").iterdir())
    }
    for path in sorted((results / "man").rglob("*.[1-9]")):
        files[f"/usr/share/man/man{path.suffix[1:]}/{path.name}"] = (path.read_bytes(), 0o644)
    return files


def _render(name: str, values: dict[str, str]) -> str:
    import jinja2

    environment = jinja2.Environment(
        loader=jinja2.FileSystemLoader(TEMPLATES),
        undefined=jinja2.StrictUndefined,
        keep_trailing_newline=True,
        autoescape=False,  # noqa: S701  (control files and shell, not HTML)
    )
    return environment.get_template(f"{name}.j2").render(values)
