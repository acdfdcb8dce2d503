"""NeonBench: cells that differ in what their names say, fixed episodes, files to go on from, and a report by hand."""

import json
import os
import runpy
import signal
import subprocess
import sys
import time
from dataclasses import replace
from itertools import pairwise
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import gymnasium
import imageio.v2 as imageio
import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from tiny_neon import tiny_model

import neon_sim  # noqa: F401  registers NeonG1-v0
from neon_sim.cells import CELLS, LASTING, TASKS, TWO_EARS, WORDS, cell_options, first_alike
from neon_sim.eval import neonbench
from neon_sim.eval.neonbench_card import write_cards
from neon_sim.eval.neonbench_play import (
    FIRST_SEED,
    BenchEpisode,
    Player,
    Shard,
    find_player,
    play_shard,
    read_shard,
    shards_of,
    told_apart,
)
from neon_sim.eval.neonbench_report import BenchResults, Score, as_dict, as_markdown
from neon_sim.sensors.audio import AudioConfig
from neon_sim.sensors.camera import CameraConfig
from neon_sim.sim.rooms import RoomConfig
from neon_sim.tasks.reach import WORDING

ROOT = Path(__file__).resolve().parents[1]
EVERYTHING = (WORDS, "proprio", "camera", "lidar", "audio")
ALIKE_FOR_THE_BLIND = ("unseen_wordings", "camera_dark", "audio_noise", "lidar_dropout")


def _differences(cell: str) -> set[str]:
    """What a cell changes for a policy that reads everything, named as in its options."""
    nominal, other = cell_options("nominal", EVERYTHING), cell_options(cell, EVERYTHING)
    assert nominal.keys() == other.keys()
    changed = {name for name in nominal if nominal[name] != other[name]} - {"task_options"}
    pairs = zip(nominal["task_options"].items(), other["task_options"].items(), strict=True)
    return changed | {one[0] for one, two in pairs if one != two}


def _open(cell: str, task: str = "reach", reads: tuple[str, ...] = EVERYTHING) -> Any:
    return gymnasium.make("NeonG1-v0", task=task, disable_env_checker=True, **cell_options(cell, reads)).unwrapped


def test_each_cell_changes_one_thing_and_the_last_one_all_of_them() -> None:
    assert len(CELLS) == 8 and next(iter(CELLS)) == "nominal"
    assert [_differences(cell) for cell in CELLS] == [
        set(),
        {"scene"},
        {"wording"},
        {"objects"},
        {"camera"},
        {"audio"},
        {"lidar"},
        {"scene", "wording", "objects", "camera", "audio", "lidar"},
    ]
    assert cell_options("unseen_scenes", EVERYTHING, room=3)["scene"] == RoomConfig("test", seed=3)


def test_a_policy_of_two_ears_is_given_two_and_every_other_one_as_before(tmp_path: Path) -> None:
    for count in (1, 2):
        tiny_model(tmp_path / "backbone", microphones=count).save_pretrained(tmp_path / str(count))
        assert find_player(str(tmp_path / str(count))).microphones == count
    assert cell_options("nominal", EVERYTHING)["audio"] == AudioConfig()
    quiet, loud = (cell_options(cell, EVERYTHING, microphones=2)["audio"] for cell in ("nominal", "audio_noise"))
    assert quiet == TWO_EARS and loud == replace(TWO_EARS, ambient_db=60.0) and quiet.microphones == 2
    assert cell_options("nominal", ("proprio",), microphones=2).keys() == cell_options("nominal", ("proprio",)).keys()
    obs, _ = _open("nominal", reads=("audio",)).reset(seed=0)
    two = gymnasium.make("NeonG1-v0", disable_env_checker=True, **cell_options("nominal", ("audio",), 0, 2))
    assert two.reset(seed=0)[0]["audio"].size == 2 * obs["audio"].size


@given(st.sets(st.sampled_from(EVERYTHING)))
def test_a_policy_plays_as_many_cells_as_it_can_tell_apart(read: set[str]) -> None:
    reads = tuple(name for name in EVERYTHING if name in read)
    firsts = {cell: first_alike(cell, reads) for cell in CELLS}
    hears_words = WORDS in read or "audio" in read
    assert len(set(firsts.values())) == 4 + hears_words + len(read & {"camera", "lidar", "audio"})
    assert all(first_alike(first, reads) == first for first in firsts.values())
    assert cell_options("nominal", reads)["sensors"] == tuple(name for name in reads if name != WORDS)


def test_a_spoiled_world_looks_sounds_and_reads_as_its_cell_says() -> None:
    """The same seed in both: what the robot reads is other, where the balls are is not."""
    heard, brightest, hits, words, places = [], [], [], [], []
    for cell in ("nominal", "everything_unseen"):
        env = _open(cell)
        obs, info = env.reset(seed=FIRST_SEED)
        heard.append(float(np.sqrt(np.mean(obs["audio"] ** 2))))
        brightest.append(int(obs["camera"].max()))
        hits.append(int((obs["lidar"].reshape(-1, 3) != 0.0).any(axis=1).sum()))
        words.append(info["instruction"])
        places.append(env.privileged()["target_pos_b"])
        env.close()
    assert heard[1] > 5.0 * heard[0]  # 60 dB against 35 dB is 18 times the pressure, the robot's own noise aside
    assert brightest[0] > 100 and brightest[1] <= 255 * 0.05 + 6
    assert 200 < hits[1] < 0.65 * 1024  # half of the rays; indoors nearly every ray hits something
    patterns = [{text.format(color=c, hand=h) for text in WORDING.of(split) for c in ("red", "green", "blue", "yellow",
                "purple") for h in ("left", "right")} for split in ("train", "test")]  # fmt: skip
    assert words[0] in patterns[0] and words[1] in patterns[1]
    np.testing.assert_allclose(places[0], places[1], atol=1e-9)


def test_a_clear_camera_sees_what_a_plain_one_does() -> None:
    options = cell_options("nominal", ("camera",))
    pictures = []
    for camera in (options["camera"], CameraConfig()):
        env = gymnasium.make("NeonG1-v0", task="stand", disable_env_checker=True, **{**options, "camera": camera})
        pictures.append(env.reset(seed=1)[0]["camera"])
        env.close()
    np.testing.assert_array_equal(*pictures)


def test_unknown_cells_are_refused_with_the_nearest() -> None:
    with pytest.raises(ValueError, match="Unknown cell 'camera_drak'. Did you mean 'camera_dark'"):
        cell_options("camera_drak", ())


def _players(*names: str) -> tuple[Player, ...]:
    return tuple(find_player(name) for name in names)


def test_experts_win_zero_loses_and_a_second_run_plays_nothing(tmp_path: Path) -> None:
    config = neonbench.BenchConfig(_players("expert", "zero"), ("reach",), ("nominal", "camera_dark"), episodes=2)
    results = neonbench.run(config, tmp_path, workers=1)
    assert set(results.played) == {("expert", "reach", "nominal"), ("zero", "reach", "nominal")}
    expert, zero = (results.of(player, "reach", "camera_dark") for player in config.players)
    assert [row.seed for row in expert] == [row.seed for row in zero] == [FIRST_SEED, FIRST_SEED + 1]
    assert all(row.success and row.steps < 150 for row in expert)
    assert all(not row.success and row.steps == 150 and not row.terminated for row in zero)
    files = {path: path.stat().st_mtime_ns for path in tmp_path.rglob("*.json")}
    assert len(files) == 2
    again = neonbench.run(config, tmp_path, workers=1)
    assert again == results and files == {path: path.stat().st_mtime_ns for path in tmp_path.rglob("*.json")}


def test_more_episodes_go_on_where_fewer_ended_and_are_the_same_for_any_cut(tmp_path: Path) -> None:
    """The random policy, whose episodes would show any difference in what went before them."""
    (player,) = _players("random")
    (small,) = shards_of(player, "reach", "unseen_scenes", 3, tmp_path)
    (large,) = shards_of(player, "reach", "unseen_scenes", 7, tmp_path)  # two rooms
    play_shard(small)
    first = read_shard(small)
    assert first is not None and read_shard(large) is None
    play_shard(large)
    all_seven, first_again = read_shard(large), read_shard(small)
    assert all_seven is not None and first_again is not None and len(all_seven) == 7
    assert [replace(row, cpu_s=0.0) for row in first_again] == [replace(row, cpu_s=0.0) for row in first]
    assert [row.seed - FIRST_SEED for row in all_seven] == list(range(7))


def test_shards_cover_every_episode_once() -> None:
    (player,) = _players("zero")
    shards = shards_of(player, "stand", "nominal", 45, Path("x"))
    assert [(shard.first, shard.count) for shard in shards] == [(0, 20), (20, 20), (40, 5)]
    assert len({shard.path for shard in shards}) == 3
    assert all(one.first + one.count == two.first for one, two in pairwise(shards))


def test_a_file_of_another_player_or_world_is_not_taken_up(tmp_path: Path) -> None:
    (player,) = _players("zero")
    shard = Shard(player, "reach", "nominal", 0, 1, str(tmp_path / "a.json"))
    play_shard(shard)
    assert read_shard(shard) is not None
    others = (
        replace(shard, player=replace(player, mark="other weights")),
        replace(shard, cell="unseen_objects"),
        replace(shard, first=20),
        replace(shard, count=2),
    )
    assert [read_shard(other) for other in others] == [None] * 4
    assert not list(tmp_path.glob("*.partial"))


def test_what_must_last_is_judged_at_the_end(tmp_path: Path) -> None:
    (player,) = _players("zero")
    assert set(LASTING) < set(TASKS)
    shard = Shard(player, "stand", "nominal", 0, 1, str(tmp_path / "a.json"))
    play_shard(shard)
    (row,) = read_shard(shard) or ()
    assert row.success and row.steps == 500


def test_a_checkpoint_is_given_what_it_reads(tmp_path: Path) -> None:
    tiny_model(tmp_path / "backbone", use_lidar=False).save_pretrained(tmp_path / "tiny")
    player = find_player(str(tmp_path / "tiny"))
    assert player.label == "tiny" and set(player.reads) == {WORDS, "camera", "proprio", "audio"}
    assert find_player(str(tmp_path / "tiny"), ("proprio", "camera")).reads == (WORDS, "proprio", "camera")
    assert {cell for cell in CELLS if first_alike(cell, player.reads) != cell} == {"lidar_dropout"}
    shard = Shard(player, "reach", "everything_unseen", 0, 1, str(tmp_path / "a.json"))
    play_shard(shard)
    (row,) = read_shard(shard) or ()
    assert row.seed == FIRST_SEED and row.steps == 150
    (tmp_path / "tiny" / "note.txt").write_text("changed")
    assert find_player(str(tmp_path / "tiny")).mark != player.mark


def test_rows_go_into_the_card_of_who_played_and_nothing_is_played_again(tmp_path: Path, capsys: Any) -> None:
    folder = tmp_path / "tiny"
    tiny_model(tmp_path / "backbone", use_lidar=False, use_audio=False).save_pretrained(folder, training={"seed": 7})
    before = (folder / "README.md").read_text()
    assert "Not measured." in before
    line = ["--policy", str(folder), "--tasks", "reach", "--cells", "nominal", "lidar_dropout", "--episodes", "1"]
    line += ["--no-references", "--workers", "1", "--card", "--out", str(tmp_path / "out")]
    neonbench.main(line)
    card, played = (folder / "README.md").read_text(), _times(tmp_path / "out" / "episodes")
    assert "| task | nominal | lidar dropout |" in card and "| reach | 0 [0, 79] | 0 [0, 79] |" in card
    assert f"1 episodes in each task and cell, seeds {FIRST_SEED} to {FIRST_SEED}." in card
    ends = [text.partition("## Results")[0] + text.partition("## Config")[2] for text in (before, card)]
    assert ends[0] == ends[1] and "Not measured." not in card
    (folder / "README.md").unlink()
    neonbench.main(line)  # a checkpoint without a card gets one; the card is not what was judged
    assert "| reach | 0 [0, 79] | 0 [0, 79] |" in (folder / "README.md").read_text()
    assert _times(tmp_path / "out" / "episodes") == played
    assert capsys.readouterr().out.count(f"Wrote {folder / 'README.md'}") == 2
    (folder / "README.md").write_text("# Mine\n")
    with pytest.raises(ValueError, match="no sections Results and Config"):
        write_cards(_made_up_of(find_player(str(folder))), "2026-01-01")
    assert (folder / "README.md").read_text() == "# Mine\n"


def _times(folder: Path) -> dict[Path, int]:
    return {path: path.stat().st_mtime_ns for path in folder.rglob("*.json")}


def _made_up_of(player: Player) -> BenchResults:
    """One success in one episode of reach."""
    played = {(player.label, "reach", "nominal"): [BenchEpisode(FIRST_SEED, True, False, 10, 0.1)]}
    return BenchResults((player,), ("reach",), ("nominal",), 1, played)


def _made_up(cells: tuple[str, ...] = tuple(CELLS)) -> BenchResults:
    """expert 20 of 20 and zero 1 of 20, in every cell that the blind can tell apart."""
    players = _players("expert", "zero")
    episodes = {
        (player.label, task, cell): [BenchEpisode(FIRST_SEED + i, i < wins, i == 19, 100, 0.25) for i in range(20)]
        for player, wins in zip(players, (20, 1), strict=True)
        for task in ("reach", "wave")
        for cell in CELLS
        if cell not in ALIKE_FOR_THE_BLIND
    }
    return BenchResults(players, ("reach", "wave"), cells, 20, episodes)


def test_the_page_by_hand() -> None:
    """Wilson by hand: 1 of 20 is 0.9 to 23.6 %, 20 of 20 is from 83.9 %; 2 of 40 is 1.4 to 16.5 %."""
    assert str(Score(1, 20)) == "5 [1, 24]" and str(Score(20, 20)) == "100 [84, 100]"
    page = as_markdown(_made_up()).splitlines()
    assert page.count("## 2 tasks together") == 1
    assert "| zero | " + " | ".join(["5 [1, 17]"] * 8) + " |" in page
    own, same = "5 [1, 24]", "= nominal"
    assert f"| wave | {own} | {own} | {same} | {own} | {same} | {same} | {same} | {own} |" in page
    assert any(line.startswith("Reads no sensor and no words, but the simulation's truth.") for line in page)
    assert len({line.count("|") for line in page if line.startswith("| ")}) == 1


def test_a_cell_whose_twin_is_not_shown_gets_its_numbers() -> None:
    page = as_markdown(_made_up(("camera_dark",))).splitlines()
    assert "| reach | 100 [84, 100] |" in page
    assert sum("camera dark = nominal" in line for line in page) == 2


def test_the_json_counts_each_episode_once() -> None:
    data = json.loads(json.dumps(as_dict(_made_up())))
    assert data["episodes_played"] == 2 * 2 * 4 * 20 and data["cpu_s"] == 80.0
    assert data["seeds"] == [30_000_000, 30_000_019]
    (row,) = (r for r in data["results"] if (r["policy"], r["task"], r["cell"]) == ("zero", "wave", "audio_noise"))
    assert row["same_episodes_as"] == "nominal" and (row["successes"], row["episodes"]) == (1, 20)
    assert (row["success_percent"], row["terminated"], row["mean_steps"]) == (5.0, 1, 100.0)
    assert row["low_percent"] == pytest.approx(0.89, abs=0.01) and row["high_percent"] == pytest.approx(23.61, abs=0.01)
    assert len(data["results"]) == 2 * 2 * 8 and len(data["all_tasks"]) == 2 * 8


def test_one_command_writes_three_files(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    flags = ["--policy", "expert", "--tasks", "reach", "--cells", "nominal", "audio_noise", "--episodes", "1"]
    neonbench.main([*flags, "--workers", "1", "--out", str(tmp_path)])
    assert (tmp_path / "neonbench.md").read_text() in capsys.readouterr().out
    data = json.loads((tmp_path / "neonbench.json").read_text())
    assert data["episodes_played"] == 1 and [row["successes"] for row in data["results"]] == [1, 1]
    picture = np.asarray(imageio.imread(tmp_path / "neonbench.png"))[..., :3]
    assert 0.02 < float((picture < 250).any(-1).mean()) < 0.8


def _benchmark(monkeypatch: pytest.MonkeyPatch) -> SimpleNamespace:
    """benchmarks/neonbench.py as names, not run."""
    monkeypatch.syspath_prepend(str(ROOT / "benchmarks"))
    return SimpleNamespace(**runpy.run_path(str(ROOT / "benchmarks" / "neonbench.py"), run_name="benchmark"))


def test_the_rows_of_results_by_hand(monkeypatch: pytest.MonkeyPatch) -> None:
    """20 of 20, of which the last one fell, after 100 steps of 20 ms each; zero's 1 of 20 is 5 %."""
    script, results = _benchmark(monkeypatch), _made_up()
    rows = script.cells_rows(results, 8.04, 2)
    assert len(rows) == 2 * (1 + 2) + 1 and {len(row) for row in rows} == {2 + 8}
    assert rows[0][:4] == ["expert", "all 2", "100 [91, 100]", "100 [91, 100]"]
    assert rows[5][:2] == ["zero", "wave"]
    assert rows[5][2:] == ["= nominal" if cell in ALIKE_FOR_THE_BLIND else "5 [1, 24]" for cell in CELLS]
    assert rows[-1][:3] == ["all", "time", "8.0 min, 2 processes (target: under 15: met)"]
    assert script.cells_rows(results, 15.0, 2)[-1][2].endswith("missed)")
    assert script.cells_rows(results, None, 2)[-1][2].startswith("not measured")
    alone = replace(results, players=results.players[:1])
    assert script.expert_rows(alone)[0] == ["reach", "100.0 % [83.9, 100.0] (20/20)", "2.0 s", "1", "90 %: met"]
    assert script.expert_rows(replace(results, players=results.players[1:]))[1][-1] == "90 %: missed"


def test_a_trial_of_the_benchmark_prints_and_leaves_results_alone(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    before = (ROOT / "RESULTS.md").stat().st_mtime_ns
    flags = ["--experts", "--tasks", "reach", "--episodes", "1", "--workers", "1", "--out", str(tmp_path)]
    monkeypatch.setattr(sys, "argv", ["neonbench.py", *flags])
    script = _benchmark(monkeypatch)
    script.main()
    assert "| reach | 100.0 % [20.7, 100.0] (1/1) |" in capsys.readouterr().out
    config = neonbench.BenchConfig(_players("expert"), ("reach",), ("nominal",), 1)
    assert script.measure(config, tmp_path / "episodes", 1)[1] is None  # there already: no time to tell
    assert script.measure(config, tmp_path / "new", 1)[1] > 0.0
    assert (ROOT / "RESULTS.md").stat().st_mtime_ns == before


@pytest.mark.parametrize(
    ("flags", "message"),
    [
        (["--tasks", "recah"], "Unknown task 'recah'. Did you mean 'reach'"),
        (["--cells", "nominl"], "Unknown cell 'nominl'. Did you mean 'nominal'"),
        (["--policy", "exprt"], r"Unknown policy \(nor is it a folder\) 'exprt'. Did you mean 'expert'"),
        (["--episodes", "0"], "episodes must be at least 1, got 0"),
        (["--workers", "0"], "--workers must be at least 1, got 0"),
        (["--policy", "expert", "."], "does not hold a whole Neon checkpoint"),
    ],
)
def test_what_makes_no_sense_is_refused_before_anything_is_written(
    flags: list[str], message: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    with pytest.raises(SystemExit, match=message):
        neonbench.main(flags)
    assert not list(tmp_path.iterdir())


def test_references_play_beside_a_checkpoint_unless_told_not_to(tmp_path: Path) -> None:
    tiny_model(tmp_path / "backbone").save_pretrained(tmp_path / "tiny")
    flags = ["--policy", str(tmp_path / "tiny"), "--tasks", "all"]
    labels = [player.label for player in neonbench.settings(neonbench.parse(flags)).players]
    assert labels[0] == "tiny" and sorted(labels[1:]) == ["expert", "random", "zero"]
    alone = neonbench.settings(neonbench.parse([*flags, "--no-references"]))
    assert [player.label for player in alone.players] == ["tiny"] and alone.tasks == tuple(TASKS)
    with pytest.raises(ValueError, match="Players need different names"):
        neonbench.BenchConfig(alone.players * 2, ("reach",))


def test_two_checkpoints_with_one_name_are_told_apart(tmp_path: Path) -> None:
    model = tiny_model(tmp_path / "backbone")
    folders = [tmp_path / run / "policy" for run in ("a", "b")]
    for folder in folders:
        model.save_pretrained(folder)
    flags = ["--policy", *map(str, folders), "zero", "--tasks", "reach", "--no-references"]
    players = neonbench.settings(neonbench.parse(flags)).players
    assert [player.label for player in players] == ["a-policy", "b-policy", "zero"]
    assert [player.policy for player in players] == [*map(str, folders), "zero"]
    deep = [Player("policy", f"/{run}/x/policy") for run in ("a", "b")]
    assert [player.label for player in told_apart(deep)] == ["a-x-policy", "b-x-policy"]
    alone = (Player("policy", "/a/policy"), Player("zero", "zero"))
    assert told_apart(alone) == alone  # nothing to tell apart: the names stay, and with them the files
    with pytest.raises(ValueError, match="Players need different names"):
        neonbench.BenchConfig(told_apart(deep[:1] * 2), ("reach",))


@pytest.mark.slow
def test_stopped_with_ctrl_c_the_same_line_goes_on(tmp_path: Path) -> None:
    line = [sys.executable, "-m", "neon_sim.eval.neonbench", "--policy", "zero", "--tasks", "reach", "--cells"]
    line += ["nominal", "unseen_objects", "--episodes", "60", "--workers", "2", "--out", str(tmp_path)]
    process = subprocess.Popen(line, stderr=subprocess.PIPE, text=True, start_new_session=True)
    while not list(tmp_path.rglob("reach-*.json")) and process.poll() is None:
        time.sleep(0.1)
    os.killpg(process.pid, signal.SIGINT)  # what a terminal sends: to the workers as well
    _, said = process.communicate(timeout=120)
    assert process.returncode == 1 and "The same line goes on" in said and "Traceback" not in said
    kept = {path: path.stat().st_mtime_ns for path in tmp_path.rglob("reach-*.json")}
    assert 0 < len(kept) < 6 and not (tmp_path / "neonbench.json").exists()
    subprocess.run(line, check=True, capture_output=True, timeout=600)
    assert {path: path.stat().st_mtime_ns for path in kept} == kept
    assert json.loads((tmp_path / "neonbench.json").read_text())["episodes_played"] == 120
