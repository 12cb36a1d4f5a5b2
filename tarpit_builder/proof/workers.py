"""Several machines at once: groups of checks are spread over processes with a runner each.

A runner answers for the whole network of its machine and must not be late, so none shares a
process with another.  What they find out comes back group by group, and in the order of the groups.
"""

from __future__ import annotations

import multiprocessing
import signal
from collections import deque
from collections.abc import Sequence
from contextlib import ExitStack, suppress
from dataclasses import dataclass
from multiprocessing.connection import Connection, wait
from pathlib import Path
from types import TracebackType

from tarpit_builder.console import Console
from tarpit_builder.errors import InfrastructureError, TarpitError
from tarpit_builder.machine import end_with_parent
from tarpit_builder.proof import registry
from tarpit_builder.proof.runner import Runner, Setup, Unit, UnitResult
from tarpit_builder.proof.wire import Recorder


@dataclass(frozen=True, slots=True)
class Outputs:
    """Files of one worker: packets and consoles of its machines, if wanted."""

    pcap: Path | None = None
    log: Path | None = None


class Worker:
    """A process with a runner; a context manager that never leaves it behind."""

    def __init__(self, setup: Setup, outputs: Outputs) -> None:
        # Not forked: nothing of this process, such as a thread that redraws a line, is wanted.
        context = multiprocessing.get_context("spawn")
        self.port, theirs = context.Pipe()
        self.process = context.Process(target=_serve, args=(theirs, setup, outputs))
        self.process.start()
        theirs.close()
        self._shown = ExitStack()
        self.unit: Unit | None = None

    def begin(self, unit: Unit, console: Console) -> None:
        """Have *unit* judged."""
        self.unit = unit
        self._stage = self._shown.enter_context(console.stage(unit.title))
        with suppress(OSError):  # end() finds out
            self.port.send((unit.group.name, unit.backend))

    def end(self, console: Console) -> UnitResult:
        """What came of it; to be called when there is something to read.

        :raises TarpitError: if nothing could be judged.
        """
        assert self.unit
        try:
            part = self.port.recv()
        except (EOFError, OSError):
            raise InfrastructureError(
                f"the process that judged {self.unit.title} was killed",
                hint="is there memory for so many guests? try --jobs 1",
            ) from None
        if isinstance(part, TarpitError):
            raise part
        assert isinstance(part, UnitResult)
        part.show(console, self._stage)
        self._shown.close()
        return part

    def dismiss(self) -> None:
        """Let it put its files in order and go."""
        with suppress(OSError):
            self.port.send(None)
        self.process.join()

    def __enter__(self) -> Worker:
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        if self.process.is_alive():
            self.process.kill()  # its machine dies with it
            self.process.join()
        self.port.close()
        self._shown.__exit__(kind, error, trace)


def judge(
    setup: Setup,
    units: Sequence[Unit],
    outputs: Sequence[Outputs],
    console: Console,
) -> list[UnitResult]:
    """Judge *units* on as many machines at once as there are *outputs*.

    :raises TarpitError: as a runner does; the other machines are stopped then.
    """
    waiting = deque(enumerate(units))
    done: dict[int, UnitResult] = {}
    with ExitStack() as stack:
        idle = [stack.enter_context(Worker(setup, files)) for files in outputs]
        busy: dict[Connection, tuple[int, Worker]] = {}
        while waiting or busy:
            while waiting and idle:
                number, unit = waiting.popleft()
                worker = idle.pop(0)
                worker.begin(unit, console)
                busy[worker.port] = number, worker
            for port in wait(list(busy)):
                assert isinstance(port, Connection)
                number, worker = busy.pop(port)
                done[number] = worker.end(console)
                idle.append(worker)
                if setup.fail_fast and done[number].bad:
                    waiting.clear()
        for worker in idle:
            worker.dismiss()
    return [done[number] for number in sorted(done)]


def _serve(port: Connection, setup: Setup, outputs: Outputs) -> None:
    """The other process: judge what is asked for until there is no more."""
    end_with_parent()
    signal.signal(signal.SIGINT, signal.SIG_IGN)  # whoever started this one ends it
    signal.signal(signal.SIGTERM, signal.SIG_DFL)
    recorder = Recorder(outputs.pcap) if outputs.pcap else None
    runner = Runner(setup, Console(quiet=True), recorder, outputs.log, first=False)
    try:
        with runner:
            for name, backend in iter(port.recv, None):
                (group,) = registry.select((name,))
                try:
                    port.send(runner.judge(Unit(group, backend)))
                except TarpitError as error:
                    port.send(error)
                except Exception as error:
                    what = f"{name} cannot be judged: {type(error).__name__}: {error}"
                    port.send(InfrastructureError(what, hint="--jobs 1 --log FILE may show more"))
    except EOFError:
        pass
    finally:
        if recorder:
            recorder.close()
