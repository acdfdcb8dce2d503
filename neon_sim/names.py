"""What to say when somebody asks for a thing that does not exist, or gives a config a value that cannot be."""

import sys
from collections.abc import Iterable
from difflib import get_close_matches
from numbers import Integral, Real

Bounds = tuple[float, float]  # the least and the most, both allowed


def nearest(kind: str, given: object, valid: Iterable[str]) -> ValueError:
    """Build (not raise) the error for a name that is none of `valid`, with the closest valid one proposed.

    kind: what the name stands for, in the singular ("task"). given: what came; anything, not only strings.
    Use: `raise nearest("task", name, TASKS)` gives "Unknown task 'recah'. Did you mean 'reach'? Valid: push, reach."
    """
    choices = [str(name) for name in valid]
    by_lower = {name.lower(): name for name in choices}
    close = get_close_matches(given.strip().lower(), by_lower, n=1) if isinstance(given, str) else []
    shown = f"'{given}'" if isinstance(given, str) else repr(given)
    proposal = f" Did you mean '{by_lower[close[0]]}'?" if close else ""
    return ValueError(f"Unknown {kind} {shown}.{proposal} Valid: {', '.join(choices) or 'none exist yet'}.")


def require_numbers(config: object, **bounds: Bounds) -> None:
    """Refuse a config unless each named field is a number within its bounds.

    `require_numbers(self, rate_hz=(0.001, 1000.0))` says "CameraConfig.rate_hz must be 0.001 to 1000, got nan."
    Raises ValueError naming field, bounds and value; nan and anything that is no number lie in no bounds.
    """
    for name, (least, most) in bounds.items():
        value = getattr(config, name)
        if not _lies_in(value, least, most):
            raise ValueError(f"{_field(config, name)} must be {least:g} to {most:g}, got {value!r}.")


def require_counts(config: object, **bounds: tuple[int, int]) -> None:
    """The same for whole numbers: 3 passes, 3.0 does not."""
    for name, (least, most) in bounds.items():
        value = getattr(config, name)
        if not (isinstance(value, Integral) and _lies_in(value, least, most)):
            raise ValueError(f"{_field(config, name)} must be {least} to {most}, got {value!r}. Give a whole number.")


def require_spans(config: object, **bounds: Bounds) -> None:
    """The same for ranges to draw from: a pair in bounds, the lowest value first."""
    for name, (least, most) in bounds.items():
        value = getattr(config, name)
        if not _lie_in(value, 2, least, most) or value[0] > value[1]:
            wanted = f"{_field(config, name)} is (lowest, highest) from {least:g} to {most:g}"
            raise ValueError(f"{wanted}, got {value!r}.")


def require_vectors(config: object, size: int, **bounds: Bounds) -> None:
    """The same for fields of `size` numbers, each of them in bounds."""
    for name, (least, most) in bounds.items():
        value = getattr(config, name)
        if not _lie_in(value, size, least, most):
            raise ValueError(f"{_field(config, name)} must be {size} numbers {least:g} to {most:g}, got {value!r}.")


def require_deviations(config: object, *names: str) -> None:
    """The same for standard deviations: zero or more, and finite."""
    for name in names:
        value = getattr(config, name)
        if not _lies_in(value, 0.0, sys.float_info.max):
            wanted = f"{_field(config, name)} is a standard deviation, zero or more and finite"
            raise ValueError(f"{wanted}, got {value!r}.")


def require_kinds(config: object, **kinds: type | tuple[type, ...]) -> None:
    """Refuse a config unless each named field is of its class, or of one of its classes: `camera=CameraConfig`."""
    for name, kind in kinds.items():
        value = getattr(config, name)
        if not isinstance(value, kind):
            wanted = " or ".join(one.__name__ for one in (kind if isinstance(kind, tuple) else (kind,)))
            wanted = wanted.replace("NoneType", "None")
            raise ValueError(f"{_field(config, name)} must be {wanted}, got {value!r}.")


def require_corners(config: object, size: int, least: float, most: float) -> None:
    """The same for a box, whose fields `low` and `high` are opposite corners: `size` numbers each, low first."""
    require_vectors(config, size, low=(least, most), high=(least, most))
    low, high = (getattr(config, name) for name in ("low", "high"))
    if any(start > end for start, end in zip(low, high, strict=True)):
        raise ValueError(f"{_field(config, 'low')} must not be above high on any axis, got {low} and {high}.")


def _field(config: object, name: str) -> str:
    return f"{type(config).__name__}.{name}"


def _lies_in(value: object, least: float, most: float) -> bool:
    return isinstance(value, Real) and not isinstance(value, bool) and least <= float(value) <= most


def _lie_in(values: object, size: int, least: float, most: float) -> bool:
    if not isinstance(values, tuple | list) or len(values) != size:
        return False
    return all(_lies_in(value, least, most) for value in values)
