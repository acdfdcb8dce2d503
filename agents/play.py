"""Watch a policy: writes a video and a picture of what the robot does and senses.

    python agents/play.py                                  # the shipped demo heads reach for balls
    python agents/play.py --policy expert --task reach --seed 3
    python agents/play.py --policy random --task stand --window   # live, where there is a display

Writes OUT/play.mp4 and OUT/play.png (the robot, its head camera, its LiDAR from above).
"""

import argparse
from pathlib import Path
from typing import Any

import gymnasium
import imageio.v2 as imageio
import numpy as np
from PIL import Image, ImageDraw

import neon_sim  # noqa: F401  registers NeonG1-v0
from neon_sim.eval.evaluate import EvaluationJob, build_policy
from neon_sim.shipped import asset_path

PANEL = 240  # px, side of a sense's panel
LIDAR_RANGE_M = 4.0
EVERY = 2  # control steps per video frame: 25 pictures a second


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
    draw.text((8, height - 20), f'"{words}"', fill=(255, 255, 255))
    draw.text((width + 6, 4), "head camera", fill=(255, 255, 255))
    draw.text((width + 6, PANEL + 4), "LiDAR, from above", fill=(255, 255, 255))
    return np.asarray(canvas)


def play(env: Any, policy: Any, seed: int, episodes: int) -> list[np.ndarray]:
    """Run whole episodes and return the pictures (none in a live window)."""
    pictures = []
    for episode in range(episodes):
        policy.reset()
        obs, info = env.reset(seed=seed + episode)
        policy.observe(obs, info["time_s"])
        over, step = False, 0
        chunk = np.empty((0, env.action_map.dim))
        while not over:
            if step % 16 == 0:
                chunk = policy.act()[0]
            if env.render_mode == "rgb_array" and step % EVERY == 0:
                pictures.append(compose(env.render(), obs, info["instruction"]))
            obs, _, terminated, truncated, info = env.step(chunk[step % 16])
            policy.observe(obs, info["time_s"])
            over, step = terminated or truncated or (info["success"] and env.config.task != "stand"), step + 1
        print(f'"{info["instruction"]}": {"done" if info["success"] else "not done"} after {step / 50:.1f} s')
    return pictures


def main() -> None:
    """Play and write."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    shipped = str(asset_path("g1/demo_heads"))
    parser.add_argument("--policy", default=shipped, help="a checkpoint, expert, random or zero")
    parser.add_argument("--task", default="reach")
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--episodes", type=int, default=4)
    parser.add_argument("--window", action="store_true", help="show it live and write nothing")
    parser.add_argument("--out", type=Path, default=Path("runs/play"))
    args = parser.parse_args()
    mode = "human" if args.window else "rgb_array"
    env: Any = gymnasium.make("NeonG1-v0", task=args.task, render_mode=mode, disable_env_checker=True).unwrapped
    policy = build_policy(EvaluationJob("play", args.policy, ()), env)
    pictures = play(env, policy, args.seed, args.episodes)
    env.close()
    if pictures:
        args.out.mkdir(parents=True, exist_ok=True)
        imageio.mimwrite(args.out / "play.mp4", pictures, fps=50 // EVERY)
        imageio.imwrite(args.out / "play.png", pictures[len(pictures) - 2])
        print(f"Wrote {args.out / 'play.mp4'} and {args.out / 'play.png'}")


if __name__ == "__main__":
    main()
