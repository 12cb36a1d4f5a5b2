"""`invoke release --publish`: from a changelog to what users download, killed at every step."""

from __future__ import annotations

from tests.release.kit import Rehearsal


def test_try(rehearsed: Rehearsal) -> None:
    print(rehearsed.preview())
    done = rehearsed.run()
    print(done.stdout, done.stderr)
    assert done.returncode == 0
