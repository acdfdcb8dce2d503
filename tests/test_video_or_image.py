"""benchmarks/video_or_image.py: views by hand, clips as a policy has them, heads that learn, a table that adds up."""

import hashlib
import json
import sys
from dataclasses import asdict, replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from tiny_neon import tiny_backbone, tiny_config, tiny_demos, tiny_model

from neon_sim.data.windows import WindowConfig
from neon_sim.episode import NeonEpisode
from neon_sim.eval.outcomes import kept, made_when
from neon_sim.eval.trials import TrialTraining
from neon_sim.training.recording import Recorder

sys.path.append(str(Path(__file__).resolve().parents[1] / "benchmarks"))  # scripts, not a package
import video_or_image
from video_or_image import EXPERT, Job, Preset, Trial
from video_or_image_demos import (
    VIEWS,
    DemoShard,
    ViewedBackbone,
    ViewedDemos,
    clips_of,
    collecting,
    episode_rows,
    record_shard,
)


def _numbered(clips: int = 1) -> torch.Tensor:
    """Clips of four 1 x 1 pictures that say 0, 1, 2, 3."""
    return torch.arange(4, dtype=torch.uint8).view(1, 4, 1, 1, 1).expand(clips, 4, 1, 1, 3)


def _order(view: str, seed: int = 0, clips: int = 1) -> list[list[int]]:
    shown = VIEWS[view](_numbered(clips), np.random.default_rng(seed))
    assert shown.shape == (clips, 4, 1, 1, 3)
    return shown[..., 0, 0, 0].tolist()


def test_what_each_view_shows() -> None:
    assert _order("clip") == [[0, 1, 2, 3]]
    assert _order("last frame") == [[3, 3, 3, 3]]
    orders = _order("shuffled", clips=40)
    assert len({tuple(order) for order in orders}) > 10 and {order[3] for order in orders} == {0, 1, 2, 3}
    past = _order("past shuffled", clips=40)
    assert {tuple(order) for order in past} == {
        (0, 1, 2, 3), (0, 2, 1, 3), (1, 0, 2, 3), (1, 2, 0, 3), (2, 0, 1, 3), (2, 1, 0, 3),
    }  # fmt: skip


@settings(max_examples=30, deadline=None)
@given(st.integers(0, 2**32 - 1))
def test_shuffling_loses_no_picture_and_repeats_with_its_seed(seed: int) -> None:
    for view in ("shuffled", "past shuffled"):
        assert all(sorted(order) == [0, 1, 2, 3] for order in _order(view, seed, 3))
        assert _order(view, seed, 3) == _order(view, seed, 3)


@torch.no_grad()
def test_the_backbone_is_shown_the_view() -> None:
    backbone, frames = tiny_backbone(), torch.randint(0, 256, (2, 4, 128, 128, 3), dtype=torch.uint8)
    words, rng = ["follow the red ball", "press the blue button"], np.random.default_rng(0)
    whole = ViewedBackbone(backbone, "clip", rng)(frames, words)
    assert torch.equal(whole.tokens, backbone(frames, words).tokens)
    last = ViewedBackbone(backbone, "last frame", rng)(frames, words)
    assert torch.equal(last.pooled, backbone(frames[:, -1:], words).pooled)  # as a backbone fills up a single picture
    assert not torch.allclose(last.tokens, whole.tokens)


def _episode(steps: int) -> NeonEpisode:
    """The camera has a new picture every two steps, which says which; the target moves 1 cm a step along x."""
    count = np.arange(steps)
    pictures = np.tile((count // 2).astype(np.uint8)[:, None, None, None], (1, 128, 128, 3))
    seen = {"camera": pictures, "proprio": np.zeros((steps, 125), np.float32), "eef": np.zeros((steps, 14), np.float32)}
    goal = np.stack([0.01 * count, 0.0 * count, 0.0 * count], axis=1).astype(np.float32)
    infos = {"goal_hand": np.full(steps, 1), "goal_pos_b": goal, "expert_action": np.full((steps, 17), 0.5, np.float32)}
    return NeonEpisode(seen, np.zeros((steps, 17), np.float32), instruction="follow the red ball", infos=infos)


def test_clips_are_those_that_a_policy_has() -> None:
    clips = clips_of(_episode(40), WindowConfig())[..., 0, 0, 0]
    # Asked at 0, 0.32 and 0.64 s; pictures 0.25 s apart before that, the first one where there is none. At 0.64 s:
    # -0.11, 0.14, 0.39, 0.64 s are nearest to pictures at 0, 0.12 or 0.16, 0.40 and 0.64 s.
    assert clips.shape == (3, 4)
    assert clips[0].tolist() == [0, 0, 0, 0] and clips[1].tolist() == [0, 0, 2, 8]
    assert clips[2, [0, 2, 3]].tolist() == [0, 10, 16] and clips[2, 1] in (3, 4)


def test_samples_of_an_episode_by_hand() -> None:
    rows = episode_rows(_episode(40), 5, tiny_backbone())
    assert len(rows) == 3
    np.testing.assert_allclose(
        [row["goal"][0] for row in rows], [0.16, 0.32, 0.39], atol=1e-6
    )  # when the chunk is over
    assert [int(row["mask"].sum()) for row in rows] == [16, 16, 8]
    assert rows[0]["chunk"].min() == 0.5 and rows[2]["chunk"][8:].max() == 0.0  # the expert's wish, not what was done
    assert all(int(row["hand"]) == 1 and int(row["episode"]) == 5 for row in rows)
    one = rows[0]  # all four pictures of its clip are the same one: every view shows the same
    assert all(np.array_equal(one["tokens clip"], one[f"tokens {view}"]) for view in VIEWS)
    assert not np.array_equal(rows[2]["tokens clip"], rows[2]["tokens last frame"])


@pytest.fixture(scope="module")
def pressed(tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, str]:
    """A true episode of press, recorded behind the tiny backbone, and that backbone's folder."""
    folder = tmp_path_factory.mktemp("pressed")
    backbone = tiny_config(folder / "backbone").backbone.weights
    assert backbone is not None
    shard = DemoShard("press", folder / "press.npz", 3_700_000, 1, backbone, "abc")
    assert (record_shard(shard), record_shard(shard)) == (True, False)  # the second time it is there
    note = json.loads(shard.note.read_text(encoding="utf-8"))
    assert (note["commit"], note["first_seed"], note["episodes"]) == ("abc", 3_700_000, 1)
    assert note["sha256"] == hashlib.sha256(shard.path.read_bytes()).hexdigest()
    return shard.path, backbone


def test_a_recorded_episode_comes_back_in_the_asked_view(pressed: tuple[Path, str]) -> None:
    demos, last = (ViewedDemos.load([pressed[0]], view) for view in ("clip", "last frame"))
    count = len(demos.arrays["mask"])
    assert 3 <= count <= 19  # 16 steps each, of 300 at most
    features, group = demos.batch(torch.arange(count))
    assert features.tokens.shape == (count, 64, 40) and group.chunk.shape == (count, 16, 17)
    assert group.chunk.abs().max() <= 1.0 and set(group.hand.tolist()) <= {-1, 0, 1}
    assert 0.3 < float(group.target_pos_b[:, 0].mean()) < 0.45  # a button's front, m ahead of the pelvis
    assert torch.equal(demos.arrays["chunk"], last.arrays["chunk"])
    assert not torch.equal(demos.arrays["tokens"], last.arrays["tokens"])


def _made_up() -> ViewedDemos:
    """`tiny_demos` as samples: the goal is in the pooled vector, the chunk follows from the goal."""
    arrays = tiny_demos(40).arrays
    kept = {name: arrays[name] for name in ("tokens", "pooled", "text", "proprio", "eef", "hand", "episode")}
    return ViewedDemos(
        kept | {"chunk": arrays["expert"], "goal": arrays["target_pos_b"], "mask": torch.ones(len(arrays["hand"]), 16)}
    )


def test_episodes_are_held_back_whole() -> None:
    demos = _made_up()
    rows, held_back = demos.split(0.1)
    assert set(demos.arrays["episode"][held_back].tolist()) == {36, 37, 38, 39}
    assert len(rows) == 108 and len(held_back) == 12


def test_heads_and_reader_learn(tmp_path: Path) -> None:
    demos = _made_up()
    figures = []
    for updates in (1, 150):
        model = tiny_model(tmp_path, use_lidar=False, use_audio=False, dropout=0.0, vision_dropout=0.0)
        figures.append(video_or_image.train(model, demos, TrialTraining(updates, 32, 3e-3)))
    assert figures[1][0] < 0.8 * figures[0][0] and figures[1][1] < 0.5 * figures[0][1]


@torch.no_grad()
def test_the_goal_is_judged_where_the_words_say_which_hand(tmp_path: Path) -> None:
    demos, model = _made_up(), tiny_model(tmp_path, use_lidar=False, use_audio=False)
    rows = torch.arange(12)
    told, _ = video_or_image.held_back_figures(model, demos, rows[:6])
    demos.arrays["hand"][6:12] = -1  # either hand will do: what is read there was never taught
    demos.arrays["goal"][6:12] += 5.0
    assert video_or_image.held_back_figures(model, demos, rows)[0] == pytest.approx(told)
    goal_cm, mse = video_or_image.held_back_figures(model, demos, rows[6:])
    assert goal_cm is None and mse > 0.0


def test_rows_of_the_table_by_hand(tmp_path: Path) -> None:
    trials = [
        Trial("track", "clip", 0, (True, True), (0.01, 0.02), 1.5, 0.002),
        Trial("track", "last frame", 0, (True, False), (0.02, 0.05), 3.0, 0.004),
        Trial("track", EXPERT, 0, (True, True), (0.01, 0.01)),
    ]
    clip, last, expert = video_or_image.rows_of(trials)
    # Means of 1 and 2, of 2 and 5; differences 1 and 3 cm. Half widths are 1.96 times half of the two values' distance.
    assert clip[2:] == ["100.0 % [34.2, 100.0] (2/2)", "2", "1.5 ± 1.0", "-", "1.5", "2.00"]
    assert last[2:] == ["50.0 % [9.5, 90.5] (1/2)", "1", "3.5 ± 2.9", "2.0 ± 2.0", "3.0", "4.00"]
    assert expert[3:] == ["2", "1.0 ± 0.0", "-", "-", "-"]
    assert all(len(row) == len(video_or_image.HEADER) for row in (clip, last, expert))
    again = [replace(trial, seed=1, distances=tuple(2 * d for d in trial.distances)) for trial in trials]
    # Of the two seeds the differences are 2 and 4 cm on average: 3 -+ 12.7062 (t of one degree) times 1.
    assert video_or_image.rows_of([*trials, *again])[1][5] == "3.0 ± 2.1 (± 12.7)"
    video_or_image.picture(trials, tmp_path / "views.png")
    assert (tmp_path / "views.png").read_bytes()[:8] == b"\x89PNG\r\n\x1a\n"


def test_the_expert_presses_and_what_is_done_is_not_done_again(tmp_path: Path) -> None:
    job = Job("press", EXPERT, 0, Preset(episodes=1), tmp_path, (), "abc")
    trial = video_or_image.run_trial(job)
    assert trial.successes == (True,) and trial.distances[0] < 0.18  # the palm behind the hand's front
    marked = replace(trial, distances=(0.125,))
    job.result.unlink()
    kept(job.result, lambda: asdict(marked), "abc")
    assert video_or_image.run_trial(job) == marked  # read, not played


def test_a_distance_that_is_not_known_counts_as_far() -> None:
    """track judges the last 3 s; an episode that ends before that has no distance."""
    env: Any = Recorder(collecting("track")).env
    env.reset(seed=0)
    assert video_or_image.distance_m(env, "track") == video_or_image.FAR_M == 0.5
    env.close()


def test_an_unknown_preset_names_the_nearest(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(sys, "argv", ["video_or_image.py", "--preset", "tinny"])
    with pytest.raises(SystemExit, match="Unknown preset 'tinny'. Did you mean 'tiny'"):
        video_or_image.main()


@pytest.mark.slow
def test_a_small_run_goes_on_where_it_stopped(tmp_path: Path, pressed: tuple[Path, str]) -> None:
    small = TrialTraining(updates=2, batch_size=8)
    preset = Preset(("press",), 2, small, ("clip", "shuffled"), (0,), 1, backbone=pressed[1])
    first, jobs, shards = video_or_image.run(preset, tmp_path, 1, "abc")
    assert [(trial.view, len(trial.distances)) for trial in first] == [("clip", 1), ("shuffled", 1), (EXPERT, 1)]
    (tmp_path / "trials" / "press_shuffled_0.json").unlink()
    assert video_or_image.run(preset, tmp_path, 1, "def")[0] == first  # the same bits
    assert made_when(job.result for job in jobs)["commit"] in ("abc, def", "def, abc")
    assert [note["commit"] for note in video_or_image.figures_of(preset, first, shards)["shards"]] == ["abc"]
