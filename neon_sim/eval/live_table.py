"""A life as rows of figures: one row that moves while it lasts, one row for each phase that is over."""

from collections.abc import Sequence
from dataclasses import dataclass

from neon_sim.training.online import LifeEpisode

RECENT = 20  # episodes that a success rate is taken over
HEADER = f"{'life':<14} {'phase':<10} {'episode':>9} {'last 20':>8} {'residual':>9} {'learning':>8} {'EWC penalty':>11}"


@dataclass(frozen=True)
class LiveLine:
    """One episode of a life, in figures of the learner itself."""

    phase: str  # which regime it was lived in
    curve: LifeEpisode
    residual: float | None  # of the forward model, mean over the episode's chunks, before it learned from them
    learned_chunks: int  # before how many chunks weights were updated
    learning: bool  # whether any update of this episode could move a weight
    penalty: float | None  # of the springs in force; None while there are none
    losses: dict[str, float]  # of the newest update


def success_share(lines: Sequence[LiveLine], phase: str) -> float:
    """Share of successes among the newest `RECENT` episodes of a phase.

    Raises:
        ValueError: the phase has no episode yet.
    """
    hits = [line.curve.success for line in lines if line.phase == phase][-RECENT:]
    if not hits:
        raise ValueError(f"No episode of the phase '{phase}' has been lived yet: there is no success rate.")
    return sum(hits) / len(hits)


def format_row(label: str, lines: Sequence[LiveLine], total: int) -> str:
    """The newest episode as a row under `HEADER`; total: episodes of the whole life."""
    newest = lines[-1]
    share = f"{100 * success_share(lines, newest.phase):.0f} %"
    residual = "-" if newest.residual is None else f"{newest.residual:.3g}"
    penalty = "-" if newest.penalty is None else f"{newest.penalty:.3g}"
    episode = f"{newest.curve.episode + 1}/{total}"
    learning = "on" if newest.learning else "off"
    return f"{label:<14} {newest.phase:<10} {episode:>9} {share:>8} {residual:>9} {learning:>8} {penalty:>11}"


def phase_rows(label: str, lines: Sequence[LiveLine], total: int) -> list[str]:
    """For each phase its last row, in the order in which they were lived."""
    ends = [i for i, line in enumerate(lines) if i + 1 == len(lines) or lines[i + 1].phase != line.phase]
    return [format_row(label, lines[: end + 1], total) for end in ends]


def scalars_of(line: LiveLine) -> dict[str, float]:
    """A line as TensorBoard's scalars; figures that are not there are left out."""
    curve = line.curve
    scalars = {"reach/final_distance_m": curve.final_distance, "reach/success": float(curve.success)}
    scalars |= {"learner/learned_chunks": float(line.learned_chunks)}
    figures = {"learner/residual": line.residual, "learner/ewc_penalty": line.penalty}
    scalars |= {name: value for name, value in figures.items() if value is not None}
    return scalars | {f"loss/{name}": value for name, value in line.losses.items()}
