"""LeWM: sizes, inputs, the loss by hand, collapse without SIGReg and none with it, and a folder that holds it whole."""

import json
from dataclasses import asdict, replace
from pathlib import Path

import pytest
import torch
from tiny_world import play, tiny_config, train
from torch import Tensor

from neon_sim.world_model.config import SIZES, LeWMConfig, lewm_config
from neon_sim.world_model.encoder import shrink_frames
from neon_sim.world_model.lewm import (
    WEIGHTS_FILE,
    LeWM,
    distance_to,
    latent_cost,
    load_world_model,
    save_world_model,
)
from neon_sim.world_model.predictor import rollout_plain
from neon_sim.world_model.sigreg import sigreg

FELT = tiny_config(proprio_dim=3, proprio_dropout=0.0, history=3, positions=6)


def _generator(seed: int = 0) -> torch.Generator:
    return torch.Generator().manual_seed(seed)


def _model(config: LeWMConfig) -> LeWM:
    torch.manual_seed(0)
    return LeWM(config).eval()


@pytest.mark.parametrize(
    ("size", "total", "published"),
    [
        ("paper", 18_025_152, 18.0),  # the released weights; the paper's text says 15
        ("s", 6_963_360, None),
        ("xs", 1_382_336, 1.4),
        ("tiny", 70_624, None),
    ],
)
def test_parameter_counts(size: str, total: int, published: float | None) -> None:
    with torch.device("meta"):  # counted, not filled
        table = LeWM(lewm_config(size)).parameter_table()
    assert table["total"] == total == sum(count for name, count in table.items() if name != "total")
    if published is not None:
        assert total / 1e6 == pytest.approx(published, abs=0.05)


def test_parameters_of_what_is_trained_by_default() -> None:
    with torch.device("meta"):
        reach = LeWM(lewm_config("xs", patch_size=16, grid=4, action_dim=6)).parameter_table()
        plain = LeWM(lewm_config("xs", action_dim=6)).parameter_table()
    assert reach["total"] == 1_711_680
    assert {name for name, count in plain.items() if reach[name] != count} == {"encoder", "total"}


def test_the_published_parts_have_the_published_sizes() -> None:
    with torch.device("meta"):
        table = LeWM(lewm_config("paper")).parameter_table()
    assert table["encoder"] + table["projector"] == pytest.approx(6.29e6, rel=1e-3)
    assert table["predictor"] == pytest.approx(11.58e6 + 0.15e6, rel=2e-3)  # and the action embedder
    config = SIZES["paper"]
    assert (config.image_size // config.patch_size) ** 2 == 256 and config.sigreg_knots == 17
    assert config.sigreg_weight == 0.1 and config.dropout == 0.1


def test_names_and_sizes_that_do_not_exist_are_refused() -> None:
    with pytest.raises(ValueError, match="Unknown world model size 'papre'. Did you mean 'paper'"):
        lewm_config("papre")
    with pytest.raises(ValueError, match="Unknown LeWMConfig field 'posotions'. Did you mean 'positions'"):
        lewm_config("xs", posotions=3)
    for wrong in ({"patch_size": 7}, {"history": 17}, {"history": 0}, {"encoder_heads": 3}, {"action_dim": 0}):
        with pytest.raises(ValueError, match="must|layers and actions"):
            lewm_config("xs", **wrong)


@pytest.mark.parametrize("size", ["xs", "tiny"])
@torch.no_grad()
def test_one_token_per_frame(size: str) -> None:
    model = _model(lewm_config(size))
    config = model.config
    side = config.image_size
    frames = torch.randint(0, 256, (1, 2, side, side, 3), dtype=torch.uint8, generator=_generator())
    latents = model.encode(frames, torch.randn(1, 2, 125, generator=_generator()))
    assert latents.shape == (1, 2, config.dim) and bool(latents.isfinite().all())
    assert float((latents[0, 0] - latents[0, 1]).abs().max()) > 1e-3
    torch.testing.assert_close(model.encode(frames[:, 1:])[:, 0], model.encode(frames)[:, 1])


@torch.no_grad()
def test_proprioception_counts_and_may_be_absent() -> None:
    model = _model(FELT)
    frames, _, _ = play(2, 3, _generator())
    felt = torch.randn(2, 3, 3, generator=_generator())
    latents, blind = model.encode(frames, felt), model.encode(frames)
    assert float((latents - model.encode(frames, felt + 1.0)).abs().max()) > 1e-2
    keep = torch.tensor([[True], [False]])
    half = model.encode(frames, felt, keep)
    torch.testing.assert_close(half[0], latents[0])
    torch.testing.assert_close(half[1], blind[1])
    assert not torch.allclose(latents[1], blind[1], atol=1e-3)


@torch.no_grad()
def test_proprioception_is_standardised_and_cut() -> None:
    model = _model(FELT)
    frames, _, _ = play(1, 1, _generator())
    plain = model.encode(frames, torch.tensor([[[1.0, -2.0, 0.0]]]))
    model.proprio.set_statistics(torch.tensor([5.0, 5.0, 7.0]), torch.tensor([2.0, 3.0, 0.0]))
    torch.testing.assert_close(model.encode(frames, torch.tensor([[[7.0, -1.0, 7.0]]])), plain)
    far = [model.encode(frames, torch.tensor([[[5.0 + 2.0 * sigma, 5.0, 7.0]]])) for sigma in (7.0, 8.0, 9.0)]
    assert torch.equal(far[1], far[2]) and not torch.equal(far[0], far[1])
    for wrong in (
        (torch.zeros(2), torch.ones(3)),
        (torch.zeros(3), -torch.ones(3)),
        (torch.zeros(3) / 0, torch.ones(3)),
    ):
        with pytest.raises(ValueError, match="set_statistics wants"):
            model.proprio.set_statistics(*wrong)


def test_wrong_inputs_are_refused_with_both_shapes() -> None:
    frames, _, _ = play(1, 2, _generator())
    with pytest.raises(ValueError, match=r"uint8 frames \(N, 16, 16, 3\), got \(2, 8, 16, 3\)"):
        _model(FELT).encode(frames[:, :, :8])
    with pytest.raises(ValueError, match="float32"):
        _model(FELT).encode(frames.float())
    with pytest.raises(ValueError, match=r"What was seen wants \d+ numbers a frame, got \(1, 2, 4\)"):
        _model(FELT).encode(torch.zeros(1, 2, 4))
    with pytest.raises(ValueError, match=r"proprio \(1, 2, 3\) .*got \(1, 2, 4\)"):
        _model(FELT).encode(frames, torch.zeros(1, 2, 4))
    with pytest.raises(ValueError, match="got"):
        _model(tiny_config()).encode(frames, torch.zeros(1, 2, 0))


def test_frames_shrink_by_area() -> None:
    frame = torch.zeros(1, 4, 4, 3, dtype=torch.uint8)
    frame[0, :2, :2, 0] = torch.tensor([[10, 20], [30, 43]])
    small = shrink_frames(frame, 2)
    assert small.shape == (1, 2, 2, 3) and small[0, 0, 0].tolist() == [26, 0, 0] and int(small.sum()) == 26  # 103 / 4
    assert shrink_frames(frame, 4) is frame
    assert shrink_frames(torch.full((2, 3, 128, 128, 3), 200, dtype=torch.uint8), 96).unique().tolist() == [200]
    with pytest.raises(ValueError, match="at least 5 x 5, got 4 x 4"):
        shrink_frames(frame, 5)


def test_the_loss_by_hand() -> None:
    model = _model(FELT)
    frames, actions, _ = play(6, 4, _generator())
    felt = torch.randn(6, 4, 3, generator=_generator())
    found = model.loss(frames, actions, felt, _generator(7))
    with torch.no_grad():
        z = model.encode(frames, felt)
        error = (model.predictor(z[:, :3], actions) - z[:, 1:]).square().mean()
        regularity = sigreg(z, FELT.sigreg_projections, _generator(7))
    torch.testing.assert_close(found.prediction, error)
    torch.testing.assert_close(found.sigreg, regularity)
    torch.testing.assert_close(found.total, error + 0.1 * regularity)
    assert found.prefix.item() == 0.0


def test_sight_and_feeling_apart() -> None:
    config = replace(FELT, felt_dim=4)
    model, (frames, actions, _) = _model(config), play(6, 4, _generator())
    felt = torch.randn(6, 4, 3, generator=_generator())
    with torch.no_grad():
        z, blind, numb = (model.encode(*seen) for seen in ((frames, felt), (frames.flip(0), felt), (frames, None)))
    assert z.shape == (6, 4, config.dim)
    assert torch.equal(z[..., -4:], blind[..., -4:]) and not torch.equal(z[..., :-4], blind[..., :-4])
    assert torch.equal(z[..., :-4], numb[..., :-4]) and not torch.equal(z[..., -4:], numb[..., -4:])
    generator = _generator(7)
    parts = [sigreg(part, config.sigreg_projections, generator) for part in (z[..., :-4], z[..., -4:])]
    torch.testing.assert_close(model.loss(frames, actions, felt, _generator(7)).sigreg, parts[0] + parts[1])
    for wrong in ({"felt_dim": config.dim}, {"felt_dim": -1}, {"felt_dim": 4, "proprio_dim": 0}):
        with pytest.raises(ValueError, match="felt_dim must be below dim"):
            replace(config, **wrong)


def test_a_grid_is_read_place_by_place() -> None:
    config = lewm_config("tiny", grid=2, proprio_dim=0)  # 4 x 4 patches
    model = _model(config)
    frames = torch.zeros(2, 1, 32, 32, 3, dtype=torch.uint8)
    frames[0, 0, :8, :8] = frames[1, 0, :8, 24:] = 255  # the same square, top left and top right
    model.encoder.places.data.zero_()  # nothing tells the tokens where they are
    with torch.no_grad():
        seen = model.encoder(frames[:, 0])
        weights = model.encoder.read.weight.unflatten(1, (32, 2, 2))
        weights.copy_(weights.flip(3))  # left cells' weights for right ones
        torch.testing.assert_close(model.encoder(frames[:, 0]).flip(0), seen)
        assert float((seen[0] - seen[1]).abs().max()) > 0.01
        model.encoder.grid = 0  # as published: the class token cannot tell them apart
        token = model.encoder(frames[:, 0])
    torch.testing.assert_close(token[0], token[1], atol=1e-6, rtol=0)
    for wrong in (3, -1):
        with pytest.raises(ValueError, match="grid must divide the 4 patches"):
            replace(config, grid=wrong)


def test_a_loss_of_ones_own_is_added() -> None:
    model, (frames, actions, _) = _model(FELT), play(6, 4, _generator())
    plain, more = (
        model.loss(frames, actions, None, _generator(7), extra) for extra in (None, lambda z: z.square().mean())
    )
    with torch.no_grad():
        asked = model.encode(frames).square().mean()
    assert plain.extra.item() == 0.0
    torch.testing.assert_close(more.extra, asked)
    torch.testing.assert_close(more.total, plain.total + asked)


def test_the_gradient_flows_into_the_target_as_well() -> None:
    model = _model(FELT)
    frames, actions, _ = play(4, 2, _generator())
    felt = torch.randn(4, 2, 3, generator=_generator()).requires_grad_()
    model.loss(frames, actions, felt, _generator()).prediction.backward()
    assert felt.grad is not None and bool((felt.grad.abs().amax(-1) > 0.0).all())  # the last one is only a target


def test_the_prefix_loss_judges_what_is_told_without_seeing() -> None:
    model = _model(replace(FELT, prefix=True))
    frames, actions, _ = play(64, 2, _generator())  # one step: the prefix is the teacher-forced step
    loss = model.loss(frames, actions, None, _generator())
    torch.testing.assert_close(loss.prefix, loss.prediction)
    torch.testing.assert_close(loss.total, loss.prediction + 0.1 * loss.sigreg)
    frames, actions, _ = play(64, 4, _generator())
    loss = model.loss(frames, actions, None, _generator(3))
    with torch.no_grad():
        z = model.encode(frames)
        sigreg(z, FELT.sigreg_projections, generator := _generator(3))
        lengths = torch.randint(1, 4, (64, 1), generator=generator)[:, 0].tolist()
        errors = []
        for row, known in enumerate(lengths):
            told = model.predictor.rollout(
                z[row : row + 1, :known],
                actions[row : row + 1, : known - 1],
                actions[row : row + 1, None, known - 1 :],
                prefix=True,
            )
            errors.append((told[0, 0] - z[row, known:]).square())
    torch.testing.assert_close(loss.prefix, torch.cat(errors).mean())
    loss.total.backward()
    assert model.predictor.unknown.grad is not None and float(model.predictor.unknown.grad.abs().max()) > 0.0


def _spread(model: LeWM) -> tuple[float, float]:
    """Mean standard deviation of the latents, and how many directions they really use (entropy of the spectrum)."""
    frames, _, _ = play(128, 4, _generator(99))
    with torch.no_grad():
        z = model.encode(frames).flatten(0, 1)
    spectrum = torch.linalg.eigvalsh(torch.cov(z.T)).clamp(min=1e-12)
    share = spectrum / spectrum.sum()
    return float(z.std(0).mean()), float(torch.exp(-(share * share.log()).sum()))


def test_latents_collapse_without_sigreg_and_do_not_with_it() -> None:
    collapsed, _ = _spread(train(tiny_config(sigreg_weight=0.0), 60))
    held, directions = _spread(train(tiny_config(), 60))
    assert collapsed < 0.02  # measured 0.003
    assert held > 0.3 and directions > 2.0  # measured 0.42, growing; the world has two degrees of freedom


@torch.no_grad()
def test_the_cost_is_the_distance_of_the_imagined_end() -> None:
    model = _model(FELT)
    frames, actions, _ = play(2, 3, _generator())
    z = model.encode(frames)
    goal = torch.randn(2, 32, generator=_generator())
    candidates = 2.0 * torch.rand(2, 5, 4, 2, generator=_generator()) - 1.0
    imagined = rollout_plain(model.predictor, z, actions, candidates)
    apart = (imagined - goal[:, None, None]).square().sum(-1)
    found = latent_cost(model, z, actions, distance_to(goal))(candidates)
    torch.testing.assert_close(found, apart[..., -1])
    found = latent_cost(model, z, actions, distance_to(goal), running=0.5)(candidates)
    torch.testing.assert_close(found, apart[..., -1] + 0.5 * apart.mean(-1))

    def own(imagined: Tensor) -> Tensor:
        return imagined[..., 0].abs()

    torch.testing.assert_close(latent_cost(model, z, actions, own)(candidates), imagined[:, :, -1, 0].abs())


def test_state_survives_and_the_generator_decides() -> None:
    model = _model(replace(FELT, proprio_dropout=0.5))
    other = LeWM(model.config).eval()
    other.load_state_dict(model.state_dict())
    frames, actions, _ = play(8, 3, _generator())
    felt = torch.randn(8, 3, 3, generator=_generator())
    first, again, differs = (
        m.loss(frames, actions, felt, _generator(s)).total for m, s in ((model, 1), (other, 1), (model, 2))
    )
    assert torch.equal(first, again) and not torch.equal(first, differs)


@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16])
def test_a_folder_gives_back_what_was_saved(tmp_path: Path, dtype: torch.dtype) -> None:
    torch.manual_seed(1)
    model = LeWM(FELT)
    model.proprio.set_statistics(torch.tensor([1.0, 2.0, 3.0]), torch.ones(3))
    model.loss(*play(4, 3, _generator())[:2], torch.randn(4, 3, 3), _generator())  # moves BatchNorm's statistics
    model = model.to(dtype)
    save_world_model(model, tmp_path)
    assert sorted(path.name for path in tmp_path.iterdir()) == ["config.json", WEIGHTS_FILE]  # nothing half-written
    loaded = load_world_model(tmp_path)
    assert loaded.config == FELT and not loaded.training
    assert loaded.state_dict().keys() == model.state_dict().keys()
    assert all(torch.equal(value, loaded.state_dict()[name]) for name, value in model.state_dict().items())
    frames, _, _ = play(1, 2, _generator())
    assert torch.equal(loaded.encode(frames), model.eval().encode(frames)) and loaded.encode(frames).dtype == dtype


def test_what_is_no_world_model_is_refused(tmp_path: Path) -> None:
    with pytest.raises(ValueError, match="train_world_model"):
        load_world_model(tmp_path / "nothing")
    save_world_model(_model(FELT), tmp_path)
    config = tmp_path / "config.json"
    config.write_text(json.dumps({**asdict(FELT), "patch_sise": 4}))
    with pytest.raises(ValueError, match="Unknown LeWMConfig field 'patch_sise'. Did you mean 'patch_size'"):
        load_world_model(tmp_path)
    config.write_text(json.dumps(asdict(replace(FELT, dim=64))))
    with pytest.raises(ValueError, match="do not fit its config.json"):
        load_world_model(tmp_path)
    for text in ("3", "{"):
        config.write_text(text)
        with pytest.raises(ValueError, match="whole world model"):
            load_world_model(tmp_path)
    save_world_model(_model(FELT), tmp_path)
    weights = tmp_path / WEIGHTS_FILE
    weights.write_bytes(weights.read_bytes()[:-100])
    with pytest.raises(ValueError, match="whole world model"):
        load_world_model(tmp_path)
