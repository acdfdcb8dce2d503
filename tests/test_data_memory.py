"""Learning from far more data than memory may hold: a soup keeps what it was given room for, and no more."""

import os
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest

from neon_sim.episode import NeonEpisode

ROOM_MB = 24.0
CODE = """
import sys
from neon_sim.data.data_soup import DataSoup, DataSoupConfig
from neon_sim.data.source import DataSourceConfig
source = DataSourceConfig("a", "neon_sim", sys.argv[1])
soup = DataSoup(DataSoupConfig([source], 0.0, visit=1, memory_mb=float(sys.argv[2])))
def peak_mb():  # of this process; getrusage would tell its parent's
    lines = open("/proc/self/status").read().splitlines()
    return int(next(line.split()[1] for line in lines if line.startswith("VmHWM"))) / 1024
soup.window("a", 0, 0)
before, read, marks = peak_mb(), 0, set()
for name, index, step in soup.each():
    window = soup.window(name, index, step)
    marks.add(float(window.senses["lidar"][0]))
print(peak_mb() - before, len(marks))
"""


@pytest.mark.skipif(sys.platform != "linux", reason="reads Linux's count of a process's memory")
def test_ten_times_the_room_streams_through_it(tmp_path: Path) -> None:
    lidar = np.zeros((32, 65536), np.float32)  # 8 MB an episode in memory, next to nothing in a packed file
    for number in range(40):
        lidar[:, 0] = number
        NeonEpisode({"lidar": lidar}, np.zeros((32, 17), np.float32)).save(tmp_path / f"episode_{number:02d}.npz")
    command = [sys.executable, "-c", CODE, str(tmp_path), str(ROOM_MB)]
    done = subprocess.run(command, capture_output=True, text=True, check=True, env=os.environ)
    grown_mb, episodes = (float(word) for word in done.stdout.split())
    assert episodes == 40  # 320 MB of them, all different
    assert grown_mb < ROOM_MB + 16.0  # and the two copies of the episode that is being read
