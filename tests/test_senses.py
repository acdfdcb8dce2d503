"""The page that lists the senses says what the code does, and settings of a sense can be changed one by one."""

import pickle
import re
from dataclasses import fields, replace
from pathlib import Path

import pytest

from neon_sim.env import ALL_SENSORS, NeonG1Config, observation_space
from neon_sim.sensors.depth import DepthConfig
from neon_sim.sensors.senses import EXTRA_SENSORS, ExtraSenses
from neon_sim.sensors.sensor import SensorConfig

PAGE = (Path(__file__).resolve().parents[1] / "docs" / "senses.md").read_text(encoding="utf-8")
ROWS = re.findall(r"^\| `(\w+)` \| (.+?) \| (\d+) \|", PAGE, flags=re.MULTILINE)


def test_the_page_lists_every_sense_in_the_codes_order() -> None:
    assert tuple(name for name, _, _ in ROWS) == ALL_SENSORS


@pytest.mark.parametrize(("name", "keys", "rate"), ROWS)
def test_shapes_and_rates_on_the_page_are_the_codes(name: str, keys: str, rate: str) -> None:
    config = NeonG1Config(sensors=(name,))
    space = observation_space(config)
    listed = {
        key: tuple(map(int, re.findall(r"\d+", shape))) for key, shape in re.findall(r"`(\w+)` \(([\d, ]+)\)", keys)
    }
    assert listed == {key: part.shape for key, part in space.items() if key not in ("command", "instruction")}
    for sense in config.sensor_configs().values():
        assert sense.rate_hz == float(rate)


def test_every_opt_in_sense_is_a_config_that_pickles() -> None:
    senses = ExtraSenses()
    assert all(isinstance(getattr(senses, part.name), SensorConfig) for part in fields(senses))
    assert tuple(part.name for part in fields(senses)) == EXTRA_SENSORS
    changed = replace(senses, depth=DepthConfig(max_m=5.0))
    assert pickle.loads(pickle.dumps(changed)) == changed != senses and changed.imu == senses.imu
