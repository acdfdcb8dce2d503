"""The robot's control over DDS on loopback: codec, 500 Hz loop, step() at 50 Hz, and how soon each fault is answered.

    python benchmarks/dds_loop.py                # about eight minutes, on an idle machine
    python benchmarks/dds_loop.py --seconds 3 --repeats 1 --print-only

True processes throughout: control process, simulated robot (or, for faults of the state, one that only talks) and this
one as the env. Times of stops are worst cases over all repeats and hold whatever the machine itself added. A stop that
nobody asked for, because the machine let a state grow old, is counted and the robot armed again; where the age of a
state is not the matter, the limit on it is lifted, and how often it would have stopped the robot is counted instead.
"""

# mypy: disable-error-code="import-not-found"
# (real/ is neon_sim.real only when installed, and mypy looks in neon_sim/)
import argparse
import datetime
import os
import time
from collections.abc import Iterator
from contextlib import closing, contextmanager, nullcontext
from typing import Any

import numpy as np
from dds_codec import codec_us
from dds_cuts import high_level_stops, link_cuts, network_cuts, robot_kills
from dds_stops import AGE_S, GANTRY, PATIENT_S, arm, config_for, stale_holds, state_faults
from dds_wire import FAULTS, SimulatedRobot, cpu_s, neighbours
from report import write_report

from neon_sim.real.env import NeonG1RealEnv
from neon_sim.real.lateness import late_quantile_us
from neon_sim.real.safety_stop import Phase

TARGETS = {
    "decode_speedup": 100.0,
    "encode_speedup": 20.0,
    "encode_lowcmd_us": 12.0,
    "stop_worst_ms": 60.0,
    "stale_hold_worst_ms": 220.0,
    "link_cut_worst_ms": 120.0,
}
QUANTILES = {"p50": 0.5, "p99": 0.99, "max": 1.0}


# ---- loops


@contextmanager
def env_on(domain: int) -> Iterator[tuple[NeonG1RealEnv, SimulatedRobot]]:
    """NeonG1Real-v0 on a simulated robot that hangs in its gantry."""
    with (
        closing(SimulatedRobot(domain, *GANTRY)) as robot,
        closing(NeonG1RealEnv(robot=config_for(domain, PATIENT_S), sensors=("proprio",), max_steps=10**9)) as env,
    ):
        yield env, robot


def loop_times(domain: int, seconds: float, load: int) -> dict[str, float]:
    """Lateness of the 500 Hz ticks, intervals between step()s, and processor shares, beside so many busy neighbours."""
    with env_on(domain) as (env, simulated), neighbours(load) if load else nullcontext():
        robot = env.robot
        false_stops = len(arm(robot))
        env.reset(seed=0)
        pids = {"control": robot._client.process.pid, "env": os.getpid(), "robot": simulated.process.pid}
        counts, cpu, start_s = robot.late_counts, {name: cpu_s(pid) for name, pid in pids.items()}, time.monotonic()
        intervals: list[float] = []
        old = 0
        while time.monotonic() < start_s + seconds:
            found, found_old = step_intervals(env, start_s + seconds)
            intervals, old = intervals + found, old + found_old
            if robot.phase is not Phase.RUNNING:
                false_stops += 1 + len(arm(robot))
                env.reset()
        wall_s, counts = time.monotonic() - start_s, robot.late_counts - counts
        shares = {f"{name}_cpu": (cpu_s(pid) - cpu[name]) / wall_s for name, pid in pids.items()}
    return {
        "loop_hz": float(counts.sum() / wall_s),
        **{f"late_{name}_us": late_quantile_us(counts, share) for name, share in QUANTILES.items()},
        **{f"step_{name}_ms": float(np.quantile(intervals, share)) for name, share in QUANTILES.items()},
        **shares,
        "old_states": old,
        "false_stops": false_stops,
    }


def step_intervals(env: NeonG1RealEnv, until_s: float) -> tuple[list[float], int]:
    """Step until then, or until the robot stops.

    Returns:
        ms from the end of each step to the end of the next; how many steps saw a state older than a robot's limit.
    """
    ends, old = [], 0
    action = np.zeros(env.action_map.dim, np.float32)
    truncated = False
    while not truncated and time.monotonic() < until_s:
        _, _, _, truncated, info = env.step(action)
        old += info["safety"]["state_age_s"] > AGE_S
        ends.append(time.monotonic())
    return (1e3 * np.diff(ends)).tolist(), old


# ---- report


def figures_of(seconds: float, repeats: int, domain: int, age_s: float) -> dict[str, Any]:
    """Measure everything; domains from `domain` on are used."""
    codec = codec_us(rounds=max(20, 10 * repeats))
    (decode, sdk_decode), (encode, sdk_encode) = codec["decode LowState"], codec["encode LowCmd + CRC"]
    load = 2 * len(os.sched_getaffinity(0))
    loops = {"idle": loop_times(domain, seconds, 0), "load": loop_times(domain + 1, seconds, load)}
    faults = state_faults(domain + 2, repeats, age_s)
    held, kills = stale_holds(domain + 3, repeats), link_cuts(domain + 4, repeats)
    robot_killed, high_level = robot_kills(domain + 4, repeats, age_s), high_level_stops(domain + 4, repeats, age_s)
    network = network_cuts(domain, repeats, age_s)
    return {
        "decode_lowstate_us": decode,
        "encode_lowcmd_us": encode,
        "decode_speedup": sdk_decode / decode,
        "encode_speedup": sdk_encode / encode,
        "codec_speedup": min(sdk_decode / decode, sdk_encode / encode),
        "sdk_style_us": {"decode_lowstate": sdk_decode, "encode_lowcmd": sdk_encode},
        "stop_worst_ms": max(
            [*faults["worst_ms"].values(), *robot_killed, *high_level, *network.get("control_ms", ())]
        ),
        "stale_hold_worst_ms": max(held),
        "link_cut_worst_ms": max([*kills, *network.get("robot_ms", ())]),
        "loop_hz": loops["idle"]["loop_hz"],
        "loop": loops,
        "busy_neighbours": load,
        "state_faults": faults,
        "stale_hold_ms": held,
        "control_killed_ms": kills,
        "robot_killed_ms": robot_killed,
        "high_level_stop_ms": high_level,
        "network_cut": network,
        "age_limit_s": age_s,
        "seconds": seconds,
        "repeats": repeats,
        "targets": TARGETS,
    }


def rows_of(found: dict[str, Any]) -> list[list[str]]:
    """The table: what, measured, target."""
    idle, load = found["loop"]["idle"], found["loop"]["load"]
    faults = found["state_faults"]
    rows = [
        ["decode LowState", f"{found['decode_lowstate_us']:.1f} us, {found['decode_speedup']:.0f} x the SDK's way"],
        ["encode LowCmd + CRC", f"{found['encode_lowcmd_us']:.1f} us, {found['encode_speedup']:.0f} x the SDK's way"],
        ["worst state fault to damping", f"{found['stop_worst_ms']:.1f} ms"],
        ["worst last command to hold", f"{found['stale_hold_worst_ms']:.0f} ms"],
        ["worst death of the control or cut network to the robot's damping", f"{found['link_cut_worst_ms']:.0f} ms"],
        ["faults that were not latched", f"{len(faults['missed_latches'])} of {len(FAULTS) * found['repeats']}"],
    ]
    kept = [
        kept_by(found, "decode_speedup", at_least=True),
        f"{kept_by(found, 'encode_speedup', at_least=True)}; {kept_by(found, 'encode_lowcmd_us')}",
        *(kept_by(found, name) for name in ("stop_worst_ms", "stale_hold_worst_ms", "link_cut_worst_ms")),
        f"0: {'missed' if faults['missed_latches'] else 'met'}",
    ]
    table = [[*row, target] for row, target in zip(rows, kept, strict=True)]
    table += cut_rows(found)
    for label, loop in (("idle", idle), (f"{found['busy_neighbours']} busy neighbours", load)):
        late = " / ".join(f"{loop[f'late_{name}_us']:.0f}" for name in QUANTILES)
        step = " / ".join(f"{loop[f'step_{name}_ms']:.1f}" for name in QUANTILES)
        cpu = ", ".join(f"{name} {100 * loop[f'{name}_cpu']:.0f} %" for name in ("control", "env", "robot"))
        table.append([f"loop, {label}", f"{loop['loop_hz']:.1f} Hz; late p50 / p99 / max {late} us", "-"])
        table.append([f"step(), {label}", f"every {step} ms (p50 / p99 / max); CPU {cpu}", "-"])
        table.append([f"states older than {1e3 * AGE_S:.0f} ms, {label}", f"{loop['old_states']} steps saw one", "-"])
    return table


def cut_rows(found: dict[str, Any]) -> list[list[str]]:
    """What went away, and how soon who damped; each is in one of the worst times above."""
    network = found["network_cut"]
    why = f"not measured: {network.get('not_measured')}"
    cuts = {side: f"{max(network[side]):.1f} ms" if side in network else why for side in ("control_ms", "robot_ms")}
    return [
        ["kill -9 of the robot to the control's damping", f"{max(found['robot_killed_ms']):.1f} ms", "-"],
        ["network cut to the control's damping", cuts["control_ms"], "-"],
        ["network cut to the robot's damping", cuts["robot_ms"], "-"],
        ["kill -9 of the control to the robot's damping", f"{max(found['control_killed_ms']):.1f} ms", "-"],
        ["state fault on high_level to the robot's fsm 1", f"{max(found['high_level_stop_ms']):.1f} ms", "-"],
    ]


def kept_by(found: dict[str, Any], name: str, at_least: bool = False) -> str:
    """The target of a figure, and whether it was met."""
    target = TARGETS[name]
    met = found[name] >= target if at_least else found[name] <= target
    return f"{'at least' if at_least else 'at most'} {target:g}: {'met' if met else 'missed'}"


def main() -> None:
    """Measure, print and report."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--seconds", type=float, default=60.0, help="of each loop, idle and under load")
    parser.add_argument("--repeats", type=int, default=10, help="of each fault")
    parser.add_argument("--age-s", type=float, default=AGE_S, help="limit on a state's age; more on a busy machine")
    parser.add_argument("--domain", type=int, default=60, help="first of five DDS domains that nobody else uses")
    parser.add_argument("--print-only", action="store_true", help="leave RESULTS.md and the JSON file as they are")
    args = parser.parse_args()
    if args.age_s != AGE_S and not args.print_only:
        parser.error(f"What is reported is measured with a robot's own limit of {AGE_S} s: --age-s wants --print-only.")
    if args.repeats < 1 or args.seconds < 1.0:
        parser.error(f"--repeats and --seconds must be at least 1, got {args.repeats} and {args.seconds}")
    found = figures_of(args.seconds, args.repeats, args.domain, args.age_s)
    rows = rows_of(found)
    for what, measured, target in rows:
        print(f"{what:50s} {measured:60s} {target}")
    if not args.print_only:
        header = ["on loopback", "measured", "target"]
        write_report("dds_loop", found, header, rows, datetime.date.today().isoformat())


if __name__ == "__main__":
    main()
