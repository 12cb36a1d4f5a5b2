"""Somebody whose machine is not set up: told what is wrong, what mends it, and never in circles."""

from __future__ import annotations

import os
import pwd
import subprocess
import sys
import tempfile
from collections.abc import Sequence
from pathlib import Path

import pytest

from tarpit_builder import paths
from tarpit_builder.container import SOCKET

INVOKE = str(Path(sys.executable).parent / "invoke")
NOBODY = pwd.getpwnam("nobody")


def invoke(
    *arguments: str, prefix: Sequence[str] = (), **environment: str
) -> subprocess.CompletedProcess[str]:
    """A task, run through the command *prefix*."""
    return subprocess.run(
        [*prefix, INVOKE, *arguments],
        cwd=paths.PROJECT,
        env={**os.environ, **environment},
        capture_output=True,
        text=True,
        check=False,
        timeout=120,
    )


@pytest.mark.parametrize(
    ("environment", "topic"),
    [
        ({"DOCKER_HOST": "unix:///nonexistent/docker.sock"}, "container engine"),
        ({"TARPIT_DEBIAN_MIRROR": "http://127.0.0.1:9/debian"}, "Debian mirror"),
        ({"TARPIT_CACHE": "/etc/passwd/cache"}, "cache disk"),
        ({"TARPIT_DIST": "/etc/passwd"}, "result disk"),
    ],
)
def test_doctor_never_sends_to_the_doctor(environment: dict[str, str], topic: str) -> None:
    result = invoke("doctor", **environment)
    assert result.returncode == 3
    line = next(line for line in result.stdout.splitlines() if f"✗   {topic}" in line)
    assert " — " in line
    assert "doctor" not in result.stdout + result.stderr


@pytest.mark.docker
@pytest.mark.skipif(os.geteuid() != 0, reason="only root can become somebody else")
def test_user_outside_the_group_is_told_so_and_not_that_no_engine_answers() -> None:
    """The real socket, which is there and not for everybody."""
    assert not Path(SOCKET).stat().st_mode & 0o006, "anybody may use this engine"
    group = Path(SOCKET).group()
    prefix = ["setpriv", f"--reuid={NOBODY.pw_uid}", f"--regid={NOBODY.pw_gid}", "--clear-groups"]
    readable = subprocess.run(
        [*prefix, INVOKE, "--version"], capture_output=True, check=False, env={"HOME": "/"}
    )
    if readable.returncode != 0:
        pytest.skip("THE CHECKOUT IS NOT READABLE FOR nobody, who would have to run it")
    # Not pytest's folder, which is its user's alone.
    with tempfile.TemporaryDirectory() as folder:
        home = Path(folder)
        os.chown(home, NOBODY.pw_uid, NOBODY.pw_gid)
        places = {"HOME": folder, "TARPIT_CACHE": f"{folder}/c", "TARPIT_DIST": f"{folder}/d"}
        result = invoke("build", "--kernel", "debian:trixie", prefix=prefix, **places)
    assert result.returncode == 3, result.stderr
    error = result.stderr.splitlines()[-1]
    assert error.startswith(
        f"error: the user nobody may not use the container engine at unix://{SOCKET}"
    )
    assert f"usermod -aG {group} nobody" in error
    assert "no container engine answers" not in result.stderr


@pytest.mark.parametrize("said", ["abc", "0", "-1", "1.5", "²"])
@pytest.mark.parametrize("verb", [["build", "--kernel", "debian:trixie"], ["matrix"], ["kernels"]])
def test_a_wrong_number_of_jobs_is_refused_before_any_work(verb: list[str], said: str) -> None:
    result = invoke(*verb, TARPIT_JOBS=said)
    assert (result.returncode, result.stdout) == (2, "")
    assert result.stderr.startswith(f"error: TARPIT_JOBS={said}: not a number of processes — ")
    assert len(result.stderr.splitlines()) == 1


def test_a_wrong_timeout_is_refused() -> None:
    result = invoke("cache", TARPIT_TIMEOUT="soon")
    assert result.returncode == 2
    assert result.stderr.startswith("error: TARPIT_TIMEOUT=soon: not a number of seconds — ")


def test_a_reader_that_has_gone_already_is_no_traceback() -> None:
    read, write = os.pipe()
    os.close(read)
    result = subprocess.run(
        [INVOKE, "verify", "--only", "list"],
        cwd=paths.PROJECT, stdout=write, stderr=subprocess.PIPE, text=True, check=False,
    )  # fmt: skip
    os.close(write)
    assert (result.returncode, result.stderr) == (141, "")
