"""The software bill of materials of a package set, as CycloneDX 1.6.

What is in the packages: the files of this project, with digests.  What they were made with, of
scope "excluded": the kernel's headers or source, compiler and tools, the image, the packages of
Python that drive the build.  What they are for: the kernel, and the iptables of the userland.
"""

from __future__ import annotations

import json
import re
import uuid
from collections.abc import Iterable, Iterator
from datetime import datetime
from pathlib import Path
from typing import TYPE_CHECKING, Any

from tarpit_builder import __version__, builder, digests, suites
from tarpit_builder.attest import package_set
from tarpit_builder.attest.documents import NAMESPACE
from tarpit_builder.attest.package_set import PACKAGE, AttestedSet

if TYPE_CHECKING:
    from cyclonedx.model.component import Component

LICENCE = "GPL-2.0-only"
PIN = re.compile(r"^([A-Za-z0-9._-]+)(?:\[[^\]]*\])?==([^\s;]+)", re.MULTILINE)
INSTALLED = re.compile(r"^ ([a-z0-9][a-z0-9+.:-]+) \(= ([^\s()]+)\),?$", re.MULTILINE)
USERLAND = "libxtables-dev"
"""The package whose version is that of the iptables that the extension was compiled for."""


def document(of: AttestedSet) -> dict[str, Any]:
    """The bill of materials of *of*, the same each time."""
    from cyclonedx.model import Property
    from cyclonedx.model.bom import Bom, BomMetaData
    from cyclonedx.model.component import Component, ComponentType
    from cyclonedx.model.lifecycle import LifecyclePhase, PredefinedLifecycle
    from cyclonedx.model.tool import ToolRepository
    from cyclonedx.output.json import JsonV1Dot6

    top = Component(
        name=f"TARPIT for Linux {of.name}",
        version=of.version or None,
        type=ComponentType.DEVICE_DRIVER,
        bom_ref="package-set",
        licenses=[_licence(LICENCE)],
        hashes=[],
        properties=[
            Property(name=f"{NAMESPACE}:manifest-sha256", value=of.sha256),
            Property(name=f"{NAMESPACE}:kernel", value=of.name),
            Property(name=f"{NAMESPACE}:architecture", value=str(of.plan.get("arch", ""))),
            Property(name=f"{NAMESPACE}:userland", value=_userland(of)),
        ],
    )
    packages = list(_packages(of))
    source = _source(of)
    tools = [*_sources(of), *_tools(of), *_python(of)]
    bom = Bom(
        serial_number=uuid.uuid5(uuid.NAMESPACE_URL, f"{NAMESPACE}:{of.sha256}"),
        metadata=BomMetaData(
            timestamp=_time(of),
            component=top,
            lifecycles=[PredefinedLifecycle(phase=LifecyclePhase.BUILD)],
            tools=ToolRepository(
                components=[
                    Component(
                        name="tarpit-builder",
                        version=str((of.manifest.get("builder") or {}).get("version", __version__)),
                        type=ComponentType.APPLICATION,
                    )
                ]
            ),
        ),
        components=[*packages, source, *tools],
    )
    bom.register_dependency(top, packages)
    for package in packages:
        bom.register_dependency(package, [source, *tools])
    made: dict[str, Any] = json.loads(JsonV1Dot6(bom).output_as_string())
    return made


def packages_of(document: dict[str, Any]) -> dict[str, str]:
    """The SHA-256 of each output in a bill of materials of ours."""
    found = {}
    for component in document.get("components", ()):
        if str(component.get("bom-ref", "")).startswith("output/"):
            hashes = {row["alg"]: row["content"] for row in component.get("hashes", ())}
            found[str(component["name"])] = str(hashes.get("SHA-256", ""))
    return found


def property_of(document: dict[str, Any], name: str) -> str:
    """The property *name* of ours in a bill of materials; ``""`` if it has none."""
    rows = document.get("metadata", {}).get("component", {}).get("properties", ())
    return next((str(r.get("value")) for r in rows if r.get("name") == f"{NAMESPACE}:{name}"), "")


def _packages(of: AttestedSet) -> Iterator[Component]:
    """Every output: the packages, and what else was built along."""
    from cyclonedx.model.component import Component, ComponentType

    for name, value in sorted(of.outputs.items()):
        package = name.endswith(PACKAGE)
        yield Component(
            name=name,
            type=ComponentType.DEVICE_DRIVER if package else ComponentType.FILE,
            version=of.version if package else None,
            bom_ref=f"output/{name}",
            hashes=_sha256(value),
            licenses=[_licence(LICENCE)] if package else (),
            purl=_deb(name, value) if package else None,
        )


def _source(of: AttestedSet) -> Component:
    """The files of this project that the packages are made of."""
    from cyclonedx.model.component import Component, ComponentType

    return Component(
        name="xt-tarpit source",
        type=ComponentType.LIBRARY,
        bom_ref="source",
        licenses=[_licence(LICENCE)],
        components=[
            Component(
                name=name,
                type=ComponentType.FILE,
                bom_ref=f"source/{name}",
                hashes=_sha256(value),
            )
            for name, value in sorted(of.manifest["module"].items())
        ],
    )


def _sources(of: AttestedSet) -> Iterator[Component]:
    """The kernel that was built against, and what else was fetched for the build."""
    from cyclonedx.model import ExternalReference, ExternalReferenceType, Property, XsUri
    from cyclonedx.model.component import Component, ComponentScope, ComponentType

    for number, source in enumerate(package_set.sources(of.manifest)):
        of_kernel = source["name"].startswith("linux")
        others = {key: value for key, value in source["digest"].items() if key != "sha256"}
        yield Component(
            name=source["name"],
            version=source["version"] or None,
            type=ComponentType.LIBRARY,
            scope=ComponentScope.EXCLUDED,
            bom_ref=f"built-from/{number}/{source['name']}",
            hashes=_sha256(source["digest"].get("sha256", "")),
            licenses=[_licence(LICENCE)] if of_kernel else (),
            external_references=[
                ExternalReference(type=ExternalReferenceType.DISTRIBUTION, url=XsUri(source["uri"]))
            ]
            if source["uri"]
            else (),
            properties=[
                Property(name=f"{NAMESPACE}:{key}", value=value) for key, value in others.items()
            ],
        )


def _tools(of: AttestedSet) -> Iterator[Component]:
    """The image, and the packages in it that had a part in the build, as .buildinfo lists them."""
    from cyclonedx.model import Property
    from cyclonedx.model.component import Component, ComponentScope, ComponentType
    from packageurl import PackageURL

    image = of.manifest["image"]
    yield Component(
        name=image["tag"].rpartition(":")[0] or image["tag"],
        version=image["tag"].rpartition(":")[2],
        type=ComponentType.CONTAINER,
        scope=ComponentScope.EXCLUDED,
        bom_ref="image",
        hashes=_sha256(image["id"].rpartition(":")[2]),
        properties=[Property(name=f"{NAMESPACE}:engine", value=image["engine"])],
    )
    installed = dict(package_set.toolchain(of.manifest))
    for name in sorted(of.outputs):
        path = of.folder / name
        if name.endswith(".buildinfo") and digests.file(path) == of.outputs[name]:
            installed |= dict(INSTALLED.findall(path.read_text(errors="replace")))
    kernels = {source["name"] for source in package_set.sources(of.manifest)}
    for name, version in sorted(installed.items()):
        if name.partition(":")[0] in kernels:
            continue
        yield Component(
            name=name,
            version=version,
            type=ComponentType.LIBRARY if name.startswith("lib") else ComponentType.APPLICATION,
            scope=ComponentScope.EXCLUDED,
            bom_ref=f"tool/{name}",
            purl=PackageURL("deb", _archive(of), name.partition(":")[0], version),
        )


def _python(of: AttestedSet) -> Iterator[Component]:
    """The lock of the packages that drive the build, and these, if this is still that lock."""
    from cyclonedx.model.component import Component, ComponentScope, ComponentType
    from packageurl import PackageURL

    lock = (of.manifest.get("builder") or {}).get("lock", "")
    if not lock:
        return
    yield Component(
        name="requirements.lock",
        type=ComponentType.FILE,
        scope=ComponentScope.EXCLUDED,
        bom_ref="lock",
        hashes=_sha256(lock),
    )
    data = _bytes(builder.LOCK)
    if digests.content(data) != lock:
        return
    for name, version in PIN.findall(data.decode()):
        yield Component(
            name=name,
            version=version,
            type=ComponentType.LIBRARY,
            scope=ComponentScope.EXCLUDED,
            bom_ref=f"lock/{name}",
            purl=PackageURL("pypi", None, name, version),
        )


def _userland(of: AttestedSet) -> str:
    """What the packages are for, with the version of iptables where that is known."""
    plan = of.plan
    name = str(plan.get("userland") or plan.get("suite") or "")
    if version := package_set.toolchain(of.manifest).get(USERLAND):
        return f"{name}, iptables {version}".lstrip(", ")
    if plan.get("iptables"):
        return f"{name}, iptables {plan['iptables']}".lstrip(", ")
    return name


def _archive(of: AttestedSet) -> str:
    """Whose packages are in the image."""
    name = str(of.plan.get("distribution", suites.DEBIAN))
    known = suites.distributions().get(name)
    return known.base if known else name


def _deb(name: str, sha256: str) -> Any:
    from packageurl import PackageURL

    package, _, rest = name.removesuffix(PACKAGE).partition("_")
    version, _, arch = rest.rpartition("_")
    return PackageURL(
        "deb", None, package, version or None, {"arch": arch, "checksum": f"sha256:{sha256}"}
    )


def _time(of: AttestedSet) -> datetime:
    finished = of.manifest.get("finished")
    return datetime.fromisoformat(finished or "1970-01-01T00:00:00Z")


def _licence(expression: str) -> Any:
    from cyclonedx.model.license import DisjunctiveLicense

    return DisjunctiveLicense(id=expression)


def _sha256(value: str) -> Iterable[Any]:
    from cyclonedx.model import HashAlgorithm, HashType

    return [HashType(alg=HashAlgorithm.SHA_256, content=value)] if value else []


def _bytes(path: Path) -> bytes:
    return path.read_bytes() if path.is_file() else b""
