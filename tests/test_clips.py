"""Films of the reach scene: the truth beside each picture is the truth of that picture."""

from pathlib import Path

import numpy as np
import pytest
from tiny_neon import open_reach

from neon_sim.sensors.camera import CameraConfig
from neon_sim.training.backbone import COLORS, FRAME_S, Films, load_films
from neon_sim.training.captions import DIRECTIONS, direction
from neon_sim.training.clips import FRAME_STEPS, ClipConfig, film_paths, record_film, save_films

MOVING = ClipConfig(frames=4, moving_share=1.0)
RGB = {"red": 0, "green": 1, "blue": 2}


@pytest.fixture(scope="module")
def env():
    """The scene with the film's own frame rate, as agents/train_backbone.py opens it."""
    env = open_reach(camera=CameraConfig(rate_hz=50 / FRAME_STEPS))
    yield env
    env.close()


def _films(films: list[dict[str, np.ndarray]]) -> Films:
    return Films(*(np.stack([film[key] for film in films]) for key in ("frames", "ball_pos_b", "colors")))


def test_shapes_and_ranges(env) -> None:
    film = record_film(env, ClipConfig(frames=3), 0)
    assert film["frames"].shape == (3, 128, 128, 3) and film["frames"].dtype == np.uint8
    assert film["ball_pos_b"].shape == (3, 3, 3) and film["ball_pos_b"].dtype == np.float32
    assert film["colors"].shape == (3,) and len(set(film["colors"].tolist())) == 3
    assert film["ball_pos_b"][..., 0].min() > 0.1 and film["ball_pos_b"][..., 0].max() < 0.45  # in reach, ahead
    assert abs(FRAME_STEPS * env.robot.dt - FRAME_S) < 1e-12


def test_color_names_stand_in_the_tasks_order(env) -> None:
    assert env.task.colors == COLORS


def test_the_same_seed_films_the_same(env) -> None:
    one, two, other = (record_film(env, MOVING, seed) for seed in (5, 5, 6))
    assert all(np.array_equal(one[key], two[key]) for key in one)
    assert not np.array_equal(one["ball_pos_b"], other["ball_pos_b"])


def _places_w(env) -> dict[str, np.ndarray]:
    return {name: env.world.object_pose(f"ball_{name}")[0] for name in env.privileged()["ball_pos_b"]}


def test_balls_drift_straight_left_right_up_or_down(env) -> None:
    drifts = []
    for seed in range(8):
        env.reset(seed=seed)
        before = _places_w(env)
        film = record_film(env, MOVING, seed)
        after = _places_w(env)
        assert list(after) == [COLORS[int(i)] for i in film["colors"]]
        drifts += [(after[name] - before[name]) / (4 * FRAME_S) for name in after]
    speed = np.linalg.norm(drifts, axis=1)
    moving = np.array(drifts)[speed > 0]
    assert 0.5 < len(moving) / len(drifts) < 1.0  # four in five
    assert speed[speed > 0].min() > 0.03 - 1e-9 and speed.max() < 0.10 + 1e-9  # m/s
    np.testing.assert_allclose(np.abs(moving).max(1), speed[speed > 0])  # one axis each
    assert {DIRECTIONS[direction(drift)] for drift in moving} == set(DIRECTIONS[1:])


def test_no_ball_drifts_in_a_still_film(env) -> None:
    env.reset(seed=2)
    before = _places_w(env)
    record_film(env, ClipConfig(frames=3, moving_share=0.0), 2)
    after = _places_w(env)
    assert all(np.array_equal(before[name], after[name]) for name in before)


def test_a_label_sees_the_drift_and_how_the_pelvis_sways(env) -> None:
    """Labels are of motion in the pelvis frame, so the balls of one film share what the body does."""
    films = _films([record_film(env, MOVING, seed) for seed in range(4)])
    motion = films.motion()
    assert motion.shape == (4, 4, 3) and not motion[:, 0].any()  # nobody knows from one picture
    step = np.diff(films.ball_pos_b, axis=1)
    for index, (axis, sign) in enumerate(((1, 1), (1, -1), (2, 1), (2, -1)), start=1):
        assert (sign * step[motion[:, 1:] == index][:, axis] > 0).all()
    assert (np.linalg.norm(step[motion[:, 1:] == 0], axis=-1) < 0.02 * FRAME_S).all()


def _centre(frame: np.ndarray, channel: int) -> np.ndarray:
    """Mean row and column of the pixels in which one colour stands far above the other two."""
    others = [i for i in range(3) if i != channel]
    hue = frame[..., channel].astype(int) - frame[..., others].max(-1)
    rows, columns = np.nonzero(hue > 60)
    return np.array([rows.mean(), columns.mean()]) if len(rows) >= 12 else np.full(2, np.nan)


def test_a_picture_and_the_places_beside_it_agree(env) -> None:
    """The further left a ball is in the truth, the further left it is in that very picture."""
    columns, bearings = [], []
    for seed in range(6):
        film = record_film(env, MOVING, seed)
        for ball, color in enumerate(COLORS[int(i)] for i in film["colors"]):
            if color in RGB:
                columns += [_centre(frame, RGB[color])[1] for frame in film["frames"]]
                bearings += list(film["ball_pos_b"][:, ball, 1] / film["ball_pos_b"][:, ball, 0])
    seen = np.isfinite(columns)  # the others are behind a hand
    assert seen.sum() > 20
    assert np.corrcoef(np.array(columns)[seen], np.array(bearings)[seen])[0, 1] < -0.9


def test_every_picture_is_fresh(env) -> None:
    quick = open_reach(camera=CameraConfig(rate_hz=50.0))
    slow, fast = record_film(env, MOVING, 3), record_film(quick, MOVING, 3)
    quick.close()
    assert np.array_equal(slow["ball_pos_b"], fast["ball_pos_b"])
    assert np.array_equal(slow["frames"], fast["frames"])


def _killed(*_: object) -> None:
    raise KeyboardInterrupt


def test_shards_come_back_and_half_a_shard_is_not_seen(env, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    films = [record_film(env, ClipConfig(frames=2), seed) for seed in range(3)]
    save_films(films[:2], tmp_path / "films_000000.npz")
    save_films(films[2:], tmp_path / "films_000002.npz")
    assert [path.name for path in sorted(tmp_path.iterdir())] == ["films_000000.npz", "films_000002.npz"]
    again, whole = load_films(film_paths(tmp_path)), _films(films)
    for name in ("frames", "ball_pos_b", "colors"):
        assert np.array_equal(getattr(again, name), getattr(whole, name))
    monkeypatch.setattr(Path, "replace", _killed)  # just before a shard gets its name
    with pytest.raises(KeyboardInterrupt):
        save_films(films[:1], tmp_path / "films_000003.npz")
    assert len(list(tmp_path.iterdir())) == 3 and len(film_paths(tmp_path)) == 2


def test_motion_of_made_up_films_by_hand() -> None:
    places = np.zeros((1, 3, 2, 3), np.float32)
    places[0, :, 0, 1] = [0.0, 0.01, 0.02]  # 1 cm in 0.24 s: 4.2 cm/s to the left
    places[0, :, 1, 2] = [0.0, -0.004, -0.02]  # 1.7 cm/s is still, 6.7 cm/s is down
    films = Films(np.zeros((1, 3, 16, 16, 3), np.uint8), places, np.array([[0, 3]]))
    assert films.motion().tolist() == [[[0, 0], [1, 0], [1, 4]]]
