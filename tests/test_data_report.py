"""What a run says about its data, by one process or by all of them."""

import json
import os
import socket
import subprocess
import sys
from pathlib import Path

import torch

from neon_sim.data.action_mapper import ActionMapper
from neon_sim.training.data_report import all_bad, by_source, dropped_lines, write_data
from neon_sim.training.distributed import Team

ALONE = Team(0, 1, torch.device("cpu"))
REPORT = ActionMapper(["left_elbow", "left_gripper"]).report

TELL = """
from neon_sim.training.data_report import all_bad, by_source
from neon_sim.training.distributed import join_team
team = join_team("cpu")
bad = [("a", 3), ("b", 1)] if team.leads else [("a", 3), ("a", 7)]
print(by_source(all_bad(team, bad)))
"""


def test_one_process_says_what_it_left_out() -> None:
    assert by_source(all_bad(ALONE, [("a", 3), ("b", 1), ("a", 7)])) == {"a": 2, "b": 1}
    assert by_source(all_bad(ALONE, [])) == {}


def test_what_any_process_left_out_counts_once() -> None:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port = str(probe.getsockname()[1])
    team = {"WORLD_SIZE": "2", "MASTER_ADDR": "127.0.0.1", "MASTER_PORT": port, "OMP_NUM_THREADS": "1"}
    both = [
        subprocess.Popen(
            [sys.executable, "-c", TELL], env={**os.environ, **team, "RANK": rank}, stdout=subprocess.PIPE, text=True
        )
        for rank in "01"
    ]
    assert [eval(process.communicate(timeout=200)[0]) for process in both] == 2 * [{"a": 2, "b": 1}]


def test_the_file_has_counts_mapping_and_what_was_left_out(tmp_path: Path) -> None:
    counts = {"arm": {"episodes": 3, "share": 0.5}, "own": {"episodes": 2, "share": 0.5}}
    write_data(tmp_path, counts, {"arm": REPORT}, {"own": 1})
    told = json.loads((tmp_path / "data.json").read_text())
    assert told["own"] == {"episodes": 2, "share": 0.5, "skipped": 1} and told["arm"]["skipped"] == 0
    assert told["arm"]["mapping"]["mapped"] == {"left_elbow": "left_elbow_joint"}
    assert told["arm"]["mapping"]["dropped"] == ["left_gripper"] and len(told["arm"]["mapping"]["padded"]) == 31


def test_dropped_columns_are_named() -> None:
    whole = ActionMapper(["left_elbow"]).report
    assert dropped_lines({"own": whole}) == ""
    line = "Not learned from 'arm', because the G1 has no place for it: left_gripper."
    assert dropped_lines({"own": whole, "arm": REPORT}) == line
