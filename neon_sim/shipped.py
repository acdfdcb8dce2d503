"""Where the assets are: beside the package in a checkout, inside it in a wheel."""

import ast
import hashlib
from functools import lru_cache
from pathlib import Path
from typing import Final

WALKER: Final = "g1/walker/walker.npz"  # the walker's weights
_PACKAGE = Path(__file__).resolve().parents[0]


def asset_path(relative: str, package_dir: Path = _PACKAGE) -> Path:
    """Path of one asset, for example `asset_path("g1/g1.xml")`.

    Args:
        relative: path below `assets/`, with forward slashes; a file or a folder.
        package_dir: folder of the `neon_sim` package; only tests give another.

    Raises:
        FileNotFoundError: it is in neither place; the message names both.
    """
    places = (package_dir.parent / "assets" / relative, package_dir / "assets" / relative)
    for place in places:
        if place.exists():
            return place
    raise FileNotFoundError(
        f"No asset '{relative}'. Looked in {places[0]} (a checkout) and {places[1]} (a wheel). "
        "Install neon_sim again, or run the command of assets/g1/PROVENANCE.md that makes this file."
    )


@lru_cache
def asset_digest(relative: str) -> str:
    """First 12 hex digits of the SHA-256 of one asset's file: which one a figure was made with.

    Raises:
        FileNotFoundError: as `asset_path`.
    """
    return hashlib.sha256(asset_path(relative).read_bytes()).hexdigest()[:12]


@lru_cache
def code_digest(*patterns: str) -> str:
    """First 12 hex digits of the SHA-256 of what source files do: no comment, docstring or layout counts.

    patterns: below the package, as `Path.glob` takes them, for example "locomotion/*.py".

    Raises:
        FileNotFoundError: a pattern that no file has.
    """
    digest = hashlib.sha256()
    for pattern in patterns:
        paths = sorted(_PACKAGE.glob(pattern))
        if not paths:
            raise FileNotFoundError(f"No source file '{pattern}' in {_PACKAGE}. Install neon_sim again.")
        for path in paths:
            digest.update(path.relative_to(_PACKAGE).as_posix().encode())
            for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
                digest.update(_said(node).encode())
    return digest.hexdigest()[:12]


def walker_fingerprint() -> dict[str, str]:
    """Which walker in which body: digests of its weights, of its code (how it goes to a command is there), of the MJCF.

    What was recorded under one walker tells of the way that it walks: a model that learned from another's errs.
    """
    code = code_digest("walker.py", "locomotion/*.py")
    return {"weights": asset_digest(WALKER), "code": code, "body": asset_digest("g1/g1.xml")}


def _said(node: ast.AST) -> str:
    """A node's kind with its names and numbers; of a docstring, which is an expression of its own, only the kind."""
    if isinstance(node, ast.Expr) and isinstance(node.value, ast.Constant):
        node.value.value = None
    plain = (value for _, value in ast.iter_fields(node) if isinstance(value, str | int | float | bytes | complex))
    return f"{type(node).__name__}{list(plain)}"
