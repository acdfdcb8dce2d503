"""What to say when somebody asks for a thing that does not exist."""

from collections.abc import Iterable
from difflib import get_close_matches


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
