"""The outermost ring of every task: one-line errors, exit codes by kind, clean interruption."""

from __future__ import annotations

import functools
import os
import signal
import sys
from collections.abc import Callable
from pathlib import Path
from typing import NoReturn, ParamSpec, TypeVar

from tarpit_builder import charset, leftovers, machine, paths
from tarpit_builder.errors import BuildError, TarpitError

INTERRUPTED = 130  # 128 + SIGINT, as shells report it

P = ParamSpec("P")
R = TypeVar("R")


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
