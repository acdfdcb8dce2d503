"""NeonBench's rows in the model card of the checkpoint that played: its README.md."""

from dataclasses import asdict
from pathlib import Path

from neon_sim.eval.neonbench_play import FIRST_SEED, Player
from neon_sim.eval.neonbench_report import BenchResults
from neon_sim.inference.references import REFERENCES
from neon_sim.model.card import CARD, model_card, put_results
from neon_sim.model.checkpoint import replace_text
from neon_sim.model.neon_vla import NeonVLA


def card_rows(results: BenchResults, player: Player) -> list[dict[str, str]]:
    """One row a task: what the player came to in each cell, "95 [76, 99]", success in %."""
    return [
        {"task": task} | {cell.replace("_", " "): str(results.score(player, [task], cell)) for cell in results.cells}
        for task in results.tasks
    ]


def write_cards(results: BenchResults, date: str) -> list[Path]:
    """Put each checkpoint's rows into its card, in place of those that were there; one without a card gets one.

    Args:
        results: what was played.
        date: of today, ISO.

    Returns:
        The cards, one for each player that is a checkpoint of heads; references and runs of PPO have none.

    Raises:
        ValueError: a README.md that is no such card.
    """
    last = FIRST_SEED + results.episodes - 1
    note = (
        f"NeonBench, {date}: success in % with its 95 % interval (Wilson), {results.episodes} episodes in each task and"
        f" cell, seeds {FIRST_SEED} to {last}."
    )
    cards = []
    for player in results.players:
        if player.policy in REFERENCES or player.task is not None:
            continue
        path = Path(player.policy) / CARD
        text = path.read_text(encoding="utf-8") if path.is_file() else _fresh_card(player.policy)
        try:
            replace_text(path, put_results(text, card_rows(results, player), note))
        except ValueError as error:
            raise ValueError(f"{path}: {error}") from None
        cards.append(path)
    return cards


def _fresh_card(policy: str) -> str:
    model = NeonVLA.from_pretrained(policy)
    return model_card(Path(policy).resolve().name, asdict(model.config), model.parameter_table())
