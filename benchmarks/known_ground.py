"""Protection on known ground: permuted digits in sequence, as in Kirkpatrick et al. 2017, with digits drawn here.

    python benchmarks/known_ground.py                  # some minutes on one core; writes RESULTS.md
    python benchmarks/known_ground.py --preset tiny    # seconds; writes nothing

One net learns tasks one after another, each with its own shuffling of the pixels, and is never told which task a
picture is from. What is compared: fine-tuning, L2, EWC as the paper has it (written out below: a loop over samples, the
penalty in the loss), `neon_sim.training.protection`'s strategies, and all tasks learned together.
The ordering to be found, as published: fine-tuning < L2 < EWC (Kirkpatrick et al. 2017, figure 2), and replay no worse
than EWC where tasks are pictures to be classified (van de Ven et al. 2022).
Each arm's strength is the best of a grid on seeds that are not reported.
"""

import argparse
import datetime
import time
from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import Any

import numpy as np
import torch
from report import table, write_report
from torch import Tensor, nn
from torch.nn.functional import cross_entropy

from neon_sim.eval.retention import average_performance, forgetting
from neon_sim.names import nearest
from neon_sim.training.fisher import Batch, Fisher, fisher_diagonal
from neon_sim.training.protection import (
    EWCConfig,
    L2Config,
    NoneConfig,
    OnlineEWCConfig,
    Protection,
    ProtectionConfig,
    ReplayConfig,
    make_protection,
)

GLYPHS = (
    "01110 10001 10011 10101 11001 10001 01110",
    "00100 01100 00100 00100 00100 00100 01110",
    "01110 10001 00001 00110 01000 10000 11111",
    "11110 00001 00001 01110 00001 00001 11110",
    "00010 00110 01010 10010 11111 00010 00010",
    "11111 10000 11110 00001 00001 10001 01110",
    "00110 01000 10000 11110 10001 10001 01110",
    "11111 00001 00010 00100 01000 01000 01000",
    "01110 10001 10001 01110 10001 10001 01110",
    "01110 10001 10001 01111 00001 00010 01100",
)
SIDE = 12  # pixels of a picture's side


@dataclass(frozen=True)
class Preset:
    """How much is learned."""

    seeds: tuple[int, ...] = (0, 1, 2, 3, 4)
    choosing_seeds: tuple[int, ...] = (100, 101)  # for the strengths
    tasks: int = 5
    train: int = 3000  # pictures of each task
    test: int = 1000
    epochs: int = 5
    batch_size: int = 64
    hidden: int = 100  # as many as in the paper's smallest net
    learning_rate: float = 3e-3  # Adam
    fisher_samples: int = 500
    written: bool = True


PRESETS = {
    "full": Preset(),
    "tiny": Preset((0,), (100,), tasks=2, train=400, test=200, epochs=3, fisher_samples=50, written=False),
}
PLAIN = "ewc, written out"
JOINT = "all together"
REPLAYED = 500  # pictures that fit into the replay's budget: 3 % of all
ARMS: dict[str, ProtectionConfig] = {
    "fine-tuning": NoneConfig(),
    "l2": L2Config(),
    PLAIN: EWCConfig(),
    "ewc": EWCConfig(),
    "online ewc": OnlineEWCConfig(decay=1.0),
    "replay": ReplayConfig(budget_bytes=REPLAYED * (4 * SIDE * SIDE + 8)),
    JOINT: NoneConfig(),
}
GRID = {  # the Fisher of EWC as it is written out is not normalised, so that its strengths are others
    "l2": (1e-4, 1e-3, 1e-2, 1e-1),
    PLAIN: (0.1, 1.0, 10.0, 100.0),
    "ewc": (1e-3, 1e-2, 1e-1, 1.0),
    "online ewc": (1e-3, 1e-2, 1e-1, 1.0),
}


def draw_digits(count: int, rng: np.random.Generator) -> tuple[Tensor, Tensor]:
    """Pictures (count, 144) of digits at random places, some dots missing, in noise; and which digits (count,)."""
    glyphs = np.array([[[float(dot) for dot in row] for row in glyph.split()] for glyph in GLYPHS], np.float32)
    labels = rng.integers(len(GLYPHS), size=count)
    pictures = np.zeros((count, SIDE, SIDE), np.float32)
    rows, columns = rng.integers(2, SIDE - 7 - 1, size=count), rng.integers(2, SIDE - 5 - 1, size=count)
    for i, (label, row, column) in enumerate(zip(labels, rows, columns, strict=True)):
        pictures[i, row : row + 7, column : column + 5] = glyphs[label] * (rng.random((7, 5)) > 0.1)
    pictures += rng.normal(0.0, 0.15, pictures.shape).astype(np.float32)
    return torch.from_numpy(pictures.reshape(count, -1)), torch.from_numpy(labels)


@dataclass(frozen=True)
class Task:
    """One shuffling of the pixels."""

    train: dict[str, Tensor]  # "x" (N, 144), "y" (N,)
    test: dict[str, Tensor]


def make_tasks(preset: Preset, seed: int) -> list[Task]:
    """The same digits for every arm; the first task's pixels are where they were."""
    rng = np.random.default_rng([seed, 0])
    tasks = []
    for number in range(preset.tasks):
        order = torch.from_numpy(rng.permutation(SIDE * SIDE) if number else np.arange(SIDE * SIDE))
        parts = []
        for count in (preset.train, preset.test):
            x, y = draw_digits(count, rng)
            parts.append({"x": x[:, order], "y": y})
        tasks.append(Task(*parts))
    return tasks


def make_net(preset: Preset, seed: int) -> nn.Sequential:
    """Two hidden layers, one output for each digit whatever the task."""
    torch.manual_seed(seed)
    hidden = preset.hidden
    return nn.Sequential(
        nn.Linear(SIDE * SIDE, hidden), nn.ReLU(), nn.Linear(hidden, hidden), nn.ReLU(), nn.Linear(hidden, 10)
    )


class PlainEWC:
    """EWC as Kirkpatrick et al. 2017 write it, equation 3: an anchor and a Fisher for each task, summed in the loss."""

    def __init__(self, net: nn.Module, strength: float) -> None:
        self.net, self.strength = net, strength
        self.anchors: list[tuple[dict[str, Tensor], dict[str, Tensor]]] = []

    def penalty(self) -> Tensor:
        """strength / 2 * sum over tasks and weights of F (theta - theta*)^2."""
        total = torch.zeros(())
        for anchor, fisher in self.anchors:
            for name, param in self.net.named_parameters():
                total = total + (fisher[name] * (param - anchor[name]) ** 2).sum()
        return 0.5 * self.strength * total

    def end_task(self, x: Tensor, y: Tensor) -> None:
        """Measure F with one backward pass for each picture x (N, 144) and label y (N,)."""
        anchor = {name: param.detach().clone() for name, param in self.net.named_parameters()}
        self.anchors.append((anchor, plain_fisher(self.net, x, y)))


def plain_fisher(net: nn.Module, x: Tensor, y: Tensor) -> dict[str, Tensor]:
    """Mean over pictures of the squared gradient of log p(y | x)."""
    fisher = {name: torch.zeros_like(param) for name, param in net.named_parameters()}
    for i in range(len(x)):
        net.zero_grad()
        cross_entropy(net(x[i : i + 1]), y[i : i + 1]).backward()
        for name, param in net.named_parameters():
            assert param.grad is not None  # every weight has a path to the loss
            fisher[name] += param.grad**2 / len(x)
    net.zero_grad()
    return fisher


def our_fisher(net: nn.Module, x: Tensor, y: Tensor) -> Fisher:
    """The same by `neon_sim.training.fisher`."""

    def sample_loss(module: nn.Module, batch: Batch) -> Tensor:
        return cross_entropy(module(batch["x"]), batch["y"], reduction="none")

    return fisher_diagonal(net, sample_loss, {"x": x, "y": y})


@torch.no_grad()
def sampled_labels(net: nn.Module, x: Tensor, rng: np.random.Generator) -> Tensor:
    """Labels (N,) drawn from what the net itself believes: with them the Fisher is the true one."""
    chances = net(x).softmax(1).double().cumsum(1)
    draws = torch.from_numpy(rng.random((len(x), 1)))
    return (draws > chances).sum(1).clamp(max=chances.shape[1] - 1)


def learn(
    net: nn.Module, data: dict[str, Tensor], held: Protection, plain: PlainEWC, preset: Preset, rng: np.random.Generator
) -> None:
    """Learn one task. The optimiser begins anew, as it does not know what the last task's moments are worth."""
    optimizer = torch.optim.Adam(net.parameters(), lr=preset.learning_rate)
    for _ in range(preset.epochs):
        for rows in torch.from_numpy(rng.permutation(len(data["y"]))).split(preset.batch_size):
            batch = {name: value[rows] for name, value in data.items()}
            held_rows = held.sample(preset.batch_size)
            if held_rows is not None:
                batch = {name: torch.cat([value, held_rows[name]]) for name, value in batch.items()}
            optimizer.zero_grad()
            loss = cross_entropy(net(batch["x"]), batch["y"])
            (loss + plain.penalty() if plain.anchors else loss).backward()
            held.penalty_gradient_()
            optimizer.step()


@torch.no_grad()
def accuracy(net: nn.Module, task: Task) -> float:
    """Share of a task's test pictures that are told right."""
    return float((net(task.test["x"]).argmax(1) == task.test["y"]).double().mean())


def live(arm: str, config: ProtectionConfig, preset: Preset, seed: int) -> np.ndarray:
    """One net through all tasks: R[i, j], the accuracy on task j after task i, (tasks, tasks)."""
    tasks, net, rng = make_tasks(preset, seed), make_net(preset, seed), np.random.default_rng([seed, 1])
    params = dict(net.named_parameters())
    is_plain = arm == PLAIN and isinstance(config, EWCConfig)
    plain = PlainEWC(net, config.strength if isinstance(config, EWCConfig) else 0.0)
    held = make_protection(NoneConfig() if is_plain else config, params, np.random.default_rng([seed, 2]))
    matrix = np.zeros((len(tasks), len(tasks)))
    for i, task in enumerate(tasks):
        data = _merged(tasks[: i + 1]) if arm == JOINT else task.train
        learn(net, data, held, plain, preset, rng)
        picks = torch.from_numpy(rng.permutation(preset.train)[: preset.fisher_samples])
        x = task.train["x"][picks]
        y = sampled_labels(net, x, rng)
        if is_plain:
            plain.end_task(x, y)
        else:
            held.remember(task.train)
            held.end_regime(lambda x=x, y=y: our_fisher(net, x, y))  # type: ignore[misc]
        matrix[i] = [accuracy(net, other) for other in tasks]
    return matrix


def _merged(tasks: Sequence[Task]) -> dict[str, Tensor]:
    return {name: torch.cat([task.train[name] for task in tasks]) for name in tasks[0].train}


def figures_of(matrices: Sequence[np.ndarray]) -> dict[str, float]:
    """Means over the seeds, and the standard error of the average accuracy."""
    averages = [average_performance(matrix) for matrix in matrices]
    return {
        "average_accuracy": float(np.mean(averages)),
        "standard_error": float(np.std(averages, ddof=1) / np.sqrt(len(averages))) if len(averages) > 1 else 0.0,
        "forgetting": float(np.mean([forgetting(matrix)[:-1].mean() for matrix in matrices])),
        "newest_task": float(np.mean([np.diag(matrix).mean() for matrix in matrices])),
    }


def choose(arm: str, preset: Preset) -> ProtectionConfig:
    """The arm's config with the best strength of its grid, by average accuracy on the choosing seeds."""
    config: Any = ARMS[arm]  # one of those with a strength, where there is a grid
    found: dict[float, float] = {}
    for strength in GRID.get(arm, ()):
        changed = replace(config, strength=strength)
        matrices = [live(arm, changed, preset, seed) for seed in preset.choosing_seeds]
        found[strength] = figures_of(matrices)["average_accuracy"]
        print(f"{arm}, strength {strength:g}: {100 * found[strength]:.1f} %", flush=True)
    return replace(config, strength=max(found, key=found.__getitem__)) if found else config


def run(name: str, preset: Preset) -> dict[str, dict[str, float]]:
    """Every arm with every seed; prints the table, and writes it if the preset is the one that counts."""
    figures = {}
    for arm in ARMS:
        begun = time.process_time()
        config = choose(arm, preset)
        figures[arm] = figures_of([live(arm, config, preset, seed) for seed in preset.seeds])
        figures[arm]["cpu_s"] = time.process_time() - begun
        figures[arm]["strength"] = float(getattr(config, "strength", 0.0))
        print(f"{arm}: {100 * figures[arm]['average_accuracy']:.1f} %, {figures[arm]['cpu_s']:.0f} s", flush=True)
    header = ["arm", "strength", "accuracy on all tasks at the end", "forgotten", "each task when it was new"]
    rows = [
        [
            arm,
            f"{found['strength']:g}" if arm in GRID else "-",
            f"{100 * found['average_accuracy']:.1f} ± {100 * found['standard_error']:.1f} %",
            f"{100 * found['forgetting']:+.1f} points",
            f"{100 * found['newest_task']:.1f} %",
        ]
        for arm, found in figures.items()
    ]
    print(f"\n{table(header, rows)}")
    if preset.written and preset == PRESETS.get(name):
        everything = {"arms": figures, "seeds": len(preset.seeds), "tasks": preset.tasks, "preset": name}
        write_report("known_ground", everything, header, rows, datetime.date.today().isoformat())
    return figures


def main(arguments: Sequence[str] | None = None) -> None:
    """Compare the arms."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--preset", default="full", help=f"one of {', '.join(PRESETS)}")
    args = parser.parse_args(arguments)
    if args.preset not in PRESETS:
        raise SystemExit(str(nearest("preset", args.preset, PRESETS)))
    torch.set_num_threads(1)
    run(args.preset, PRESETS[args.preset])


if __name__ == "__main__":
    main()
