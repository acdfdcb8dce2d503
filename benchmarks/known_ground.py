"""Protection on known ground: permuted digits in sequence, as in Kirkpatrick et al. 2017, with digits drawn here.

    python benchmarks/known_ground.py                  # five minutes on one core; writes RESULTS.md
    python benchmarks/known_ground.py --preset tiny    # seconds; writes nothing

One net learns tasks one after another, each with its own shuffling of the pixels, and is never told which task a
picture is from. What is compared: fine-tuning, L2, EWC as the paper has it (written out below: a loop over samples, the
penalty in the loss), `neon_sim.training.protection`'s strategies, and all tasks learned together. One arm shows what
the scale of a Fisher is worth: `ewc` divides each by the first one's mean, `ewc, each F scaled` each by its own.
Two arms hold the weights as `NeonSelfLearner` does: no penalty in the gradient, but a pull on the weights after each of
Adam's steps (`Protection.pull_`). Adam does not rescale such springs, so that their strengths are others.
The ordering to be found, as published: fine-tuning < L2 < EWC (Kirkpatrick et al. 2017, figure 2), and replay no worse
than EWC where tasks are pictures to be classified (van de Ven et al. 2022).
Each arm's strength is the best of a grid on seeds that are not reported.
"""

import argparse
import datetime
import time
from collections.abc import Sequence
from dataclasses import dataclass, field, replace
from functools import partial
from typing import Any

import numpy as np
import torch
from permuted_digits import SIDE, Task, make_tasks
from report import table, write_report
from torch import Tensor, nn
from torch.nn.functional import cross_entropy

from neon_sim.eval.retention import average_performance, forgetting
from neon_sim.names import nearest
from neon_sim.training.ewc import fisher_mean, normalise_fisher
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
SCALED = "ewc, each F scaled"
L2_PULLED, PULLED = "l2, as the learner pulls", "online ewc, as the learner pulls"
JOINT = "all together"
REPLAYED = 500  # pictures that fit into the replay's budget: 3 % of all
ARMS: dict[str, ProtectionConfig] = {
    "fine-tuning": NoneConfig(),
    "l2": L2Config(),
    PLAIN: EWCConfig(),
    "ewc": EWCConfig(),
    SCALED: EWCConfig(),
    "online ewc": OnlineEWCConfig(decay=1.0),
    L2_PULLED: L2Config(),
    PULLED: OnlineEWCConfig(decay=1.0),
    "replay": ReplayConfig(budget_bytes=REPLAYED * (4 * SIDE * SIDE + 8)),
    JOINT: NoneConfig(),
}
GRID = {  # the Fisher of EWC as it is written out is not normalised, so that its strengths are others
    "l2": (1e-2, 3e-2, 1e-1, 3e-1),
    PLAIN: (3.0, 10.0, 30.0, 100.0),
    "ewc": (3e-3, 1e-2, 3e-2, 1e-1),
    SCALED: (1e-2, 3e-2, 1e-1, 3e-1),
    "online ewc": (1e-2, 3e-2, 1e-1, 3e-1),
    L2_PULLED: (1.0, 3.0, 10.0, 30.0),
    PULLED: (1.0, 3.0, 10.0, 30.0),
}


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

    def end_task(self, fisher: Fisher) -> None:
        """Keep the present weights and their F."""
        anchor = {name: param.detach().clone() for name, param in self.net.named_parameters()}
        self.anchors.append((anchor, fisher))


def plain_fisher(net: nn.Module, x: Tensor, y: Tensor) -> Fisher:
    """Mean over pictures x (N, 144) of the squared gradient of log p(y | x), one backward pass for each; y (N,)."""
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
    net: nn.Module,
    data: dict[str, Tensor],
    held: Protection,
    plain: PlainEWC,
    preset: Preset,
    rng: np.random.Generator,
    pulls: bool = False,
) -> None:
    """Learn one task. The optimiser begins anew, as it does not know what the last task's moments are worth.

    pulls: whether what protects moves the weights after each step, as in `NeonSelfLearner`, or adds to the gradient.
    """
    optimizer = torch.optim.Adam(net.parameters(), lr=preset.learning_rate, fused=True)
    for _ in range(preset.epochs):
        for rows in torch.from_numpy(rng.permutation(len(data["y"]))).split(preset.batch_size):
            batch = {name: value[rows] for name, value in data.items()}
            held_rows = held.sample(preset.batch_size)
            if held_rows is not None:
                batch = {name: torch.cat([value, held_rows[name]]) for name, value in batch.items()}
            optimizer.zero_grad()
            loss = cross_entropy(net(batch["x"]), batch["y"])
            (loss + plain.penalty() if plain.anchors else loss).backward()
            if not pulls:
                held.penalty_gradient_()
            optimizer.step()
            if pulls:
                held.pull_(preset.learning_rate)


@torch.no_grad()
def accuracy(net: nn.Module, task: Task) -> float:
    """Share of a task's test pictures that are told right."""
    return float((net(task.test["x"]).argmax(1) == task.test["y"]).double().mean())


@dataclass(frozen=True)
class Life:
    """What came of one net."""

    matrix: np.ndarray  # R[i, j], the accuracy on task j after task i, (tasks, tasks)
    fisher_means: list[float] = field(default_factory=list)  # of each task as measured; empty where none was


def measure(arm: str, net: nn.Module, x: Tensor, y: Tensor, means: list[float]) -> Fisher:
    """The Fisher as the arm wants it; its mean as measured is added to `means`."""
    fisher = plain_fisher(net, x, y) if arm == PLAIN else our_fisher(net, x, y)
    means.append(fisher_mean(fisher))
    return normalise_fisher(fisher) if arm == SCALED else fisher


def live(arm: str, config: ProtectionConfig, preset: Preset, seed: int) -> Life:
    """One net through all tasks."""
    tasks = make_tasks(preset.tasks, preset.train, preset.test, seed)
    net, rng = make_net(preset, seed), np.random.default_rng([seed, 1])
    params = dict(net.named_parameters())
    is_plain = arm == PLAIN and isinstance(config, EWCConfig)
    plain = PlainEWC(net, config.strength if isinstance(config, EWCConfig) else 0.0)
    held = make_protection(NoneConfig() if is_plain else config, params, np.random.default_rng([seed, 2]))
    life = Life(np.zeros((len(tasks), len(tasks))))
    for i, task in enumerate(tasks):
        data = _merged(tasks[: i + 1]) if arm == JOINT else task.train
        learn(net, data, held, plain, preset, rng, pulls=arm in (L2_PULLED, PULLED))
        picks = torch.from_numpy(rng.permutation(preset.train)[: preset.fisher_samples])
        x = task.train["x"][picks]
        fisher = partial(measure, arm, net, x, sampled_labels(net, x, rng), life.fisher_means)
        if is_plain:
            plain.end_task(fisher())
        held.remember(task.train)
        held.end_regime(fisher)
        life.matrix[i] = [accuracy(net, other) for other in tasks]
    return life


def _merged(tasks: Sequence[Task]) -> dict[str, Tensor]:
    return {name: torch.cat([task.train[name] for task in tasks]) for name in tasks[0].train}


def figures_of(lives: Sequence[Life]) -> dict[str, Any]:
    """Means over the seeds, and the standard error of the average accuracy."""
    matrices = [life.matrix for life in lives]
    averages = [average_performance(matrix) for matrix in matrices]
    return {
        "average_accuracy": float(np.mean(averages)),
        "standard_error": float(np.std(averages, ddof=1) / np.sqrt(len(averages))) if len(averages) > 1 else 0.0,
        "forgetting": float(np.mean([forgetting(matrix)[:-1].mean() for matrix in matrices])),
        "newest_task": float(np.mean([np.diag(matrix).mean() for matrix in matrices])),
        "at_the_end": np.mean([matrix[-1] for matrix in matrices], axis=0).tolist(),
        "fisher_means": np.mean([life.fisher_means for life in lives], axis=0).tolist(),
    }


def choose(arm: str, preset: Preset) -> ProtectionConfig:
    """The arm's config with the best strength of its grid, by average accuracy on the choosing seeds."""
    config: Any = ARMS[arm]  # one of those with a strength, where there is a grid
    found: dict[float, float] = {}
    for strength in GRID.get(arm, ()):
        changed = replace(config, strength=strength)
        lives = [live(arm, changed, preset, seed) for seed in preset.choosing_seeds]
        found[strength] = figures_of(lives)["average_accuracy"]
        print(f"{arm}, strength {strength:g}: {100 * found[strength]:.1f} %", flush=True)
    return replace(config, strength=max(found, key=found.__getitem__)) if found else config


def row_of(arm: str, found: dict[str, Any]) -> list[str]:
    """One arm's row of the table."""
    means = found["fisher_means"]
    return [
        arm,
        f"{found['strength']:g}" if arm in GRID else "-",
        f"{100 * found['average_accuracy']:.1f} ± {100 * found['standard_error']:.1f} %",
        ", ".join(f"{100 * share:.0f}" for share in found["at_the_end"]),
        f"{100 * found['forgetting']:+.1f} points",
        f"{100 * found['newest_task']:.1f} %",
        f"{means[-1] / means[0]:.1f}" if means else "-",
    ]


def run(name: str, preset: Preset) -> dict[str, dict[str, Any]]:
    """Every arm with every seed; prints the table, and writes it if the preset is the one that counts."""
    figures = {}
    for arm in ARMS:
        begun = time.process_time()
        config = choose(arm, preset)
        figures[arm] = figures_of([live(arm, config, preset, seed) for seed in preset.seeds])
        figures[arm]["cpu_s"] = time.process_time() - begun
        figures[arm]["strength"] = float(getattr(config, "strength", 0.0))
        print(f"{arm}: {100 * figures[arm]['average_accuracy']:.1f} %, {figures[arm]['cpu_s']:.0f} s", flush=True)
    header = ["arm", "strength", "accuracy at the end", "of each task, in order", "forgotten", "each task when new"]
    header.append("F of the last task / of the first")
    rows = [row_of(arm, found) for arm, found in figures.items()]
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
