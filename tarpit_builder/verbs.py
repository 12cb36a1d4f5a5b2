"""What makes a function a verb of the command line: shared options, errors, interruption.

An option that several verbs take is stated once, in :data:`OPTIONS`.
"""

from __future__ import annotations

import functools
import inspect
import os
import signal
import sys
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, fields
from pathlib import Path
from typing import TYPE_CHECKING, Any, NoReturn, ParamSpec, TypeVar

from invoke.context import Context
from invoke.tasks import task

from tarpit_builder import charset, leftovers, machine, paths
from tarpit_builder.errors import BuildError, TarpitError

if TYPE_CHECKING:
    from tarpit_builder.console import Console
    from tarpit_builder.request import Request
    from tarpit_builder.sources.debian import Archive
    from tarpit_builder.sources.store import Store

INTERRUPTED = 130  # 128 + SIGINT, as shells report it

OPTIONS: Mapping[str, tuple[str | bool, str]] = {
    "kernel": (
        "",
        "debian:SUITE, ubuntu:SUITE, proxmox:SUITE or raspios:SUITE, an ABI such as"
        " 6.1.0-56-amd64, running, or a release of kernel.org such as 2.6.24"
        " (default: debian:stable)",
    ),
    "arch": ("", "architecture, such as arm64 (default: amd64)"),
    "flavour": (
        "",
        "kernel flavour where the ABI does not say it: cloud, rt, of Ubuntu hwe, aws"
        " (default: the ordinary)",
    ),
    "mirror": ("", "mirror of the distribution (default: the one that apt is set to here, if any)"),
    "keyring": ("", "file with the keys that sign that mirror, instead of the distribution's own"),
    "offline": (False, "download no sources: use those that the cache holds"),
    "iptables": ("", "release to build along, such as 1.4.0, or none (default: the one that fits)"),
    "extension": (
        False,
        "with --iptables: make the extension alone, for an iptables that the machine keeps",
    ),
    "userland": (
        "",
        "what the packages are for: a suite of Debian, or period, a system of the kernel's age;"
        " for a build tree that lies ready also none, a system without dpkg"
        " (default: the one that fits)",
    ),
    "config": (
        "",
        "the .config of your own kernel of that release (default: a documented one)",
    ),
    "symvers": ("", "its Module.symvers, if it checks symbol versions"),
    "release": ("", "what uname -r says there (default: the release itself)"),
    "image": ("", "container image with a compiler of the kernel's age, instead of ours"),
    "with_kernel": (False, "build the kernel image as well"),
    "debug": (
        "",
        "build that kernel from source, with its own checks of the module in it: kasan (memory,"
        " locks, leaks) or kcsan (races)",
    ),
    "kernel_git": ("", "git repository with the kernel's history (default: release tarballs)"),
    "ref": ("", "tag, branch or commit there, if it is not the release's own tag"),
    "kernel_tree": (
        "",
        "folder or tarball with the kernel's tree, or one of Debian's packages of it, such as"
        " linux-source-6.1; or a build tree that lies ready, such as /lib/modules/X/build",
    ),
    "iptables_git": ("", "git repository with the history of iptables (default: release tarballs)"),
    "trust_on_first_use": (False, "accept a source that cannot be verified, and pin its digest"),
}
"""The default of each shared option, and what it is for."""

WHICH = ("kernel", "arch", "flavour", "mirror", "keyring", "offline")
PLACES = ("kernel_git", "ref", "kernel_tree", "iptables_git", "trust_on_first_use")
OWN = (
    *("iptables", "extension", "userland", "config", "symvers", "release", "image", "with_kernel"),
    "debug",
)
"""Of those, which kernel; where sources come from; what goes with a kernel of the user's own."""

P = ParamSpec("P")
R = TypeVar("R")


@dataclass(frozen=True, slots=True)
class Given:
    """The shared options of one call, with *settings* of ``invoke.yaml`` for those left out."""

    values: Mapping[str, Any]
    settings: Any

    def __getattr__(self, name: str) -> Any:
        """The value of the option *name*."""
        try:
            return self.values[name]
        except KeyError:
            raise AttributeError(name) from None

    @property
    def arch(self) -> str:
        """The architecture, as it was typed."""
        return str(self.values.get("arch") or self.settings.arch)

    def request(self) -> Request:
        """The kernel that is asked for, and what else was said of it.

        :raises UserError: if it is no kernel.
        """
        from tarpit_builder import report
        from tarpit_builder.request import Request

        names = [field.name for field in fields(Request)]
        given = {name: self.values[name] for name in names if name in self.values}
        for name in ("config", "symvers"):
            given[name] = report.path(given.get(name, ""))
        if not given["kernel"] and given.get("kernel_tree"):
            from tarpit_builder.kernels import machine

            given["kernel"] = machine.name_of(given["kernel_tree"])
        given["kernel"] = given["kernel"] or self.settings.kernel
        return Request(**{**given, "arch": self.arch})

    def store(self) -> Store:
        """The cache of sources."""
        from tarpit_builder.sources.store import Store

        return Store(paths.cache_dir(), offline=self.values["offline"])

    def archive(self, console: Console, *, write: bool = True) -> Archive:
        """Debian's archive; without *write* nothing is kept of it."""
        from tarpit_builder import report
        from tarpit_builder.sources.debian import Archive, Mirrors

        keyring = report.path(self.values.get("keyring", ""))
        mirrors = Mirrors.choose(
            self.values["mirror"],
            default=self.settings.mirror,
            keyring=str(keyring.absolute()) if keyring else "",
        )
        return Archive(self.store(), mirrors, console, write=write)


def verb(
    *shared: str,
    help: Mapping[str, str] | None = None,
    iterable: Sequence[str] = (),
    optional: Mapping[str, str] | None = None,
    default: bool = False,
) -> Callable[[Callable[..., None]], Any]:
    """A verb that takes the *shared* options, as :class:`Given`, before those in its signature.

    :param help: what its own options are for, and shared ones where that differs.
    :param iterable: those that may be repeated.
    :param optional: those that may stand without a value, and what they mean then.
    """
    texts = {name.replace("_", "-"): OPTIONS[name][1] for name in shared}

    def decorate(body: Callable[..., None]) -> Any:
        context, *own = inspect.signature(body).parameters.values()
        own = own[1:] if shared else own
        keyword = inspect.Parameter.POSITIONAL_OR_KEYWORD
        options = [inspect.Parameter(n, keyword, default=OPTIONS[n][0]) for n in shared]

        @functools.wraps(body)
        def run(c: Context, **values: Any) -> None:
            for name, meant in (optional or {}).items():
                values[name] = meant if values[name] is True else values[name]
            given = Given({name: values.pop(name) for name in shared}, c.config.tarpit)
            body(c, *([given] if shared else []), **values)

        words = [one for one in own if one.default is inspect.Parameter.empty]  # without an option
        rest = [one for one in own if one not in words]
        order = [context, *words, *options, *rest]
        run.__signature__ = inspect.Signature(order)  # type: ignore[attr-defined]
        return task(
            guarded(run),
            help={**texts, **(help or {})},
            iterable=list(iterable),
            optional=list(optional or ()),
            default=default,
            # Letters run out, and then Invoke gives them to options at random.
            auto_shortflags=False,
        )

    return decorate


def guarded(task: Callable[P, R]) -> Callable[P, R]:
    """Make *task* end with one line and the exit code of :mod:`tarpit_builder.errors`."""

    @functools.wraps(task)
    def wrapper(*args: P.args, **kwargs: P.kwargs) -> R:
        charset.settle()
        previous = signal.signal(signal.SIGTERM, _interrupt)
        try:
            machine.cores()  # which refuses a wrong TARPIT_JOBS before any work is done
            leftovers.sweep((paths.cache_dir(), paths.dist_dir()))
            try:
                return task(*args, **kwargs)
            finally:
                sys.stdout.flush()  # here, where a reader that has gone is no traceback
        except TarpitError as error:
            _fail(error)
        except KeyboardInterrupt:
            print("\nerror: interrupted — nothing was left half done", file=sys.stderr)
            sys.exit(INTERRUPTED)
        except BrokenPipeError:
            os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
            sys.exit(128 + signal.SIGPIPE)
        except OSError as error:
            _fail(paths.explain_os_error(error, Path(error.filename or "a temporary file")))
        finally:
            signal.signal(signal.SIGTERM, previous)

    return wrapper


def _interrupt(signum: int, frame: object) -> NoReturn:
    raise KeyboardInterrupt


def _fail(error: TarpitError) -> NoReturn:
    if isinstance(error, BuildError):
        for line in error.tail:
            print(f"    {line}", file=sys.stderr)
    print(f"error: {error}", file=sys.stderr)
    sys.exit(error.exit_code)
