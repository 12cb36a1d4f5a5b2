"""Mutants follow the module: each patch plants its fault in the code that it was made for.

To boot a mutant takes minutes and is seldom done; whether its patch fits is seen at once.
"""

from __future__ import annotations

import shutil
import subprocess
from pathlib import Path

import pytest

from tarpit_builder.packaging.contents import DKMS

HERE = Path(__file__).parent
# No paths: a mutant that a collected test has the path of is compiled for the session.
PATCHES = sorted(
    str(path.relative_to(HERE))
    for folder in ("mutants", "debug")
    for path in (HERE / folder).glob("*.patch")
)

pytestmark = pytest.mark.skipif(
    shutil.which("patch") is None, reason="NO PATCH(1): no mutant was looked at"
)


@pytest.fixture
def module(tmp_path: Path) -> Path:
    """A copy of the module's sources."""
    copy = tmp_path / "module"
    copy.mkdir()
    for path in DKMS.glob("*.[ch]"):
        shutil.copy(path, copy)
    return copy


def behind_the_code(text: str) -> list[str]:
    """What follows the last function and the last condition, with the line that ends it."""
    lines = text.splitlines()
    ends = [n for n, line in enumerate(lines) if line == "}" or line.startswith("#endif")]
    return lines[ends[-1] :]


def misfit(patch: Path, module: Path) -> str:
    """What is wrong with *patch*, which is applied to *module*; empty if it fits."""
    before = {path: path.read_text() for path in module.iterdir()}
    command = ["patch", "-F0", "-p1", "-d", str(module), "-i", str(patch)]
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    said = done.stdout + done.stderr
    if done.returncode or "fuzz" in said or "offset" in said:
        return said
    changed = [path for path, text in before.items() if path.read_text() != text]
    if not changed:
        return "changes nothing"
    for path in changed:
        if behind_the_code(path.read_text()) != behind_the_code(before[path]):
            return f"changes what is behind the code of {path.name}"
    return ""


def test_both_folders_have_patches() -> None:
    assert {Path(name).parent.name for name in PATCHES} == {"mutants", "debug"}


@pytest.mark.parametrize("name", PATCHES)
def test_patch_fits_the_module(module: Path, name: str) -> None:
    assert not misfit(HERE / name, module)


FUNCTION = "#ifdef ANY\nint one(void)\n{\n\treturn 1;\n}\nint two;\n#endif\n"
PATCH = """\
What it is about.

--- a/core.h
+++ b/core.h
@@ -2,5 +2,5 @@
 int one(void)
 {
-	return 1;
+	return 2;
 }
 int two;
"""
BEHIND = """\
--- a/core.h
+++ b/core.h
@@ -5,3 +5,4 @@
 }
 int two;
 #endif
+	return 2;
"""


@pytest.mark.parametrize(
    ("patch", "text", "said"),
    [
        (PATCH, FUNCTION, ""),
        (PATCH, f"\n{FUNCTION}", "offset 1 line"),
        (PATCH, FUNCTION.replace("int one", "long one"), "FAILED"),
        (PATCH, FUNCTION.replace("return 1", "return 3"), "FAILED"),
        (PATCH.replace("return 2", "return 1"), FUNCTION, "changes nothing"),
        (BEHIND, FUNCTION, "behind the code of core.h"),
    ],
    ids=["fits", "moved", "other lines around", "gone", "no change", "behind the last #endif"],
)
def test_patch_that_does_not_fit_is_told(tmp_path: Path, patch: str, text: str, said: str) -> None:
    (tmp_path / "module").mkdir()
    (tmp_path / "module" / "core.h").write_text(text)
    (tmp_path / "fault.patch").write_text(patch)
    found = misfit(tmp_path / "fault.patch", tmp_path / "module")
    assert said in found
    assert bool(found) is bool(said)
