"""The packages for a kernel of kernel.org: templates in, ``.deb`` files out."""

from __future__ import annotations

import re
from collections.abc import Iterator
from pathlib import Path

from tarpit_builder import packaging
from tarpit_builder.container import Files
from tarpit_builder.deb import Deb, from_files
from tarpit_builder.upstream.plan import UpstreamPlan

TEMPLATES = Path(__file__).resolve().parent.parent / "templates" / "upstream"


def module_source(module: str) -> Files:
    """The module's source as the kernel's build system takes it, for a module called *module*."""
    files = {
        str(path.relative_to(packaging.DKMS)): path
        for pattern in packaging.MODULE_SOURCES
        for path in sorted(packaging.DKMS.glob(pattern))
        if path.is_file()
    }
    own = "xt_TARPIT"
    members: dict[str, Path | bytes] = dict(files)
    if module != own:
        members[f"{module}.c"] = members.pop(f"{own}.c")
        kbuild = files["Kbuild"].read_text()
        members["Kbuild"] = kbuild.replace(f"{own}.o", f"{module}.o").encode()
    return Files(members)


def everything(plan: UpstreamPlan) -> Iterator[bytes]:
    """The content of all that the packages are made of before anything is built."""
    for _, content in sorted(module_source(plan.rule.module).members.items()):
        yield content if isinstance(content, bytes) else content.read_bytes()
    for path in sorted(TEMPLATES.iterdir()):
        yield path.read_bytes()
    yield packaging.maintainer().encode()


def make(plan: UpstreamPlan, results: Path) -> Iterator[Deb]:
    """The packages of *plan*, from what the build left in *results*."""
    release = (results / "release").read_text().strip()
    module = f"{plan.rule.module}.ko"
    values = {
        "arch": plan.arch,
        "iptables": str(plan.iptables.version) if plan.iptables else "",
        "maintainer": packaging.maintainer(),
        "module": plan.rule.module,
        "package_suffix": re.sub(r"[^a-z0-9.+-]", "-", release.lower()),
        "release": release,
        "version": plan.version,
    }
    epoch = packaging.source_date_epoch()
    yield Deb(
        control=_render("modules.control", values),
        files={f"/lib/modules/{release}/extra/{module}": ((results / module).read_bytes(), 0o644)},
        scripts={name: _render(f"modules.{name}", values) for name in ("postinst", "postrm")},
        epoch=epoch,
    )
    source = from_files(module_source("xt_TARPIT"), f"/usr/src/xt-tarpit-{plan.version}")
    configuration = _render("dkms.conf", values).encode()
    yield Deb(
        control=_render("dkms.control", values),
        files={
            **source,
            f"/usr/src/xt-tarpit-{plan.version}/dkms.conf": (configuration, 0o644),
        },
        scripts={name: _render(f"dkms.{name}", values) for name in ("postinst", "prerm")},
        epoch=epoch,
    )
    if plan.iptables:
        yield Deb(
            control=_render("iptables.control", values),
            files=_iptables_files(results / "iptables"),
            epoch=epoch,
        )


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
