"""A policy that can make gestures, for the forgetting benchmark: recorded, taught and written by one resumable call.

Beside the gestures it is taught gestures moved by random angles, each for the goal token of where the palm then is: as
with reach, hindsight needs heads that know what a token beside the asked one means. A waving hand swings about such
a place. The words are read with the first picture, which is all that the benchmark sees.
"""

import math
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import Any, Final

import numpy as np
import torch
from forgetting_tasks import subject_of
from forgetting_world import open_env

from neon_sim.g1 import joints
from neon_sim.inference.neon_policy import NeonPolicy
from neon_sim.model.neon_vla import NeonConfig, NeonVLA
from neon_sim.robot import RobotState
from neon_sim.shipped import walker_fingerprint
from neon_sim.sim.faults import ActuatorFault
from neon_sim.tasks.arms import HANDS, lead, of_hand, palms_b, pursue
from neon_sim.tasks.wave import GESTURES, Gesture
from neon_sim.training.demos import CHUNK, DemoConfig, Demos, save_rows
from neon_sim.training.forward_model import pretrain_forward_model
from neon_sim.training.heads import BODY_SENSES, HeadTrainer, HeadTraining
from neon_sim.training.online import save_forward_model
from neon_sim.training.run_folder import claim_folder
from neon_sim.training.workers import parallel_map

GESTURE_SEED: Final = 4_000_000  # demonstrations of reach have 3 million and on, lives 5 million and on
SHARD: Final = 40  # episodes in one file


@dataclass(frozen=True)
class GestureTeaching:
    """How many gestures are shown, and how they are moved and disturbed."""

    episodes: int = 1200
    chunks: int = 12  # of each: 192 steps, as in a life
    moved_share: float = 0.6  # episodes with a gesture beside its place
    moved_rad: float = 0.12  # std of each of its arm joints
    slack_share: float = 0.5  # episodes in which one arm motor is slightly off: no two real ones are alike
    slack_rad: float = 0.06
    disturbed: DemoConfig = DemoConfig()
    training: HeadTraining = HeadTraining(epochs=24, batch_size=128)
    seed: int = 0


TINY: Final = GestureTeaching(episodes=16, training=HeadTraining(epochs=2, batch_size=32))


def moved_gesture(
    gesture: Gesture, hand: int, offset: np.ndarray, state: RobotState, steps: int, dt: float
) -> np.ndarray:
    """Targets (steps, 29) rad of a gesture moved by offset (7,) rad, as of the left arm, from where the robot is now.

    With a zero offset these are the targets of the task's own expert, but for what swings: see `swing_phase`.
    """
    arm = joints.GROUPS[f"{HANDS[hand]}_arm"]
    postures = np.tile(joints.HOME, (steps + 1, 1))
    postures[:, joints.GROUPS["waist"]] = state.joint_pos[joints.GROUPS["waist"]]
    phase = swing_phase(gesture, hand, offset, state)
    for i in range(steps + 1):
        swung = gesture.swing * math.sin(phase + math.tau * i * dt)
        postures[i, arm] = _arm_of(gesture, hand, offset, swung)
    return pursue(state.joint_target, lead(postures, state.gravity_b, dt), gain=0.5)


def swing_phase(gesture: Gesture, hand: int, offset: np.ndarray, state: RobotState) -> float:
    """Where in its swing, once a second, the arm is: rad, from the shoulder's yaw and its speed.

    The task's expert widens a swing that is too narrow (`neon_sim.tasks.wave.swing_of`); this one asks for all of it.
    """
    arm = joints.GROUPS[f"{HANDS[hand]}_arm"]
    off = of_hand(state.joint_pos[arm], hand)[2] - gesture.arm[2] - offset[2]
    return math.atan2(math.tau * off, of_hand(state.joint_vel[arm], hand)[2])


def place_of(gesture: Gesture, hand: int, offset: np.ndarray) -> np.ndarray:
    """Where the palm (3,) m belongs in the pelvis frame; what swings, swings about it."""
    posture = joints.HOME.copy()
    posture[joints.GROUPS[f"{HANDS[hand]}_arm"]] = _arm_of(gesture, hand, offset, 0.0)
    return palms_b(posture)[hand]


def _arm_of(gesture: Gesture, hand: int, offset: np.ndarray, swung: float) -> np.ndarray:
    arm = joints.GROUPS[f"{HANDS[hand]}_arm"]
    return (gesture.postures(swung)[hand] + of_hand(offset, hand)).clip(joints.LOWER[arm], joints.UPPER[arm])


def record_gesture(env: Any, look: NeonPolicy, eyes: Any, teaching: GestureTeaching, seed: int) -> list[dict[str, Any]]:
    """One episode in the form of `neon_sim.training.demos.record_demo`, seen once, at its beginning.

    env plays without a camera, eyes is the same env with one; look encodes.
    """
    rng = np.random.default_rng([seed, 13])
    env.world.apply_fault(_slack(env, teaching, rng))
    offset = rng.normal(0.0, teaching.moved_rad, 7) if rng.random() < teaching.moved_share else np.zeros(7)
    look.reset()
    seen, info = eyes.reset(seed=seed)
    look.observe(seen, info["time_s"])
    features, _ = look.perceive()
    held = {name: getattr(features, name)[0].numpy().astype(np.float16) for name in ("tokens", "pooled", "text")}
    obs, _ = env.reset(seed=seed)
    truth = env.privileged()
    gesture, hand = GESTURES[truth["gesture"]], int(truth["hand"])
    held |= {"hand": np.int64(hand), "target_pos_b": place_of(gesture, hand, offset).astype(np.float32)}
    rows: list[dict[str, Any]] = []
    for _ in range(teaching.chunks):
        targets = moved_gesture(gesture, hand, offset, env.robot.read(), CHUNK, env.robot.dt)
        expert = env.action_map.encode(targets).astype(np.float32)
        executed = _disturbed(expert, env, teaching.disturbed, rng)
        senses = {name: obs[name].copy() for name in BODY_SENSES}
        rows.append({**held, **senses, "expert": expert, "executed": executed, "episode": np.int64(seed)})
        for action in executed:
            obs, _, terminated, truncated, _ = env.step(action)
            if terminated or truncated:
                return rows
    return rows


def _slack(env: Any, teaching: GestureTeaching, rng: np.random.Generator) -> ActuatorFault | None:
    if rng.random() >= teaching.slack_share:
        return None
    joint = env.action_map.names[int(rng.integers(14))]
    return ActuatorFault(joint, float(rng.uniform(0.9, 1.0)), float(rng.uniform(-1.0, 1.0)) * teaching.slack_rad)


def _disturbed(expert: np.ndarray, env: Any, config: DemoConfig, rng: np.random.Generator) -> np.ndarray:
    """The expert's chunk (16, A), in some chunks with an offset of the arms that grows."""
    if rng.random() >= config.noisy_share:
        return expert
    arms = env.action_map.groups["arms"]
    span = (env.action_map.upper - env.action_map.lower)[arms] / 2.0
    noisy = expert.copy()
    noisy[:, arms] += np.linspace(0.2, 1.0, len(expert))[:, None] * rng.normal(0.0, config.noise_rad, len(span)) / span
    return np.clip(noisy, -1.0, 1.0)


def record_shard(job: tuple[Path, int, int, GestureTeaching]) -> None:
    """Record consecutive seeds into one file, unless it is there."""
    path, first, count, teaching = job
    if path.exists():
        return
    torch.set_num_threads(1)
    env, eyes, look = open_env("wave"), open_env("wave", eyes=True), NeonPolicy(NeonVLA(_config()))
    rows = [row for seed in range(first, first + count) for row in record_gesture(env, look, eyes, teaching, seed)]
    env.close()
    eyes.close()
    save_rows(rows, path)


def teach_gestures(folder: Path, teaching: GestureTeaching, workers: int) -> Path:
    """Make sure that a folder holds a taught policy, and return that; what was stopped goes on.

    Raises:
        ValueError: the folder was begun with other settings.
    """
    policy = folder / "policy"
    begun = {"env": dict(subject_of("wave").options), "walker": walker_fingerprint(), "model": asdict(_config())}
    claim_folder(folder, asdict(teaching) | begun)
    if (policy / "forward_model.pt").exists():
        return policy
    starts = range(0, teaching.episodes, SHARD)
    (folder / "demos").mkdir(exist_ok=True)
    jobs = [
        (folder / "demos" / f"{i:06d}.npz", GESTURE_SEED + i, min(SHARD, teaching.episodes - i), teaching)
        for i in starts
    ]
    list(parallel_map(record_shard, jobs, min(workers, len(jobs)), "showing gestures"))
    demos = Demos.load([path for path, *_ in jobs])
    torch.manual_seed(teaching.seed)
    model = NeonVLA(_config())
    train_heads(model, demos, replace(teaching.training, seed=teaching.seed), folder / "state.pt")
    forward_model, share = pretrain_forward_model(model, demos, BODY_SENSES, teaching.seed)
    print(f"forward model: {100 * share:.1f} % of the error of predicting no change", flush=True)
    model.save_pretrained(policy)
    save_forward_model(forward_model, policy)
    return policy


def train_heads(model: NeonVLA, demos: Demos, config: HeadTraining, state_path: Path) -> None:
    """`HeadTrainer` with its state saved after each epoch, and gone on with."""
    trainer = HeadTrainer(model, demos, config)
    if state_path.exists():
        trainer.load_state_dict(torch.load(state_path, weights_only=True))

    def after_epoch(figures: dict[str, float]) -> None:
        print("  ".join(f"{name} {value:.4g}" for name, value in figures.items()), flush=True)
        torch.save(trainer.state_dict(), state_path.with_suffix(".partial"))
        state_path.with_suffix(".partial").replace(state_path)

    trainer.run(after_epoch)


def _config() -> NeonConfig:
    return NeonConfig(use_lidar=False, use_audio=False)
