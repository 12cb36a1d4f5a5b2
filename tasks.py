"""The verbs of tarpit-builder, for Invoke: each parses, calls the library and shows the result.

Imports are late, so that ``invoke --list`` and ``--help`` start at once.
"""

from __future__ import annotations

from functools import partial
from typing import TYPE_CHECKING, Any

from invoke.context import Context
from invoke.tasks import task as plain_task

from tarpit_builder.guard import guarded

if TYPE_CHECKING:
    from tarpit_builder.console import Console
    from tarpit_builder.sources.debian import Archive
    from tarpit_builder.workflow import Wish

# Letters run out, and then Invoke gives them to options at random.
task = partial(plain_task, auto_shortflags=False)

KERNEL = {
    "kernel": "debian:SUITE, an ABI such as 6.1.0-56-amd64, running, or a release of kernel.org"
    " such as 2.6.24 (default: debian:stable)",
    "arch": "architecture (default: amd64)",
    "flavour": "kernel flavour where the ABI does not say it: cloud, rt (default: the ordinary)",
    "mirror": "Debian mirror to use instead of the one that apt is set to on this machine",
    "offline": "download no sources: use those that the cache holds",
}

UPSTREAM = {
    "iptables": "release to build along, such as 1.4.0, or none (default: the one that fits)",
    "config": "the .config of your own kernel of that release (default: a documented one)",
    "symvers": "its Module.symvers, if it checks symbol versions",
    "release": "what uname -r says there (default: the release itself)",
    "image": "container image with a compiler of the kernel's age, instead of ours",
    "with-kernel": "build the kernel image as well",
    "kernel-git": "git repository with the kernel's history (default: release tarballs)",
    "ref": "tag, branch or commit there, if it is not the release's own tag",
    "kernel-tree": "folder or tarball with the kernel's tree",
    "iptables-git": "git repository with the history of iptables (default: release tarballs)",
    "trust-on-first-use": "accept a source that cannot be verified, and pin its digest",
}


@task(default=True)
@guarded
def overview(c: Context) -> None:
    """Say what this is, where to begin, and what each verb is for."""
    import sys

    from invoke.collection import Collection

    from tarpit_builder import overview

    verbs = Collection.from_module(sys.modules[__name__]).tasks
    print(overview.text({name: (one.__doc__ or "").strip() for name, one in verbs.items()}))


@task
@guarded
def version(c: Context) -> None:
    """Print the version of tarpit-builder."""
    from tarpit_builder import __version__

    print(f"tarpit-builder {__version__}")


def _archive(
    c: Context, console: Console, mirror: str, *, offline: bool, write: bool = True
) -> Archive:
    from tarpit_builder import paths
    from tarpit_builder.sources.debian import Archive, Mirrors
    from tarpit_builder.sources.store import Store

    store = Store(paths.cache_dir(), offline=offline)
    return Archive(store, Mirrors.choose(mirror or c.config.tarpit.mirror), console, write=write)


def _wish(c: Context, options: dict[str, Any]) -> Wish:
    """*options* of a task, which are named as the fields are, with the defaults filled in."""
    from dataclasses import fields

    from tarpit_builder.workflow import Wish

    given = {field.name: options[field.name] for field in fields(Wish) if field.name in options}
    given["kernel"] = given["kernel"] or c.config.tarpit.kernel
    given["arch"] = given["arch"] or c.config.tarpit.arch
    return Wish(**given)


@task(
    help={
        **KERNEL,
        **UPSTREAM,
        "force": "build again even if the same result is there",
        "json": "write what was built to this file, as JSON",
        "quiet": "print only the result",
    }
)
@guarded
def build(
    c: Context,
    kernel: str = "",
    arch: str = "",
    flavour: str = "",
    mirror: str = "",
    offline: bool = False,
    force: bool = False,
    json: str = "",
    quiet: bool = False,
    iptables: str = "",
    config: str = "",
    symvers: str = "",
    release: str = "",
    image: str = "",
    with_kernel: bool = False,
    kernel_git: str = "",
    ref: str = "",
    kernel_tree: str = "",
    iptables_git: str = "",
    trust_on_first_use: bool = False,
) -> None:
    """Build the packages for a kernel into dist/."""
    wish = _wish(c, locals())
    from tarpit_builder import paths, report, workflow
    from tarpit_builder.console import Console

    where = report.output(json, "--json")
    console = Console(quiet=quiet)
    archive = _archive(c, console, mirror, offline=offline)
    result = workflow.build(wish, archive, console, force=force)
    if where:
        with paths.replacing(where) as stage:
            stage.write_text(report.build_data(result, console.stages))
    print(report.build_summary(result))


@task(help={**KERNEL, **UPSTREAM, "json": "print the plan as JSON"})
@guarded
def explain(
    c: Context,
    kernel: str = "",
    arch: str = "",
    flavour: str = "",
    mirror: str = "",
    offline: bool = False,
    json: bool = False,
    iptables: str = "",
    config: str = "",
    symvers: str = "",
    release: str = "",
    image: str = "",
    with_kernel: bool = False,
    kernel_git: str = "",
    ref: str = "",
    kernel_tree: str = "",
    iptables_git: str = "",
    trust_on_first_use: bool = False,
) -> None:
    """Print what a build would do and why; touches nothing."""
    wish = _wish(c, locals())
    from tarpit_builder import report, workflow
    from tarpit_builder.console import Console

    archive = _archive(c, Console(quiet=True), mirror, offline=offline, write=False)
    made = workflow.plan(wish, archive)
    print(report.plan_json(made) if json else report.plan_table(made))


@task(
    iterable=["only"],
    help={
        **KERNEL,
        **{name: UPSTREAM[name] for name in ("iptables", "kernel-git", "ref", "kernel-tree")},
        **{name: UPSTREAM[name] for name in ("iptables-git", "trust-on-first-use")},
        "in-tree": "for a release of kernel.org: patch TARPIT into its tree, as m(odule) or y(es)",
        "packages": "check these instead of our own: a folder, a .deb or a .ko",
        "only": "a group of checks (may be repeated); `list` names them",
        "all": "every group of checks, not only the smoke set (of a release of kernel.org: smoke,"
        " wire, honeypot, reset and storms)",
        "smp": "processors of the guest (default: 1); checks of time and cost use one",
        "jobs": "guests at once (default: as many as there are processors for)",
        "accel": "tcg (default), or kvm with a time-out that falls back to tcg",
        "pcap": "write the packets to this file",
        "json": "write the result to this file, as JSON",
        "junit": "write the result to this file, as JUnit XML",
        "log": "write what the guests say on their consoles to this file",
    },
)
@guarded
def verify(
    c: Context,
    kernel: str = "",
    arch: str = "",
    flavour: str = "",
    mirror: str = "",
    offline: bool = False,
    packages: str = "",
    only: list[str] | None = None,
    all: bool = False,
    smp: str = "1",
    accel: str = "tcg",
    pcap: str = "",
    json: str = "",
    junit: str = "",
    log: str = "",
    iptables: str = "",
    kernel_git: str = "",
    ref: str = "",
    kernel_tree: str = "",
    iptables_git: str = "",
    trust_on_first_use: bool = False,
    in_tree: str = "",
    jobs: str = "0",
) -> None:
    """Boot a kernel in QEMU and prove on the wire that its packages work."""
    wish = _wish(c, locals())
    from tarpit_builder import report, workflow
    from tarpit_builder.console import Console
    from tarpit_builder.prove import Options

    if only == ["list"]:
        print(report.check_groups())
        return
    console = Console()
    options = Options(
        packages=report.path(packages),
        only=tuple(only or ()),
        full=all,
        cpus=report.number(smp, "--smp"),
        accel=accel,
        jobs=report.number(jobs, "--jobs"),
        pcap=report.output(pcap, "--pcap"),
        json=report.output(json, "--json"),
        junit=report.output(junit, "--junit"),
        log=report.output(log, "--log"),
    )
    archive = _archive(c, console, mirror, offline=offline)
    outcome = workflow.verify(wish, options, archive, console, in_tree=in_tree)
    print(outcome.table())
    raise SystemExit(outcome.exit_code)


@task(
    help={
        "all": "every kernel that each suite still has, not only the current one",
        "arch": KERNEL["arch"],
        "mirror": KERNEL["mirror"],
        "offline": KERNEL["offline"],
    }
)
@guarded
def kernels(
    c: Context, all: bool = False, arch: str = "", mirror: str = "", offline: bool = False
) -> None:
    """List the kernels that can be built for."""
    from tarpit_builder import names, report, supported
    from tarpit_builder.console import Console
    from tarpit_builder.sources.catalogue import Catalogue

    archive = _archive(c, Console(), mirror, offline=offline)
    wanted = names.architecture(arch or c.config.tarpit.arch)
    print("Debian's kernels:\n")
    print(report.kernels_table(archive, wanted, everything=all))
    print("\nReleases of kernel.org:\n")
    print(supported.releases_table(Catalogue.load(), everything=all))
    print(f"\n{supported.statement()}")


@task(
    iterable=["only"],
    help={
        **KERNEL,
        "cold": "also from nothing, with a cache and images of its own (downloads again)",
        "json": "print the measurements as JSON",
        "kernel-git": UPSTREAM["kernel-git"],
        "iptables-git": UPSTREAM["iptables-git"],
        "matrix": "the whole of matrix.toml instead, with one and with two cells at once",
        "only": "with --matrix: cells whose name fits this pattern (may be repeated)",
    },
)
@guarded
def bench(
    c: Context,
    kernel: str = "",
    arch: str = "",
    flavour: str = "",
    mirror: str = "",
    offline: bool = False,
    cold: bool = False,
    json: bool = False,
    kernel_git: str = "",
    iptables_git: str = "",
    matrix: bool = False,
    only: list[str] | None = None,
) -> None:
    """Measure builds, and DKMS against xtables-addons or, for a release of kernel.org, sources."""
    wish = _wish(c, locals())
    from tarpit_builder import bench, workflow
    from tarpit_builder.console import Console

    console = Console()
    archive = _archive(c, console, mirror, offline=offline)
    if matrix:
        from tarpit_builder import matrix as cells

        places = cells.Sources(mirror, kernel_git, iptables_git, offline=offline)
        chosen = cells.select(cells.read(), only or (), "")
        found = cells.measure(chosen, archive, console, places, cold=cold)
    elif wish.is_release:
        found = workflow.measure(wish, archive, console)
    else:
        found = bench.run(workflow.debian_request(wish), archive, console, cold=cold)
    if json:
        from json import dumps

        print(dumps(bench.data(found), indent=2))
    else:
        print(bench.table(found))


@task(
    help={
        "kernel": "release of kernel.org, such as 2.6.24",
        "iptables": "release of iptables, such as 1.4.0",
        **{name: UPSTREAM[name] for name in ("kernel-git", "ref", "kernel-tree", "iptables-git")},
        "trust-on-first-use": UPSTREAM["trust-on-first-use"],
        "mirror": "look here before kernel.org and netfilter.org; http(s):// or file://",
        "offline": KERNEL["offline"],
    }
)
@guarded
def fetch(
    c: Context,
    kernel: str = "",
    iptables: str = "",
    kernel_git: str = "",
    ref: str = "",
    kernel_tree: str = "",
    iptables_git: str = "",
    trust_on_first_use: bool = False,
    mirror: str = "",
    offline: bool = False,
) -> None:
    """Fetch and verify sources of kernels and iptables into the cache."""
    from tarpit_builder import paths
    from tarpit_builder.console import Console
    from tarpit_builder.sources import Options, kernel_source, verbs
    from tarpit_builder.sources.store import Store
    from tarpit_builder.versions import KernelVersion

    version = KernelVersion.parse(kernel) if kernel else None
    wanted = (
        kernel_source(version, git=kernel_git, ref=ref, tree=kernel_tree)
        if kernel or kernel_git or kernel_tree
        else None
    )
    tools = verbs.iptables_source(iptables, git=iptables_git) if iptables else None
    options = Options(mirrors=(mirror,) if mirror else (), trust_on_first_use=trust_on_first_use)
    store = Store(paths.cache_dir(), offline=offline)
    print(verbs.fetch(wanted, tools, store, Console(), options))


@task(
    help={
        "verify": "verify every file and remove the damaged ones",
        "older-than": "remove what has not been used for this long: 12h, 30d, 2w",
        "keep": "remove what was not used longest until so much is left: 500MB, 5GB",
    }
)
@guarded
def cache(c: Context, verify: bool = False, older_than: str = "", keep: str = "") -> None:
    """List, verify or prune the cache of sources."""
    from tarpit_builder import paths
    from tarpit_builder.console import Console
    from tarpit_builder.sources import verbs
    from tarpit_builder.sources.store import Store

    store = Store(paths.cache_dir())
    if verify:
        text, damaged = verbs.cache_verify(store, Console())
        print(text)
        raise SystemExit(1 if damaged else 0)
    if older_than or keep:
        print(verbs.cache_prune(store, older_than=older_than, keep=keep))
    else:
        print(verbs.cache_list(store))


@task(
    help={
        "kernel-git": "learn the releases of this repository, too",
        "iptables-git": "learn the iptables releases of this repository, too",
        "offline": "learn from the repositories only",
    }
)
@guarded
def catalog_update(
    c: Context, kernel_git: str = "", iptables_git: str = "", offline: bool = False
) -> None:
    """Extend the catalogue of known releases from kernel.org and from tags."""
    from tarpit_builder import paths
    from tarpit_builder.console import Console
    from tarpit_builder.sources import Options, verbs
    from tarpit_builder.sources.store import Store

    store = Store(paths.cache_dir(), offline=offline)
    print(
        verbs.catalog_update(
            store,
            Console(),
            Options(),
            kernel_git=kernel_git,
            iptables_git=iptables_git,
            network=not offline,
        )
    )


@task(help={"mirror": KERNEL["mirror"]})
@guarded
def doctor(c: Context, mirror: str = "") -> None:
    """Check Docker, disk, network and QEMU, and say how to fix what is wrong."""
    from tarpit_builder import doctor

    doctor.run(mirror or c.config.tarpit.mirror)


@task(
    help={
        "dist": "also remove the results in dist/",
        "images": "also remove container images and volumes",
        "everything": "all of it",
        "stale": "only results in dist/ that this checkout would build differently",
    }
)
@guarded
def clean(
    c: Context,
    dist: bool = False,
    images: bool = False,
    everything: bool = False,
    stale: bool = False,
) -> None:
    """Remove cached downloads and logs (what can be made again)."""
    from tarpit_builder import clean

    if stale:
        print(clean.drop_stale())
        return
    print(clean.run(dist=dist or everything, images=images or everything))


@task(help={"fix": "fix what the tools can fix by themselves"})
@guarded
def lint(c: Context, fix: bool = False) -> None:
    """Check format, lint and types."""
    from tarpit_builder import gates

    gates.lint(fix=fix)


@task(
    help={
        "quick": "leave out what needs Docker, QEMU or the network",
        "slow": "also the tests that take more than a minute each",
        "only": "a pytest expression (-k)",
    }
)
@guarded
def test(c: Context, quick: bool = False, slow: bool = False, only: str = "") -> None:
    """Run all gates and tests, as CI does."""
    from tarpit_builder import gates

    gates.lint(fix=False)
    gates.tests(quick=quick, slow=slow, only=only)


@task(
    iterable=["only"],
    help={
        "run": "build all of it on this machine; the same command again goes on where it stopped",
        "verify": "with --run: also boot each kernel and prove the smoke set",
        "all": "with --verify: every group of checks",
        "jobs": "cells at once (default: as many as there are processors)",
        "memory": "MiB that all running cells may need together (default: three quarters)",
        "images": "make the container images that the cells are built in, and print their tags",
        "format": "print the matrix for github, gitlab or as json",
        "only": "cells whose name fits this pattern (may be repeated)",
        "shard": "one part of several: 3/10",
        "file": "another matrix than matrix.toml",
        "force": "build again even what is there already",
        "kernel-git": "repository to take kernels of kernel.org from, instead of tarballs",
        "iptables-git": "repository to take iptables from, instead of tarballs",
        "mirror": KERNEL["mirror"],
        "offline": KERNEL["offline"],
        "json": "write the result also to this file, as JSON",
        "junit": "write the result also to this file, as JUnit XML",
    },
)
@guarded
def matrix(
    c: Context,
    run: bool = False,
    verify: bool = False,
    all: bool = False,
    jobs: str = "0",
    memory: str = "0",
    images: bool = False,
    format: str = "",
    only: list[str] | None = None,
    shard: str = "",
    file: str = "",
    force: bool = False,
    kernel_git: str = "",
    iptables_git: str = "",
    mirror: str = "",
    offline: bool = False,
    json: str = "",
    junit: str = "",
) -> None:
    """List, print for CI, or build all of matrix.toml."""
    from tarpit_builder import matrix, report

    cells = matrix.select(matrix.read(report.path(file)), only or (), shard)
    if images:
        from tarpit_builder.console import Console

        console = Console()
        archive = _archive(c, console, mirror, offline=offline)
        print("\n".join(matrix.make_images(cells, archive, console)))
        return
    if format or not run:
        print(matrix.render(cells, format) if format else matrix.overview(cells))
        return
    as_json, as_junit = report.output(json, "--json"), report.output(junit, "--junit")
    options = matrix.Options(
        jobs=report.number(jobs, "--jobs"),
        memory=report.number(memory, "--memory"),
        verify=verify,
        force=force,
        checks=("--all",) if all else (),
        sources=matrix.Sources(mirror, kernel_git, iptables_git, offline=offline),
    )
    summary = matrix.run(cells, options)
    if as_json:
        summary.write_json(as_json)
    if as_junit:
        summary.write_junit(as_junit)
    print(summary.table())
    raise SystemExit(summary.exit_code)


@task(
    iterable=["suite", "drop"],
    help={
        "output": "where the repository is, or will be (default: dist/repo)",
        "key": "secret key of your GnuPG to sign with: fingerprint, id or address",
        "gpg-home": "another GnuPG home than yours",
        "test-key": "sign with a throw-away key instead, made for trials and kept on this machine",
        "new-key": "let the repository change its key; its users must fetch the new one",
        "suite": "publish for this suite only (may be repeated)",
        "keep": "versions of each package that stay (default: 3; 0: all)",
        "url": "where users will find it; needed once, then remembered",
        "valid-for": "days until apt refuses it unless it is signed again (default: as before, 30)",
        "fetch": "begin with what is published at --url, where --output is still empty",
        "skip-existing": "leave out what is published already with another content",
        "drop": "add nothing; take out packages whose name fits this pattern (may be repeated)",
        "repair": "go on with what is still as it was signed, and name what is lost",
        "check": "publish nothing; check signatures, dates, indexes and packages of what is there",
    },
)
@guarded
def repo(
    c: Context,
    output: str = "",
    key: str = "",
    gpg_home: str = "",
    test_key: bool = False,
    new_key: bool = False,
    suite: list[str] | None = None,
    keep: str = "3",
    url: str = "",
    valid_for: str = "",
    fetch: bool = False,
    skip_existing: bool = False,
    drop: list[str] | None = None,
    repair: bool = False,
    check: bool = False,
) -> None:
    """Publish what is in dist/ as a signed apt repository, or sign it again."""
    from tarpit_builder import paths, publish, report
    from tarpit_builder.console import Console

    versions = report.number(keep, "--keep")
    top = report.path(output) or paths.dist_dir() / "repo"
    if check:
        count, until = len(publish.audit(top)), publish.demand_valid(top)
        print(f"good: {count} packages and sources, as they were signed; valid until {until}")
        return
    console = Console()
    home = report.path(gpg_home)
    signer = publish.choose(key or c.config.tarpit.key, home, test=test_key)
    if signer.warning:
        console.warn(signer.warning)
    options = publish.Options(
        keep=versions,
        wanted=tuple(suite or ()),
        new_key=new_key,
        url=url,
        valid_for=report.number(valid_for, "--valid-for") if valid_for else None,
        fetch=fetch,
        skip_existing=skip_existing,
        drop=tuple(drop or ()),
        repair=repair,
    )
    print(publish.publish(paths.dist_dir(), top, signer, console, options=options).table())


@task(help={"output": "folder for the site, which is replaced (default: dist/site)"})
@guarded
def docs(c: Context, output: str = "") -> None:
    """Build the documentation as a static site; any broken link ends it."""
    from tarpit_builder import paths, report, site

    where = report.path(output) or paths.dist_dir() / "site"
    print(f"{site.build(where)} pages; start at {where / 'index.html'}")


@task(
    help={
        "kernel": "release of Linux, such as 2.6.22 (default: the one that the tree is)",
        "iptables": "release of iptables instead: 1.3.8 or 1.4.0",
        "tree": "folder of the unpacked source to patch",
        "reverse": "take the patch out again",
        "dry-run": "only say whether and how it applies",
        "output": "write the patch to this file, or - for standard output",
        "format": "of --output: git (default), quilt or mbox",
    }
)
@guarded
def patch(
    c: Context,
    kernel: str = "",
    iptables: str = "",
    tree: str = "",
    reverse: bool = False,
    dry_run: bool = False,
    output: str = "",
    format: str = "git",
) -> None:
    """Patch a kernel or iptables tree of your own, or write the patch."""
    from tarpit_builder import patches, report

    release = patches.asked_for(kernel, iptables)
    if output != "-":
        report.output(output, "--output")
    if folder := report.path(tree):
        done = patches.apply(folder, release, reverse=reverse, dry_run=dry_run)
        print(patches.applied(done, dry_run=dry_run))
        release = done.release
    if output or not folder:
        patches.write_out(release, format, output)


SOURCES = {
    "kernel": "only ranges of these releases of Linux: 2.6.24, 2.6.19-2.6.22, >=2.6.25",
    "iptables": "only ranges of these releases of iptables",
    "kernel-git": "clones of Linux, blanks between several (default: TARPIT_KERNEL_GIT)",
    "iptables-git": "clones of iptables (default: TARPIT_IPTABLES_GIT)",
    "fetch": "download releases that neither a clone nor the cache has",
}


@task(
    help={
        **SOURCES,
        "write": "write what differs into patches/",
        "force": "also where changes there are not committed",
        "format": "of --output: git (default), quilt or mbox",
        "output": "write the patches into this folder instead, for those who carry or mail them",
    }
)
@guarded
def regen(
    c: Context,
    kernel: str = "",
    iptables: str = "",
    kernel_git: str = "",
    iptables_git: str = "",
    fetch: bool = False,
    write: bool = False,
    force: bool = False,
    format: str = "git",
    output: str = "",
) -> None:
    """Generate the in-tree patches from dkms/ again, and show what differs."""
    from tarpit_builder import patches, report
    from tarpit_builder.console import Console

    folder = report.output(output, "--output", folder=True)
    trees = patches.ReleaseTrees.choose(kernel_git, iptables_git, fetch=fetch)
    ranges = patches.select(kernel, iptables)
    made = patches.regenerate_all(ranges, trees, Console())
    print("".join(one.difference for one in made), end="")
    if folder:
        patches.export(made, folder, format)
    wrote = [one for one in made if write and not one.breaks and patches.write(one, force=force)]
    print(patches.regenerated(made, wrote, ranges))
    patches.demand_whole(made)


@task(help=SOURCES)
@guarded
def check_patches(
    c: Context,
    kernel: str = "",
    iptables: str = "",
    kernel_git: str = "",
    iptables_git: str = "",
    fetch: bool = False,
) -> None:
    """Check that patches/ is what dkms/ makes, and applies wherever it should."""
    from tarpit_builder import patches
    from tarpit_builder.console import Console

    trees = patches.ReleaseTrees.choose(kernel_git, iptables_git, fetch=fetch)
    found = patches.check_all(patches.select(kernel, iptables), trees, Console())
    strays = patches.strays()
    print(patches.verdicts(found, strays))
    patches.demand_good(found, strays)


@task(
    iterable=["skip"],
    help={
        "version": "what to release, such as 1.1.0",
        "write": "run the checks, write the changelog and the version, commit and tag",
        "skip": "leave out a check: test, patches or matrix (may be repeated; never all of them);"
        " the tag says which",
        "sign": "sign the tag with your GnuPG key",
    },
)
@guarded
def release(
    c: Context,
    version: str = "",
    write: bool = False,
    skip: list[str] | None = None,
    sign: bool = False,
) -> None:
    """Show a release; with --write check, write and tag it."""
    from tarpit_builder import paths, release
    from tarpit_builder.errors import UserError

    if not version:
        raise UserError("no version is named", hint="add --version 1.1.0")
    draft = release.draft(version, paths.PROJECT, skip=skip or ())
    if not write:
        print(draft.preview())
        return
    release.run_checks(draft)
    commit = release.write(draft, sign=sign)
    print(f"{draft.tag} is {commit}; publish it with: git push --follow-tags")
