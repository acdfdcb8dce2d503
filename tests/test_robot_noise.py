"""The robot's own noise: louder with speed and load, nearer and farther joints, knocks where contact forces rise."""

import math

import mujoco
import numpy as np
import pytest

from neon_sim.env import NeonG1Env
from neon_sim.sensors.audio import AudioConfig
from neon_sim.sensors.robot_noise import (
    ImpactNoise,
    ImpactNoiseConfig,
    MotorNoise,
    MotorNoiseConfig,
    Murmur,
    contact_force,
)
from neon_sim.sensors.sound_field import Ears

ARM = """<mujoco><worldbody><body name="torso_link"><freejoint/><geom size=".1"/>
  <body pos="0 1 0"><joint name="left" axis="0 1 0"/><geom size=".05"/></body>
  <body pos="0 -2 0"><joint name="right" axis="0 1 0"/><geom size=".05"/></body>
</body></worldbody></mujoco>"""
DROP = """<mujoco><option cone="{cone}"/><worldbody><geom type="plane" size="5 5 .1"/>
  <body name="ball" pos="0 0 {height}"><freejoint/><geom size=".05" mass="10"/></body></worldbody></mujoco>"""
ONE_EAR = Ears(np.zeros(3), np.array([[1.0, 0.0, 0.0]]), 0.0)
ABOVE = Ears(np.array([0.0, 0.0, 1.0]), np.array([[1.0, 0.0, 0.0]]), 0.0)


def motor_rms(joint: str, speed: float, torque: float = 0.0) -> float:
    """Loudness of one turning joint, the swell of the first capture left out."""
    model = mujoco.MjModel.from_xml_string(ARM)
    data = mujoco.MjData(model)
    mujoco.mj_forward(model, data)
    dof = int(model.joint(joint).dofadr[0])
    data.qvel[dof], data.qfrc_actuator[dof] = speed, torque
    motors = MotorNoise(MotorNoiseConfig(), model, 1, 1, 16000)
    motors.add_to(np.zeros((1, 320)), data, ONE_EAR)
    sound = np.zeros((1, 16000))
    motors.add_to(sound, data, ONE_EAR)
    return float(sound.std())


def test_a_joint_at_1_rad_s_and_1_m_is_as_loud_as_configured() -> None:
    # 35 dB: a peak of 10 ** (-59 / 20); the octave at half the amplitude adds a quarter of the power.
    expected = 10.0 ** (-59.0 / 20.0) / math.sqrt(2.0) * math.sqrt(1.25)
    assert motor_rms("left", 1.0) == pytest.approx(expected, rel=0.01)


def test_motors_are_louder_with_speed_with_load_and_nearer() -> None:
    one = motor_rms("left", 1.0)
    assert motor_rms("left", 0.0) == 0.0
    assert [motor_rms("left", speed) / one for speed in (0.5, -2.0, 4.0)] == pytest.approx([0.5, 2.0, 4.0], rel=0.02)
    assert motor_rms("left", 1.0, torque=15.0) / one == pytest.approx(2.0, rel=0.01)  # sqrt(1 + 15 / 5)
    assert motor_rms("right", 1.0) / one == pytest.approx(0.5, rel=0.01)  # 2 m away, not 1


def test_all_joints_moving_are_louder_than_standing_still() -> None:
    env = NeonG1Env(task="stand", sensors=("audio",), physics_dt=0.005, audio=AudioConfig(self_noise_db=None))
    env.reset(seed=0)
    for _ in range(20):
        still = env.step(np.zeros(17))[0]["audio"]
    for step in range(20):
        moving = env.step(np.full(17, 0.6 * (-1) ** (step // 8)) * (np.arange(17) < 14))[0]["audio"]
    assert moving.std() > 3.0 * still.std() > 0.0


def dropped(height: float, cone: str = "pyramidal", noise: ImpactNoise | None = None) -> tuple[np.ndarray, float]:
    """The sound of a 10 kg ball let go at `height`, as it comes in 20 ms pieces, and the contact force at the end."""
    model = mujoco.MjModel.from_xml_string(DROP.format(cone=cone, height=height))
    data = mujoco.MjData(model)
    mujoco.mj_forward(model, data)
    noise = noise or ImpactNoise(ImpactNoiseConfig(), model, 1, 16000)
    rng = np.random.default_rng(0)
    pieces = []
    for _ in range(100):
        pieces.append(np.zeros((1, 320)))
        noise.add_to(pieces[-1], data, ABOVE, rng)
        mujoco.mj_step(model, data, nstep=10)
    return np.concatenate(pieces, axis=1)[0], float(contact_force(model, data, cone == "pyramidal")[1])


@pytest.mark.parametrize("cone", ["pyramidal", "elliptic"])
def test_what_lies_still_presses_with_its_weight(cone: str) -> None:
    assert dropped(0.05, cone)[1] == pytest.approx(98.1, rel=0.01)


def test_a_fall_knocks_when_it_lands_and_is_silent_before_and_long_after() -> None:
    sound, _ = dropped(0.45)  # 0.4 m of free fall take 0.286 s = 4569 samples
    first = int(np.flatnonzero(sound)[0])
    assert 4569 <= first <= 4569 + 640 + 50  # seen within one or two captures, then 1 m of air: 47 samples
    assert np.abs(sound[first : first + 3200]).max() > 1e-3 and not sound[-3200:].any()


def test_a_harder_blow_is_louder_and_resting_is_silent() -> None:
    low, high = (np.abs(dropped(height)[0]).max() for height in (0.10, 0.80))
    assert high > low > 0.0
    model = mujoco.MjModel.from_xml_string(DROP.format(cone="pyramidal", height=0.05))
    data = mujoco.MjData(model)
    mujoco.mj_step(model, data, nstep=500)
    noise = ImpactNoise(ImpactNoiseConfig(), model, 1, 16000)
    for _ in range(10):
        sound = np.zeros((1, 320))
        noise.add_to(sound, data, ABOVE, np.random.default_rng(0))
        assert not sound.any()
        mujoco.mj_step(model, data, nstep=10)


def test_a_knock_of_100_n_peaks_at_its_level_over_the_distance() -> None:
    model = mujoco.MjModel.from_xml_string(DROP.format(cone="pyramidal", height=0.05))
    noise = ImpactNoise(ImpactNoiseConfig(level_db=74.0), model, 2, 16000)
    noise._strike(100.0, np.array([1.0, 2.0]), np.random.default_rng(0))
    assert np.abs(noise._coming).max(axis=1) == pytest.approx([0.1, 0.05])
    started = [int(np.flatnonzero(np.abs(row) > 1e-9)[0]) for row in noise._coming]
    assert started == [48, 94]  # 1 m and 2 m at 343 m/s: 46.6 and 93.3 samples; a sine begins with 0


def test_modes_need_their_numbers() -> None:
    with pytest.raises(ValueError, match="a frequency, a decay and a share"):
        ImpactNoiseConfig(modes_hz=(100.0,))


def test_the_murmur_is_as_loud_as_configured_low_and_different_at_each_ear() -> None:
    murmur = Murmur(74.0, 500.0, 2, 16000)
    sound = np.zeros((2, 64000))
    murmur.add_to(sound, np.random.default_rng(0))
    assert sound.std(axis=1) == pytest.approx([0.1 / math.sqrt(2.0)] * 2, rel=0.05)
    spectrum = np.abs(np.fft.rfft(sound[0])) ** 2
    assert spectrum[: 4 * 500].mean() > 30.0 * spectrum[4 * 5000 :].mean()  # 5 kHz lies 20 dB below
    assert abs(np.corrcoef(sound)[0, 1]) < 0.05
