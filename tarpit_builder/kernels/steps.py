"""What a kernel's source goes through in a build: the scripts of ``containers/upstream/``."""

from __future__ import annotations

import shutil
from collections.abc import Callable, Mapping
from dataclasses import replace
from pathlib import Path

from tarpit_builder.container import Files, Input
from tarpit_builder.kernels.source import SCRIPTS, Source, for_modules, layer_input, whole
from tarpit_builder.kernels.toolchain import Layer
from tarpit_builder.packaging import changelog, contents
from tarpit_builder.sealed import Step, Workshop

SETTINGS = {"ipt_TARPIT": "IP_NF_TARGET_TARPIT", "xt_TARPIT": "NETFILTER_XT_TARGET_TARPIT"}
"""What the patches call the setting for each module."""


def module(source: Source, name: str, workshop: Workshop, output: Path) -> None:
    """The module, called *name*, in *output*, with its kernel's release and configuration."""
    made = step(
        source,
        ("module.sh", "configure.sh", "lib.sh", "plain-calls.pl"),
        source.layer,
        (
            for_modules(source.tree(workshop.console), source.arch),
            Input("/src", [contents.module_source(name)]),
            request(source.configuration(), source.patch),
        ),
        title=f"{name} for {workshop.name}",
        done=release,
    )
    told = {"MODULE": name, "TARPIT_VERSION": changelog.version()}
    if source.debug and source.debug.instrument:
        told["INSTRUMENT"] = source.debug.instrument
    workshop.run(replace(made, environment={**made.environment, **told}), output)


def image(source: Source, name: str, workshop: Workshop, in_tree: str = "") -> Path:
    """A whole kernel: ``vmlinuz``, ``release``, ``config`` and its ``modules/``, if any.

    :param name: what the module is called.
    :param in_tree: ``m`` or ``y`` to have TARPIT in it, by the patch.
    """
    settings = f"CONFIG_{SETTINGS[name]}={in_tree}\n" if in_tree else ""
    made = step(
        source,
        ("image.sh", "configure.sh", "lib.sh", "plain-calls.pl"),
        source.image_layer,
        (
            whole(source.tree(workshop.console), "/kernel"),
            request(source.configuration(settings), source.patch if in_tree else None),
        ),
        title=f"kernel image {workshop.name}",
        done=release,
    )
    kept = f"image-{source.version}-{source.arch}"
    made = replace(made, environment={**made.environment, "KIMAGE": source.image})
    return workshop.kept(kept, made, *source.fetch(workshop.console))


def step(
    source: Source,
    scripts: tuple[str, ...],
    layer: Layer,
    inputs: tuple[Input, ...],
    *,
    title: str = "",
    done: Callable[[Path], str] = lambda _: "",
) -> Step:
    """The first of *scripts*, with the compiler of *layer*."""
    return Step(
        script=scripts[0],
        scripts=Files({name: SCRIPTS / name for name in scripts}),
        recipe=source.recipe,
        inputs=(*inputs, layer_input(layer)),
        environment={"KARCH": source.karch, "SUFFIX": source.suffix},
        title=title,
        done=done,
    )


def request(files: Mapping[str, bytes], patch: Path | None) -> Input:
    """What the scripts are asked to do."""
    return Input("/request", [Files({**files, **({"patch": patch} if patch else {})})])


def release(results: Path) -> str:
    """What ``uname -r`` says of the kernel that *results* are for."""
    return (results / "release").read_text().strip()


def collect(source: Source, results: Path, image: Path | None, stage: Path) -> None:
    """Put what the user gets beside packages into *stage*.

    :param results: of :func:`module`.
    :param image: of :func:`image`.
    """
    of = release(results)
    for built in (*results.glob("*.ko"), *results.glob("*.gcno")):
        shutil.copyfile(built, stage / built.name)
    shutil.copyfile(results / "config", stage / f"config-{of}")
    # The module's comes first; that of the packages may be there already.
    toolchain = stage / "toolchain.txt"
    packages = toolchain.read_text() if toolchain.is_file() else ""
    toolchain.write_text((results / "toolchain.txt").read_text() + packages)
    if source.patch:
        shutil.copyfile(source.patch, stage / source.patch.name)
    if (results / "patched").is_dir():
        shutil.copytree(results / "patched", stage / "patched")
    if image:
        shutil.copyfile(image / "vmlinuz", stage / f"vmlinuz-{of}")
        if (image / "modules").is_dir():
            shutil.copytree(image / "modules", stage / "modules")
