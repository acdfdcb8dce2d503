"""Run a policy on a robot, or on the simulated one of this machine, and keep what happened.

    python real/run.py --policy zero --robot sim-bridge --steps 250
    python real/run.py --policy assets/g1/demo_heads --robot sim-bridge --dry-run
    python real/run.py --policy CKPT --robot sim-bridge --sensors proprio camera
    python real/run.py --policy CKPT --robot 192.168.123.161 --path high_level
    python real/run.py --policy CKPT --robot sim-bridge --self-learn --episodes 20 --yes

What the command line leaves open, control mode and senses, is the checkpoint's own.
Each run adds an episode to the LeRobot data set OUT/dataset (needs the extra: pip install 'neon-sim[data]').
A real robot is never armed by this program alone: it prints the preflight and asks you to type ARM. Ctrl-C lowers the
robot and damps it. It has never been tried on hardware: begin in the gantry, with --dry-run.
--self-learn lets the policy's heads learn from each episode while the robot stands still; before what was learned is
taken over you are asked to type ADOPT. The walker never learns.
"""

import argparse
import json
import socket
import subprocess
import sys
import time
from collections.abc import Iterator, Sequence
from contextlib import closing, contextmanager
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final

from neon_sim.episode import NeonEpisode
from neon_sim.inference.policy import ENGINES
from neon_sim.real.bridge.config import SENSES
from neon_sim.real.chunks import Chunks
from neon_sim.real.command_paths import PATHS
from neon_sim.real.control_config import ControlConfig
from neon_sim.real.env import NeonG1RealEnv
from neon_sim.real.errors import RobotError
from neon_sim.real.eyes import RealSenseCamera, ZmqCamera
from neon_sim.real.loops import dry_run, play
from neon_sim.real.policies import build_policy, load_model, world_config
from neon_sim.real.preflight import report
from neon_sim.real.robot_config import RobotConfig, sim_bridge
from neon_sim.real.senses import SENSE_NAMES, STOCK, SenseSources
from neon_sim.real.transport import LinkConfig

if TYPE_CHECKING:
    from neon_sim.data.lerobot import LeRobotWriter

SIM: Final = "sim-bridge"
DATASET: Final = "dataset"  # folder in OUT
DATASET_VERSION: Final = "v3.0"
_BRIDGE_STARTS_S: Final = 60.0
_HANGING_RAMP_S: Final = 2.0  # from limp to standing, in the gantry


def parse(arguments: list[str] | None = None) -> argparse.Namespace:
    """The command line."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--policy", required=True, help="folder of a checkpoint, or zero (the home pose)")
    parser.add_argument("--robot", required=True, help=f"{SIM}, or the address of a robot (192.168.123.161)")
    parser.add_argument("--path", choices=PATHS, default="low_level")
    parser.add_argument("--words", default="", help="the instruction")
    parser.add_argument("--engine", choices=ENGINES, help="how the action layer is run, and where (default: auto)")
    parser.add_argument("--steps", type=int, default=500, help="control steps, 50 a second")
    parser.add_argument("--control-mode", help="the checkpoint's own by default; arms_only for zero")
    parser.add_argument("--sensors", nargs="*", help="the checkpoint's own by default; proprio for zero")
    parser.add_argument("--camera", help="tcp://HOST:PORT of JPEG pictures, or realsense; the robot's PC2 by default")
    parser.add_argument("--mask-absent", action="store_true", help="see zeros where the robot has no such sense")
    parser.add_argument("--gantry", action="store_true", help="you say that it hangs in its gantry, or may fall")
    parser.add_argument("--dry-run", action="store_true", help="print what would be sent, send nothing")
    parser.add_argument("--domain", type=int, help="of DDS; 0 on a robot, 1 for a simulation")
    parser.add_argument("--lock-step", action="store_true", help=f"{SIM} only: time passes with commands")
    parser.add_argument("--no-start", action="store_true", help=f"{SIM} only: the bridge runs already")
    parser.add_argument("--self-learn", action="store_true", help="learn between episodes, while the robot stands")
    parser.add_argument("--episodes", type=int, help="of --self-learn, --steps each (default 10)")
    parser.add_argument("--drift", action="store_true", help="of --self-learn: learn only after a change")
    parser.add_argument("--yes", action="store_true", help=f"{SIM} only: take over what was learned without asking")
    parser.add_argument("--out", type=Path, default=Path("runs/real"))
    args = parser.parse_args(arguments)
    _refuse_wrong(parser, args)
    return args


def _refuse_wrong(parser: argparse.ArgumentParser, args: argparse.Namespace) -> None:
    """End with the words of what does not go together."""
    if args.steps < 1:
        parser.error(f"--steps must be at least 1, got {args.steps}")
    if args.robot == SIM and args.camera:
        parser.error("--camera is a robot's: the simulation has its own")
    if args.robot != SIM and args.lock_step:
        parser.error("--lock-step is for a simulation: a robot's time does not stand still")
    if args.robot != SIM and args.yes:
        parser.error(f"--yes is for {SIM}: on a robot a person confirms, each time")
    if args.self_learn and (args.dry_run or args.policy == "zero"):
        parser.error("--self-learn wants the checkpoint of a policy, and a robot that moves (no --dry-run)")
    if args.self_learn and args.engine is not None:
        parser.error("--engine is not for --self-learn: what was recorded or compiled does not learn")
    if not args.self_learn and (args.episodes is not None or args.yes or args.drift):
        parser.error("--episodes, --drift and --yes belong to --self-learn")
    if args.episodes is not None and args.episodes < 1:
        parser.error(f"--episodes must be at least 1, got {args.episodes}")


def hangs(args: argparse.Namespace) -> bool:
    """Whether the simulated robot hangs in its gantry until it is armed: in real time a free one would have fallen."""
    return args.robot == SIM and args.path == "low_level" and not args.lock_step and not args.no_start


def robot_config(args: argparse.Namespace, sensors: Sequence[str]) -> RobotConfig:
    """Where the robot is and how it is commanded. sensors: of the env."""
    if args.robot == SIM:
        clock = "lock_step" if args.lock_step else "real_time"
        senses = [name for name in sensors if name in SENSE_NAMES]
        config = sim_bridge(1 if args.domain is None else args.domain, args.path, clock, senses)
        if hangs(args):  # limp until it is armed: a pose that is not home, from which it must not jump
            stop = replace(config.control.stop, ramp_s=_HANGING_RAMP_S)
            config = replace(config, control=replace(config.control, stop=stop))
    else:
        link = LinkConfig(args.domain or 0, local_address(args.robot), allow_network=True)
        config = RobotConfig(link=link, control=ControlConfig(path=args.path), senses=stock_senses(args.camera))
    return replace(config, log=args.out, absent_senses="mask" if args.mask_absent else "refuse")


def stock_senses(camera: str | None) -> SenseSources:
    """The senses of a G1 as it is sold. camera: see `--camera`."""
    if camera is None:
        return STOCK
    return replace(STOCK, camera=RealSenseCamera() if camera == "realsense" else ZmqCamera(camera))


def local_address(host: str) -> str:
    """The address of this machine on the network on which `host` is.

    Raises:
        ValueError: nothing of that name, or no way there.
    """
    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as probe:
        try:
            probe.connect((host, 9))  # sends nothing: it only asks for the route
        except OSError as error:
            known = "Give sim-bridge, or the address of a robot on a network of this machine, such as 192.168.123.161."
            raise ValueError(f"--robot {host}: {error}. {known}") from error
        return str(probe.getsockname()[0])


@contextmanager
def bridge(
    args: argparse.Namespace, config: RobotConfig, sensors: Sequence[str]
) -> Iterator[subprocess.Popen[str] | None]:
    """Run the simulated robot as a process of its own while this lasts, unless there is a robot already.

    Raises:
        RobotError: it did not start.
    """
    if args.robot != SIM or args.no_start:
        yield None
        return
    command = [sys.executable, "-m", "neon_sim.real.bridge", "--domain", str(config.link.domain)]
    command += ["--lock-step", "--lock-step-s", "0.02"] if args.lock_step else []
    command += ["--senses", *(name for name in SENSES if name in sensors)]
    if args.path == "low_level":
        command += ["--start", "released"] + (["--gantry"] if hangs(args) else [])
    # In a session of its own: Ctrl-C is for this program, which lowers the robot; a robot does not vanish with it.
    pipe = subprocess.PIPE
    process = subprocess.Popen(command, stdin=pipe, stdout=pipe, text=True, start_new_session=True)
    try:
        assert process.stdout is not None
        if not process.stdout.readline():
            raise RobotError("The simulated robot did not start; what it printed stands above.")
        yield process
    finally:
        process.terminate()
        process.wait(_BRIDGE_STARTS_S)


def arm(env: NeonG1RealEnv, args: argparse.Namespace, simulated: subprocess.Popen[str] | None) -> bool:
    """Print the preflight, ask the person, arm; False if the person does not want to.

    Raises:
        NotArmedError: something stands against it.
    """
    print(report(env.robot.check(args.gantry)), flush=True)
    if args.robot != SIM and input("Type ARM to arm the robot, anything else to leave it: ").strip() != "ARM":
        return False
    env.robot.arm(args.gantry)
    if simulated is not None and hangs(args):
        assert simulated.stdin is not None
        print(json.dumps({"hang": False}), file=simulated.stdin, flush=True)
        time.sleep(1.0)  # it finds its feet
    return True


def keep(writer: "LeRobotWriter", episode: NeonEpisode, out: Path) -> str:
    """Add an episode to the data set, and say where it is; one that does not fit in becomes a file of its own."""
    try:
        return f"episode {writer.add(episode)} of {writer.folder}"
    except ValueError as error:
        path = episode.save(out / time.strftime("episode_%Y%m%d_%H%M%S.npz"))
        return f"{path}, because the data set did not take it: {error}"


def perform(env: NeonG1RealEnv, chunks: Chunks, args: argparse.Namespace, simulated: Any) -> int:
    """Arm, run, take the robot down, keep the episode; 0 when the robot did not stop by itself.

    Raises:
        ImportError: no data extra, and ValueError: somebody else writes to the data set; both before anything moves.
    """
    from neon_sim.data.lerobot import LeRobotWriter

    with LeRobotWriter(args.out / DATASET, DATASET_VERSION) as writer:
        if not arm(env, args, simulated):
            print("Not armed.")
            return 1
        episode = play(env, chunks, args.steps)
        stopped = env.robot.safety()["stopped"]
        env.robot.disarm()  # writing takes seconds: the robot must not wait for it as for a silent env
        if len(episode):
            print(f"Kept as {keep(writer, episode, args.out)}")
    return 1 if stopped else 0


def learn(env: NeonG1RealEnv, args: argparse.Namespace, simulated: Any) -> int:
    """`perform` for --self-learn: episode after episode, learning in between; goes on where an earlier run ended.

    Raises:
        ImportError, ValueError: as `perform`, and for a checkpoint that cannot learn. Before anything moves.
    """
    from neon_sim.data.lerobot import LeRobotWriter
    from neon_sim.real.self_learn import LearnConfig, RobotLearning, ask

    config = LearnConfig(steps=args.steps) if args.episodes is None else LearnConfig(args.episodes, args.steps)
    config = config.by_itself() if args.drift else config
    consent = (lambda words: True) if args.yes else ask
    learning = RobotLearning(Path(args.policy), args.out / "self_learn", config, consent)
    with LeRobotWriter(args.out / DATASET, DATASET_VERSION) as writer:
        if not arm(env, args, simulated):
            print("Not armed.")
            return 1
        goes_on = learning.run(env, lambda episode: print(f"Kept as {keep(writer, episode, args.out)}", flush=True))
        env.robot.disarm()
    return 0 if goes_on else 1


def main(arguments: list[str] | None = None) -> int:
    """Run; 0 when the robot did not stop by itself. What is refused is said in words, and answered by 1."""
    args = parse(arguments)
    try:
        return operate(args)
    except (RobotError, ValueError, ImportError, OSError) as error:
        print(error, file=sys.stderr)
        return 1


def operate(args: argparse.Namespace) -> int:
    """Open the robot, and do with it what the command line says; what does not fit is refused before it is armed.

    Raises:
        RobotError, ValueError, ImportError: in words, see `load_model`, `world_config`, `UnitreeRobot`, `perform`.
    """
    engine = "eager" if args.self_learn else args.engine or "auto"
    model = load_model(args.policy, None if engine == "eager" else "auto")
    world = world_config(model, args.control_mode, args.sensors, args.steps)
    config = robot_config(args, world.sensors)
    with bridge(args, config, world.sensors) as simulated, closing(NeonG1RealEnv(world, config, args.words)) as env:
        if args.self_learn:
            return learn(env, args, simulated)
        chunks = Chunks(build_policy(model, env, engine), env.action_map, waits=args.lock_step)
        try:
            if args.dry_run:
                dry_run(env, chunks, args.steps)
                return 0
            return perform(env, chunks, args, simulated)
        finally:
            chunks.close()


if __name__ == "__main__":
    sys.exit(main())
