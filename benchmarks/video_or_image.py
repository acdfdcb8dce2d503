"""The documents' case for video over images: the same heads on a clip, on its last frame, and on frames out of order.

    python benchmarks/video_or_image.py                  # estimated 35 minutes on two idle cores
    python benchmarks/video_or_image.py --preset tiny    # two minutes, writes nothing into RESULTS.md
    python benchmarks/video_or_image.py --out runs/views # stop with Ctrl-C, run the same line to go on

Tasks are track, whose ball moves, and press, whose buttons stay where they are. In each view of `VIEWS` fresh heads and
a goal reader, which starts from the shipped one, learn from the same episodes behind the same frozen backbone, and are
judged in closed loop in that view. Proprioception is there in all of them: an arm that follows a ball feels how fast
the ball was. A view's distance is compared with the clip's episode by episode, the same seeds; intervals are 95 %.
"""

import argparse
import datetime
import json
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import Any, Final

import numpy as np
import torch
from report import ROOT, table, write_report
from torch import nn
from video_or_image_demos import VIEWS, ViewedBackbone, ViewedDemos, collecting, record

from neon_sim.cells import LASTING
from neon_sim.eval.evaluate import EVALUATION_SEED
from neon_sim.eval.statistics import format_rate, mean_interval
from neon_sim.eval.trials import HELD_BACK, TrialTraining
from neon_sim.inference.neon_policy import NeonPolicy
from neon_sim.inference.references import ExpertPolicy
from neon_sim.model.action_heads import masked_mse
from neon_sim.model.goal import goal_position
from neon_sim.model.neon_vla import NeonConfig, NeonVLA
from neon_sim.model.video_backbone import BackboneConfig, VideoBackbone
from neon_sim.names import nearest
from neon_sim.rollout import rollout
from neon_sim.shipped import asset_path
from neon_sim.training.chunk_loss import group_losses
from neon_sim.training.recording import Recorder
from neon_sim.training.run_folder import claim_folder
from neon_sim.training.workers import cpu_count, parallel_map

EXPERT: Final = "expert"  # in the place of a view: what knows the truth reaches
GOAL_WEIGHT: Final = 0.05  # of reading the goal, beside the chunk: TrainConfig's
DISTANCE: Final = {"track": "mean_distance", "press": "distance"}  # of `privileged`, m: over the last 3 s; at the end
FAR_M: Final = 0.5  # no distance counts as more: of one that falls early, the last 3 s are not known
HEADER: Final = (
    "task", "seen", "success, 95 % interval", "of each seed", "palm to target, cm", "minus the clip's, cm",
    "goal read off by, cm (median)", "held-back MSE x 1000",
)  # fmt: skip


@dataclass(frozen=True)
class Preset:
    """How much is recorded, trained and played. backbone: a folder, None = the shipped one."""

    tasks: tuple[str, ...] = ("track", "press")
    demos: int = 240  # episodes of each task
    training: TrialTraining = TrialTraining(updates=1000)
    views: tuple[str, ...] = tuple(VIEWS)
    seeds: tuple[int, ...] = (0, 1, 2)
    episodes: int = 40  # that judge each task and view with each seed
    backbone: str | None = None


PRESETS: Final = {
    "full": Preset(),
    "tiny": Preset(("track",), 2, TrialTraining(updates=8, batch_size=16), ("clip", "last frame"), (0,), 1),
}


@dataclass(frozen=True)
class Trial:
    """What one view came to on one task with one seed. distances: m, one an episode, see `DISTANCE`."""

    task: str
    view: str
    seed: int
    successes: tuple[bool, ...]
    distances: tuple[float, ...]
    goal_cm: float | None = None  # None: the expert reads nothing
    held_back_mse: float | None = None  # action units squared


@dataclass(frozen=True)
class Job:
    """One trial to be done, and where its outcome is kept: what is there need not be done again."""

    task: str
    view: str
    seed: int
    preset: Preset
    folder: Path
    demos: tuple[Path, ...]

    @property
    def result(self) -> Path:
        """The trial's file."""
        return self.folder / "trials" / f"{self.task}_{self.view.replace(' ', '_')}_{self.seed}.json"


def run_trial(job: Job) -> Trial:
    """Train and judge one view, or read what an earlier run found."""
    if not job.result.exists():
        trial = judge_expert(job) if job.view == EXPERT else train_and_judge(job)
        job.result.parent.mkdir(parents=True, exist_ok=True)
        partial = job.result.with_suffix(".partial")
        partial.write_text(json.dumps(asdict(trial)) + "\n", encoding="utf-8")
        partial.replace(job.result)
    found = json.loads(job.result.read_text(encoding="utf-8"))
    return Trial(**{**found, "successes": tuple(found["successes"]), "distances": tuple(found["distances"])})


def fresh_model(job: Job) -> NeonVLA:
    """Untrained heads behind eyes that see in the job's view; the goal reader is the shipped one where that fits."""
    torch.manual_seed(job.seed)
    config = BackboneConfig(weights=job.preset.backbone)
    eyes = ViewedBackbone(VideoBackbone.from_config(config), job.view, np.random.default_rng([job.seed, 17]))
    model = NeonVLA(NeonConfig(backbone=config, use_lidar=False, use_audio=False), eyes.eval())
    if job.preset.backbone is None:
        shipped = NeonVLA.from_pretrained(asset_path("g1/demo_heads"), backbone=eyes)
        model.goal_reader.load_state_dict(shipped.goal_reader.state_dict())
    return model


def train(model: NeonVLA, demos: ViewedDemos, config: TrialTraining) -> tuple[float, float]:
    """Train reader, encoders, fusion and heads. Returns the goal's median error, cm, and the chunk's MSE, held back."""
    torch.manual_seed(config.seed)
    rng = np.random.default_rng(config.seed)
    rows, held_back = demos.split(HELD_BACK)
    for name, encoder in (("proprio", model.proprio_encoder), ("eef", model.eef_encoder)):
        values = demos.arrays[name][rows].float()
        encoder.set_statistics(values.mean(0), values.std(0).clamp(min=0.03))  # as training/heads.py does
    optimizer = torch.optim.AdamW(
        model.parameters(), config.learning_rate, betas=config.betas, weight_decay=config.weight_decay
    )
    schedule = torch.optim.lr_scheduler.OneCycleLR(
        optimizer, config.learning_rate, config.updates, pct_start=config.warmup, cycle_momentum=False
    )
    model.train()
    for _ in range(config.updates):
        features, group = demos.batch(rows[torch.from_numpy(rng.integers(len(rows), size=config.batch_size))])
        action, reading = group_losses(model, features, group)
        loss = action + GOAL_WEIGHT * reading
        optimizer.zero_grad(set_to_none=True)
        loss.backward()
        nn.utils.clip_grad_norm_(model.parameters(), config.max_grad_norm)
        optimizer.step()
        schedule.step()
    model.eval()
    return held_back_figures(model, demos, held_back)


@torch.no_grad()
def held_back_figures(model: NeonVLA, demos: ViewedDemos, rows: torch.Tensor) -> tuple[float, float]:
    """Median distance, cm, of the goal that is read and the true one, and MSE of the chunk made from what is read."""
    features, group = demos.batch(rows)
    read = goal_position(model.goal_reader(features))
    goal_cm = 100.0 * float((read - group.target_pos_b).norm(dim=-1).median())
    return goal_cm, float(masked_mse(model(features, group.senses)[0], group.chunk, group.mask))


def train_and_judge(job: Job) -> Trial:
    """The trial itself."""
    torch.set_num_threads(1)
    model = fresh_model(job)
    demos = ViewedDemos.load(job.demos, job.view)
    goal_cm, mse = train(model, demos, replace(job.preset.training, seed=job.seed))
    successes, distances = play(job, lambda env: NeonPolicy(model))
    return Trial(job.task, job.view, job.seed, successes, distances, goal_cm, mse)


def judge_expert(job: Job) -> Trial:
    """The ceiling."""
    return Trial(job.task, job.view, job.seed, *play(job, ExpertPolicy))


def play(job: Job, policy_of: Any) -> tuple[tuple[bool, ...], tuple[float, ...]]:
    """Successes and distances of the episodes that judge a task with this training seed, the same for every view."""
    env = Recorder(replace(collecting(job.task), policy="zero")).env
    policy = policy_of(env)
    first = EVALUATION_SEED + 1_000 * (job.seed + 1)
    successes, distances = [], []
    for seed in range(first, first + job.preset.episodes):
        episode = rollout(env, policy, seed=seed, keep=(), stop_on_success=job.task not in LASTING)
        successes.append(episode.success)
        distances.append(distance_m(env, job.task))
    env.close()
    return tuple(successes), tuple(distances)


def distance_m(env: Any, task: str) -> float:
    """How far the palm was from its target, see `DISTANCE`, in the episode that has just been played."""
    return min(float(env.privileged()[DISTANCE[task]]), FAR_M)


def rows_of(trials: Sequence[Trial]) -> list[list[str]]:
    """The table: one row a task and view, its seeds pooled."""
    pooled: dict[tuple[str, str], list[Trial]] = {}
    for trial in trials:
        pooled.setdefault((trial.task, trial.view), []).append(trial)
    rows = []
    for (task, view), own in pooled.items():
        counts = [sum(trial.successes) for trial in own]
        cells = [task, view, format_rate(sum(counts), sum(len(trial.successes) for trial in own))]
        cells += [", ".join(map(str, counts)), _text(_distances_cm(own))]
        clip = pooled.get((task, "clip"), [])
        compared = view not in ("clip", EXPERT) and len(clip) == len(own)
        cells.append(_text(_distances_cm(own) - _distances_cm(clip)) if compared else "-")
        cells.append(_each([trial.goal_cm for trial in own], 1.0, ".1f"))
        cells.append(_each([trial.held_back_mse for trial in own], 1e3, ".2f"))
        rows.append(cells)
    return rows


def _distances_cm(trials: Sequence[Trial]) -> np.ndarray:
    return 100.0 * np.array([distance for trial in trials for distance in trial.distances])


def _text(values: np.ndarray) -> str:
    mean, half = mean_interval(values.tolist())
    return f"{mean:.1f} ± {half:.1f}"


def _each(values: Sequence[float | None], scale: float, form: str) -> str:
    return ", ".join("-" if value is None else f"{scale * value:{form}}" for value in values)


def run(preset: Preset, out: Path, workers: int) -> list[Trial]:
    """Record, train and judge what is missing in `out`."""
    demos = {task: tuple(record(out / "demos", task, preset.demos, preset.backbone, workers)) for task in preset.tasks}
    jobs = [
        Job(task, view, seed, preset, out, demos[task])
        for task in preset.tasks
        for view in (*preset.views, EXPERT)
        for seed in preset.seeds
    ]
    return list(parallel_map(run_trial, jobs, workers, "trials"))


def figures_of(preset: Preset, trials: Sequence[Trial]) -> Mapping[str, Any]:
    """What the JSON file holds: the settings and every trial."""
    return {"preset": asdict(preset), "trials": [asdict(trial) for trial in trials]}


def main() -> None:
    """Record, train, judge, print; and write down what was done in full."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--preset", default="full", help=f"one of {', '.join(PRESETS)}")
    parser.add_argument("--out", type=Path, help="default: runs/video_or_image_PRESET")
    parser.add_argument("--workers", type=int, default=cpu_count())
    args = parser.parse_args()
    if args.preset not in PRESETS:
        raise SystemExit(str(nearest("preset", args.preset, PRESETS)))
    preset, out = PRESETS[args.preset], args.out or ROOT / "runs" / f"video_or_image_{args.preset}"
    try:
        claim_folder(out, asdict(preset))
    except ValueError as error:
        raise SystemExit(str(error)) from None
    try:
        trials = run(preset, out, args.workers)
    except KeyboardInterrupt:
        raise SystemExit(f"\nStopped; what is done is in {out}. The same line goes on.") from None
    rows = rows_of(trials)
    print(table(HEADER, rows))
    if args.preset == "full":
        figures = figures_of(preset, trials)
        write_report("video_or_image", figures, HEADER, rows, datetime.date.today().isoformat())


if __name__ == "__main__":
    main()
