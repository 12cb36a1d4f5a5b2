"""An ``invoke`` that builds nothing, for what the matrix does with its cells."""

from __future__ import annotations

from pathlib import Path


def fake_invoke(folder: Path, script: str) -> str:
    """What ``PYTHONPATH`` has to be for ``python -m invoke`` to be *script*."""
    package = folder / "invoke"
    package.mkdir(parents=True)
    (package / "__init__.py").write_text("")
    (package / "__main__.py").write_text(script)
    return str(folder)
