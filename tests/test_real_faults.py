"""Each fault that stops a robot, with true processes over true DDS: what follows, in which order, and that it lasts.

How soon is judged in test_real_control_process (slow) and measured by benchmarks/dds_stops.py.
"""

import os
import signal
import subprocess
import sys
import textwrap
from collections.abc import Iterator
from contextlib import closing
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from bridge_process import bridge_process, wait_until
from robot_processes import (
    config_for,
    drive,
    drive_beside,
    hog,
    phases,
    process_is_alive,
    run,
    running,
    talking,
)

from neon_sim.real.errors import ControlProcessError, NotArmedError
from neon_sim.real.g1_robot import UnitreeRobot
from neon_sim.real.safety_stop import Phase

AGE_S = 2.0  # of a state; 0.05 on a robot
SILENCE_S = 2.0  # of an env; 0.2 on a robot
WORDS = {
    "nan": "not a number",
    "tick back": "out-of-order tick",
    "hot": "winding temperature",
    "hot casing": "casing temperature",
    "fast": "joint speed",
    "beyond": "joint range",
    "tilted": "tilt",
    "bad crc": "bad CRC",
    "silent": "state age",
    "closed": "state age",
    "frozen": "state age",
    "delayed": "state age",
    "second writer": "second writer",
}


@pytest.fixture(scope="module")
def talker() -> Iterator[Any]:
    with talking(AGE_S) as robot:
        yield robot


@pytest.fixture(scope="module")
def robot(talker: Any) -> Iterator[UnitreeRobot]:
    with closing(UnitreeRobot(config_for(talker.domain, age_s=AGE_S, silence_s=SILENCE_S, lower_after_s=60.0))) as one:
        yield one


@pytest.mark.parametrize("fault", WORDS)
def test_a_faulty_state_is_answered_by_damping_and_by_nothing_else(robot, talker, fault):
    """As another process hears it: damping after the first faulty state, and no other command from then on."""
    talker.spoil("")
    run(robot)
    talker.spoil(fault)
    wait_until(lambda: drive(robot, 1) or robot.phase is Phase.DAMPING)
    assert robot.reasons[0].startswith(WORDS[fault])
    wait_until(lambda: talker.answer()[1] < np.inf)
    drive(robot, 5)
    spoilt_s, damped_s, others = talker.answer()
    print(f"{fault}: damping after {1e3 * (damped_s - spoilt_s):.1f} ms")
    assert damped_s >= spoilt_s and others == 0
    talker.spoil("")  # it heals, and the env goes on asking: nothing resumes by itself
    drive(robot, 10)
    assert robot.phase is Phase.DAMPING and robot.reasons[0].startswith(WORDS[fault])
    with pytest.raises(NotArmedError, match=WORDS[fault]):
        robot.reset(np.random.default_rng(0))


def test_an_env_whose_interpreter_is_held_is_not_followed_again(robot, talker):
    talker.spoil("")
    for wanted_s in (SILENCE_S + 1.0, 3.0 * SILENCE_S, 9.0 * SILENCE_S):  # a machine whose speed changes needs more
        run(robot)
        _, gap_s = drive_beside(hog(wanted_s), robot)
        if gap_s > SILENCE_S + 0.5:
            break
    assert gap_s > SILENCE_S + 0.5
    assert robot.phase is Phase.HOLDING and robot.reasons[0].startswith("stale action")
    elbow = robot.read().joint_target[18]
    drive(robot, 20)
    assert robot.phase is Phase.HOLDING and robot.read().joint_target[18] == elbow
    run(robot)  # a person arms it: it stands already


ENV_PROCESS = """
    import sys
    from pathlib import Path
    sys.path.insert(0, sys.argv[3])
    from robot_processes import drive, running
    with running(int(sys.argv[1]), Path(sys.argv[2]), silence_s=0.5, lower_after_s=0.3, lower_s=0.3) as robot:
        print(robot._client.process.pid, flush=True)
        drive(robot, 10**9)
"""


def test_processes_that_die(tmp_path):
    """Kill -9 of the env, then of its control, each as the one that is left sees it."""
    with bridge_process("--start", "released", "--gantry") as bridge:
        arguments = [sys.executable, "-c", textwrap.dedent(ENV_PROCESS), str(bridge.domain), str(tmp_path)]
        env = subprocess.Popen([*arguments, str(Path(__file__).parent)], stdout=subprocess.PIPE, text=True)
        assert env.stdout is not None
        control = int(env.stdout.readline())
        env.kill()
        env.wait()
        wait_until(lambda: "damping" in phases(tmp_path))
        when = phases(tmp_path)
        assert when["running"] < when["holding"] < when["lowering"] < when["damping"]
        assert when["lowering"] - when["holding"] >= 0.29 and when["damping"] - when["lowering"] >= 0.29
        assert process_is_alive(control)  # it damps on, without anybody to ask
        os.kill(control, signal.SIGKILL)
        assert bridge.silenced()["silence_s"] > 0.1


def test_a_robot_that_dies_under_its_control_and_a_control_that_dies_under_its_env():
    with bridge_process("--start", "released", "--gantry") as bridge:
        with running(bridge.domain) as robot:
            robot._client.process.kill()
            assert bridge.silenced()["silence_s"] > 0.1
            with pytest.raises(ControlProcessError, match="ended"):
                drive(robot, 10_000)
        with running(bridge.domain) as robot:
            bridge.kill()
            wait_until(lambda: robot.phase is Phase.DAMPING)
            assert robot.reasons[0].startswith("state age")
            with pytest.raises(NotArmedError, match="state"):
                robot.arm(gantry=True)
