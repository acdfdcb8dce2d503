"""The known-ground benchmark: its digits, the written-out EWC beside ours, and the lives through permuted tasks."""

import sys
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch

from neon_sim.training.ewc import EWC
from neon_sim.training.protection import L2Config, make_protection

ROOT = Path(__file__).resolve().parents[1]
sys.path.append(str(ROOT / "benchmarks"))  # scripts, not a package

import known_ground  # noqa: E402
import permuted_digits  # noqa: E402

SMALL = replace(known_ground.PRESETS["tiny"], hidden=12)


def test_a_digit_is_its_glyph_somewhere() -> None:
    x, y = permuted_digits.draw_digits(400, np.random.default_rng(0))
    again, _ = permuted_digits.draw_digits(400, np.random.default_rng(0))
    assert torch.equal(x, again) and x.shape == (400, 144) and set(y.tolist()) == set(range(10))
    pictures = x.reshape(-1, 12, 12)
    dots = [sum(row.count("1") for row in glyph.split()) for glyph in permuted_digits.GLYPHS]
    for digit in (1, 8):  # 9 in 10 of its dots are there
        ink = pictures[y == digit].sum((1, 2)).mean()
        assert float(ink) == pytest.approx(0.9 * dots[digit], rel=0.1)
    assert abs(float(pictures[:, :2].mean())) < 0.02  # no digit reaches the upper edge


def test_tasks_are_shufflings_of_pixels_and_the_first_is_none() -> None:
    one, other = (permuted_digits.make_tasks(2, 400, 200, seed=3) for _ in range(2))
    assert all(torch.equal(a.train["x"], b.train["x"]) for a, b in zip(one, other, strict=True))
    edges = [task.train["x"].reshape(-1, 12, 12)[:, 0].mean().item() for task in one]
    assert abs(edges[0]) < 0.02 < edges[1]  # the shuffled one has ink everywhere


def test_both_fishers_are_the_same_numbers() -> None:
    net = known_ground.make_net(SMALL, 0)
    x, _ = permuted_digits.draw_digits(20, np.random.default_rng(1))
    y = known_ground.sampled_labels(net, x, np.random.default_rng(2))
    plain, ours = known_ground.plain_fisher(net, x, y), known_ground.our_fisher(net, x, y)
    for name, value in plain.items():
        torch.testing.assert_close(ours[name], value, rtol=1e-4, atol=1e-9)


def test_both_penalties_are_the_same_after_three_tasks() -> None:
    """Ours keeps one parabola for any number of anchors: their sum, in units of the first Fisher's mean."""
    net = known_ground.make_net(SMALL, 0)
    params = dict(net.named_parameters())
    plain, ours = known_ground.PlainEWC(net, 7.0), EWC(params, strength=7.0)
    generator = torch.Generator().manual_seed(0)
    count = sum(param.numel() for param in params.values())
    mean = 0.0
    for size in (1.0, 3.0, 10.0):
        with torch.no_grad():
            for param in params.values():
                param += 0.1 * torch.randn(param.shape, generator=generator)
        fisher = {name: size * torch.rand(param.shape, generator=generator) for name, param in params.items()}
        mean = mean or sum(float(value.sum()) for value in fisher.values()) / count
        anchor = {name: param.detach().clone() for name, param in params.items()}
        plain.anchors.append((anchor, {name: value / mean for name, value in fisher.items()}))
        ours.add_anchor(anchor, fisher)
    wanted = plain.penalty().item()
    assert ours.penalty().item() == pytest.approx(wanted, rel=1e-4) and wanted > 1.0


def test_labels_are_drawn_from_what_the_net_believes() -> None:
    net = torch.nn.Linear(144, 10)
    with torch.no_grad():
        net.weight.zero_()
        net.bias.copy_(torch.tensor([0.7, 0.3] + [1e-9] * 8).log())
    y = known_ground.sampled_labels(net, torch.zeros(4000, 144), np.random.default_rng(0))
    assert float((y == 0).double().mean()) == pytest.approx(0.7, abs=0.03) and int(y.max()) <= 1


def test_a_huge_spring_holds_the_first_task_and_learns_no_second() -> None:
    preset = replace(SMALL, train=1000, epochs=4, hidden=40, learning_rate=1e-2)
    free = known_ground.live("fine-tuning", known_ground.ARMS["fine-tuning"], preset, 0)
    for arm, strength in (("l2", 1e5), (known_ground.PLAIN, 1e7)):
        held = known_ground.live(arm, replace(known_ground.ARMS[arm], strength=strength), preset, 0)
        assert held.matrix[0, 0] == free.matrix[0, 0] > 0.5  # the first task is learned alike
        assert held.matrix[1, 0] > free.matrix[1, 0] and held.matrix[1, 1] < free.matrix[1, 1]


def test_ours_is_the_written_out_ewc_and_scaling_each_fisher_is_not() -> None:
    """Ours with a strength in units of the first F is the same life; only the order of the sums differs."""
    preset = replace(SMALL, tasks=3)
    plain = known_ground.live(
        known_ground.PLAIN, replace(known_ground.ARMS[known_ground.PLAIN], strength=30.0), preset, 0
    )
    config = replace(known_ground.ARMS["ewc"], strength=30.0 * plain.fisher_means[0])
    ours = known_ground.live("ewc", config, preset, 0)
    scaled = known_ground.live(known_ground.SCALED, config, preset, 0)
    assert ours.fisher_means == pytest.approx(plain.fisher_means, rel=1e-2)
    assert np.abs(ours.matrix - plain.matrix).max() <= 0.02
    assert scaled.fisher_means[:2] == ours.fisher_means[:2] and scaled.fisher_means[2] != ours.fisher_means[2]


def test_a_pull_moves_the_weights_after_adams_step() -> None:
    """One batch, one step: whatever Adam makes of a weight, it is then drawn to theta* by 1 / (1 + rate strength F)."""
    preset = replace(SMALL, epochs=1, batch_size=8, learning_rate=1e-2)
    task = permuted_digits.make_tasks(1, 8, 8, seed=0)[0]
    moved = {}
    for pulls in (False, True):
        net = known_ground.make_net(preset, 0)
        params = dict(net.named_parameters())
        start = {name: param.detach().clone() for name, param in params.items()}
        held = make_protection(L2Config(strength=50.0), params, np.random.default_rng(0))
        held.end_regime(dict)  # anchored where it begins, so that there is no gradient of a penalty yet
        plain, rng = known_ground.PlainEWC(net, 0.0), np.random.default_rng(1)
        known_ground.learn(net, task.train, held, plain, preset, rng, pulls)
        moved[pulls] = {name: param.detach() - start[name] for name, param in params.items()}
    for name, step in moved[False].items():
        torch.testing.assert_close(moved[True][name], step / (1.0 + 1e-2 * 50.0), rtol=1e-3, atol=1e-7)
    assert max(float(step.abs().max()) for step in moved[False].values()) == pytest.approx(1e-2, rel=1e-3)


def test_who_pulls_holds_the_first_task_the_harder_the_stronger() -> None:
    """The arms are lived with `pull_`: with a huge strength no second task is learned, with none it is fine-tuning."""
    preset = replace(SMALL, train=1000, epochs=4, hidden=40, learning_rate=1e-2)
    free = known_ground.live("fine-tuning", known_ground.ARMS["fine-tuning"], preset, 0)
    for arm in (known_ground.L2_PULLED, known_ground.PULLED):
        loose, held = (
            known_ground.live(arm, replace(known_ground.ARMS[arm], strength=strength), preset, 0)
            for strength in (0.0, 1e7)
        )
        assert loose.matrix[0, 0] == held.matrix[0, 0] == free.matrix[0, 0]
        assert held.matrix[1, 0] > loose.matrix[1, 0] and held.matrix[1, 1] < loose.matrix[1, 1]


def _written() -> bytes | None:
    path = ROOT / "benchmarks" / "results" / "known_ground.json"
    return path.read_bytes() if path.exists() else None


def test_the_tiny_preset_compares_all_arms_and_writes_nothing(capsys: pytest.CaptureFixture[str]) -> None:
    before = _written()
    figures = known_ground.run("tiny", replace(SMALL, train=128, test=50, epochs=1))
    assert set(figures) == set(known_ground.ARMS) and _written() == before
    assert all(0.0 <= found["average_accuracy"] <= 1.0 for found in figures.values())
    assert figures["ewc"]["strength"] in known_ground.GRID["ewc"]
    assert "| replay | - |" in capsys.readouterr().out


def test_an_unknown_preset_names_the_nearest() -> None:
    with pytest.raises(SystemExit, match="Did you mean 'tiny'"):
        known_ground.main(["--preset", "tinny"])
