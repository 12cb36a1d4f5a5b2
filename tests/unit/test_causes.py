"""What a failed build of an image is said to have failed for."""

from __future__ import annotations

import pytest

from tarpit_builder.container import _cause, _uncoloured


@pytest.mark.parametrize(
    ("stream", "cause"),
    [
        ("", ""),
        ("\x1b[91m\x1b[0m\n", ""),
        ("gcc: not found\n\x1b[0m", "gcc: not found"),
        (
            "\x1b[91mE: Unable to locate package gcc-99\n\x1b[0m",
            "E: Unable to locate package gcc-99",
        ),
        (
            "\x1b[91mErr:1 http://mirror.example forky InRelease\n\x1b[0m ---> Running in 1234\n"
            "\x1b[1;31mThe command returned a non-zero code\x1b[m\n",
            "Err:1 http://mirror.example forky InRelease",
        ),
        (
            "Step 1/4 : FROM base\n ---> 1234\nRemoving intermediate container 1\n",
            "Step 1/4 : FROM base",
        ),
    ],
)
def test_no_colour_hides_the_cause_or_stands_for_it(stream: str, cause: str) -> None:
    assert _cause(_uncoloured(stream)) == cause
