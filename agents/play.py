"""Watch a policy, or drive the robot yourself: writes a video and a picture of what the robot does and senses.

    python agents/play.py                                  # the shipped demo heads reach for balls
    python agents/play.py --policy expert --task reach --seed 3
    python agents/play.py --real-time linear --latency-ms 50   # chunks that blend while they are late, without a jump
    python agents/play.py --policy FOLDER --draft FOLDER   # a light policy answers where the heavy one is not needed
    python agents/play.py --policy runs/reach_ppo          # what agents/train_ppo.py trained, on its own task
    python agents/play.py --policy random --task stand --window   # live, where there is a display
    python agents/play.py --task walk --teleop             # from the keyboard, in any terminal, over ssh too
    python agents/play.py --task walk --keys "wwww.....eee..... ....."   # the same from a script, one key per 0.1 s

Keys: w s or up down = faster forward, backward; a d = left, right; q e or left right = turn; r f = taller, lower;
space = stop; x or Ctrl-C = quit. Speeds stay until changed. In --keys a dot presses nothing. With --window the keys
are still the terminal's.

Writes OUT/play.mp4 and OUT/play.png (the robot, its head camera, its LiDAR from above).
"""

import argparse
import sys
from collections.abc import Iterable
from contextlib import closing
from pathlib import Path
from typing import Any

import gymnasium
import imageio.v2 as imageio
import numpy as np
from PIL import Image, ImageDraw

import neon_sim  # noqa: F401  registers NeonG1-v0
from neon_sim.cells import LASTING, TWO_EARS
from neon_sim.env_config import SENSORS
from neon_sim.eval.evaluate import EvaluationJob, build_policy
from neon_sim.eval.neonbench_play import find_player
from neon_sim.inference.chunking import BLEND_SCHEDULES, ChunkingConfig, delay_steps
from neon_sim.inference.real_time import RealTimeConfig, RealTimePolicy
from neon_sim.inference.references import STEPS
from neon_sim.inference.sb3_policy import find_run, load_model
from neon_sim.inference.teleop import (
    KEYS,
    NOTHING,
    QUIT,
    STOP,
    TeleopPolicy,
    key_by_key,
    keyboard,
    typed_keys,
    velocity_limit,
)
from neon_sim.shipped import asset_path
from neon_sim.walker import HEIGHT_RANGE

PANEL = 240  # px, side of a sense's panel
LIDAR_RANGE_M = 4.0
EVERY = 2  # control steps per video frame: 25 pictures a second


class Film:
    """Pictures that go straight to OUT/play.mp4; the last one becomes OUT/play.png. No file without a picture."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self._writer: Any = None
        self._last: np.ndarray | None = None

    def add(self, picture: np.ndarray) -> None:
        """Append one (H, W, 3) uint8 picture."""
        if self._writer is None:
            self.folder.mkdir(parents=True, exist_ok=True)
            self._writer = imageio.get_writer(self.folder / "play.mp4", fps=50 // EVERY)
        self._writer.append_data(picture)
        self._last = picture

    def close(self) -> None:
        """Finish both files and say where they are."""
        if self._writer is not None:
            self._writer.close()
            imageio.imwrite(self.folder / "play.png", self._last)
            print(f"Wrote {self.folder / 'play.mp4'} and {self.folder / 'play.png'}")


def lidar_panel(points: np.ndarray) -> np.ndarray:
    """The cloud (N*3,) from above, robot in the middle, ahead is up: (PANEL, PANEL, 3) uint8, height as colour."""
    cloud = points.reshape(-1, 3)
    cloud = cloud[(cloud != 0).any(axis=1) & (np.abs(cloud[:, :2]) < LIDAR_RANGE_M).all(axis=1)]
    image = Image.new("RGB", (PANEL, PANEL), (16, 20, 26))
    draw = ImageDraw.Draw(image)
    scale = PANEL / (2 * LIDAR_RANGE_M)
    for x, y, z in cloud:
        u, v = PANEL / 2 - y * scale, PANEL / 2 - x * scale
        warmth = float(np.clip((z + 1.0) / 1.5, 0, 1))
        draw.ellipse((u - 1.5, v - 1.5, u + 1.5, v + 1.5), fill=(int(60 + 195 * warmth), 170, int(255 - 195 * warmth)))
    draw.ellipse((PANEL / 2 - 4, PANEL / 2 - 4, PANEL / 2 + 4, PANEL / 2 + 4), fill=(255, 255, 255))
    return np.asarray(image)


def compose(outside: np.ndarray, obs: dict[str, np.ndarray], words: str) -> np.ndarray:
    """One picture: the robot from outside, its camera, its LiDAR, and the words that it was told."""
    eye = np.asarray(Image.fromarray(obs["camera"]).resize((PANEL, PANEL), Image.Resampling.BILINEAR))
    column = np.concatenate([eye, lidar_panel(obs["lidar"])], axis=0)
    canvas = Image.fromarray(np.concatenate([outside, column], axis=1))
    draw = ImageDraw.Draw(canvas)
    height, width = outside.shape[:2]
    draw.rectangle((0, height - 26, width, height), fill=(16, 20, 26))
    draw.text((8, height - 20), words, fill=(255, 255, 255))
    draw.text((width + 6, 4), "head camera", fill=(255, 255, 255))
    draw.text((width + 6, PANEL + 4), "LiDAR, from above", fill=(255, 255, 255))
    return np.asarray(canvas)


def play(env: Any, policy: Any, seed: int, episodes: int, film: Film) -> None:
    """Run whole episodes and film them (not in a live window)."""
    for episode in range(episodes):
        policy.reset()
        obs, info = env.reset(seed=seed + episode)
        policy.observe(obs, info["time_s"])
        over, step, used, slowed = False, 0, 0, 0
        chunk = np.empty((0, env.action_map.dim))
        while not over:
            if used == len(chunk):
                chunk, used = policy.act()[0], 0
            if env.render_mode == "rgb_array" and step % EVERY == 0:
                film.add(compose(env.render(), obs, f'"{info["instruction"]}"'))
            obs, _, terminated, truncated, info = env.step(chunk[used])
            used += 1
            slowed += bool(info["safety"]["speed"])
            policy.observe(obs, info["time_s"])
            over, step = terminated or truncated or (info["success"] and env.config.task not in LASTING), step + 1
        end = "done" if info["success"] else "not done"
        print(f'"{info["instruction"]}": {end} after {step / 50:.1f} s; safety slowed {slowed} of {step} steps')


def drive(env: Any, keys: Iterable[str], seed: int, film: Film) -> None:
    """Follow the keys until they end or say quit; after a fall the robot is put back on its feet."""
    limit = velocity_limit(env)
    if not limit.any():
        print("This robot's walker only stands: every velocity stays at zero.")
    driver, step = TeleopPolicy(env, keyboard(keys, limit, HEIGHT_RANGE)), 0
    obs, _ = env.reset(seed=seed)
    while True:
        try:
            chunk = driver.act()[0]
        except KeyboardInterrupt:
            break
        for action in chunk:
            if env.render_mode == "rgb_array" and step % EVERY == 0:
                film.add(compose(env.render(), obs, driver.words))
            obs, _, terminated, truncated, _ = env.step(action)
            step += 1
            if terminated or truncated:
                print("It fell; on its feet again." if terminated else "Time is up; from the start again.")
                driver.reset()
                obs, _ = env.reset()
                break
    x, y, _ = env.world.position("pelvis")
    print(f"Drove for {step / 50:.1f} s; now {x:+.2f} m ahead and {y:+.2f} m left of the start.")


def teleoperate(env: Any, keys: str | None, seed: int, film: Film) -> None:
    """Drive by a script of keys, or from this terminal."""
    if keys is not None:
        drive(env, keys, seed, film)
        return
    fd = sys.stdin.fileno()
    with key_by_key(fd):
        try:
            drive(env, typed_keys(fd), seed, film)
        except KeyboardInterrupt:
            print("Stopped.")


def parse_real_time(
    blend: str | None, horizon: int | None, latency_ms: float | None, policy: str
) -> RealTimeConfig | None:
    """How chunks take over from each other; None where each is carried out as it comes.

    Raises:
        ValueError: a schedule that does not exist, numbers that make no sense, a policy that has no chunks, or a
            horizon or a latency without a schedule.
    """
    if blend is None:
        if horizon is not None or latency_ms is not None:
            raise ValueError("--horizon and --latency-ms go with --real-time BLEND: say how chunks blend, e.g. linear.")
        return None
    if find_run(Path(policy)) is not None:
        raise ValueError("A run of train_ppo acts step by step and has no chunks to blend: leave out --real-time.")
    chunking = ChunkingConfig(blend, ChunkingConfig.execution_horizon if horizon is None else horizon)
    config = RealTimeConfig(chunking, delay_steps((latency_ms or 0.0) / 1e3))
    config.check_length(STEPS)
    return config


def build_player(policy: str, env: Any, real_time: RealTimeConfig | None, draft: str | None = None) -> Any:
    """The policy of that name or folder, its chunks blended if asked for; of two folders, one that is routed.

    Raises ValueError for what is no checkpoint, and for two that do not go together.
    """
    if draft is not None:
        from neon_sim.inference.two_heads import RoutedPolicy
        from neon_sim.model.neon_vla import NeonVLA

        heavy, light = (NeonVLA.from_pretrained(Path(folder)) for folder in (policy, draft))
        return RoutedPolicy(heavy, light, real_time=real_time)
    player = build_policy(EvaluationJob("play", policy, ()), env)
    return player if real_time is None else RealTimePolicy(player, real_time, env.action_map)


def parse() -> argparse.Namespace:
    """The command line."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    shipped = str(asset_path("g1/demo_heads"))
    parser.add_argument("--policy", default=shipped, help="a checkpoint, a run of train_ppo, expert, random or zero")
    parser.add_argument("--task", help="default: reach, or what a run of train_ppo was trained on")
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--episodes", type=int, default=4)
    parser.add_argument(
        "--draft", metavar="FOLDER", help="a light checkpoint that answers easy moments: docs/inference.md"
    )
    parser.add_argument("--real-time", metavar="BLEND", help=f"real-time chunking: {', '.join(BLEND_SCHEDULES)}")
    parser.add_argument("--horizon", type=int, help="with --real-time: steps from one chunk to the next (default: 10)")
    parser.add_argument("--latency-ms", type=float, help="with --real-time: how late a chunk is (default: 0)")
    parser.add_argument("--window", action="store_true", help="show it live and write nothing")
    parser.add_argument("--teleop", action="store_true", help="drive from the keyboard instead of by a policy")
    parser.add_argument("--keys", help="drive by these keys, one per 0.1 s, instead of the keyboard")
    parser.add_argument("--out", type=Path, default=Path("runs/play"))
    args = parser.parse_args()
    args.teleop = args.teleop or args.keys is not None
    if args.teleop and args.real_time is not None:
        parser.error("--real-time is for a policy's chunks; a driver's wishes are sent as they are.")
    unknown = sorted(set(args.keys or "") - {*KEYS, STOP, NOTHING, QUIT})
    if unknown:
        parser.error(f"--keys has unknown keys {''.join(unknown)!r}. Valid: {''.join((*KEYS, STOP, NOTHING, QUIT))!r}.")
    if args.teleop and args.keys is None and not sys.stdin.isatty():
        parser.error('--teleop reads keys from a terminal, and stdin is none. Use ssh -t, or --keys "wwww......".')
    return args


def world_options(policy: str, task: str | None) -> dict[str, Any]:
    """Options of NeonG1-v0: a run of agents/train_ppo.py plays in the world that it was trained in, with our senses.

    Raises ValueError if it is to play another task, or has no checkpoint yet.
    """
    run = find_run(Path(policy))
    if run is None:
        two = Path(policy).is_dir() and find_player(policy).microphones == 2
        return {"task": task or "reach"} | ({"audio": TWO_EARS} if two else {})
    run.check_task(task or run.task)
    load_model(run)
    return {**run.env_options(), "sensors": tuple(dict.fromkeys((*SENSORS, *run.sensors)))}


def main() -> None:
    """Play or drive, and write."""
    args = parse()
    try:
        real_time = parse_real_time(args.real_time, args.horizon, args.latency_ms, args.policy)
        options = {"task": args.task or "reach"} if args.teleop else world_options(args.policy, args.task)
        options["render_mode"] = "human" if args.window else "rgb_array"
        if args.teleop:
            options["max_steps"] = 10**9  # until the driver has had enough
        env: Any = gymnasium.make("NeonG1-v0", disable_env_checker=True, **options).unwrapped
        player = None if args.teleop else build_player(args.policy, env, real_time, args.draft)
    except (ValueError, FileNotFoundError) as error:
        raise SystemExit(str(error)) from None
    with closing(Film(args.out)) as film, closing(env):
        if player is None:
            teleoperate(env, args.keys, args.seed, film)
        else:
            play(env, player, args.seed, args.episodes, film)
            if args.draft is not None:
                print(
                    f"--policy gave {100 * player.heavy_share:.0f} % of {player.answers} answers, --draft the others."
                )


if __name__ == "__main__":
    main()
