"""The verbs of tarpit-builder, for Invoke: each parses, calls the library and shows the result.

Imports are late, so that ``invoke --list`` and ``--help`` start at once.
"""

from __future__ import annotations

from invoke.context import Context

from tarpit_builder.verbs import OWN, PLACES, WHICH, Given, verb

Words = list[str] | None


@verb(default=True)
def overview(c: Context) -> None:
    """Say what this is, where to begin, and what each verb is for."""
    import sys

    from invoke.collection import Collection

    from tarpit_builder import overview

    verbs = Collection.from_module(sys.modules[__name__]).tasks
    print(overview.text({name: (one.__doc__ or "").strip() for name, one in verbs.items()}))


@verb()
def version(c: Context) -> None:
    """Print the version of tarpit-builder."""
    from tarpit_builder import __version__

    print(f"tarpit-builder {__version__}")


@verb(
    *WHICH,
    *OWN,
    *PLACES,
    help={
        "force": "build again even if the same result is there",
        "json": "write what was built to this file, as JSON",
        "quiet": "print only the result",
    },
)
def build(
    c: Context, given: Given, force: bool = False, json: str = "", quiet: bool = False
) -> None:
    """Build the packages for a kernel into dist/."""
    request = given.request()
    from tarpit_builder import build, paths, report
    from tarpit_builder.console import Console

    where = report.output(json, "--json")
    console = Console(quiet=quiet)
    result = build.build(request, given.archive(console), console, force=force)
    if where:
        with paths.replacing(where) as stage:
            stage.write_text(report.build_data(result, console.stages))
    print(report.build_summary(result))


@verb(*WHICH, *OWN, *PLACES, help={"json": "print the plan as JSON"})
def explain(c: Context, given: Given, json: bool = False) -> None:
    """Print what a build would do and why; touches nothing."""
    request = given.request()
    from tarpit_builder import plan, report
    from tarpit_builder.console import Console

    made = plan.make(request, given.archive(Console(quiet=True), write=False))
    print(report.plan_json(made) if json else report.plan_table(made))


@verb(
    *WHICH,
    *("iptables", "userland", "debug"),
    *PLACES,
    iterable=["only"],
    optional={"debug": "all"},
    help={
        "debug": "from source, with the kernel's own checks of the module in it: =kasan (memory,"
        " locks, leaks), =kcsan (races), or one after the other",
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
def verify(
    c: Context,
    given: Given,
    packages: str = "",
    only: Words = None,
    all: bool = False,
    smp: str = "1",
    accel: str = "tcg",
    pcap: str = "",
    json: str = "",
    junit: str = "",
    log: str = "",
    in_tree: str = "",
    jobs: str = "0",
) -> None:
    """Boot a kernel in QEMU and prove on the wire that its packages work."""
    request = given.request()
    from tarpit_builder import prove, report
    from tarpit_builder.console import Console
    from tarpit_builder.proof import VerifyOptions

    if only == ["list"]:
        print(report.check_groups())
        return
    console = Console()
    options = VerifyOptions(
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
    worst = 0
    for asked, how in prove.debug_kinds(request, options):
        outcome = prove.prove(
            asked,
            how,
            given.archive(console),
            console,
            packages=report.path(packages),
            in_tree=in_tree,
        )
        print(outcome.table())
        worst = max(worst, outcome.exit_code)
    raise SystemExit(worst)


@verb(
    *WHICH,
    *("userland", "debug"),
    *PLACES,
    help={
        "debug": "kasan, kcsan, or none for the kernel as it is (default: kasan, with which the"
        " cases are guided by what they reach)",
        "seconds": "how long (default: 60, or until all --packets were sent)",
        "packets": "end when so many were sent",
        "seed": "where random numbers begin (default: anywhere; the result says where)",
        "corpus": "file with the cases to begin with, which those join that reach something new",
        "replay": "nothing but the cases in this file, such as one that a run has kept",
        "findings": "folder for what is found (default: dist/fuzz)",
        "smp": "processors of the guest (default: 2)",
        "json": "write the result so far to this file, as JSON, again and again",
        "log": "write what the guests say on their consoles to this file",
    },
)
def fuzz(
    c: Context,
    given: Given,
    seconds: str = "",
    packets: str = "0",
    seed: str = "0",
    corpus: str = "",
    replay: str = "",
    findings: str = "",
    smp: str = "2",
    json: str = "",
    log: str = "",
) -> None:
    """Send hostile frames to the module in a guest, and judge every answer."""
    request = given.request()
    from tarpit_builder import paths, prove, report
    from tarpit_builder.console import Console
    from tarpit_builder.fuzzing import FuzzOptions

    console = Console()
    options = FuzzOptions(
        seconds=report.number(seconds, "--seconds") if seconds else None,
        packets=report.number(packets, "--packets"),
        seed=report.number(seed, "--seed"),
        corpus=report.output(corpus, "--corpus"),
        replay=report.path(replay),
        cpus=report.number(smp, "--smp"),
        findings=report.output(findings, "--findings", folder=True) or paths.dist_dir() / "fuzz",
        json=report.output(json, "--json"),
        log=report.output(log, "--log"),
    )
    outcome = prove.fuzz(request, options, given.archive(console), console)
    print(outcome.summary())
    raise SystemExit(outcome.exit_code)


@verb(
    *WHICH,
    *PLACES,
    iterable=["only"],
    help={
        "only": "a group of checks, instead of all (may be repeated)",
        "seconds": "how long the fuzzer works (default: 60)",
        "page": "run nothing: make the page of what was counted before",
        "output": "write the page to this file, as Markdown",
        "log": "write what the guests say on their consoles to this file",
    },
)
def coverage(
    c: Context,
    given: Given,
    only: Words = None,
    seconds: str = "60",
    page: bool = False,
    output: str = "",
    log: str = "",
) -> None:
    """Count which lines of the module proof and fuzzing reach, and say why not the others."""
    request = given.request()
    from tarpit_builder import coverage, paths, report
    from tarpit_builder.console import Console
    from tarpit_builder.fuzzing import FuzzOptions
    from tarpit_builder.proof import VerifyOptions

    target = report.output(output, "--output")
    console = Console()
    if not page:
        where = report.output(log, "--log")
        options = VerifyOptions(only=tuple(only or ()), full=True, log=where)
        fuzzing = FuzzOptions(seconds=report.number(seconds, "--seconds"))
        proof = coverage.run(request, options, fuzzing, given.archive(console), console)
        print(proof.table())
    made = coverage.report()
    print(made.table())
    if target:
        with paths.replacing(target) as stage:
            stage.write_text(made.markdown())
    made.demand_reasons()


@verb(
    *WHICH,
    *("iptables", "userland"),
    *PLACES,
    help={
        "kernel-git": "clone of Linux: the release, if --kernel-tree does not have it, and the"
        " commits that a failure may come from"
    },
)
def port(c: Context, given: Given) -> None:
    """Try a kernel that nobody has tried yet: fetch, probe, build, boot, verify, or a report."""
    request = given.request()
    from tarpit_builder import porting
    from tarpit_builder.console import Console

    console = Console()
    print(porting.port(request, given.archive(console), console).table())


@verb(
    *("kernel", "arch", "mirror", "keyring", "offline"),
    help={
        "kernel": "of another distribution, such as ubuntu (default: Debian's and kernel.org's)",
        "all": "every kernel that each suite still has, not only the current one",
        "status": "what was built and proven instead, with what and when, from the records",
        "record": "for those who maintain this: enter what is in dist/ into the records, the README"
        " and SECURITY.md",
    },
)
def kernels(
    c: Context, given: Given, all: bool = False, status: bool = False, record: bool = False
) -> None:
    """List the kernels that can be built for, or those that were."""
    from tarpit_builder import paths, records, report, supported, tried
    from tarpit_builder.console import Console
    from tarpit_builder.sources.catalogue import Catalogue

    if record:
        entered = records.enter(paths.dist_dir())
        runs = tried.enter(paths.dist_dir())
        records.write_readme()
        tried.write_security()
        said = [f"{one.what} on {one.on}: {one.figures}" for one in runs]
        said += [records.status(entered)] if entered else []
        print("\n".join(said) or "nothing in dist/ that is not recorded")
        return
    if status:
        print(records.status())
        return
    archive, arch = supported.archive(given.kernel, given.values["arch"], given.archive(Console()))
    print(f"{archive.distribution.title}'s kernels:\n")
    print(report.kernels_table(archive, arch, everything=all))
    if given.kernel:
        return
    print("\nReleases of kernel.org:\n")
    print(supported.releases_table(Catalogue.load(), everything=all))
    print(f"\n{supported.statement()}")


@verb(
    *WHICH,
    *("kernel_git", "iptables_git"),
    iterable=["only"],
    help={
        "cold": "also from nothing, with a cache and images of its own (downloads again)",
        "json": "print the measurements as JSON",
        "matrix": "the whole of matrix.toml instead, with one and with two cells at once",
        "memory": "with --matrix: what each cell takes of the memory instead, built and booted",
        "packets": "instead what answers cost in the kernel, beside REJECT, DROP and peers",
        "load": "instead what many held connections and a flood cost a host, beside others",
        "clients": "with --load: connections from sockets, default 100,000",
        "frames": "with --load: connections without sockets, default 1,000,000",
        "seconds": "with --load: how long they are held, default 1200 of the guest's time",
        "flood": "with --load: SYNs through the guest's card, default 1,000,000",
        "only": "with --matrix: cells whose name fits, with --load: contenders (may be repeated)",
    },
)
def bench(
    c: Context,
    given: Given,
    cold: bool = False,
    json: bool = False,
    matrix: bool = False,
    memory: bool = False,
    packets: bool = False,
    load: bool = False,
    clients: int = 100_000,
    frames: int = 1_000_000,
    seconds: int = 1200,
    flood: int = 1_000_000,
    only: Words = None,
) -> None:
    """Measure builds, and DKMS against xtables-addons or, for a release of kernel.org, sources."""
    request = given.request()
    from tarpit_builder import bench
    from tarpit_builder.console import Console
    from tarpit_builder.errors import UserError

    if (packets or load) and (cold or json or matrix or (packets and load)):
        alone, other = ("--packets", "--load") if packets else ("--load", "--packets")
        raise UserError(
            f"{alone} goes with none of --cold, --json, --matrix and {other}",
            hint="the figures are in dist/bench/, as JSON",
        )
    console = Console()
    archive = given.archive(console)
    if packets:
        from tarpit_builder import packets as answers

        counted = answers.run(request, archive, console)
        print("\n".join(counted.notes) if not counted.exit_code else counted.table())
        raise SystemExit(counted.exit_code)
    if load:
        from tarpit_builder import load as loads

        much = loads.LoadOptions(clients, frames, seconds, flood, tuple(only or ()))
        print(loads.run(request, much, archive, console).tables())
        return
    if matrix:
        from tarpit_builder import matrix as cells

        chosen = cells.select(cells.read(), only or (), "")
        places = cells.Sources(
            given.mirror, given.kernel_git, given.iptables_git, offline=given.offline
        )
        found = (
            cells.measure_memory(chosen, console, places)
            if memory
            else cells.measure(chosen, archive, console, places, cold=cold)
        )
    else:
        found = bench.run(request, archive, console, cold=cold)
    if json:
        from json import dumps

        print(dumps(bench.data(found), indent=2))
    else:
        print(bench.table(found))


@verb(
    *("kernel", "iptables", *PLACES, "mirror", "offline"),
    help={
        "kernel": "release of kernel.org, such as 2.6.24",
        "iptables": "release of iptables, such as 1.4.0",
        "mirror": "look here before kernel.org and netfilter.org; http(s):// or file://",
    },
)
def fetch(c: Context, given: Given) -> None:
    """Fetch and verify sources of kernels and iptables into the cache."""
    from tarpit_builder.console import Console
    from tarpit_builder.sources import SourceOptions, kernel_source, verbs
    from tarpit_builder.versions import KernelVersion

    version = KernelVersion.parse(given.kernel) if given.kernel else None
    wanted = (
        kernel_source(version, git=given.kernel_git, ref=given.ref, tree=given.kernel_tree)
        if given.kernel or given.kernel_git or given.kernel_tree
        else None
    )
    tools = (
        verbs.iptables_source(given.iptables, git=given.iptables_git) if given.iptables else None
    )
    options = SourceOptions(
        mirrors=(given.mirror,) if given.mirror else (),
        trust_on_first_use=given.trust_on_first_use,
    )
    print(verbs.fetch(wanted, tools, given.store(), Console(), options))


@verb(
    help={
        "verify": "verify every file and remove the damaged ones",
        "older-than": "remove what has not been used for this long: 12h, 30d, 2w",
        "keep": "remove what was not used longest until so much is left: 500MB, 5GB",
    }
)
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


@verb(
    *("kernel_git", "iptables_git", "offline"),
    help={
        "kernel-git": "learn the releases of this repository, too",
        "iptables-git": "learn the iptables releases of this repository, too",
        "offline": "learn from the repositories only",
    },
)
def catalog_update(c: Context, given: Given) -> None:
    """Extend the catalogue of known releases from kernel.org and from tags."""
    from tarpit_builder.console import Console
    from tarpit_builder.sources import SourceOptions, verbs

    print(
        verbs.catalog_update(
            given.store(),
            Console(),
            SourceOptions(),
            kernel_git=given.kernel_git,
            iptables_git=given.iptables_git,
            network=not given.offline,
        )
    )


@verb("mirror")
def doctor(c: Context, given: Given) -> None:
    """Check Docker, disk, network and QEMU, and say how to fix what is wrong."""
    from tarpit_builder import doctor

    doctor.run(given.mirror or c.config.tarpit.mirror)


@verb(
    help={
        "dist": "also remove the results in dist/",
        "images": "also remove container images and volumes",
        "everything": "all of it",
        "stale": "only results in dist/ that this checkout would build differently",
    }
)
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


@verb(help={"fix": "fix what the tools can fix by themselves"})
def lint(c: Context, fix: bool = False) -> None:
    """Check format, lint, types, shell scripts, spelling and workflows."""
    from tarpit_builder import quality

    quality.lint(fix=fix)


@verb(
    *("mirror", "keyring", "offline"),
    iterable=["only"],
    help={
        "only": "an analyzer (may be repeated); `list` names them (default: all)",
        "offline": "download no sources, and audit no packages",
    },
)
def analyze(c: Context, given: Given, only: Words = None) -> None:
    """Run static analyzers over the module, the scripts, the texts, the workflows and the locks."""
    from tarpit_builder import analysis
    from tarpit_builder.console import Console

    if only == ["list"]:
        print(analysis.listing())
        return
    console = Console()
    chosen = analysis.choose(only or (), offline=given.offline)
    outcome = analysis.run(chosen, given.archive(console), console)
    print(outcome.table())
    outcome.demand_clean()
    if not only:
        analysis.record(outcome)


@verb(
    *("mirror", "keyring", "offline"),
    help={
        "quick": "leave out what needs Docker, QEMU or the network",
        "slow": "also the tests that take more than a minute each",
        "only": "a pytest expression (-k)",
    },
)
def test(c: Context, given: Given, quick: bool = False, slow: bool = False, only: str = "") -> None:
    """Run all gates and tests, as CI does."""
    from tarpit_builder import quality
    from tarpit_builder.console import Console

    quality.lint(fix=False)
    if not quick and not only:
        quality.analyze(local=False, archive=given.archive(Console()))
    quality.tests(quick=quick, slow=slow, only=only)


@verb(
    *("kernel_git", "iptables_git", "mirror", "offline"),
    iterable=["only", "engine", "merge"],
    help={
        "run": "build all of it; the same command again goes on where it stopped",
        "verify": "with --run: also boot each kernel and prove the smoke set",
        "all": "with --verify: every group of checks",
        "jobs": "cells at once (default: as many as there are processors)",
        "memory": "MiB that all running cells may need together (default: three quarters)",
        "engine": "a container engine to share the cells with, as of DOCKER_HOST, or a context of"
        " Docker's (may be repeated)",
        "cluster": "with --run: hand the cells to this Dask scheduler, such as tcp://HOST:8786",
        "store": "where its workers put results: a folder that all see, sftp://HOST/FOLDER, s3://…",
        "merge": "summary.json of a shard: join it with others into dist/matrix (may be repeated)",
        "images": "make the container images that the cells are built in, and print their tags",
        "format": "print the matrix for github, gitlab or as json",
        "only": "cells whose name fits this pattern (may be repeated)",
        "shard": "one part of several: 3/10",
        "file": "another matrix than matrix.toml",
        "force": "build again even what is there already",
        "kernel-git": "repository to take kernels of kernel.org from, instead of tarballs",
        "iptables-git": "repository to take iptables from, instead of tarballs",
        "json": "write the result also to this file, as JSON",
        "junit": "write the result also to this file, as JUnit XML",
    },
)
def matrix(
    c: Context,
    given: Given,
    run: bool = False,
    verify: bool = False,
    all: bool = False,
    jobs: str = "0",
    memory: str = "0",
    engine: Words = None,
    cluster: str = "",
    store: str = "",
    merge: Words = None,
    images: bool = False,
    format: str = "",
    only: Words = None,
    shard: str = "",
    file: str = "",
    force: bool = False,
    json: str = "",
    junit: str = "",
) -> None:
    """List, print for CI, or build all of matrix.toml."""
    from tarpit_builder import matrix, paths, report
    from tarpit_builder.container import Endpoint

    everything = matrix.read(report.path(file))
    if merge:
        files = [found for name in merge if (found := report.path(name))]
        joined = matrix.merge(files, everything, paths.dist_dir() / "matrix")
        print(joined.table())
        raise SystemExit(joined.exit_code)
    cells = matrix.select(everything, only or (), shard)
    if images:
        from tarpit_builder.console import Console

        console = Console()
        print("\n".join(matrix.make_images(cells, given.archive(console), console)))
        return
    if format or not run:
        print(matrix.render(cells, format) if format else matrix.overview(cells))
        return
    as_json, as_junit = report.output(json, "--json"), report.output(junit, "--junit")
    options = matrix.RunOptions(
        jobs=report.number(jobs, "--jobs"),
        memory=report.number(memory, "--memory"),
        verify=verify,
        force=force,
        engines=tuple(Endpoint.named(name) for name in engine or ()),
        cluster=cluster,
        store=store,
        checks=("--all",) if all else (),
        sources=matrix.Sources(
            given.mirror, given.kernel_git, given.iptables_git, offline=given.offline
        ),
    )
    summary = matrix.run(cells, options)
    if as_json:
        summary.write_json(as_json)
    if as_junit:
        summary.write_junit(as_junit)
    print(summary.table())
    raise SystemExit(summary.exit_code)


@verb(
    help={
        "cluster": "the Dask scheduler, such as tcp://HOST:8786",
        "jobs": "cells at once (default: as many as there are processors)",
        "memory": "MiB that they may need together (default: three quarters)",
    },
)
def worker(c: Context, cluster: str, jobs: str = "0", memory: str = "0") -> None:
    """Work for `invoke matrix --run --cluster` until stopped, with the engine of this machine."""
    from tarpit_builder import report
    from tarpit_builder.matrix.cluster import serve

    serve(cluster, jobs=report.number(jobs, "--jobs"), memory=report.number(memory, "--memory"))


@verb(
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
def repo(
    c: Context,
    output: str = "",
    key: str = "",
    gpg_home: str = "",
    test_key: bool = False,
    new_key: bool = False,
    suite: Words = None,
    keep: str = "3",
    url: str = "",
    valid_for: str = "",
    fetch: bool = False,
    skip_existing: bool = False,
    drop: Words = None,
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
    options = publish.RepositoryOptions(
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


@verb(
    help={
        "output": "the page (default: dist/report.html)",
        "repo": "an apt repository, such as dist/repo: the page begins with how to use it",
        "files": "also copy the logs and manifests that it links to beside it, for a web server",
        "json": "print what was made, with seconds and bytes, as JSON",
    }
)
def report(
    c: Context, output: str = "", repo: str = "", files: bool = False, json: bool = False
) -> None:
    """Make one page of what was built, booted, proven and measured, from the records."""
    from tarpit_builder import page, paths, report

    where = report.output(output, "--output") or paths.dist_dir() / "report.html"
    made = page.make(paths.dist_dir(), where, repo=report.path(repo), copy=files)
    if json:
        from json import dumps

        print(dumps(made.data(), indent=2))
    else:
        print(made.line())


@verb(
    *("mirror", "keyring", "offline"),
    iterable=["only"],
    help={
        "certificate": "the certificate of the key, which users enroll",
        "key": "secret key: a file in PEM, or pkcs11:… of one on a token",
        "export": "instead: write the modules that are to be signed elsewhere into this folder",
        "signatures": "instead of a key: the folder of --export, with the signatures made there",
        "only": "package sets whose folder fits this pattern (may be repeated)",
        "mirror": "where to look for the kernels' headers, if they are not where they were",
    },
)
def sign(
    c: Context,
    given: Given,
    certificate: str = "",
    key: str = "",
    export: str = "",
    signatures: str = "",
    only: Words = None,
) -> None:
    """Sign the modules of what is in dist/, for hosts with Secure Boot."""
    from pathlib import Path

    from tarpit_builder import paths, report
    from tarpit_builder.console import Console
    from tarpit_builder.errors import UserError
    from tarpit_builder.signing import certificate as certificates
    from tarpit_builder.signing import sign

    if sum(map(bool, (key, export, signatures))) != 1:
        raise UserError(
            "name one of --key, --export and --signatures",
            hint="--key FILE signs here; --export and later --signatures are for a key elsewhere",
        )
    if not (export or certificate):
        raise UserError(
            "no certificate was named, which belongs to the key and is what users enroll",
            hint=f"add --certificate FILE; key and certificate are made by: {certificates.MAKE}",
        )
    folder = report.output(export, "--export", folder=True)
    chosen = sign.choose(paths.dist_dir(), only or ())
    if folder:
        print(sign.export(chosen, folder))
        return
    public = certificates.load(Path(certificate).expanduser())
    how = sign.by_key(key, public) if key else sign.from_folder(Path(signatures), public)
    console = Console()
    print(sign.table(sign.sign(chosen, public, how, given.archive(console), console), public))


@verb(
    iterable=["only"],
    help={
        "key": "secret key: a file in PEM, env:NAME of a variable with one, gnupg:ID of your GnuPG,"
        " or a URI of securesystemslib for a token or a service (default: attest_key in"
        " invoke.yaml)",
        "public": "file with its public key, for a URI of a token or a service",
        "only": "package sets whose folder fits this pattern (may be repeated)",
        "builder": "URI of what built them (default: CI's own, else a local machine)",
    },
)
def attest(
    c: Context, key: str = "", public: str = "", only: Words = None, builder: str = ""
) -> None:
    """Sign what is in dist/: where it comes from, what it consists of, what was proven."""
    from tarpit_builder import paths, report
    from tarpit_builder.attest import keys, make

    signer = keys.signer(key or c.config.tarpit.attest_key, report.path(public))
    done = make.attest(paths.dist_dir(), signer, only=tuple(only or ()), builder=builder)
    print(make.table(done, signer))


@verb(
    iterable=["key", "require"],
    help={
        "what": "folder of packages with their attestations, or https://… of a repository",
        "key": "public key of whoever attested them, in PEM or of OpenPGP (may be repeated)",
        "require": "a group of checks that must have passed (may be repeated; default: smoke)",
        "unproven": "do with packages that nobody has proven",
        "json": "write the result to this file, as JSON",
    },
)
def check(
    c: Context,
    what: str,
    key: Words = None,
    require: Words = None,
    unproven: bool = False,
    json: str = "",
) -> None:
    """Check packages of somebody else by their attestations; touches nothing."""
    from pathlib import Path

    from tarpit_builder import report
    from tarpit_builder.attest import verdict
    from tarpit_builder.attest.check import Policy
    from tarpit_builder.console import Console

    where = report.output(json, "--json")
    policy = Policy(tuple(require or ("smoke",)), unproven=unproven)
    files = [Path(name).expanduser() for name in key or ()]
    outcome = verdict.judge(what, files, policy, Console())
    if where:
        outcome.write_json(where)
    print(outcome.table())
    if outcome.wrong:
        raise outcome.wrong[0]


@verb(
    *("mirror", "keyring", "offline"),
    help={
        "manifest": "manifest.json of a build, or the folder that it lies in",
        "mirror": "where to look for sources that are not where they were",
        "json": "write the result to this file, as JSON",
    },
)
def reproduce(c: Context, given: Given, manifest: str, json: str = "") -> None:
    """Build what a manifest tells of again, and compare byte by byte."""
    from pathlib import Path

    from tarpit_builder import report
    from tarpit_builder.attest import reproduce as again
    from tarpit_builder.console import Console

    where = report.output(json, "--json")
    console = Console()
    found = again.reproduce(Path(manifest).expanduser(), given.archive(console), console)
    if where:
        found.write_json(where)
    print(found.table())
    raise SystemExit(found.exit_code)


@verb(help={"output": "folder for the site, which is replaced (default: dist/site)"})
def docs(c: Context, output: str = "") -> None:
    """Build the documentation as a static site; any broken link ends it."""
    from tarpit_builder import paths, report, site

    where = report.path(output) or paths.dist_dir() / "site"
    print(f"{site.build(where)} pages; start at {where / 'index.html'}")


@verb(
    *("kernel", "iptables", "kernel_git", "ref", "kernel_tree", "trust_on_first_use"),
    *("mirror", "offline"),
    help={
        "kernel": "release of Linux, such as 2.6.22 or 5.10 (default: the one that the tree is)",
        "iptables": "release of iptables instead: 1.3.8 or 1.4.0",
        "kernel-git": "clone that has the tree, for a release that no patch is kept for",
        "kernel-tree": "folder or tarball of that tree, which stays as it is",
        "tree": "folder of the unpacked source to patch",
        "reverse": "take the patch out again",
        "dry-run": "only say whether and how it applies",
        "output": "write the patch to this file, or - for standard output",
        "format": "of --output: git (default), quilt or mbox",
    },
)
def patch(
    c: Context,
    given: Given,
    tree: str = "",
    reverse: bool = False,
    dry_run: bool = False,
    output: str = "",
    format: str = "git",
) -> None:
    """Patch a kernel or iptables tree of your own, or write the patch."""
    from tarpit_builder import patches, report
    from tarpit_builder.console import Console
    from tarpit_builder.kernels.source import SourcePlaces

    release = patches.asked_for(given.kernel, given.iptables, given.kernel_tree)
    if output != "-":
        report.output(output, "--output")
    if folder := report.path(tree):
        done = patches.apply(folder, release, reverse=reverse, dry_run=dry_run)
        print(patches.applied(done, dry_run=dry_run))
        release = done.release
    if output or not folder:
        tree_of = SourcePlaces.of(given.request(), given.archive(Console())).kernel
        named = bool(given.kernel_git or given.kernel_tree)
        patches.write_out(release, format, output, folder=folder, fetch=tree_of, named=named)


PATCHED = ("kernel", "iptables", "kernel_git", "iptables_git")
SOURCES = {
    "kernel": "only ranges of these releases of Linux: 2.6.24, 2.6.19-2.6.22, >=2.6.25",
    "iptables": "only ranges of these releases of iptables",
    "kernel-git": "clones of Linux, blanks between several (default: TARPIT_KERNEL_GIT)",
    "iptables-git": "clones of iptables (default: TARPIT_IPTABLES_GIT)",
    "fetch": "download releases that neither a clone nor the cache has",
}


@verb(
    *PATCHED,
    help={
        **SOURCES,
        "write": "write what differs into patches/",
        "force": "also where changes there are not committed",
        "format": "of --output: git (default), quilt or mbox",
        "output": "write the patches into this folder instead, for those who carry or mail them",
    },
)
def regen(
    c: Context,
    given: Given,
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
    trees = patches.ReleaseTrees.choose(given.kernel_git, given.iptables_git, fetch=fetch)
    ranges = patches.select(given.kernel, given.iptables)
    made = patches.regenerate_all(ranges, trees, Console())
    print("".join(one.difference for one in made), end="")
    if folder:
        patches.export(made, folder, format)
    wrote = [one for one in made if write and not one.breaks and patches.write(one, force=force)]
    print(patches.regenerated(made, wrote, ranges))
    patches.demand_whole(made)


@verb(*PATCHED, help=SOURCES)
def check_patches(
    c: Context,
    given: Given,
    fetch: bool = False,
) -> None:
    """Check that patches/ is what dkms/ makes, and applies wherever it should."""
    from tarpit_builder import patches
    from tarpit_builder.console import Console

    trees = patches.ReleaseTrees.choose(given.kernel_git, given.iptables_git, fetch=fetch)
    found = patches.check_all(patches.select(given.kernel, given.iptables), trees, Console())
    strays = patches.strays()
    print(patches.verdicts(found, strays))
    patches.demand_good(found, strays)


@verb(
    *("kernel_git", "iptables_git", "mirror", "offline"),
    iterable=["skip", "only", "engine"],
    help={
        "version": "what to release, such as 1.1.0",
        "write": "run the checks, write the changelog and the version, commit and tag",
        "publish": "go all the way: check, commit, prove the matrix, attest, publish the apt"
        " repository, tag, push, release; the same command again goes on where it stopped",
        "skip": "leave out a check: test, patches or matrix (may be repeated; never all of them);"
        " the tag says which",
        "sign": "sign the tag with your GnuPG key",
        "only": "cells of the matrix whose name fits this pattern (may be repeated)",
        "file": "another matrix than matrix.toml",
        "built": "folder with the results that CI has built from the release's commit, to be"
        " taken instead",
        "jobs": "cells at once (default: as many as there are processors)",
        "memory": "MiB that all running cells may need together (default: three quarters)",
        "engine": "a container engine to share the cells with (may be repeated)",
        "cluster": "hand the cells to this Dask scheduler, such as tcp://HOST:8786",
        "store": "where its workers put results",
        "kernel-git": "repository to take kernels of kernel.org from, instead of tarballs",
        "iptables-git": "repository to take iptables from, instead of tarballs",
        "attest-key": "secret key that attests, as of invoke attest (default: attest_key in"
        " invoke.yaml)",
        "attest-public": "file with its public key, for a URI of a token or a service",
        "builder": "URI of what built them (default: CI's own, else a local machine)",
        "certificate": "sign the modules for Secure Boot, too: the certificate of the key",
        "module-key": "secret key that signs them: a file in PEM, or pkcs11:…",
        "repo": "where the apt repository is, or will be (default: dist/repo)",
        "key": "key of your GnuPG to sign it with (default: key in invoke.yaml)",
        "gpg-home": "another GnuPG home than yours",
        "url": "where users will find it; needed once, then remembered",
        "fetch": "begin with what is published at --url, where --repo is still empty",
        "remote": "where branch and tag are pushed to (default: origin)",
        "forge": "what is there: github, gitlab, or none to stop after the push (default: what"
        " github.com and gitlab.com are); GITHUB_TOKEN or GITLAB_TOKEN has the token",
    },
)
def release(
    c: Context,
    given: Given,
    version: str = "",
    write: bool = False,
    publish: bool = False,
    skip: Words = None,
    sign: bool = False,
    only: Words = None,
    file: str = "",
    built: str = "",
    jobs: str = "0",
    memory: str = "0",
    engine: Words = None,
    cluster: str = "",
    store: str = "",
    attest_key: str = "",
    attest_public: str = "",
    builder: str = "",
    certificate: str = "",
    module_key: str = "",
    repo: str = "",
    key: str = "",
    gpg_home: str = "",
    url: str = "",
    fetch: bool = False,
    remote: str = "origin",
    forge: str = "",
) -> None:
    """Show a release; with --write check, write and tag it, with --publish go all the way."""
    from tarpit_builder import paths, release, report
    from tarpit_builder.errors import UserError
    from tarpit_builder.matrix import Sources

    if not version:
        raise UserError("no version is named", hint="add --version 1.1.0")
    if write and not publish:
        draft = release.draft(version, paths.PROJECT, skip=skip or ())
        release.run_checks(draft)
        commit = release.write(draft, sign=sign)
        print(f"{draft.tag} is {commit}; publish it with: git push --follow-tags")
        return
    options = release.ReleaseOptions(
        skip=tuple(skip or ()),
        sign=sign,
        only=tuple(only or ()),
        file=report.path(file),
        matrix=release.matrix_words(
            jobs=jobs, memory=memory, engine=engine, cluster=cluster, store=store
        ),
        sources=Sources(given.mirror, given.kernel_git, given.iptables_git, offline=given.offline),
        built=report.path(built),
        certificate=certificate,
        module_key=module_key,
        attest_key=attest_key or c.config.tarpit.attest_key,
        attest_public=report.path(attest_public),
        builder=builder,
        key=key or c.config.tarpit.key,
        gpg_home=report.path(gpg_home),
        url=url,
        fetch=fetch,
        repo=report.path(repo) or paths.dist_dir() / "repo",
        remote=remote,
        forge=forge,
    )
    if publish:
        print(release.publish_release(version, paths.PROJECT, options).text())
    else:
        print(release.preview(version, paths.PROJECT, options))
