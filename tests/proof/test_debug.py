"""Debug kernels: each of their tools is seen to find a mistake that is put into the module.

The patches in ``debug/`` say which kind of kernel finds them in a line ``Debug:``, in which group
of checks in a line ``Caught-by:``, and what is said then in a line ``Said:``, a regular expression.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Iterator
from dataclasses import replace
from functools import cache
from pathlib import Path

import pytest

from tarpit_builder import paths
from tarpit_builder import plan as planning
from tarpit_builder.console import Console
from tarpit_builder.container import Engine, Files, Input
from tarpit_builder.kernels import rules, steps
from tarpit_builder.kernels.own import OwnKernel
from tarpit_builder.kernels.source import SCRIPTS, for_modules, layer_input
from tarpit_builder.packaging import contents
from tarpit_builder.packaging.contents import MODULE
from tarpit_builder.proof import registry
from tarpit_builder.proof.guest import LOG_HEAD
from tarpit_builder.proof.qemu import complaints, without_foreign_races
from tarpit_builder.proof.report import Verdict
from tarpit_builder.proof.runner import Runner, units
from tarpit_builder.proof.verification import VerifyOptions, assemble, setup
from tarpit_builder.request import Request
from tarpit_builder.sealed import Step, Workshop
from tarpit_builder.sources.debian import Archive, Mirrors
from tarpit_builder.sources.store import Store

HERE = Path(__file__).parent
MUTANTS = sorted((HERE / "debug").glob("*.patch"))
GONE = {"kasan": {"CONFIG_REFCOUNT_FULL=y", "CONFIG_UBSAN_SANITIZE_ALL=y"}}
"""What earlier kernels than trixie's had to be asked for."""


def told(patch: Path, what: str) -> str:
    """The line *what* of a mutant."""
    match = re.search(rf"^{what}: (.+)$", patch.read_text(), re.MULTILINE)
    assert match, f"{patch.name} has no line {what}:"
    return match[1]


RULER = "=" * 66
REPORT = f"""\
{RULER}
BUG: KCSAN: data-race in FIRST / SECOND

write to 0xffff888003c0 of 4 bytes by interrupt on cpu 1:
 FIRST
 nf_hook_slow+0x3a/0x70

read to 0xffff888003c0 of 4 bytes by task 12 on cpu 0:
 SECOND
 ksys_read+0x3a/0x70
{RULER}
"""


@pytest.mark.parametrize(
    ("first", "second", "told_of"),
    [
        ("tcp_v4_rcv+0x1/0x2", "tcp_sendmsg+0x1/0x2", False),
        ("tarpit_tg4+0x1/0x2 [xt_TARPIT]", "tcp_sendmsg+0x1/0x2", True),
        ("tcp_v4_rcv+0x1/0x2", "tarpit_xmit+0x1/0x2 [tarpit]", True),
    ],
)
def test_races_of_the_kernel_itself_are_not_ours(first: str, second: str, told_of: bool) -> None:
    text = REPORT.replace("FIRST", first).replace("SECOND", second)
    lines = ["before", *text.splitlines(), "after"]
    left = list(without_foreign_races(lines))
    assert left[0] == "before"
    assert left[-1] == "after"
    assert (len(left) == len(lines)) is told_of
    assert bool(list(complaints(lines))) is told_of


def test_another_tools_report_between_rulers_is_no_race() -> None:
    lines = [RULER, "BUG: KASAN: slab-out-of-bounds in x+0x1/0x2", "Read of size 1", RULER]
    assert list(without_foreign_races(lines)) == lines
    assert list(complaints(lines)) == [lines[1]]


def test_a_race_that_is_still_being_told_of_is_waited_for() -> None:
    lines = REPORT.replace("FIRST", "tarpit_tg4+0x1/0x2 [xt_TARPIT]").splitlines()[:-1]
    assert not list(complaints(lines))


@pytest.mark.parametrize(
    ("line", "message"),
    [
        ("<3>BUG: KCSAN: data-race in f [m] / g [m]", "BUG: KCSAN: data-race in f [m] / g [m]"),
        ("<6>[    1.234567] f [m] says", "f [m] says"),
        ("<6>[    1.234567][   T12] f [m] says", "f [m] says"),
        ("<4> f+0x1/0x2 [m] from g", " f+0x1/0x2 [m] from g"),
    ],
)
def test_a_message_of_the_kernel_is_read_whole(line: str, message: str) -> None:
    assert LOG_HEAD.sub("", line) == message


class Bench:
    """A debug kernel with its mutants, built once."""

    def __init__(self, kind: str, work: Path) -> None:
        console, engine = Console(), Engine.connect()
        archive = Archive(Store(paths.cache_dir()), Mirrors.choose(None), console)
        plan = planning.make(Request("debian:trixie", debug=kind), archive)
        userland = plan.kernel.userland
        assert isinstance(userland, OwnKernel)
        source = userland.tree
        workshop = Workshop(engine, plan.name, console, work / "log", 2)
        mutants = [patch for patch in MUTANTS if told(patch, "Debug") == kind]
        scripts = {name: SCRIPTS / name for name in ("configure.sh", "lib.sh", "plain-calls.pl")}
        step = Step(
            script="build-debug-mutants.sh",
            scripts=Files({**scripts, "build-debug-mutants.sh": HERE / "build-debug-mutants.sh"}),
            recipe=source.recipe,
            inputs=(
                for_modules(source.tree(console), source.arch),
                layer_input(source.layer),
                steps.request(source.configuration(), None),
                Input("/src", [contents.module_source(MODULE)]),
                Input("/mutants", [Files({patch.name: patch for patch in mutants})]),
            ),
            environment={
                "KARCH": source.karch,
                "SUFFIX": source.suffix,
                "INSTRUMENT": rules.debug(kind).instrument,
            },
            title=f"mutants for {plan.name}",
        )
        built = workshop.kept(f"mutants-{kind}", step, *source.fetch(console))
        extension = work / "extension"
        extension.mkdir()
        userland.build(workshop, extension)
        found = [*extension.glob("*.deb"), *built.glob("*.ko")]
        subject = userland.subject(workshop, tuple(found), None, "")
        assert subject.kernel_image
        self.config = (subject.kernel_image / "config").read_text()
        boot = assemble(subject, engine, console, work)
        self.runner = Runner(setup(subject, VerifyOptions(cpus=2), boot), console)


@pytest.fixture(scope="module")
def bench(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Callable[[str], Bench]]:
    """Each kind of kernel, made when it is asked for."""
    made: list[Bench] = []

    @cache
    def of(kind: str) -> Bench:
        made.append(Bench(kind, tmp_path_factory.mktemp(kind)))
        return made[-1]

    yield of
    for one in made:
        one.runner.end()


def test_every_mutant_says_what_it_is_about() -> None:
    assert {told(patch, "Debug") for patch in MUTANTS} == {"kasan", "kcsan"}
    registry.select(tuple({told(patch, "Caught-by") for patch in MUTANTS}))
    for patch in MUTANTS:
        re.compile(told(patch, "Said"))


@pytest.mark.docker
@pytest.mark.slow
@pytest.mark.parametrize("kind", rules.debug_kinds())
def test_kernel_has_what_its_kind_is_made_of(bench: Callable[[str], Bench], kind: str) -> None:
    asked = (SCRIPTS / rules.debug(kind).config).read_text()
    settings = set(re.findall(r"^CONFIG_\w+=.+$", asked, re.MULTILINE))
    assert settings - set(bench(kind).config.splitlines()) == GONE.get(kind, set())


@pytest.mark.boot
@pytest.mark.docker
@pytest.mark.slow
@pytest.mark.parametrize("patch", MUTANTS, ids=lambda patch: patch.stem)
def test_mistake_is_found_by_its_tool(bench: Callable[[str], Bench], patch: Path) -> None:
    runner = bench(told(patch, "Debug")).runner
    runner.end()
    runner.use(replace(runner.setup.tools, file=patch.stem))
    (part,) = runner.run(units(registry.select((told(patch, "Caught-by"),)), ("legacy",)))
    failures = [result for result in part.results if result.outcome is Verdict.FAIL]
    said = [f"{result.name}: {result.detail}" for result in failures]
    assert any(re.search(told(patch, "Said"), one) for one in said), said
