"""How long it takes, as ratios within one run: machines are noisy, ratios less so."""

from __future__ import annotations

import os
import re
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import asdict, dataclass

from tarpit_builder import architectures
from tarpit_builder import build as building
from tarpit_builder import plan as planning
from tarpit_builder.build import BuildResult
from tarpit_builder.console import Console, format_table
from tarpit_builder.container import Engine, Files, Input
from tarpit_builder.errors import BuildError
from tarpit_builder.kernels.source import Source
from tarpit_builder.kernels.suite import SuiteUserland
from tarpit_builder.leftovers import scratch
from tarpit_builder.machine import cores
from tarpit_builder.packaging import contents
from tarpit_builder.request import Request
from tarpit_builder.sealed import Workshop
from tarpit_builder.sources.bench import measure as measure_source
from tarpit_builder.sources.debian import Archive
from tarpit_builder.sources.store import Store

ROUNDS = 3  # of everything that is short; the fastest counts
DKMS_BY_HAND = """
set -eu
export DEBIAN_FRONTEND=noninteractive
mkdir -p /etc/dkms
touch /etc/dkms/no-autoinstall
apt-get update -q
"""
"""How a script begins that installs packages of DKMS, and builds them itself."""


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

    Beside it, of a suite's kernel: bare ``make``, and DKMS against xtables-addons; of a kernel's
    source: fetching and verifying it.

    :raises TarpitError: as a build does.
    """
    plan = planning.make(request, archive)
    tree, userland = plan.kernel.tree, plan.kernel.userland
    found: list[Measurement] = []
    if cold:
        with console.stage("cold build") as stage:
            found.append(Measurement("cold: no cache, no image", _cold(request, archive), "s"))
            stage.done("done")
    if isinstance(tree, Source):
        with console.stage("sources"):
            rows = measure_source(tree.tree(console), repository=tree.places.request.kernel_git)
            found += [Measurement(*row) for row in rows]
    with scratch("bench") as dist:
        result = building.build(request, archive, console, dist=dist)

        def once(archive: Archive = archive, *, force: bool = True) -> object:
            return building.build(request, archive, Console(quiet=True), dist=dist, force=force)

        with console.stage("warm and no-op builds"):
            warm = _fastest(once)
            idle = _fastest(lambda: once(_again(archive), force=False))
        found += [
            Measurement("warm: module source touched", warm, "s", "≤ 20 s"),
            Measurement("no-op: nothing changed", idle, "s", "≤ 1 s"),
        ]
        if isinstance(userland, SuiteUserland):
            if request.arch == architectures.BUILD:  # DKMS runs where its modules do
                found += _of_suite(userland, warm, result, console)
        else:
            with console.stage("builds, iptables included"):
                whole = _fastest(lambda: _without_what_is_kept(once))
            found.append(Measurement("warm, and iptables anew", whole, "s", "≤ 20 s"))
    return found


def _of_suite(
    suite: SuiteUserland, warm: float, result: BuildResult, console: Console
) -> list[Measurement]:
    """What a suite's own tools take; *warm* seconds of a whole build, with *result*."""
    engine = Engine.connect()
    with console.stage("bare make"):
        bare, packing = _bare(engine, suite)
    with console.stage("DKMS against xtables-addons"):
        ours, theirs = _dkms(engine, suite, result)
    return [
        Measurement("bare make M=… in the same image", bare, "s"),
        Measurement("packaging scripts in the same image", packing, "s"),
        Measurement("(warm − packaging) / bare make", max(warm - packing, 0) / bare, "×", "≤ 3 ×"),
        Measurement("dkms build xt-tarpit, CPU", ours.cpu, "s"),
        Measurement("dkms build xtables-addons, CPU", theirs.cpu, "s"),
        Measurement("xt-tarpit / xtables-addons", 100 * ours.cpu / theirs.cpu, "%", "≤ 15 %"),
        Measurement("modules that xt-tarpit builds", ours.modules, ""),
        Measurement("modules that xtables-addons builds", theirs.modules, ""),
    ]


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
    return Archive(archive.store, archive.mirrors, Console(quiet=True), debian=archive.debian)


def _fastest(action: Callable[[], object], rounds: int = ROUNDS) -> float:
    times = []
    for _ in range(rounds):
        began = time.monotonic()
        action()
        times.append(time.monotonic() - began)
    return min(times)


def _without_what_is_kept(action: Callable[[], object]) -> object:
    """*action* without what builds keep; the store of sources is another matter."""
    with scratch("bench") as folder, environment(TARPIT_CACHE=str(folder)):
        return action()


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


def _bare(engine: Engine, suite: SuiteUserland) -> tuple[float, float]:
    """Seconds of compiling alone, and of all that the packaging script does beside it."""
    began = time.monotonic()
    with scratch("bench") as folder:
        workshop = Workshop(engine, "bench", Console(quiet=True), folder / "log", cores())
        suite.build(workshop, folder)
    whole = time.monotonic() - began
    compile_only = min(compiling(engine, suite)[1] for _ in range(ROUNDS))
    return compile_only, whole - compile_only


def compiling(engine: Engine, suite: SuiteUserland) -> tuple[float, float]:
    """Seconds of a run with the inputs of a build until it begins, and of ``make`` alone in it.

    :raises BuildError: if it fails.
    """
    quiet = Console(quiet=True)
    inputs = [suite.tree.input(quiet), Input("/src", [suite.source()])]
    script = f"""
set -eu
cp -R /src/{contents.MODULES}-*/. /build
now() {{ date +%s%N; }}
began=$(now)
make -s -C /usr/src/linux-headers-{suite.tree.kernel.abi} M=/build modules >&2
compiled=$(now)
echo "began $began"
echo "compile $((compiled - began))"
"""
    image = engine.ensure_image(suite.recipe, quiet)
    before = time.time()
    said = _numbers(engine, image, ["sh", "-c", script], inputs)
    return said["began"] - before, said["compile"]


def _dkms(engine: Engine, suite: SuiteUserland, result: BuildResult) -> tuple[DkmsBuild, DkmsBuild]:
    """``dkms build``, ours and xtables-addons': CPU seconds (user and system) and modules.

    :raises BuildError: if either does not build for this kernel.
    """
    image = engine.ensure_image(suite.recipe.bare(), Console(quiet=True))
    packages = {
        path.name: path
        for path in result.packages()
        if path.name.startswith(("xt-tarpit-dkms", "xt-tarpit-common"))
    }
    abi = suite.tree.kernel.abi
    script = f"""{DKMS_BY_HAND}
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
