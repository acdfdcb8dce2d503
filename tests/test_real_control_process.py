"""True processes, true DDS, true time: who dies, who notices, and how soon. Slow, and best on an idle machine.

Each time is held against its limit plus 10 ms (five ticks) plus the worst lateness that the control process saw of
itself: a machine that gives it no processor for 50 ms cannot be asked for less. What happens in which order, whatever
the time, is tested in test_real_faults.
"""

import os
import signal
import subprocess
import sys
import textwrap
import time
from collections.abc import Iterator
from contextlib import closing
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from bridge_process import BridgeProcess, bridge_process, wait_until
from robot_processes import (
    command,
    config_for,
    drive,
    drive_beside,
    hog,
    lateness_s,
    phases,
    process_is_alive,
    run,
    running,
    talking,
)

from neon_sim.g1 import joints
from neon_sim.real.control_client import ProcessClient
from neon_sim.real.errors import ControlProcessError, NotArmedError
from neon_sim.real.g1_robot import UnitreeRobot
from neon_sim.real.robot_config import RobotConfig
from neon_sim.real.safety_stop import Phase
from neon_sim.real.transport import LinkConfig

pytestmark = pytest.mark.slow

AGE_S = 0.3  # of a state; 0.05 on a robot, more where a test machine is shared
SILENCE_S = 0.2  # of an env, as on a robot
SLACK_S = 0.01
WATCHDOG_S = 0.1  # the bridge's own
BY_AGE = ("silent", "closed", "frozen", "delayed")


@pytest.fixture
def bridge() -> Iterator[BridgeProcess]:
    with bridge_process("--start", "released", "--gantry") as one:
        yield one


@pytest.fixture
def robot(bridge: BridgeProcess, tmp_path: Path) -> Iterator[UnitreeRobot]:
    """One that is patient with this test's process: something else is looked at."""
    with running(bridge.domain, tmp_path, AGE_S) as patient:
        yield patient


@pytest.fixture
def talker() -> Iterator[Any]:
    with talking(AGE_S) as one:
        yield one


def test_a_robot_that_loses_its_states_is_damped_for_good(robot, bridge, tmp_path):
    killed_s = time.monotonic()
    bridge.kill()
    wait_until(lambda: robot.phase is Phase.DAMPING)
    took_s = phases(tmp_path)["damping"] - killed_s
    print(f"link cut to damping {1e3 * took_s:.0f} ms (limit {1e3 * AGE_S:.0f}), late {1e3 * lateness_s(robot):.0f} ms")
    assert took_s <= AGE_S + SLACK_S + lateness_s(robot)
    assert robot.reasons[0].startswith("state age")
    with pytest.raises(NotArmedError, match="state age"):
        robot.reset(np.random.default_rng(0))
    with pytest.raises(NotArmedError, match="state"):
        robot.arm(gantry=True)


def test_each_faulty_state_is_answered_in_time(talker):
    """From the first faulty state on the wire to the first damping command on it, both seen from outside."""
    wire = sys.modules["dds_wire"]
    with closing(UnitreeRobot(config_for(talker.domain, age_s=AGE_S))) as robot:
        for fault in wire.FAULTS:
            talker.spoil("")
            run(robot)
            talker.spoil(fault)
            wait_until(lambda: talker.answer()[1] < np.inf or drive(robot, 1))
            late_s = lateness_s(robot)
            drive(robot, 20)
            spoilt_s, damped_s, others = talker.answer()
            took_s = damped_s - spoilt_s
            print(f"{fault}: damping after {1e3 * took_s:.1f} ms; worst lateness {1e3 * late_s:.0f} ms")
            assert robot.phase is Phase.DAMPING and others == 0
            limit_s = AGE_S if fault in BY_AGE else 0.05  # discovery tells of a second writer, and takes its time
            assert took_s <= limit_s + SLACK_S + 2.0 * late_s  # late to see it, late to be heard


def test_an_env_that_stalls_is_held_and_the_robot_stands(bridge, tmp_path):
    with running(bridge.domain, tmp_path, age_s=2.0, silence_s=SILENCE_S, lower_after_s=60.0) as robot:
        bridge.tell(hang=False)
        drive(robot, 50)
        run(robot)  # whatever the machine has stopped meanwhile
        stall(robot, tmp_path)
        assert robot.read().gravity_b[2] < -0.97  # still standing ten seconds later
        run(robot)
        assert robot.phase is Phase.RUNNING


def stall(robot: UnitreeRobot, tmp_path: Path) -> None:
    last_s = time.monotonic()
    robot.write(command())
    time.sleep(0.6)  # a slow picture, a debugger
    assert_held(robot, phases(tmp_path)["holding"] - last_s)
    for _ in range(500):  # it comes back, and asks in vain: nothing resumes by itself
        robot.write(command(0.5))
        robot.advance()
    state = robot.read()
    assert robot.phase is Phase.HOLDING, robot.reasons
    assert abs(state.joint_target[18] - joints.HOME[18]) < 0.31  # and the elbow did not follow


def assert_held(robot: UnitreeRobot, held_s: float) -> None:
    """In time after the last action."""
    print(f"last action to the hold {1e3 * held_s:.0f} ms, late {1e3 * lateness_s(robot):.0f} ms")
    assert SILENCE_S <= held_s <= SILENCE_S + 0.02 + lateness_s(robot)


def test_an_env_that_stalls_is_held_in_time_and_not_followed_again(talker, tmp_path):
    with running(talker.domain, tmp_path, silence_s=SILENCE_S, lower_after_s=60.0) as robot:
        stall(robot, tmp_path)


def test_an_env_whose_interpreter_is_held_is_held_in_time(talker, tmp_path):
    """A thread of the env's process in one long call into C: nothing else of that process runs."""
    work = hog(1.0)
    with running(talker.domain, tmp_path, silence_s=SILENCE_S, lower_after_s=60.0) as robot:
        last_s, gap_s = drive_beside(work, robot)
        assert gap_s > 2.0 * SILENCE_S
        assert robot.phase is Phase.HOLDING
        assert_held(robot, phases(tmp_path)["holding"] - last_s)


ENV_PROCESS = """
    import sys
    from pathlib import Path
    sys.path.insert(0, sys.argv[3])
    from robot_processes import drive, running
    with running(int(sys.argv[1]), Path(sys.argv[2]), silence_s=0.2) as robot:
        print(robot._client.process.pid, flush=True)
        drive(robot, 10**9)
"""


def test_an_env_that_dies_leaves_a_robot_that_stands_then_comes_down(talker, tmp_path):
    arguments = [sys.executable, "-c", textwrap.dedent(ENV_PROCESS), str(talker.domain), str(tmp_path)]
    env = subprocess.Popen([*arguments, str(Path(__file__).parent)], stdout=subprocess.PIPE, text=True)
    assert env.stdout is not None
    control = int(env.stdout.readline())
    time.sleep(0.5)
    env.kill()
    env.wait()
    killed_s = time.monotonic()
    wait_until(lambda: "damping" in phases(tmp_path))
    when = phases(tmp_path)
    print(f"killed env to the hold {1e3 * (when['holding'] - killed_s):.0f} ms after its death was seen")
    assert when["holding"] - killed_s <= 0.22 + 0.1  # how late the process was nobody is left to tell
    assert when["lowering"] - when["holding"] == pytest.approx(1.0, abs=0.1)
    assert when["damping"] - when["lowering"] == pytest.approx(2.0, abs=0.1)
    assert process_is_alive(control)  # it damps on, without anybody to ask
    os.kill(control, signal.SIGTERM)
    wait_until(lambda: not process_is_alive(control))


def test_a_control_process_that_dies_is_noticed_on_both_sides(robot, bridge):
    killed_s = time.monotonic()
    robot._client.process.kill()
    damped_s = bridge.event("watchdog", after_s=killed_s)["at_s"]
    bridge.tell(lateness=True)
    late_s = bridge.event("lateness")["max_us"] * 1e-6
    print(f"control killed to the bridge's damping {1e3 * (damped_s - killed_s):.0f} ms, late {1e3 * late_s:.0f} ms")
    assert damped_s - killed_s <= WATCHDOG_S + 0.02 + late_s
    with pytest.raises(ControlProcessError, match="ended"):
        drive(robot, 200)


def test_a_control_process_that_was_stopped_does_not_go_on_where_it_was(talker, tmp_path):
    """SIGSTOP for half a second, as a machine that swaps: what the robot did meanwhile nobody knows."""
    config = config_for(talker.domain, tmp_path)
    with closing(UnitreeRobot(replace(config, control=replace(config.control, stall_s=0.3)))) as robot:
        run(robot)
        robot._client.process.send_signal(signal.SIGSTOP)
        time.sleep(0.5)
        robot._client.process.send_signal(signal.SIGCONT)
        wait_until(lambda: robot.phase is Phase.DAMPING)
        assert robot.reasons[0].startswith("stalled control: no processor for")


def test_ctrl_c_is_the_envs_and_the_control_lives_on(talker, tmp_path):
    with running(talker.domain, tmp_path, silence_s=5.0) as robot:
        robot._client.process.send_signal(signal.SIGINT)
        drive(robot, 20)
        assert robot.phase is Phase.RUNNING
        robot._client.process.send_signal(signal.SIGTERM)  # whoever manages processes: braked, then gone
        wait_until(lambda: robot._client.process.poll() is not None)
    assert "damping" in phases(tmp_path)


def test_closing_lowers_damps_and_ends(talker, tmp_path):
    with running(talker.domain, tmp_path) as robot:
        process = robot._client.process
    when = phases(tmp_path)
    assert when["running"] < when["lowering"] < when["damping"]
    assert process.returncode == 0


def test_a_control_that_cannot_start_says_why():
    config = RobotConfig(link=LinkConfig(domain=99, interface="nosuch0", allow_network=True))
    with pytest.raises(ControlProcessError, match="nosuch0"):
        ProcessClient(config)
