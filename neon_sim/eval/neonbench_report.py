"""NeonBench's results as JSON, as a Markdown page and as a picture."""

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final

from neon_sim.cells import first_alike
from neon_sim.eval.neonbench_play import FIRST_SEED, BenchEpisode, Player
from neon_sim.eval.plots import COLORS
from neon_sim.eval.statistics import wilson_interval

_TRUTH: Final = {"expert": ", but the simulation's truth"}


@dataclass(frozen=True)
class Score:
    """Successes among episodes."""

    successes: int
    episodes: int

    @classmethod
    def of(cls, results: Iterable[BenchEpisode]) -> "Score":
        """Count."""
        wins = [result.success for result in results]
        return cls(sum(wins), len(wins))

    @property
    def percent(self) -> tuple[float, float, float]:
        """Success in %, and both ends of its 95 % interval (Wilson)."""
        low, high = wilson_interval(self.successes, self.episodes)
        return 100.0 * self.successes / self.episodes, 100.0 * low, 100.0 * high

    def __str__(self) -> str:
        """ "95 [76, 99]": %."""
        return "{:.0f} [{:.0f}, {:.0f}]".format(*self.percent)


@dataclass(frozen=True)
class BenchResults:
    """Everything that was played: episodes by (player's label, task, cell), where alike cells share theirs."""

    players: tuple[Player, ...]
    tasks: tuple[str, ...]
    cells: tuple[str, ...]
    episodes: int  # of each task and cell
    played: Mapping[tuple[str, str, str], Sequence[BenchEpisode]]

    def of(self, player: Player, task: str, cell: str) -> Sequence[BenchEpisode]:
        """The episodes of one task and cell, played there or in a cell that is the same world for this player."""
        return self.played[player.label, task, first_alike(cell, player.reads)]

    def score(self, player: Player, tasks: Iterable[str], cell: str) -> Score:
        """Of some tasks together."""
        return Score.of(result for task in tasks for result in self.of(player, task, cell))


def as_dict(results: BenchResults) -> dict[str, Any]:
    """For JSON: who played, what came out in each task and cell, and over all tasks."""
    rows, totals = [], []
    for player in results.players:
        for cell in results.cells:
            alike = first_alike(cell, player.reads)
            shared = {} if alike == cell else {"same_episodes_as": alike}
            head = {"policy": player.label, "cell": cell, **shared}
            totals.append({**head, **_numbers(results.score(player, results.tasks, cell))})
            for task in results.tasks:
                episodes = results.of(player, task, cell)
                cost = {
                    "terminated": sum(episode.terminated for episode in episodes),
                    "mean_steps": sum(episode.steps for episode in episodes) / len(episodes),
                    "cpu_s_per_episode": round(sum(episode.cpu_s for episode in episodes) / len(episodes), 4),
                }
                rows.append({**head, "task": task, **_numbers(Score.of(episodes)), **cost})
    return {
        "name": "neonbench",
        "episodes_per_task_and_cell": results.episodes,
        "seeds": [FIRST_SEED, FIRST_SEED + results.episodes - 1],
        "players": [vars(player) for player in results.players],
        "all_tasks": totals,
        "results": rows,
        "episodes_played": sum(len(episodes) for episodes in results.played.values()),
        "cpu_s": round(sum(episode.cpu_s for episodes in results.played.values() for episode in episodes), 1),
    }


def _numbers(score: Score) -> dict[str, float | int]:
    rate, low, high = score.percent
    return {
        "successes": score.successes,
        "episodes": score.episodes,
        "success_percent": round(rate, 2),
        "low_percent": round(low, 2),
        "high_percent": round(high, 2),
    }


def as_markdown(results: BenchResults) -> str:
    """A page: one table over all tasks, then one of all tasks for each player."""
    cells = [_words(cell) for cell in results.cells]
    lines = [
        "# NeonBench",
        "",
        f"Success in % with its 95 % interval (Wilson); {results.episodes} episodes in each task and cell, seeds"
        f" {FIRST_SEED} to {FIRST_SEED + results.episodes - 1}.",
        "",
        f"## {_tasks_in_words(results.tasks)}",
        "",
        *_header("policy", cells),
    ]
    for player in results.players:
        scores = (str(results.score(player, results.tasks, cell)) for cell in results.cells)
        lines.append(f"| {player.label} | {' | '.join(scores)} |")
    for player in results.players:
        lines += ["", f"## {player.label}", "", _reading(player, results.cells), "", *_header("task", cells)]
        lines += [f"| {task} | {' | '.join(task_cells(results, player, task))} |" for task in results.tasks]
    return "\n".join([*lines, ""])


def _header(first: str, cells: Sequence[str]) -> list[str]:
    return [f"| {first} | {' | '.join(cells)} |", "|---" * (len(cells) + 1) + "|"]


def task_cells(results: BenchResults, player: Player, task: str) -> list[str]:
    """What one player came to in each cell of a task; "= nominal" where that is the same world for it, played once."""
    parts = []
    for cell in results.cells:
        alike = first_alike(cell, player.reads)
        again = alike != cell and alike in results.cells
        parts.append(f"= {_words(alike)}" if again else str(results.score(player, [task], cell)))
    return parts


def _reading(player: Player, cells: Sequence[str]) -> str:
    """What a player reads, and which cells were therefore not played."""
    reads = ", ".join(player.reads) if player.reads else f"no sensor and no words{_TRUTH.get(player.policy, '')}"
    same = [f"{_words(cell)} = {_words(alike)}" for cell in cells if (alike := first_alike(cell, player.reads)) != cell]
    told = f" Alike for it, and played once: {'; '.join(same)}." if same else ""
    return f"Reads {reads}.{told}"


def _words(name: str) -> str:
    return name.replace("_", " ")


def plot(results: BenchResults, path: Path) -> None:
    """A PNG: success in each cell over all tasks, and below it success in each task of the first cell."""
    import matplotlib

    matplotlib.use("Agg")
    from matplotlib import pyplot as plt

    figure, (above, below) = plt.subplots(2, 1, figsize=(9.5, 7.0), dpi=130)
    first = results.cells[0]
    _draw(above, results, [(cell, results.tasks, cell) for cell in results.cells])
    above.set_title(f"{_tasks_in_words(results.tasks)}, by cell", fontsize=10)
    _draw(below, results, [(task, (task,), first) for task in results.tasks])
    below.set_title(f"{_words(first)}, by task", fontsize=10)
    handles, labels = above.get_legend_handles_labels()
    figure.legend(handles, labels, frameon=False, ncols=min(len(labels), 6), loc="lower center")
    figure.suptitle(f"NeonBench, {results.episodes} episodes a task and cell, 95 % intervals", fontsize=11)
    figure.tight_layout(rect=(0.0, 0.04, 1.0, 1.0))
    path.parent.mkdir(parents=True, exist_ok=True)
    figure.savefig(path)
    plt.close(figure)


def _tasks_in_words(tasks: Sequence[str]) -> str:
    return _words(tasks[0]) if len(tasks) == 1 else f"{len(tasks)} tasks together"


def _draw(axes: Any, results: BenchResults, groups: Sequence[tuple[str, Sequence[str], str]]) -> None:
    """Points with intervals: for every (label, tasks, cell), one of each player."""
    width = 0.7 / len(results.players)
    for number, player in enumerate(results.players):
        shift = (number - (len(results.players) - 1) / 2) * width
        bars = [results.score(player, tasks, cell).percent for _, tasks, cell in groups]
        rates = [rate for rate, _, _ in bars]
        errors = [[rate - low for rate, low, _ in bars], [high - rate for rate, _, high in bars]]
        places = [group + shift for group in range(len(groups))]
        color = COLORS[number % len(COLORS)]
        axes.bar(places, rates, width * 0.9, color=color, alpha=0.25)
        axes.errorbar(places, rates, errors, label=player.label, color=color, fmt="o", markersize=4.5, capsize=2.5)
    axes.set_xticks(range(len(groups)), [label.replace("_", "\n") for label, _, _ in groups], fontsize=8)
    axes.set_xlim(-0.6, len(groups) - 0.4)
    axes.set_ylim(-3.0, 103.0)
    axes.set_ylabel("success, %")
    axes.spines[["top", "right"]].set_visible(False)
    axes.grid(axis="y", color="#dddddd", linewidth=0.7)
    axes.set_axisbelow(True)
