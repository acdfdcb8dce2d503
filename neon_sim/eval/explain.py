"""A life in words: what was learned, what was protected, what was taken back. Each sentence has a figure behind it."""

from collections import Counter
from collections.abc import Mapping, Sequence
from statistics import median

from neon_sim.eval.learner_watch import STIFF_SHARE, LifeRecord
from neon_sim.eval.live_table import RECENT, LiveLine
from neon_sim.eval.self_learning import ROBOTS, Cell
from neon_sim.eval.statistics import format_rate

SHOWN = 3  # reasons and events that are written out


def explain(record: LifeRecord) -> str:
    """What happened in one life, as lines that begin with what they are about.

    Raises:
        ValueError: nothing has been lived yet.
    """
    if not record.lines:
        raise ValueError(f"The life of '{record.arm}', seed {record.seed}, has no episode yet: nothing to explain.")
    parts = [
        *(f"Learned, {phase}: {_learned(lines)}" for phase, lines in _phases(record.lines)),
        f"When: {_when(record)}",
        f"Protected: {_protected(record)}",
        f"Rolled back: {_rolled_back(record)}",
    ]
    if record.waits:
        what = "as too little of the regime was held back to judge them by"
        parts.append(f"Waited: {record.waits} updates were dropped, {what}.")
    if record.unusable:
        parts.append(f"Left out: {record.unusable} chunks with a number in them that is not finite.")
    return "\n".join([f"{record.arm}, seed {record.seed}, {len(record.lines)} episodes", *(f"  {p}" for p in parts)])


def explain_lives(records: Sequence[LifeRecord], judged: Mapping[str, tuple[Cell, Cell]], arms: Sequence[str]) -> str:
    """Every life in words, then what frozen copies of each arm are worth.

    judged: what a copy of each arm, "frozen" among them, is worth on the healthy and on the faulty robot.
    """
    verdicts = (explain_judgement(arm, judged["frozen"], judged[arm]) for arm in arms)
    return "\n".join([*(explain(record) for record in records), *verdicts])


def explain_judgement(arm: str, before: tuple[Cell, Cell], after: tuple[Cell, Cell]) -> str:
    """What frozen copies before and after the life are worth on the healthy and on the faulty robot."""
    texts = []
    for robot, old, new in zip(ROBOTS, before, after, strict=True):
        change = 100 * (new.rate - old.rate)
        rates = f"{format_rate(old.successes, old.episodes)} before, {format_rate(new.successes, new.episodes)} after"
        texts.append(f"{robot} robot {rates}, {change:+.0f} points")
    return f"{arm}, frozen copies: {'; '.join(texts)}."


def _phases(lines: Sequence[LiveLine]) -> list[tuple[str, list[LiveLine]]]:
    found: list[tuple[str, list[LiveLine]]] = []
    for line in lines:
        if not found or found[-1][0] != line.phase:
            found.append((line.phase, []))
        found[-1][1].append(line)
    return found


def _learned(lines: Sequence[LiveLine]) -> str:
    window = max(1, min(RECENT, len(lines) // 2))
    begin, end = lines[:window], lines[-window:]
    learning = sum(line.learning for line in lines)
    text = (
        f"success {_percent(begin)} in the first {window} of {len(lines)} episodes, {_percent(end)} in the last;"
        f" median distance {_distance(begin)} and {_distance(end)}"
    )
    errors = [[line.residual for line in part if line.residual is not None] for part in (begin, end)]
    if all(errors):
        text += f"; the forward model's median residual {median(errors[0]):.3g} and {median(errors[1]):.3g}"
    if not learning:
        return f"{text}; no update moved a weight."
    return f"{text}; weights were updated in {learning} episodes."


def _percent(lines: Sequence[LiveLine]) -> str:
    return f"{100 * sum(line.curve.success for line in lines) / len(lines):.0f} %"


def _distance(lines: Sequence[LiveLine]) -> str:
    return f"{100 * median(line.curve.final_distance for line in lines):.1f} cm"


def _when(record: LifeRecord) -> str:
    if record.drift_log is None:
        return "always, as no drift detector was in force."
    if not record.drift_log:
        return "never, as the drift detector did not yet know the usual residual when the life ended."
    shown = "; ".join(record.drift_log[-SHOWN:])
    return f"as the drift detector said ({len(record.drift_log)} events, the newest {SHOWN} at most): {shown}."


def _protected(record: LifeRecord) -> str:
    if not record.protected:
        return "nothing; no strategy was in force at a phase's end."
    return " ".join(
        f"at the end of '{entry.phase}', by {entry.strategy}, what {entry.chunks} chunks had shown"
        f" ({entry.weights} weights, {entry.memory_bytes / 2**20:.1f} MiB kept for it{_half(entry.half_share)})."
        for entry in record.protected
    ) + _moved(record)


def _half(share: float | None) -> str:
    return "" if share is None else f"; half of the Fisher lies in {100 * share:.2g} % of the weights"


def _moved(record: LifeRecord) -> str:
    if record.movement is None:
        return ""
    stiff, others = record.movement.stiff, record.movement.others
    held = f"{100 * STIFF_SHARE:g} % of the weights that are held the most"
    return f" At the end the {held} are {stiff:.2g} (rms) from where they are held, the others {others:.2g}."


def _rolled_back(record: LifeRecord) -> str:
    if record.proposals is None:
        return "nothing could be, as no check of updates was in force."
    counts = f"{record.proposals} updates proposed, {record.adoptions} adopted ({record.shortened} of them shortened)"
    if not record.refusals:
        return f"nothing; {counts}."
    kinds = Counter(_kind(why) for why in record.refusals)
    reasons = ", ".join(f"{kind} ({count})" for kind, count in kinds.most_common(SHOWN))
    return f"{len(record.refusals)} updates; {counts}. Why: {reasons}. The newest: {record.refusals[-1]}."


def _kind(why: str) -> str:
    """A refusal without its figures."""
    if why.startswith("chunks move by"):
        return "beyond the trust region"
    if why.startswith("the held-back loss goes"):
        return "worse on held-back experience"
    return why.split(":")[0]
