"""Mixing: shares, caps and order by arithmetic; what cannot be read is named or counted."""

from collections import Counter
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from source_files import source_config
from tiny_data import SIDE, soup_of, tiny_episode, write_episodes

from neon_sim.data.data_soup import DataSoup, DataSoupConfig
from neon_sim.data.lerobot import LeRobotWriter
from neon_sim.data.source import BadEpisodeError, DataSourceConfig
from neon_sim.data.windows import WindowConfig, action_columns, check_episode, cut_window, fit_picture
from neon_sim.episode import NeonEpisode
from neon_sim.g1.action_space import G1ActionSpace
from neon_sim.training.batches import batches

COLUMNS = np.arange(17)


def test_sample_k_is_the_same_for_everyone_and_differs_by_seed(tmp_path):
    config = soup_of(write_episodes(tmp_path / "a", 5))
    one, other = DataSoup(config, seed=3), DataSoup(config, seed=3)
    backwards = [other[k] for k in range(19, -1, -1)][::-1]
    for k, window in enumerate(backwards):
        np.testing.assert_array_equal(one[k].senses["proprio"], window.senses["proprio"])
    different = DataSoup(config, seed=4)
    assert any(one[k].instruction != different[k].instruction for k in range(20))


def test_sources_are_mixed_by_weight_and_capped(tmp_path):
    folders = write_episodes(tmp_path / "a", 6), write_episodes(tmp_path / "b", 6, first_seed=100)
    soup = DataSoup(soup_of(*folders, weights=(3.0, 1.0), visit=1, validation_share=0.0))
    drawn = Counter(soup[k].source for k in range(400))
    assert drawn["a"] / 400 == pytest.approx(0.75, abs=0.07)  # 3 standard deviations
    assert soup.counts()["a"] == {"episodes": 6, "samples": 18, "share": 0.75}  # 40 steps: 16, 16 and 8
    capped = DataSoupConfig([DataSourceConfig("a", "neon_sim", str(folders[0]), max_episodes=2)], 0.0)
    assert {DataSoup(capped)[k].instruction for k in range(40)} == {"hold 0", "hold 1"}


def test_what_is_held_back_is_never_trained_on(tmp_path):
    config = soup_of(write_episodes(tmp_path / "a", 10), validation_share=0.2)
    train, held = DataSoup(config), DataSoup(config, validation=True)
    assert len(train.episodes["a"]) == 8 and len(held.episodes["a"]) == 2
    assert not set(train.episodes["a"]) & set(held.episodes["a"])
    assert len(train) == 24 and len(held.each()) == 6
    assert held.each(2) == [held.each()[0], held.each()[-1]]


def test_a_visit_looks_at_different_places_of_one_episode(tmp_path):
    soup = DataSoup(soup_of(write_episodes(tmp_path / "a", 5, steps=64), visit=4))
    seen = [soup[k] for k in range(4)]
    assert len({window.instruction for window in seen}) == 1
    assert len({window.senses["proprio"].tobytes() for window in seen}) == 4


def test_a_chunk_ends_with_the_episode_and_the_mask_says_where():
    episode = tiny_episode(0, steps=20)
    episode.actions[:, 3] = np.arange(20) / 20
    window = cut_window(episode, 16, WindowConfig(), COLUMNS)
    np.testing.assert_array_equal(window.mask, [1] * 4 + [0] * 12)
    np.testing.assert_allclose(window.chunk[:, 3], [0.8, 0.85, 0.9, 0.95] + [0.0] * 12)


def test_a_clip_has_the_frames_of_its_times_and_repeats_the_first():
    episode = tiny_episode(0, steps=60)
    episode.observations["camera"][:, 0, 0, 2] = np.arange(60)
    late = cut_window(episode, 50, WindowConfig(fps=4.0, frames=4), COLUMNS)
    assert late.frames is not None and late.frames.shape == (4, SIDE, SIDE, 3)
    assert late.frames[:, 0, 0, 2].tolist() == [12, 25, 38, 50]  # every 12.5 steps, rounded to even
    early = cut_window(episode, 16, WindowConfig(fps=4.0, frames=4), COLUMNS)
    assert early.frames is not None and early.frames[:, 0, 0, 2].tolist() == [0, 0, 4, 16]


def test_a_wide_picture_is_cut_to_its_middle():
    picture = np.zeros((64, 128, 3), np.uint8)
    picture[:, 32:96] = 200
    assert (fit_picture(picture, 32) == 200).all()


def test_goals_are_passed_on_where_an_episode_knows_them():
    episode = tiny_episode(0)
    assert cut_window(episode, 0, WindowConfig(), COLUMNS).hand == -1
    episode.infos = {"goal_hand": np.ones(40, np.int64), "goal_pos_b": np.full((40, 3), 0.25)}
    window = cut_window(episode, 0, WindowConfig(), COLUMNS)
    assert window.hand == 1 and window.target_pos_b.tolist() == [0.25, 0.25, 0.25]


def test_an_upper_body_episode_teaches_an_arms_policy_and_not_the_other_way_round():
    assert action_columns(G1ActionSpace("arms_only"), "upper_body").tolist() == list(range(17))
    with pytest.raises(ValueError, match="wants waist_yaw_joint.*arms_only episodes do not say"):
        action_columns(G1ActionSpace("upper_body"), "arms_only")


def test_what_is_not_finite_is_named():
    episode = tiny_episode(0)
    episode.observations["proprio"][7, 3] = np.nan
    with pytest.raises(BadEpisodeError, match="Episode 0 of 'a': proprio is not finite at step 7"):
        check_episode(episode, "Episode 0 of 'a'")
    with pytest.raises(BadEpisodeError, match="is empty"):
        check_episode(NeonEpisode({}, np.zeros((0, 17))), "Episode 1 of 'a'")
    taught = tiny_episode(0)
    taught.infos["expert_action"] = np.zeros_like(taught.actions)
    assert check_episode(taught, "Episode 2 of 'a'") is taught
    taught.infos["expert_action"][4, 0] = np.inf
    with pytest.raises(BadEpisodeError, match="expert_action is not finite at step 4"):
        check_episode(taught, "Episode 2 of 'a'")


def test_bad_episodes_stop_a_run_or_are_left_out_and_counted(tmp_path):
    folder = write_episodes(tmp_path / "a", 3)
    (folder / "episode_0001.npz").write_bytes(b"half a file")
    with pytest.raises(BadEpisodeError, match="episode_0001.npz"):
        len(DataSoup(soup_of(folder, validation_share=0.0)))
    with pytest.warns(UserWarning, match="Left out: 1 of 'a'"):
        soup = DataSoup(soup_of(folder, validation_share=0.0, skip_bad=True))
        assert {soup[k].instruction for k in range(40)} == {"hold 0", "hold 2"}
    assert soup.skipped["a"] == 1 and len(soup) == 6


def nan_in(path: Path, what: str) -> None:
    """Spoil step 2 of an episode's actions, or of an info."""
    episode = NeonEpisode.load(path)
    if what != "actions":
        episode.infos[what] = np.zeros((len(episode), 3), np.float32)
    (episode.actions if what == "actions" else episode.infos[what])[2] = np.nan
    episode.save(path)


def test_a_goal_that_is_no_number_is_found(tmp_path):
    folder = write_episodes(tmp_path / "a", 1)
    nan_in(folder / "episode_0000.npz", "goal_pos_b")
    with pytest.raises(
        BadEpisodeError, match="goal_pos_b is not finite at step 2. Repair it, or leave it out with --s"
    ):
        DataSoup(soup_of(folder, validation_share=0.0))[0]


def test_a_bad_episode_among_the_held_back_is_left_out_as_well(tmp_path):
    config = soup_of(write_episodes(tmp_path / "a", 6), validation_share=0.4, skip_bad=True)
    held = DataSoup(config, validation=True)
    first, second = held.episodes["a"]
    nan_in(tmp_path / "a" / f"episode_{first:04d}.npz", "actions")
    with pytest.warns(UserWarning, match="action is not finite at step 2.*Left out: 1 of 'a'"):
        windows = held.readable(held.each())
    assert {window.instruction for window in windows} == {f"hold {second}"} and held.skipped == {"a": 1}
    strict = DataSoup(replace(config, skip_bad=False), validation=True)
    with pytest.raises(BadEpisodeError, match="action is not finite"):
        strict.readable(strict.each()[:1])


def test_what_copies_left_out_is_counted_once(tmp_path, recwarn):
    folder = write_episodes(tmp_path / "a", 3)
    nan_in(folder / "episode_0001.npz", "actions")
    soup = DataSoup(soup_of(folder, validation_share=0.0, skip_bad=True))
    list(batches(soup, 4, 0, 6, workers=2))
    assert soup.skipped == {"a": 1} and soup.bad.keys() == {("a", 1)}
    assert [str(w.message).count("Left out: 1 of 'a'") for w in recwarn if w.category is UserWarning] == [1]
    with pytest.raises(BadEpisodeError, match="action is not finite at step 2"):
        list(batches(DataSoup(soup_of(folder, validation_share=0.0)), 4, 0, 6, workers=1))


def test_a_cap_of_one_leaves_nothing_to_hold_back(tmp_path):
    source = DataSourceConfig("a", "neon_sim", str(write_episodes(tmp_path / "a", 3)), max_episodes=1)
    soup = DataSoup(DataSoupConfig([source]))
    assert len(soup.episodes["a"]) == 1 and len(soup.others["a"]) == 0


def test_a_policy_centered_elsewhere_is_refused(tmp_path):
    with pytest.raises(ValueError, match="centered on the home pose, and the policy's on 'limits'"):
        DataSoup(soup_of(write_episodes(tmp_path / "a", 2)), G1ActionSpace("arms_only", "limits"))


def test_a_whole_body_policy_is_told_every_joint(tmp_path):
    config = source_config("lerobot", tmp_path / "foreign")
    window = DataSoup(DataSoupConfig([config]), G1ActionSpace("whole_body"))[0]
    assert window.chunk.shape == (16, 29) and not window.chunk[:, 17:].any()  # legs: nobody says, so at home
    arms = DataSoup(DataSoupConfig([config]), G1ActionSpace("arms_only"))[0]
    np.testing.assert_array_equal(window.chunk[:, :14], arms.chunk[:, :14])


@pytest.mark.parametrize("kind", ["npz", "lerobot"])
def test_failures_can_be_left_out_and_are_counted(tmp_path, kind):
    episodes = [replace(tiny_episode(seed), success=seed not in (1, 4)) for seed in range(6)]
    if kind == "npz":
        for seed, episode in enumerate(episodes):
            episode.save(tmp_path / f"episode_{seed}.npz")
    else:
        with LeRobotWriter(tmp_path) as writer:
            for episode in episodes:
                writer.add(episode)
    config = DataSoupConfig([DataSourceConfig("a", "neon_sim", str(tmp_path), successes_only=True)])
    soup, held = DataSoup(config), DataSoup(config, validation=True)
    assert sorted([*soup.episodes["a"], *held.episodes["a"]]) == [0, 2, 3, 5] and len(held.episodes["a"]) == 1
    assert soup.counts()["a"] == {"episodes": 3, "samples": 9, "share": 1.0, "failures_left_out": 2}
    assert {soup[k].instruction for k in range(60)} == {f"hold {seed}" for seed in soup.episodes["a"]}
    capped = replace(config, sources=[replace(config.sources[0], max_episodes=2)])
    assert DataSoup(capped).episodes["a"].tolist() == [0]


def test_where_nobody_succeeded_there_is_nothing_to_learn(tmp_path):
    source = DataSourceConfig("a", "neon_sim", str(write_episodes(tmp_path / "a", 2)), successes_only=True)
    with pytest.raises(ValueError, match="No episode of 'a' says that it succeeded: train without successes_only"):
        DataSoup(DataSoupConfig([source]))


def test_a_source_that_is_empty_is_named(tmp_path):
    with LeRobotWriter(tmp_path / "b") as writer:
        writer.add(tiny_episode(0))
    (tmp_path / "b" / "meta" / "episodes.jsonl").write_text("")
    info = tmp_path / "b" / "meta" / "info.json"
    info.write_text(info.read_text().replace('"total_episodes": 1', '"total_episodes": 0'))
    with pytest.raises(ValueError, match="Data source 'b' has no episode: .*b is empty. Record or copy some"):
        DataSoup(soup_of(write_episodes(tmp_path / "a", 2), tmp_path / "b"))


def test_what_is_left_out_as_a_failure_is_no_reason_to_give_up(tmp_path):
    folder = tmp_path / "a"
    folder.mkdir()
    for seed in range(5):
        replace(tiny_episode(seed), success=True).save(folder / f"episode_{seed:04d}.npz")
    for seed in (0, 1):
        (folder / f"episode_{seed:04d}.npz").write_bytes(b"half a file")  # no success can be read there
    nan_in(folder / "episode_0002.npz", "actions")
    source = DataSourceConfig("a", "neon_sim", str(folder), successes_only=True)
    with pytest.warns(UserWarning, match="Left out"):
        soup = DataSoup(DataSoupConfig([source], 0.0, skip_bad=True))
        assert soup.episodes["a"].tolist() == [2, 3, 4] and len(soup.bad) == 2
        assert {soup[k].instruction for k in range(40)} == {"hold 3", "hold 4"}
        for seed in (3, 4):
            nan_in(folder / f"episode_{seed:04d}.npz", "actions")
        with pytest.raises(ValueError, match="Not one episode could be read"):
            DataSoup(DataSoupConfig([source], 0.0, skip_bad=True))[0]


def test_an_episode_of_another_layout_is_named(tmp_path):
    soup = DataSoup(soup_of(write_episodes(tmp_path / "a", 2)), G1ActionSpace("upper_body"))
    with pytest.raises(ValueError, match=r"Episode \d of 'a' \(.*a\): A upper_body policy wants waist_yaw_joint"):
        soup[0]


def test_an_episode_larger_than_the_memory_is_said_once(tmp_path, recwarn):
    soup = DataSoup(soup_of(write_episodes(tmp_path / "a", 4), memory_mb=1.0))
    for k in range(8):
        soup[k]
    told = [str(warning.message) for warning in recwarn if "MB" in str(warning.message)]
    assert len(told) == 1 and len(soup._kept) == 1  # 40 pictures of 48 kB: 1.9 MB
    assert "of 'a'" in told[0] and "takes 2 MB, and memory_mb is 1" in told[0] and "Split such recordings" in told[0]


def test_a_mixture_says_what_became_of_columns(tmp_path):
    foreign = source_config("lerobot", tmp_path / "foreign")
    own = DataSourceConfig("own", "neon_sim", str(write_episodes(tmp_path / "own", 2)))
    reports = DataSoup(DataSoupConfig([foreign, own])).reports()
    assert reports.keys() == {foreign.name} and len(reports[foreign.name].mapped) > 0


def test_memory_is_bounded(tmp_path):
    size = 40 * SIDE * SIDE * 3 / 2**20  # MB of one episode's pictures
    soup = DataSoup(soup_of(write_episodes(tmp_path / "a", 6), memory_mb=2.5 * size, visit=1))
    for k in range(30):
        soup[k]
    assert len(soup._kept) == 2


def test_a_soup_says_what_is_wrong_with_it(tmp_path):
    with pytest.raises(ValueError, match="wants sources with different names"):
        DataSoupConfig([])
    with pytest.raises(ValueError, match="Unknown data source type 'lerobt'"):
        DataSoup(DataSoupConfig([DataSourceConfig("x", "lerobt", str(tmp_path))]))
    with pytest.raises(FileNotFoundError, match="no episode"):
        DataSoup(soup_of(tmp_path))
    with pytest.raises(ValueError, match="positive weight, got 0"):
        DataSourceConfig("x", "neon_sim", "", weight=0.0)
