"""CPU milliseconds per frame of each sensor, beside the MuJoCo call that it rests on.

    python benchmarks/sensors.py                         # 200 rounds, about half a minute
    python benchmarks/sensors.py --rounds 20 --print-only

The scene is the reach task with the robot standing. Sensor and bare call take turns, each counts at its best round, and
CPU time is taken, threads of a software rasteriser included: what a frame costs one core. The bare call is MuJoCo's own
(`mjv_updateScene`, `mjr_render` and `mjr_readPixels` on the same context, or `mj_multiRay` on rays that were made
before); what the sensor adds is the making of rays, noise, and bringing the answer into the observation's form.
"""

import argparse
import datetime
import time
from collections.abc import Callable
from dataclasses import dataclass, replace

import mujoco
import numpy as np
from report import write_report

from neon_sim.env import ALL_SENSORS, PRIVILEGED, NeonG1Env
from neon_sim.sensors.camera import CameraConfig, shared_renderer
from neon_sim.sensors.camera_randomization import CameraRandomization
from neon_sim.sensors.gl_renderer import GLRenderer
from neon_sim.sensors.lidar import Lidar, LidarConfig, ScanPattern
from neon_sim.sensors.ray_renderer import VISIBLE_GROUPS, RayRenderer, Shell, camera_rays
from neon_sim.sim.sim_robot import SimRobot

Call = Callable[[], object]
MOST_OVERHEAD = 0.2  # of the bare call: the target
NOISY_LIDAR = LidarConfig(range_noise_m=0.02, dropout=0.05)


@dataclass(frozen=True)
class Case:
    """One row: what is timed, what it rests on (None: no MuJoCo call of any size), and how long it may take."""

    ours: Call
    bare: Call | None = None
    most_ms: float | None = None


def picture_cases(robot: SimRobot) -> dict[str, Case]:
    """Everything that is drawn, with bare draws where there is OpenGL."""
    data, model = robot.data, robot.model
    randomized = CameraConfig(randomization=CameraRandomization(pixel_noise=2.0)).build(model)
    randomized.reset(np.random.default_rng(0))

    def capture(name: str) -> Call:
        return lambda: robot.sensor(name).capture(data, data.time)

    small = shared_renderer(model, 128, 128, "auto")
    large = shared_renderer(model, 480, 640, "auto")
    rgb, ids, task = _draw(small, data, 128, "rgb"), _draw(small, data, 128, "ids"), "task"
    eyes = _draw(large, data, 640, "rgb")
    return {
        "camera 128x128": Case(capture("camera"), rgb and (lambda: rgb(task)), 2.0),
        "camera, all randomised": Case(lambda: randomized.capture(data, 0.0), rgb and (lambda: rgb(task))),
        "wrist_left 128x128": Case(capture("wrist_left"), rgb and (lambda: rgb("wrist_left"))),
        "depth 128x128": Case(capture("depth"), _with(_draw(small, data, 128, "depth"), task)),
        "segmentation 128x128": Case(capture("segmentation"), ids and (lambda: ids(task))),
        "stereo 2 x 640x480": Case(capture("stereo"), eyes and (lambda: (eyes("stereo_left"), eyes("stereo_right")))),
    }


def ray_cases(robot: SimRobot) -> dict[str, Case]:
    """The same pictures where there is no OpenGL: one ray a pixel, beside `mj_multiRay` on those rays."""
    data, model, camera = robot.data, robot.model, "task"
    rays, index = RayRenderer(model, 128, 128), model.camera("task").id
    directions = camera_rays(model, index, 128, 128).reshape(-1, 3)
    directions /= np.linalg.norm(directions, axis=1, keepdims=True)
    rays_w = directions @ data.cam_xmat[index].reshape(3, 3).T
    origin_w, body = data.cam_xpos[index].copy(), int(model.cam_bodyid[index])
    far_m = float(model.vis.map.zfar * model.stat.extent)
    return {
        "camera 128x128, rays": Case(
            lambda: rays.rgb(data, camera), _multi_ray(robot, origin_w, rays_w, body, far_m, normals=True)
        ),
        "depth 128x128, rays": Case(
            lambda: rays.depth(data, camera), _multi_ray(robot, origin_w, rays_w, body, far_m, normals=False)
        ),
    }


def _multi_ray(
    robot: SimRobot, origin_w: np.ndarray, rays_w: np.ndarray, body: int, far_m: float, normals: bool
) -> Call:
    """`mj_multiRay` alone, into arrays that are there already; a sensor looks out of its own housing on a body."""
    data, model, count = robot.data, robot.model, len(rays_w)
    rays, shell = np.ascontiguousarray(rays_w).reshape(-1), Shell(model, body)
    geom, distance, normal = np.empty(count, np.int32), np.empty(count), np.empty(3 * count) if normals else None

    def call() -> None:
        with shell.hidden(data, origin_w):
            mujoco.mj_multiRay(
                model, data, origin_w, rays, VISIBLE_GROUPS, True, -1, geom, distance, normal, count, far_m
            )

    return call


def _with(draw: Callable[[str], None] | None, camera: str) -> Call | None:
    return None if draw is None else lambda: draw(camera)


def _draw(renderer: object, data: mujoco.MjData, width: int, kind: str) -> Callable[[str], None] | None:
    """MuJoCo's calls for one picture of a named camera; None without OpenGL."""
    if not isinstance(renderer, GLRenderer):
        return None
    height = 480 if width == 640 else width
    rgb, depth = np.empty((height, width, 3), np.uint8), np.empty((height, width), np.float32)
    if kind == "ids":
        return lambda camera: renderer.draw_ids(data, camera, rgb)
    if kind == "depth":
        return lambda camera: renderer.draw(data, camera, None, depth)
    return lambda camera: renderer.draw(data, camera, rgb, None)


def lidar_cases(robot: SimRobot) -> dict[str, Case]:
    """The LiDAR with few points and with all of them."""
    data, model = robot.data, robot.model
    config = LidarConfig()
    few, noisy = Lidar(config, model), Lidar(NOISY_LIDAR, model)
    everything = Lidar(replace(config, num_points=config.frame_points), model)
    all_rays = bare_rays(robot, config, config.frame_points)
    return {
        "lidar, 1024 points": Case(lambda: few.capture(data, 0.0), bare_rays(robot, config, config.num_points)),
        "lidar, 20,000 points": Case(lambda: everything.capture(data, 0.0), all_rays, 5.0),
        "lidar, 20,000 with intensity": Case(lambda: few.full_frame(data), all_rays),
        "lidar, 20,000, noise and dropout": Case(lambda: noisy.full_frame(data), all_rays),
    }


def bare_rays(robot: SimRobot, config: LidarConfig, count: int) -> Call:
    """`mj_multiRay` alone, on some of the LiDAR's rays."""
    data, site = robot.data, robot.model.site(config.site).id
    rays, turn = ScanPattern(config).rays(0, count)
    rays_w = rays @ (data.site_xmat[site].reshape(3, 3) @ turn).T
    body = int(robot.model.site_bodyid[site])
    return _multi_ray(robot, data.site_xpos[site].copy(), rays_w, body, config.max_range_m, normals=False)


def vector_cases(env: NeonG1Env, robot: SimRobot) -> dict[str, Case]:
    """Senses of a few numbers; microseconds each, so that no ratio is taken except where MuJoCo does the work."""
    data, model = robot.data, robot.model
    clock = iter(range(1, 1 << 40))  # not from 0, the instant of the reset, at which nothing more is to be heard

    def hear() -> None:
        robot.sensor("audio").capture(data, data.time + 0.02 * next(clock))

    def capture(name: str) -> Call:
        return lambda: robot.sensor(name).capture(data, data.time)

    proprio = env.observation_space.spaces.keys() & {"proprio", "eef"}
    state = robot.read()
    return {
        "audio, 20 ms heard": Case(hear, most_ms=0.3),
        "proprio, eef": Case(lambda: [env._own[key](env, replace(state)) for key in proprio]),
        "state": Case(lambda: env._own[PRIVILEGED](env, state)),
        "imu": Case(capture("imu")),
        "force": Case(capture("force"), lambda: mujoco.mj_rnePostConstraint(model, data)),
        "tactile": Case(capture("tactile")),
        "gps": Case(capture("gps")),
    }


def measure(cases: dict[str, Case], rounds: int) -> dict[str, tuple[float, float | None]]:
    """Best CPU time in ms of each sensor and of its bare call, taking turns, each first in every other round."""
    best: dict[tuple[str, bool], float] = {}
    for number in range(rounds):
        for name, case in cases.items():
            pair = [((name, True), case.ours), ((name, False), case.bare)]
            for key, call in pair if number % 2 else pair[::-1]:  # the second of a pair finds the caches warm
                if call is not None:
                    start_s = time.process_time()
                    call()
                    best[key] = min(best.get(key, np.inf), (time.process_time() - start_s) * 1000.0)
    return {name: (best[name, True], best.get((name, False))) for name in cases}


def row(name: str, ours_ms: float, bare_ms: float | None, most_ms: float | None) -> list[str]:
    """One line of the table."""
    overhead = "-" if bare_ms is None else f"{ours_ms / bare_ms - 1.0:.0%}"
    bare = "-" if bare_ms is None else f"{bare_ms:.3f}"
    target = "-" if most_ms is None else f"{most_ms:g} ms: {'met' if ours_ms <= most_ms else 'missed'}"
    return [name, f"{ours_ms:.3f}", bare, overhead, target]


def main() -> None:
    """Measure, print and report."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--rounds", type=int, default=200, help="each call counts at its best of these")
    parser.add_argument("--print-only", action="store_true", help="leave RESULTS.md and the JSON file as they are")
    args = parser.parse_args()
    if args.rounds < 1:
        parser.error(f"--rounds must be at least 1, got {args.rounds}")
    env = NeonG1Env(sensors=ALL_SENSORS)
    env.reset(seed=0)
    robot = env.robot
    assert isinstance(robot, SimRobot)
    cases = picture_cases(robot) | ray_cases(robot) | lidar_cases(robot) | vector_cases(env, robot)
    times = measure(cases, args.rounds)
    rows = [row(name, *times[name], case.most_ms) for name, case in cases.items()]
    for name, ours, bare, overhead, target in rows:
        print(f"{name:34s} {ours:>8s} ms   bare {bare:>8s} ms   overhead {overhead:>5s}   {target}")
    backend = shared_renderer(robot.model, 128, 128, "auto").backend
    figures = {
        "rounds": args.rounds,
        "backend": backend,
        "overhead_target": MOST_OVERHEAD,
        "cpu_ms": {name: {"sensor": ours, "bare": bare} for name, (ours, bare) in times.items()},
    }
    env.close()
    if not args.print_only:
        header = ["sensor", "CPU ms a frame", "MuJoCo's call alone", "overhead", "target"]
        write_report("sensors", figures, header, rows, datetime.date.today().isoformat())


if __name__ == "__main__":
    main()
