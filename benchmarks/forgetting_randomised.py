"""The fair rival of a learner: heads that remember, trained beforehand on randomised robots, and fixed from then on.

What they add to the policy's chunk follows from the tracking errors of the newest chunks, so they can tell what kind of
robot they are on, as in rapid motor adaptation (Kumar et al. 2021). They are taught as no learner here is: by an expert
that knows the fault, on the states that they come to themselves (DAgger, Ross et al. 2011).
"""

import io
from collections import deque
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final

import numpy as np
import torch
from forgetting_world import HeldLook, Looks, look, open_env
from torch import Tensor, nn
from tqdm import tqdm

from neon_sim.eval.regimes import Regime
from neon_sim.g1.joints import GROUPS, JOINT_NAMES, NUM_JOINTS
from neon_sim.model.action_heads import masked_mse
from neon_sim.model.neon_vla import TRACKING_ERROR, NeonVLA
from neon_sim.model.video_backbone import BackboneFeatures
from neon_sim.rollout import rollout
from neon_sim.sim.faults import ActuatorFault, Payload
from neon_sim.training.atomic_file import replace_bytes

RIVALS: Final = 3  # of one task, trained with other seeds: the lives take them in turn
RIVAL_SEED: Final = 7_000_000  # lives have 5 million and on, the ceiling of agents/self_learn.py 6 million and on
# In a third of the training episodes a hand carries something, in the others one of these motors is at fault.
_LOADED: Final = 1.0 / 3.0
MOTORS: Final = tuple(
    JOINT_NAMES[i] for side in ("left", "right") for i in np.arange(NUM_JOINTS)[GROUPS[f"{side}_arm"]][:4]
)


@dataclass(frozen=True)
class RivalConfig:
    """What it is trained on: the kinds of trouble that take something in reach, but milder, so that those lie outside.

    What takes nothing there, friction and latency, it is not trained on.
    """

    weakest: float = 0.6  # share of a motor that is left, at least
    most_bias: float = 0.1  # rad either way
    heaviest: float = 0.8  # kg in a hand, as in the walker's training
    episodes: int = 150  # of each round
    rounds: int = 2  # the first is played by the policy alone, the next ones by what was learned up to then
    steps: int = 96  # of an episode
    memory: int = 3  # chunks, the present one included
    hidden: int = 256
    epochs: int = 40
    batch_size: int = 64
    learning_rate: float = 1e-3
    seed: int = 0


class HistoryHead(nn.Module):
    """chunk + MLP(fused, goal, remembered tracking errors); a new one adds nothing.

    Args:
        config: memory and width.
        features: width D of the fused features.
        steps, actions: shape of a chunk.
    """

    def __init__(self, config: RivalConfig, features: int, steps: int, actions: int) -> None:
        super().__init__()
        self.memory = config.memory
        last = nn.Linear(config.hidden, steps * actions)
        nn.init.zeros_(last.weight)
        nn.init.zeros_(last.bias)
        width = features + 5 + NUM_JOINTS * config.memory
        self.net = nn.Sequential(
            nn.Linear(width, config.hidden), nn.GELU(), nn.Linear(config.hidden, config.hidden), nn.GELU(), last
        )

    def forward(self, chunk: Tensor, fused: Tensor, goal: Tensor, errors: Tensor) -> Tensor:
        """(B, T, A), (B, D), (B, 5) and rad (B, memory, 29), oldest first -> chunk (B, T, A) in [-1, 1]."""
        told = torch.cat([fused, goal, 10.0 * errors.flatten(1)], dim=-1)  # a tenth of a radian is a large error
        return (chunk + self.net(told).view_as(chunk)).clamp(-1.0, 1.0)

    @staticmethod
    def for_model(config: RivalConfig, model: NeonVLA) -> "HistoryHead":
        """A new one with the sizes of a NeonVLA."""
        torch.manual_seed(config.seed)
        return HistoryHead(config, model.fused_dim, model.config.num_action_steps, model.action_space.dim)


class HistoryPolicy(HeldLook):
    """A `HeldLook` with a `HistoryHead`.

    Attributes:
        asked: what the head was given at each chunk of the episode: chunk, fused, goal, errors, each with batch size 1.
    """

    def __init__(self, model: NeonVLA, looks: Looks, head: HistoryHead, noise_m: float = 0.0) -> None:
        super().__init__(model, looks, noise_m)
        self.head = head.eval()
        self.asked: list[tuple[Tensor, ...]] = []
        self._errors: deque[Tensor] = deque(maxlen=head.memory)

    def reset(self, env_ids: list[int] | None = None) -> None:
        """Begin an episode: nothing is remembered."""
        super().reset(env_ids)
        self.asked = []
        self._errors.extend(torch.zeros(1, NUM_JOINTS) for _ in range(self.head.memory))

    def decode(self, features: BackboneFeatures, senses: dict[str, Tensor], goal: Tensor) -> Tensor:
        """The policy's chunk (1, 16, A) with what the memory adds."""
        self._errors.append(senses["proprio"][:, TRACKING_ERROR])
        fused, errors = self.model.fuse(features.pooled, senses, features.text), torch.stack(list(self._errors), dim=1)
        self.asked.append((super().decode(features, senses, goal), fused, goal, errors))
        return self.head(*self.asked[-1])


def rival_seeds(config: RivalConfig) -> list[int]:
    """Of every training episode."""
    return [RIVAL_SEED + i for i in range(config.episodes * config.rounds)]


def drawn_trouble(config: RivalConfig, rng: np.random.Generator) -> ActuatorFault | Payload:
    """Something in a hand, or one motor of the arms that is somewhat weak and somewhat biased."""
    if rng.random() < _LOADED:
        return Payload(("left_hand", "right_hand")[int(rng.integers(2))], float(rng.uniform(0.0, config.heaviest)))
    return drawn_fault(config, rng)


def drawn_fault(config: RivalConfig, rng: np.random.Generator, motors: Sequence[str] = MOTORS) -> ActuatorFault:
    """One motor, somewhat weak and somewhat biased."""
    bias = float(rng.uniform(-config.most_bias, config.most_bias))
    return ActuatorFault(motors[int(rng.integers(len(motors)))], float(rng.uniform(config.weakest, 1.0)), bias)


def trained_on(regime: Regime, config: RivalConfig) -> bool:
    """Whether a trouble is of a kind, and as mild, as it is trained on: a light load, or one motor not too far gone."""
    if regime.fault == "Payload":
        return all("hand" in fault["body"] and fault["mass"] <= config.heaviest for fault in regime.faults)
    if regime.fault != "ActuatorFault" or len(regime.faults) > 1:
        return False
    (fault,) = regime.faults
    return bool(fault["strength"] >= config.weakest and abs(fault["bias"]) <= config.most_bias)


def record(
    env: Any, policy: HistoryPolicy, steps: int, seeds: Sequence[int], trouble: Callable[[int], Any]
) -> list[tuple[Tensor, ...]]:
    """Play, and ask the expert at each chunk: rows of what the head was given and the expert's chunk (1, 16, A).

    Args:
        env: of a task whose expert can be told of a fault; it is healthy again afterwards.
        policy: what plays.
        steps: of an episode.
        seeds: of the episodes.
        trouble: what `apply_fault` takes in a seed's episode, and the expert is told.

    Raises:
        ValueError: a task whose expert cannot be told of a fault.
    """
    if not hasattr(env.task, "known_fault"):
        raise ValueError(
            f"The expert of '{env.task.name}' cannot make up for a fault: leave the arms `randomised` and `oracle` out."
        )
    rows: list[tuple[Tensor, ...]] = []
    for seed in seeds:
        env.task.known_fault = fault = trouble(seed)
        env.world.apply_fault(fault)
        policy.begin(seed)
        labels: list[Tensor] = []

        def asked_the_expert(env: Any, labels: list[Tensor] = labels) -> None:
            labels.append(_label(env))

        rollout(env, policy, steps, seed, keep=(), on_chunk=asked_the_expert)
        rows += [(*asked, label) for asked, label in zip(policy.asked, labels, strict=True)]
    env.task.known_fault = None
    env.world.apply_fault(None)
    return rows


def _label(env: Any) -> Tensor:
    return torch.from_numpy(env.expert_chunk().astype(np.float32))[None]


def fit(head: HistoryHead, rows: Sequence[tuple[Tensor, ...]], config: RivalConfig) -> float:
    """Teach the head what the expert would have done; returns the last epoch's mean squared error."""
    *given, labels = (torch.cat(column) for column in zip(*rows, strict=True))
    optimizer = torch.optim.Adam(head.parameters(), lr=config.learning_rate, fused=True)
    schedule = torch.optim.lr_scheduler.CosineAnnealingLR(optimizer, config.epochs)
    rng = np.random.default_rng(config.seed)
    losses: list[float] = []
    for _ in range(config.epochs):
        losses = []
        for picks in torch.from_numpy(rng.permutation(len(labels))).split(config.batch_size):
            loss = masked_mse(head(*(value[picks] for value in given)), labels[picks])
            optimizer.zero_grad(set_to_none=True)
            loss.backward()
            optimizer.step()
            losses.append(float(loss.detach()))
        schedule.step()
    return float(np.mean(losses))


def teach(env: Any, policy: HistoryPolicy, config: RivalConfig, trouble: Callable[[int], Any]) -> float:
    """DAgger: rounds of `record`, each played with what all rounds before have taught; env and trouble as there.

    Returns the last round's mean squared error.
    """
    rows: list[tuple[Tensor, ...]] = []
    seeds, error = rival_seeds(config), 0.0
    for start in range(0, len(seeds), config.episodes):
        rows += record(env, policy, config.steps, seeds[start : start + config.episodes], trouble)
        error = fit(policy.head, rows, config)
    return error


def train_rival(policy: str, task: str, config: RivalConfig, path: Path) -> None:
    """Train it and write it, unless it is there; two minutes on one core."""
    if path.exists():
        return
    torch.set_num_threads(1)
    model, env = NeonVLA.from_pretrained(policy), open_env(task)
    head = HistoryHead.for_model(config, model)
    eyes = HistoryPolicy(model, look(model, task, rival_seeds(config)), head)
    error = teach(env, eyes, config, lambda seed: drawn_trouble(config, np.random.default_rng([seed, config.seed])))
    env.close()
    tqdm.write(f"rival {config.seed}: mean squared error {error:.2g}")
    buffer = io.BytesIO()
    torch.save(head.state_dict(), buffer)
    replace_bytes(path, buffer.getbuffer())


def load_rival(model: NeonVLA, config: RivalConfig, path: Path) -> HistoryHead:
    """Read what `train_rival` wrote."""
    head = HistoryHead.for_model(config, model)
    head.load_state_dict(torch.load(path, weights_only=True))
    return head
