"""Success at equal FLOPs: a world model with one token a frame against one with a token for every patch.

Recorded, trained and played in steps that stay where they are when it is stopped: `measure_equal_flops` goes on. The
patch world sees with the LeWM's own frozen encoder (see `PatchWorld`); it plans on the same problems with about as many
FLOPs a plan as the LeWM's CEM has, which leaves it a handful of candidates, so the best one asked is carried out.
"""

import hashlib
import io
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass, field, replace
from pathlib import Path
from typing import Any, Final

import numpy as np
import torch
from planning_patch_tokens import PatchWorld
from planning_turns import candidates, flops_of
from torch import Tensor
from tqdm import tqdm

from neon_sim.shipped import walker_fingerprint
from neon_sim.training.atomic_file import replace_bytes
from neon_sim.training.interrupt import deferred_interrupt
from neon_sim.training.workers import parallel_map
from neon_sim.world_model.bundle import Bundle, load_bundle
from neon_sim.world_model.controllers import LatentController, PlanningConfig
from neon_sim.world_model.dataset import Rollouts
from neon_sim.world_model.judging import each_problem, row_of, summary
from neon_sim.world_model.lewm import latent_cost
from neon_sim.world_model.plan import held
from neon_sim.world_model.played import fingerprint, played_once
from neon_sim.world_model.problems import Problem
from neon_sim.world_model.readout import Readout, fit_readout, state_distance
from neon_sim.world_model.recording import collect
from neon_sim.world_model.rollouts import RolloutConfig, mixed_for
from neon_sim.world_model.trial import run_trial
from neon_sim.world_model.worlds import open_world

STATE_FILE, WORLD_FILE = "state.pt", "patch_world.pt"
_SHARD: Final = 2  # episodes in one file
_BESIDE: Final = 3  # candidates that one iteration of iCEM asks about beside its samples
KINDS: Final = ("one token", "patch tokens")


@dataclass(frozen=True)
class PatchTraining:
    """How a patch world is trained; the sizes are ours, for a processor of two cores."""

    episodes: int = 300  # recorded
    updates: int = 3000
    batch: int = 16  # windows of history + 1 frames
    learning_rate: float = 5e-4
    weight_decay: float = 1e-3
    readout_epochs: int = 10
    checkpoint_every: int = 100
    seed: int = 0


@dataclass(frozen=True)
class FlopsJob:
    """Some episodes that one of the two plans, and the file that keeps how they went."""

    path: str
    model: str  # folder of the LeWM's bundle
    patch: str  # folder of the patch world
    kind: str  # one of KINDS
    planning: PlanningConfig
    training: PatchTraining = field(default_factory=PatchTraining)
    seed: int = 0
    first: int = 0
    count: int = 2


def recording(task: str, training: PatchTraining) -> RolloutConfig:
    """What is recorded for a patch world: as `agents/train_world_model.py` records, but for the size of the picture."""
    return mixed_for(task, RolloutConfig(episodes=training.episodes))


@torch.no_grad()
def encoded(world: PatchWorld, rollouts: Rollouts) -> Tensor:
    """Latents (N, T, D) float16 of whole episodes, zeros after a fall."""
    shape = (*rollouts["proprio"].shape[:2], world.config.dim)
    found = torch.zeros(shape, dtype=torch.float16)
    for row in tqdm(range(len(rollouts)), desc="patch tokens"):
        length = int(rollouts["length"][row])
        felt = torch.from_numpy(rollouts["proprio"][row, :length])[None] if world.config.proprio_dim else None
        found[row, :length] = world.encode(torch.from_numpy(rollouts.frames(row))[None], felt)[0].half()
    return found


def train(world: PatchWorld, latents: Tensor, rollouts: Rollouts, training: PatchTraining, folder: Path) -> float:
    """Teach the predictor what follows; resumes from `folder`. Returns the mean squared error of the last tenth.

    latents (N, T, D) as of `encoded`. Ctrl-C saves between two updates and is raised again. Raises ValueError if the
    folder belongs to another training.
    """
    world.tokens.train().requires_grad_(True)
    optimizer = torch.optim.AdamW(world.tokens.parameters(), training.learning_rate, weight_decay=training.weight_decay)
    losses = _restore(world, optimizer, training, folder)
    actions, length = torch.from_numpy(rollouts["commands"]), world.config.history + 1
    with (
        deferred_interrupt() as interrupt,
        tqdm(total=training.updates, initial=len(losses), desc="patch world") as bar,
    ):
        while len(losses) < training.updates and not interrupt.asked:
            rng = np.random.default_rng([training.seed, len(losses), 41])  # so that a resumed run draws the same
            rows, starts = (torch.from_numpy(value) for value in rollouts.draw(rng, training.batch, length))
            at = starts[:, None] + torch.arange(length)
            tokens = world.split(latents[rows[:, None], at].float())
            told = actions[rows[:, None], at[:, :-1]]
            loss = (world.tokens.following(tokens[:, :-1], told) - tokens[:, 1:]).square().mean()
            optimizer.zero_grad(set_to_none=True)
            loss.backward()
            optimizer.step()
            losses.append(float(loss.detach()))
            bar.update()
            bar.set_postfix(error=f"{losses[-1]:.3f}")
            if len(losses) % training.checkpoint_every == 0 or len(losses) == training.updates or interrupt.asked:
                _checkpoint(world, optimizer, training, losses, folder)
    if interrupt.asked:
        raise KeyboardInterrupt
    world.tokens.eval().requires_grad_(False)
    return float(np.mean(losses[-max(1, training.updates // 10) :]))


def _checkpoint(world: PatchWorld, optimizer: Any, training: PatchTraining, losses: list[float], folder: Path) -> None:
    buffer = io.BytesIO()
    state = {"model": world.tokens.state_dict(), "optimizer": optimizer.state_dict(), "losses": losses}
    torch.save(state | {"training": asdict(training), "config": asdict(world.config)}, buffer)
    folder.mkdir(parents=True, exist_ok=True)
    replace_bytes(folder / STATE_FILE, buffer.getvalue())


def _restore(world: PatchWorld, optimizer: Any, training: PatchTraining, folder: Path) -> list[float]:
    """Losses so far; none where nothing was trained yet."""
    path = folder / STATE_FILE
    if not path.exists():
        return []
    state = torch.load(path, map_location="cpu", weights_only=True)
    if state["training"] != asdict(training) or state["config"] != asdict(world.config):
        raise ValueError(f"{path} belongs to another training: {state['training']}. Remove it.")
    world.tokens.load_state_dict(state["model"])
    optimizer.load_state_dict(state["optimizer"])
    return list(state["losses"])


def prepare(model: Path, training: PatchTraining, folder: Path, workers: int) -> float:
    """Record, train and fit what `patch_bundle` loads, unless it is there; returns the training's last error."""
    kept = folder / WORLD_FILE
    if kept.exists():
        return float(_of(model, training, kept)["error"])
    bundle = load_bundle(model)
    torch.manual_seed(training.seed)
    world = PatchWorld(bundle.model)
    pictures = replace(recording(bundle.task, training), image_size=bundle.model.config.image_size)
    collect(pictures, folder / "data", workers)
    rollouts = Rollouts(folder / "data")
    latents = encoded(world, rollouts)
    error = train(world, latents, rollouts, training, folder)
    generator = torch.Generator().manual_seed(training.seed)
    readout = fit_readout(rollouts, latents.float(), generator, training.readout_epochs, task=bundle.task)
    parts = {"tokens": world.tokens.state_dict(), "readout": readout.state_dict(), "error": error}
    buffer = io.BytesIO()
    torch.save(parts | {"training": asdict(training), "weights": fingerprint(model)}, buffer)
    replace_bytes(kept, buffer.getvalue())
    return error


def patch_bundle(model: Path, training: PatchTraining, folder: Path) -> Bundle:
    """What `prepare` made: the patch world in the place of the LeWM, with a readout of its own and the LeWM's sight.

    Raises ValueError for one of another training or LeWM.
    """
    bundle, state = load_bundle(model), _of(model, training, folder / WORLD_FILE)
    world = PatchWorld(bundle.model)
    world.tokens.load_state_dict(state["tokens"])
    readout = Readout.empty(world.config.dim, bundle.task)
    readout.load_state_dict(state["readout"])
    made: Any = world.requires_grad_(False).eval()  # it plans like a LeWM
    return Bundle(bundle.task, made, readout.requires_grad_(False).eval(), sight=bundle.sight)


def _of(model: Path, training: PatchTraining, path: Path) -> dict[str, Any]:
    state: dict[str, Any] = torch.load(path, map_location="cpu", weights_only=True)
    if state["training"] != asdict(training) or state["weights"] != fingerprint(model):
        raise ValueError(f"{path} belongs to another training or world model: {state['training']}. Remove it.")
    return state


def flops_per_candidate(bundle: Bundle, planning: PlanningConfig) -> float:
    """FLOPs of asking what one plan costs, after as many moments as the model remembers."""
    model, actions = bundle.model, bundle.space.dim
    z, past = torch.randn(1, model.config.history, model.config.dim), torch.zeros(1, model.config.history - 1, actions)
    distance = state_distance(bundle.readout, bundle.task, z[:, -1], torch.zeros(1, 1, 1))
    cost = held(latent_cost(model, z, past, distance, planning.running), planning.hold)
    with torch.no_grad():
        return flops_of(lambda: cost(candidates(2, planning.horizon, actions))) / 2


def equal_budget(planning: PlanningConfig, ratio: float) -> PlanningConfig:
    """The patch world's budget where one of its candidates takes `ratio` times the FLOPs of a LeWM's: one iteration of
    iCEM, which asks the last plan's two elites and its mean as well and keeps the best; never fewer than five in all.
    """
    affordable = round(planning.samples * planning.iterations / ratio)
    return replace(planning, samples=max(2, affordable - _BESIDE), iterations=1)


def run_flops_job(job: FlopsJob) -> list[dict[str, Any]]:
    """Play a job's episodes, or read them if they were played: rows as of `judging.run_job`."""

    def play(one: Bundle) -> list[dict[str, Any]]:
        torch.set_num_threads(1)
        many = job.kind == "patch tokens"
        bundle = patch_bundle(Path(job.model), job.training, Path(job.patch)) if many else one
        env = open_world(bundle.task, bundle.model.config.image_size)
        controller = LatentController(bundle, job.planning, "icem" if many else "cem", job.seed)

        def trial(problem: Problem) -> dict[str, Any]:
            return row_of(run_trial(env, bundle.space, problem, controller, job.planning))

        try:
            return each_problem(env, bundle, job.planning, job.seed, range(job.first, job.first + job.count), trial)
        finally:
            env.close()

    return played_once(job, play)


def folder_of(runs: Path, task: str, training: PatchTraining, model: Path) -> Path:
    """Where a patch world lies: each training on each kind of recording, of each walker, behind each LeWM's eyes has a
    folder of its own.
    """
    made = (training, recording(task, training), walker_fingerprint(), fingerprint(model))
    return runs / f"{task}-patch-world-{hashlib.blake2b(repr(made).encode(), digest_size=4).hexdigest()}"


def measure_equal_flops(
    models: Mapping[str, Path],
    runs: Path,
    planning: PlanningConfig,
    seeds: Sequence[int],
    episodes: int,
    workers: int,
    training: PatchTraining,
) -> tuple[dict[str, Any], list[list[str]]]:
    """Figures and rows of both world models on the same problems, `episodes` of them shared out over the seeds."""
    figures: dict[str, Any] = {}
    rows = []
    for task, model in models.items():
        folder = folder_of(runs, task, training, model)
        error = prepare(model, training, folder, workers)
        bundles = (load_bundle(model), patch_bundle(model, training, folder))
        one, many = (flops_per_candidate(bundle, planning) for bundle in bundles)
        budgets = dict(zip(KINDS, (planning, equal_budget(planning, many / one)), strict=True))
        asked, all_asked = budgets["patch tokens"].samples + _BESIDE, planning.samples * planning.iterations
        figures[task] = found = {
            "flop_ratio_of_a_candidate": many / one,
            "share_of_flops": asked * many / (all_asked * one),
            "patch_error": error,
            "patch_candidates": asked,
            "training": asdict(training),
            "recorded_as": asdict(recording(task, training)),
            **_played(model, folder, budgets, seeds, episodes, workers, training),
        }
        rows += [_row(task, kind, found, all_asked) for kind in KINDS]
    return {"success_at_equal_flops": figures}, rows


def _row(task: str, kind: str, found: Mapping[str, Any], all_asked: int) -> list[str]:
    """For people; all_asked: candidates of a plan in the LeWM."""
    training, got = found["training"], found[kind]
    taught = f"({training['episodes']} episodes, {training['updates']} updates of {training['batch']})"
    count, taken = (all_asked, 1.0) if kind == "one token" else (found["patch_candidates"], found["share_of_flops"])
    label = f"{task}, {kind} {'(as shipped)' if kind == 'one token' else taught}, about equal FLOPs a plan"
    distance = f"{got['start_cm_median']:.0f} to {got['final_cm_median']:.1f} cm"
    budget = f"{count} candidates, {taken:.1f} of the FLOPs"
    return [label, got["success"], budget, distance, f"{got['decide_ms_p50']:.0f} ms"]


def _played(
    model: Path,
    folder: Path,
    budgets: Mapping[str, PlanningConfig],
    seeds: Sequence[int],
    episodes: int,
    workers: int,
    training: PatchTraining,
) -> dict[str, dict[str, Any]]:
    """The summary of each kind's episodes."""
    each, jobs = -(-episodes // len(seeds)), []
    for kind, planning in budgets.items():
        for seed in seeds:
            for first in range(0, each, _SHARD):
                count = min(_SHARD, each - first)
                path = str(folder / f"{kind.replace(' ', '_')}_seed{seed}_{first:04d}_{count}.json")
                jobs.append(FlopsJob(path, str(model), str(folder), kind, planning, training, seed, first, count))
    played = list(zip(jobs, parallel_map(run_flops_job, jobs, workers, "equal FLOPs"), strict=True))
    return {kind: summary([row for job, part in played if job.kind == kind for row in part]) for kind in budgets}
