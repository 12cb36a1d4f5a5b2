"""How long it takes, as ratios within one run: machines are noisy, ratios less so."""

from __future__ import annotations

import os
import re
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import asdict, dataclass

from tarpit_builder import build as building
from tarpit_builder import packaging
from tarpit_builder import plan as planning
from tarpit_builder.build import BuildResult
from tarpit_builder.console import Console, format_table
from tarpit_builder.container import Engine, Files, Input, Recipe
from tarpit_builder.errors import BuildError
from tarpit_builder.leftovers import scratch
from tarpit_builder.plan import BuildPlan, Request
from tarpit_builder.sources.debian import Archive
from tarpit_builder.sources.store import Store
from tarpit_builder.versions import KernelVersion

ROUNDS = 3  # of everything that is short; the fastest counts


@dataclass(frozen=True, slots=True)
class Measurement:
    """One line of the table; *value* in *unit*, or a count where that is empty."""

    name: str
    value: float
    unit: str
    aim: str = ""


@dataclass(frozen=True, slots=True)
class DkmsBuild:
    """What ``dkms build`` of one source cost and made."""

    cpu: float
    modules: int


def run(request: Request, archive: Archive, console: Console, *, cold: bool) -> list[Measurement]:
    """Measure building for *request*; with *cold* also from nothing, which downloads again.

    :raises TarpitError: as a build does.
    """
    kernel = planning.resolve(request, archive)
    plan = planning.make(request, kernel, archive)
    found: list[Measurement] = []
    if cold:
        with console.stage("cold build") as stage:
            found.append(Measurement("cold: no cache, no image", _cold(request, archive), "s"))
            stage.done("done")
    with scratch("bench") as dist:
        result = building.build(request, archive, console, dist=dist)
        with console.stage("warm and no-op builds"):
            quiet = Console(quiet=True)
            warm = _fastest(lambda: building.build(request, archive, quiet, dist=dist, force=True))
            idle = _fastest(lambda: building.build(request, _again(archive), quiet, dist=dist))
        engine = Engine.connect()
        with console.stage("bare make"):
            bare, packing = _bare(engine, plan, archive)
        found += [
            Measurement("warm: module source touched", warm, "s"),
            Measurement("no-op: nothing changed", idle, "s", "≤ 1 s"),
            Measurement("bare make M=… in the same image", bare, "s"),
            Measurement("packaging scripts in the same image", packing, "s"),
            Measurement(
                "(warm − packaging) / bare make", max(warm - packing, 0) / bare, "×", "≤ 3 ×"
            ),
        ]
        with console.stage("DKMS against xtables-addons"):
            ours, theirs = _dkms(engine, plan, result)
    found += [
        Measurement("dkms build xt-tarpit, CPU", ours.cpu, "s"),
        Measurement("dkms build xtables-addons, CPU", theirs.cpu, "s"),
        Measurement("xt-tarpit / xtables-addons", 100 * ours.cpu / theirs.cpu, "%", "≤ 15 %"),
        Measurement("modules that xt-tarpit builds", ours.modules, ""),
        Measurement("modules that xtables-addons builds", theirs.modules, ""),
    ]
    return found


def run_sources(
    version: KernelVersion, *, kernel_git: str, store: Store, console: Console
) -> list[Measurement]:
    """Measure fetching and verifying Linux *version*, from *kernel_git* or a release tarball.

    :raises TarpitError: if the release cannot be had.
    """
    from tarpit_builder import sources
    from tarpit_builder.sources import bench as source_bench

    tree = sources.fetch_kernel(sources.kernel_source(version, git=kernel_git), store, console)
    with console.stage("sources"):
        return [Measurement(*row) for row in source_bench.measure(tree, repository=kernel_git)]


def table(found: list[Measurement]) -> str:
    """The measurements for people."""
    rows = [(item.name, _figure(item), item.aim) for item in found]
    return format_table(rows, header=("what", "measured", "aim"))


def _figure(item: Measurement) -> str:
    """The value with its unit; a count has neither unit nor decimals."""
    return f"{item.value:,.2f} {item.unit}" if item.unit else f"{item.value:,.0f}"


def data(found: list[Measurement]) -> list[dict[str, object]]:
    """The measurements for machines."""
    return [asdict(item) for item in found]


def _again(archive: Archive) -> Archive:
    """*archive* as a new process sees it."""
    return Archive(archive.store, archive.mirrors, Console(quiet=True))


def _fastest(action: Callable[[], object], rounds: int = ROUNDS) -> float:
    times = []
    for _ in range(rounds):
        began = time.monotonic()
        action()
        times.append(time.monotonic() - began)
    return min(times)


def _cold(request: Request, archive: Archive) -> float:
    """Seconds of a build with an empty cache and images of its own, which are removed after."""
    with scratch("cold") as folder, images_of_its_own():
        fresh = Archive(Store(folder / "cache"), archive.mirrors, Console(quiet=True))
        began = time.monotonic()
        building.build(request, fresh, Console(quiet=True), dist=folder / "dist")
        return time.monotonic() - began


@contextmanager
def environment(**values: str) -> Iterator[None]:
    """With *values* in the environment, for this process and those that it starts."""
    before = {name: os.environ.get(name) for name in values}
    os.environ.update(values)
    try:
        yield
    finally:
        for name, value in before.items():
            if value is None:
                os.environ.pop(name, None)
            else:
                os.environ[name] = value


@contextmanager
def images_of_its_own() -> Iterator[str]:
    """Images, and volumes kept with them, of this process; removed afterwards."""
    from tarpit_builder import container

    usual = container.IMAGES
    container.IMAGES = f"localhost/tarpit-bench-{os.getpid()}"
    try:
        yield container.IMAGES
    finally:
        Engine.connect().clean()
        container.IMAGES = usual


def _bare(engine: Engine, plan: BuildPlan, archive: Archive) -> tuple[float, float]:
    """Seconds of compiling alone, and of all that the packaging script does beside it."""
    files = [archive.store.get(package.blob()) for package in plan.kernel.packages]
    inputs = [
        building.header_input(plan.kernel.packages, files),
        Input("/src", [packaging.source_files(building.package_set(plan))]),
        Input("/scripts", [packaging.build_scripts()]),
    ]
    image = engine.ensure_image(plan.recipe, Console(quiet=True))
    script = f"""
set -eu
cp -R /src/{packaging.MODULES}-*/. /build
now() {{ date +%s%N; }}
began=$(now)
make -s -C /usr/src/linux-headers-{plan.kernel.abi} M=/build modules >&2
compiled=$(now)
echo "compile $((compiled - began))"
"""
    compile_only = min(
        _numbers(engine, image, ["sh", "-c", script], inputs)["compile"] for _ in range(ROUNDS)
    )
    began = time.monotonic()
    result = engine.run(
        image,
        ["sh", "/scripts/build-packages.sh"],
        inputs=inputs,
        environment=building.environment(plan),
    )
    whole = time.monotonic() - began
    if result.status != 0:
        raise BuildError("the packaging script failed", hint="run invoke build", tail=result.lines)
    return compile_only, whole - compile_only


def _dkms(engine: Engine, plan: BuildPlan, result: BuildResult) -> tuple[DkmsBuild, DkmsBuild]:
    """``dkms build``, ours and xtables-addons': CPU seconds (user and system) and modules.

    :raises BuildError: if either does not build for this kernel.
    """
    bare = Recipe(
        template="bare",
        suite=plan.recipe.suite,
        arch=plan.recipe.arch,
        apt_sources=plan.recipe.apt_sources,
        mirror=plan.recipe.mirror,
    )
    image = engine.ensure_image(bare, Console(quiet=True))
    packages = {
        path.name: path
        for path in result.packages()
        if path.name.startswith(("xt-tarpit-dkms", "xt-tarpit-common"))
    }
    abi = plan.kernel.abi
    script = f"""
set -eu
export DEBIAN_FRONTEND=noninteractive
mkdir -p /etc/dkms
touch /etc/dkms/no-autoinstall
apt-get update -q
apt-get install -yq --no-install-recommends bash linux-headers-{abi} /debs/*.deb
apt-get install -yq --no-install-recommends xtables-addons-dkms
for round in 1 2; do
    for module in xt-tarpit xtables-addons; do
        source=$(echo /usr/src/$module-[0-9]*)
        version=${{source#/usr/src/$module-}}
        dkms remove "$module/$version" --all >/dev/null 2>&1 || true
        dkms add -m "$module" -v "$version" >/dev/null 2>&1
        bash -c "TIMEFORMAT='$module %U %S'
            time dkms build -m $module -v $version -k {abi} >/tmp/log 2>&1" || {{
            cat /tmp/log /var/lib/dkms/"$module"/*/build/make.log
            echo "failed $module"
            exit 1
        }}
        echo "built $module $(find /var/lib/dkms/"$module"/*/{abi} -name '*.ko*' | wc -l)"
    done
done
"""
    outcome = engine.run(
        image,
        ["sh", "-c", script],
        inputs=[Input("/debs", [Files(packages)])],
        sealed=False,
    )
    if outcome.status != 0 and not any(line.startswith("failed ") for line in outcome.lines):
        raise BuildError(
            "the comparison with xtables-addons did not run to its end",
            hint="see its lines above; if the mirror was out of reach, run invoke doctor",
            tail=outcome.lines[-20:],
        )
    return compared(outcome.lines, abi)


def compared(lines: Sequence[str], abi: str) -> tuple[DkmsBuild, DkmsBuild]:
    """What the container's *lines* say of the builds for kernel *abi*: ours, xtables-addons'.

    :raises BuildError: if either did not build.
    """
    times: dict[str, list[float]] = {"xt-tarpit": [], "xtables-addons": []}
    modules: dict[str, int] = {}
    for line in lines:
        if match := re.fullmatch(r"(xt-tarpit|xtables-addons) ([\d.]+) ([\d.]+)", line.strip()):
            times[match[1]].append(float(match[2]) + float(match[3]))
        elif match := re.fullmatch(r"built (\S+) (\d+)", line.strip()):
            modules[match[1]] = int(match[2])
        elif match := re.fullmatch(r"failed (\S+)", line.strip()):
            raise BuildError(
                f"{match[1]} does not build for {abi}, so there is nothing to compare",
                hint="see the compiler's lines above, or name another kernel",
                tail=tuple(lines[-20:]),
            )
    if not all(times.values()) or modules.keys() != times.keys():
        raise BuildError(
            "dkms did not build both modules", hint="see its lines above", tail=tuple(lines[-20:])
        )
    ours, theirs = (DkmsBuild(min(seconds), modules[name]) for name, seconds in times.items())
    return ours, theirs


def _numbers(engine: Engine, image: str, argv: list[str], inputs: list[Input]) -> dict[str, float]:
    """Lines ``NAME NANOSECONDS`` of a sealed run, in seconds."""
    result = engine.run(image, argv, inputs=inputs)
    if result.status != 0:
        raise BuildError(
            "a measured run failed", hint="run invoke build first", tail=result.lines[-20:]
        )
    found = {}
    for line in result.lines:
        if match := re.fullmatch(r"(\w+) (\d+)", line):
            found[match[1]] = int(match[2]) / 1e9
    return found
