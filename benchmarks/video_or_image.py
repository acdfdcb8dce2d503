"""The documents' case for video over images: the same heads on a clip, on its last frame, and on frames out of order.

    python benchmarks/video_or_image.py                  # 26 minutes on two AVX-512 cores
    python benchmarks/video_or_image.py --preset tiny    # two minutes, writes nothing into RESULTS.md
    python benchmarks/video_or_image.py --out runs/views # stop with Ctrl-C, run the same line to go on

Tasks are track, whose ball moves, and press, whose buttons stay where they are. In each view of `VIEWS` fresh heads and
a goal reader, which starts from the shipped one, learn from the same episodes behind the same frozen backbone, and are
judged in closed loop in that view. Proprioception is there in all of them: an arm that follows a ball feels how fast
the ball was. A view's distance is compared with the clip's episode by episode, the same seeds; intervals are 95 %. They
hold for these nets; in brackets is what also holds for nets trained anew (Student's t over the training seeds). The
palm is behind the hand's front: while a button is pressed, it is about 11 cm from it.
"""

import argparse
import json
import shutil
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import Any, Final

import numpy as np
import torch
from report import BEGUN_AT, ROOT, table, write_report
from torch import nn
from video_or_image_demos import FIRST_SEED, VIEWS, DemoShard, ViewedBackbone, ViewedDemos, collecting, record
from video_or_image_report import EXPERT, HEADER, Trial, picture, rows_of

from neon_sim.cells import LASTING
from neon_sim.eval.evaluate import EVALUATION_SEED
from neon_sim.eval.outcomes import kept, made_when
from neon_sim.eval.trials import HELD_BACK, TrialTraining
from neon_sim.inference.neon_policy import NeonPolicy
from neon_sim.inference.references import ExpertPolicy
from neon_sim.model.action_heads import masked_mse
from neon_sim.model.goal import goal_position
from neon_sim.model.neon_vla import NeonConfig, NeonVLA
from neon_sim.model.video_backbone import BackboneConfig, VideoBackbone
from neon_sim.names import nearest
from neon_sim.rollout import rollout
from neon_sim.shipped import asset_path, walker_fingerprint
from neon_sim.training.chunk_loss import group_losses
from neon_sim.training.recording import Recorder
from neon_sim.training.run_folder import claim_folder
from neon_sim.training.workers import cpu_count, parallel_map

GOAL_WEIGHT: Final = 0.05  # of reading the goal, beside the chunk: TrainConfig's
DISTANCE: Final = {"track": "mean_distance", "press": "distance"}  # of `privileged`, m: over the last 3 s; at the end
FAR_M: Final = 0.5  # no distance counts as more: of one that falls early, the last 3 s are not known


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
class Job:
    """One trial to be done, and where its outcome is kept: what is there need not be done again."""

    task: str
    view: str
    seed: int
    preset: Preset
    folder: Path
    demos: tuple[Path, ...]
    commit: str  # of the code that does it

    @property
    def result(self) -> Path:
        """The trial's file."""
        return self.folder / "trials" / f"{self.task}_{self.view.replace(' ', '_')}_{self.seed}.json"


def run_trial(job: Job) -> Trial:
    """Train and judge one view, or read what an earlier run found."""
    judge = judge_expert if job.view == EXPERT else train_and_judge
    found = kept(job.result, lambda: asdict(judge(job)), job.commit)
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


def train(model: NeonVLA, demos: ViewedDemos, config: TrialTraining) -> tuple[float | None, float]:
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
def held_back_figures(model: NeonVLA, demos: ViewedDemos, rows: torch.Tensor) -> tuple[float | None, float]:
    """Median distance, cm, of the goal that is read and the true one, and MSE of the chunk made from what is read.

    Where the words leave the hand open, no goal is taught, and none is asked for; None if they do in all rows.
    """
    features, group = demos.batch(rows)
    told = group.hand >= 0
    read = goal_position(model.goal_reader(features))
    off_cm = 100.0 * (read - group.target_pos_b).norm(dim=-1)[told]
    goal_cm = float(off_cm.median()) if told.any() else None
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


def settings_of(preset: Preset) -> dict[str, Any]:
    """Everything that a run's folder belongs to: a run that goes on must have the same."""
    recorded = {task: asdict(collecting(task)) for task in preset.tasks}
    world = {"recorded": recorded, "first_seed": FIRST_SEED, "walker": walker_fingerprint()}
    return {"preset": asdict(preset), **world, "held_back": HELD_BACK}


def run(preset: Preset, out: Path, workers: int, commit: str) -> tuple[list[Trial], list[Job], list[DemoShard]]:
    """Record, train and judge what is missing in `out`."""
    shards, jobs = [], []
    for task in preset.tasks:
        own = record(out / "demos", task, preset.demos, preset.backbone, workers, commit)
        demos = tuple(shard.path for shard in own)
        pairs = [(view, seed) for view in (*preset.views, EXPERT) for seed in preset.seeds]
        jobs += [Job(task, view, seed, preset, out, demos, commit) for view, seed in pairs]
        shards += own
    return list(parallel_map(run_trial, jobs, workers, "trials")), jobs, shards


def figures_of(preset: Preset, trials: Sequence[Trial], shards: Sequence[DemoShard]) -> Mapping[str, Any]:
    """What the JSON file holds: the settings, what was learned from, and every trial."""
    notes = [json.loads(shard.note.read_text(encoding="utf-8")) for shard in shards]
    return {**settings_of(preset), "shards": notes, "trials": [asdict(trial) for trial in trials]}


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
        claim_folder(out, settings_of(preset))
    except ValueError as error:
        raise SystemExit(str(error)) from None
    try:
        trials, jobs, shards = run(preset, out, args.workers, BEGUN_AT)
    except KeyboardInterrupt:
        raise SystemExit(f"\nStopped; what is done is in {out}. The same line goes on.") from None
    rows = rows_of(trials)
    print(table(HEADER, rows))
    picture(trials, out / "video_or_image.png")
    if args.preset == "full":
        made = made_when([*(job.result for job in jobs), *(shard.note for shard in shards)])
        figures = figures_of(preset, trials, shards)
        write_report("video_or_image", figures, HEADER, rows, made["date"], measured_at=made["commit"])
        shutil.copyfile(out / "video_or_image.png", ROOT / "docs" / "video_or_image.png")


if __name__ == "__main__":
    main()
