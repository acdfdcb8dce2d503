"""Where the assets are: beside the package in a checkout, inside it in a wheel."""

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
