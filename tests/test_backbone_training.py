"""Training the backbone: windows and losses by hand, a few real steps, a resumed run that is the same run; probes."""

import math
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch
from tiny_neon import tiny_backbone
from torch import nn

from neon_sim.model.compact import read_compact
from neon_sim.training.backbone import (
    CLIPS_PER_FILM,
    COLORS,
    BackboneTrainer,
    Films,
    contrastive,
    windows,
)
from neon_sim.training.probes import encode_films, encode_last_clips, fit_probe, probe_backbone

PAINT = np.array([[220, 30, 30], [30, 170, 40], [30, 60, 230], [240, 215, 30], [150, 40, 190]], np.uint8)


def _painted(count: int, frames: int = 4, seed: int = 0, drift: float = 0.02) -> Films:
    """Films of two squares on grey whose row and column follow from their place; one drifts left or right."""
    rng = np.random.default_rng(seed)
    colors = np.array([rng.permutation(5)[:2] for _ in range(count)])
    pos_b = np.empty((count, frames, 2, 3), np.float32)
    pos_b[:, :, :, 0] = 0.3
    pos_b[:, :, :, 2] = rng.uniform(0.0, 0.2, (count, 1, 2))
    start = np.stack([rng.uniform(-0.02, 0.1, count), rng.uniform(-0.1, 0.02, count)], axis=1)
    speed = np.stack([rng.choice([-drift, drift], count), np.zeros(count)], axis=1)
    pos_b[:, :, :, 1] = start[:, None] + speed[:, None] * np.arange(frames)[None, :, None]
    pictures = np.full((count, frames, 128, 128, 3), 120, np.uint8)
    for film, frame, ball in np.ndindex(count, frames, 2):
        row, column = 110 - int(400 * pos_b[film, frame, ball, 2]), 60 - int(350 * pos_b[film, frame, ball, 1])
        pictures[film, frame, row - 8 : row + 8, max(0, column - 8) : column + 8] = PAINT[colors[film, ball]]
    return Films(pictures, pos_b, colors)


def _drifting(films: Films) -> Films:
    """The same films with the drift that they were painted with: the first ball left or right, the second one up."""
    left = films.ball_pos_b[:, -1, 0, 1] > films.ball_pos_b[:, 0, 0, 1]
    return replace(films, drift=np.stack([np.where(left, 1, 2), np.full(len(left), 3)], axis=1))


def test_windows_end_at_each_frame_and_repeat_the_oldest() -> None:
    cells = torch.arange(6).view(2, 3, 1, 1)
    seen = windows(cells, 2)
    assert seen.shape == (6, 2, 1, 1)
    assert seen.flatten(1).tolist() == [[0, 0], [0, 1], [1, 2], [3, 3], [3, 4], [4, 5]]
    assert windows(cells, 4)[2].flatten().tolist() == [0, 0, 1, 2]


def test_contrastive_by_hand() -> None:
    scale = torch.tensor(0.0)  # e^0 = 1
    a, b = torch.tensor([[2.0, 0.0], [0.0, 3.0]]), torch.tensor([[5.0, 0.0], [0.0, 1.0]])
    # cosines are the identity: each row says -ln(e / (e + 1)) = ln(1 + 1/e)
    assert contrastive(a, b, scale).item() == pytest.approx(math.log(1 + math.exp(-1)), rel=1e-5)
    assert contrastive(a, b.flip(0), scale).item() == pytest.approx(math.log(1 + math.e), rel=1e-5)
    assert contrastive(a, a, torch.tensor(20.0)).item() == pytest.approx(0.0, abs=1e-6)  # held at 100
    assert contrastive(a, a.flip(0), torch.tensor(20.0)).item() == pytest.approx(100.0, rel=1e-5)


@pytest.fixture(scope="module")
def films() -> Films:
    """Four painted films."""
    return _painted(4)


def _trainer(films: Films, rate: float = 4e-3) -> BackboneTrainer:
    trainer = BackboneTrainer(films, seed=0, batch_films=2, learning_rate=rate)
    trainer.pretext.train()
    return trainer


def test_a_few_steps_reduce_the_losses_and_reach_every_weight(films: Films) -> None:
    trainer = _trainer(films)
    start = {name: value.clone() for name, value in trainer.pretext.named_parameters()}
    history = [trainer._update(0.0) for _ in range(14)]
    assert set(history[0]) == {"caption", "phrase", "numbers", "next"}
    assert all(math.isfinite(value) for losses in history for value in losses.values())
    for name in ("numbers", "next"):
        first, last = (np.mean([losses[name] for losses in part]) for part in (history[:3], history[-3:]))
        assert last < 0.9 * first, name
    untouched = [name for name, value in trainer.pretext.named_parameters() if torch.equal(value, start[name])]
    assert untouched == []


def test_the_rate_warms_up_and_follows_a_cosine(films: Films) -> None:
    trainer = _trainer(films, rate=1e-3)
    rates = []
    for step, progress in ((0, 0.0), (49, 0.0), (99, 0.0), (500, 0.0), (500, 0.5), (500, 1.0)):
        trainer.step = step
        trainer._update(progress)
        rates.append(1e3 * trainer.optimizer.param_groups[0]["lr"])
    assert rates == pytest.approx([0.01, 0.5, 1.0, 1.0, 0.51, 0.02])


def test_a_resumed_run_is_the_same_run_to_the_bit(films: Films, tmp_path: Path) -> None:
    whole = _trainer(films)
    for _ in range(4):
        whole._update(0.1)
    part = _trainer(films)
    for _ in range(2):
        part._update(0.1)
    part._checkpoint(tmp_path / "state.pt")
    torch.rand(7)  # somebody else draws numbers in between
    resumed = BackboneTrainer(films, seed=99, batch_films=2, learning_rate=4e-3)
    resumed._restore(tmp_path / "state.pt")
    resumed.pretext.train()
    assert resumed.step == 2
    for _ in range(2):
        resumed._update(0.1)
    for name, value in whole.pretext.state_dict().items():
        assert torch.equal(resumed.pretext.state_dict()[name], value), name
    assert [path.name for path in tmp_path.iterdir()] == ["state.pt"]


def test_run_keeps_to_its_budget_over_two_runs_and_saves_the_backbone(films: Films, tmp_path: Path) -> None:
    trainer = _trainer(films)
    trainer.run(0.01, tmp_path / "state.pt")  # the first step is over the budget
    assert trainer.step == 1 and trainer.spent_s > 0.01 and not trainer.backbone.training
    again = _trainer(films)
    again.run(0.01, tmp_path / "state.pt")
    assert again.step == 1 and again.spent_s == trainer.spent_s
    again.save(tmp_path / "backbone")
    loaded = read_compact(tmp_path / "backbone")
    for name, value in trainer.backbone.state_dict().items():
        found = loaded.state_dict()[name]
        assert torch.equal(found, value.half().float() if value.is_floating_point() else value), name


def test_a_run_that_is_interrupted_is_saved(films: Films, tmp_path: Path) -> None:
    trainer = _trainer(films)
    update = trainer._update

    def stop_at_two(progress: float) -> dict[str, float]:
        if trainer.step == 2:
            raise KeyboardInterrupt
        return update(progress)

    trainer._update = stop_at_two  # type: ignore[method-assign]
    with pytest.raises(KeyboardInterrupt):
        trainer.run(60.0, tmp_path / "state.pt")
    again = _trainer(films)
    again._restore(tmp_path / "state.pt")
    assert again.step == 2 and again.spent_s == trainer.spent_s


def test_the_next_frame_is_the_target_and_the_queries_name_the_balls(films: Films) -> None:
    trainer = _trainer(films)
    queries = trainer._queries(np.array([0, 2]), CLIPS_PER_FILM)
    assert queries.shape == (2 * CLIPS_PER_FILM, 2, 160)
    assert torch.equal(queries[0], queries[CLIPS_PER_FILM - 1]) and not torch.equal(queries[0], queries[CLIPS_PER_FILM])
    captions, phrases = trainer._texts(np.array([0, 2]), np.array([3, 3]))
    assert len(captions) == 2 and len(phrases) == 4
    for i, row in enumerate((0, 2)):
        names = [COLORS[color] for color in films.colors[row]]
        assert all(name in captions[i] for name in names)
        assert [phrase.split()[0] for phrase in phrases[2 * i : 2 * i + 2]] == names
        word = "left" if films.ball_pos_b[row, 3, 0, 1] > films.ball_pos_b[row, 2, 0, 1] else "right"
        assert phrases[2 * i].endswith(f"moving {word}") and phrases[2 * i + 1].endswith(" still")


def test_a_probe_finds_what_is_in_the_features() -> None:
    inputs = torch.randn(2000, 12, generator=torch.Generator().manual_seed(0)) * 5.0 + 3.0
    target = inputs[:, :2] * 0.1
    probe = fit_probe(inputs, target, 2, nn.functional.mse_loss, 0)
    with torch.no_grad():
        assert float((probe(inputs) - target).square().mean() / target.var()) < 0.05
    again = fit_probe(inputs, target, 2, nn.functional.mse_loss, 0)
    assert torch.equal(probe(inputs), again(inputs))


def test_a_clip_is_encoded_as_the_backbone_itself_does(films: Films) -> None:
    backbone = tiny_backbone()
    clips, found = encode_films(backbone, films)
    assert clips.shape == (16, 40) and found.shape == (16, 2, 40)
    with torch.no_grad():
        words = backbone.text_encoder([f"the {COLORS[i]} ball" for i in films.colors[0]])
        tokens = backbone.mix_frames(backbone.encode_frames(torch.from_numpy(films.frames[:1])))
        torch.testing.assert_close(backbone.find(tokens, words[None])[0], found[3])
        torch.testing.assert_close(backbone.clip_vector(tokens)[0], clips[3])


def test_one_frame_is_the_newest_shown_all_the_time(films: Films) -> None:
    backbone = tiny_backbone()
    clip, phrases = encode_last_clips(backbone, films, single_frame=False)
    frame, same = encode_last_clips(backbone, films, single_frame=True)
    assert clip.shape[0] == phrases.shape[0] == films.colors.size and torch.equal(phrases, same)
    assert torch.equal(clip[0], clip[1])  # one clip, asked for each of its balls
    assert not torch.allclose(clip, frame)
    still = Films(np.repeat(films.frames[:, -1:], 4, axis=1), films.ball_pos_b, films.colors)
    torch.testing.assert_close(encode_last_clips(backbone, still, single_frame=False)[0], frame)


def test_probe_report_has_its_figures_and_their_chances() -> None:
    train, test = _painted(30, seed=1), _painted(10, seed=2)
    report = probe_backbone(tiny_backbone(), train, test, _drifting(train), _drifting(test), seed=0)
    figures = report["figures"]
    assert (report["train_films"], report["test_films"], report["seed"]) == (30, 10, 0)
    assert figures["direction_clip_balls"] == figures["direction_frame_balls"] == 20
    assert 0.5 <= figures["direction_clip_chance"] < 1.0
    with pytest.raises(ValueError, match="MOTION_PROBE"):
        probe_backbone(tiny_backbone(), train, test, train, test, seed=0)
    assert 0.0 <= figures["color_accuracy"] <= 1.0 and figures["color_chance"] >= 0.5
    # Chance: the median distance of a place from the mean of all places.
    guess = train.ball_pos_b.reshape(-1, 3).mean(0)
    expected = 100.0 * np.median(np.linalg.norm(test.ball_pos_b.reshape(-1, 3) - guess, axis=1))
    assert figures["position_cm_median_chance"] == pytest.approx(expected, rel=1e-3)
    assert figures["position_cm_median"] < 3 * expected
