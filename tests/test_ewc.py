"""Fisher information by hand and three ways to the same numbers; springs that pull as their formula says."""

import pytest
import torch
from torch import Tensor, nn

from neon_sim.training.ewc import EWC, fisher_diagonal, gaussian_nll, normalise_fisher, sampled_target
from neon_sim.training.fisher import Batch, Fisher, _linear_layers

STEPS = 3


class ChunkNet(nn.Module):
    """Every kind of parameter that a head has: per-sample and per-step Linear, gain, step embedding, residual scale."""

    def __init__(self) -> None:
        super().__init__()
        self.project = nn.Linear(5, 8)
        self.gain = nn.Parameter(torch.rand(8) + 0.5)
        self.steps = nn.Parameter(torch.randn(STEPS, 4))
        self.mix_steps = nn.Linear(4, 4)  # its rows are chunk steps, not samples
        self.hidden = nn.Linear(12, 12, bias=False)
        self.twice = nn.Linear(12, 12)  # called two times
        self.scale = nn.Parameter(torch.tensor(0.7))
        self.borrowed = nn.Linear(12, 12)  # its weight is used behind its back
        self.dropout = nn.Dropout(0.5)
        self.out = nn.Linear(12, 2)
        self.frozen = nn.Linear(2, 2).requires_grad_(False)

    def forward(self, features: Tensor) -> Tensor:
        hidden = self.project(features)
        hidden = hidden * torch.rsqrt(hidden.square().mean(-1, keepdim=True) + 1e-6) * self.gain
        steps = self.mix_steps(self.steps).expand(len(features), STEPS, 4)
        hidden = torch.cat([hidden.unsqueeze(1).expand(-1, STEPS, -1), steps], -1)
        hidden = hidden + self.scale * torch.relu(self.hidden(hidden)).square()
        hidden = self.twice(torch.tanh(self.twice(hidden)))
        hidden = nn.functional.linear(torch.tanh(self.borrowed(hidden)), self.borrowed.weight)
        return self.frozen(self.out(self.dropout(hidden)))


def _loss(module: nn.Module, batch: Batch) -> Tensor:
    return gaussian_nll(module(batch["features"]), batch["target"], std=0.5)


def _net_and_batch(rows: int = 7) -> tuple[ChunkNet, dict[str, Tensor]]:
    torch.manual_seed(0)
    net = ChunkNet().double()
    return net, {"features": torch.randn(rows, 5).double(), "target": torch.randn(rows, STEPS, 2).double()}


def _by_hand(net: nn.Module, batch: dict[str, Tensor]) -> Fisher:
    total = {name: torch.zeros_like(param) for name, param in net.named_parameters() if param.requires_grad}
    rows = len(batch["features"])
    for row in range(rows):
        net.zero_grad()
        _loss(net, {key: value[row : row + 1] for key, value in batch.items()}).sum().backward()
        for name, param in net.named_parameters():
            if param.grad is not None:
                total[name] += param.grad.square() / rows
    net.zero_grad()
    return total


def _same(one: Fisher, other: Fisher, rel: float = 1e-6) -> bool:
    assert one.keys() == other.keys()
    return all(torch.allclose(one[name], other[name], rtol=rel, atol=rel * float(other[name].max())) for name in one)


@pytest.mark.parametrize("method", ["fast", "vmap", "loop"])
@pytest.mark.parametrize(("rows", "chunk"), [(7, 64), (7, 3), (1, 64), (STEPS, 2)])
def test_all_methods_equal_one_backward_per_sample(method: str, rows: int, chunk: int) -> None:
    net, batch = _net_and_batch(rows)
    expected = _by_hand(net.eval(), batch)
    assert _same(fisher_diagonal(net, _loss, batch, chunk=chunk, method=method), expected)  # type: ignore[arg-type]
    assert all(float(value.sum()) > 0.0 for value in expected.values())


def test_the_fast_form_takes_what_it_describes_and_nothing_else() -> None:
    net, batch = _net_and_batch()
    trainable = {name: param for name, param in net.named_parameters() if param.requires_grad}
    layers = _linear_layers(net.eval(), _loss, batch, trainable)
    names = sorted(name for pair in layers.values() for name in pair)
    assert names == [
        "hidden.weight",
        "out.bias",
        "out.weight",
        "project.bias",
        "project.weight",
        "twice.bias",
        "twice.weight",
    ]


def test_tied_weights_and_outputs_changed_in_place() -> None:
    torch.manual_seed(1)
    first, second = nn.Linear(4, 4), nn.Linear(4, 4)
    second.weight = first.weight
    net = nn.Sequential(first, nn.ReLU(inplace=True), second, nn.Tanh(), nn.Linear(4, 2)).double()
    batch = {"features": torch.randn(6, 4).double(), "target": torch.randn(6, 2).double()}
    assert _same(fisher_diagonal(net, _loss, batch), _by_hand(net, batch))


def test_fisher_of_one_weight_by_hand() -> None:
    net = nn.Linear(1, 1, bias=False)
    nn.init.constant_(net.weight, 2.0)
    batch = {"features": torch.tensor([[1.0], [3.0]]), "target": torch.tensor([[1.0], [5.0]])}
    # d/dw of (w x - y)^2 / (2 std^2) is (w x - y) x / std^2: (2 - 1) * 1 * 4 = 4 and (6 - 5) * 3 * 4 = 12.
    assert fisher_diagonal(net, _loss, batch)["weight"].item() == pytest.approx((16.0 + 144.0) / 2)


def test_the_squared_batch_gradient_would_be_another_number() -> None:
    net = nn.Linear(1, 1, bias=False)
    nn.init.constant_(net.weight, 2.0)
    batch = {"features": torch.tensor([[1.0], [1.0]]), "target": torch.tensor([[1.0], [3.0]])}
    assert fisher_diagonal(net, _loss, batch)["weight"].item() == pytest.approx(16.0)  # the mean gradient is 0


def test_sampled_targets_give_the_true_fisher() -> None:
    net = nn.Linear(1, 1, bias=False)
    features = torch.full((20_000, 1), 3.0)
    target = sampled_target(net(features), 0.5, torch.Generator().manual_seed(0))
    found = fisher_diagonal(net, _loss, {"features": features, "target": target}, chunk=20_000)["weight"].item()
    assert found == pytest.approx(3.0**2 / 0.5**2, rel=0.05)  # (d mean / d w)^2 / std^2; 5 % is five standard errors


def test_padding_does_not_count() -> None:
    mean, target = torch.ones(2, 3, 1), torch.zeros(2, 3, 1)
    assert gaussian_nll(mean, target).tolist() == [1.5, 1.5]
    mask = torch.tensor([[1.0, 1.0, 0.0], [1.0, 0.0, 0.0]]).unsqueeze(-1)
    assert gaussian_nll(mean, target, mask=mask).tolist() == [1.0, 0.5]


def test_only_the_named_parameters_are_measured_and_the_mode_is_kept() -> None:
    net, batch = _net_and_batch()
    net.train()
    net.out.eval()
    found = fisher_diagonal(net, _loss, batch, names=["scale", "out.bias"])
    expected = _by_hand(net.eval(), batch)
    assert _same(found, {name: expected[name] for name in ("scale", "out.bias")})
    net.train()
    net.out.eval()
    fisher_diagonal(net, _loss, batch)
    assert net.training and net.dropout.training and not net.out.training
    assert all(param.grad is None for param in net.parameters())


def test_wrong_requests_are_refused() -> None:
    net, batch = _net_and_batch()
    with pytest.raises(ValueError, match="Did you mean 'scale'"):
        fisher_diagonal(net, _loss, batch, names=["scael"])
    with pytest.raises(ValueError, match="Unknown Fisher method 'fats'. Did you mean 'fast'"):
        fisher_diagonal(net, _loss, batch, method="fats")  # type: ignore[arg-type]
    with pytest.raises(ValueError, match="same number of rows"):
        fisher_diagonal(net, _loss, {**batch, "target": batch["target"][:3]})


def test_normalised_fisher_has_mean_one_over_all_entries() -> None:
    scaled = normalise_fisher({"a": torch.tensor([0.0, 4.0]), "b": torch.tensor([2.0, 2.0])})
    assert scaled["a"].tolist() == [0.0, 2.0] and scaled["b"].tolist() == [1.0, 1.0]
    for bad in (0.0, float("nan"), float("inf"), -1.0):
        with pytest.raises(ValueError, match="positive, finite mean"):
            normalise_fisher({"a": torch.tensor([bad, 0.0])})
    with pytest.raises(ValueError, match="non-negative"):
        normalise_fisher({"a": torch.tensor([-1.0, 5.0])})


def _spring(strength: float = 3.0) -> tuple[EWC, nn.Parameter]:
    theta = nn.Parameter(torch.tensor([1.0, 5.0]))
    return EWC(
        {"theta": theta}, {"theta": torch.tensor([0.0, 3.0])}, {"theta": torch.tensor([0.2, 0.6])}, strength
    ), theta


def test_penalty_and_gradient_by_hand() -> None:
    ewc, theta = _spring()  # F becomes (0.5, 1.5): 3 / 2 * (0.5 * 1 + 1.5 * 4) = 9.75
    assert ewc.penalty().item() == pytest.approx(9.75)
    theta.grad = torch.tensor([10.0, 20.0])
    given = theta.grad
    ewc.add_gradient_()
    assert theta.grad is given  # in place
    assert given.tolist() == pytest.approx([10.0 + 3.0 * 0.5 * 1.0, 20.0 + 3.0 * 1.5 * 2.0])


@pytest.mark.parametrize("anchors", [1, 3])
def test_gradient_in_place_equals_autograd_of_the_penalty(anchors: int) -> None:
    net, _ = _net_and_batch()
    params = {name: param for name, param in net.named_parameters() if param.requires_grad}
    generator = torch.Generator().manual_seed(2)

    def draw() -> list[dict[str, Tensor]]:
        return [
            {name: torch.rand(param.shape, generator=generator).double() for name, param in params.items()}
            for _ in range(anchors)
        ]

    values, fishers = draw(), [normalise_fisher(fisher) for fisher in draw()]
    ewc = EWC(params, values, fishers, strength=0.3)
    ewc.penalty().backward()
    expected = {name: param.grad for name, param in params.items()}
    net.zero_grad(set_to_none=True)
    ewc.add_gradient_()
    for name, param in params.items():
        torch.testing.assert_close(param.grad, expected[name], rtol=1e-10, atol=1e-12)
    separate = sum(
        EWC(params, value, fisher, strength=0.3).penalty().item() for value, fisher in zip(values, fishers, strict=True)
    )
    assert ewc.penalty().item() == pytest.approx(separate, rel=1e-6)  # many anchors, the cost of one


def test_an_anchor_without_weight_somewhere_leaves_the_other_alone() -> None:
    theta = nn.Parameter(torch.tensor([0.0, 0.0, 0.0]))
    first, second = torch.tensor([2.0, 0.0, 0.0]), torch.tensor([0.0, 2.0, 0.0])
    anchors = [{"theta": torch.full((3,), 1.0)}, {"theta": torch.full((3,), -1.0)}]
    EWC({"theta": theta}, anchors, [{"theta": first}, {"theta": second}], strength=1.0).add_gradient_()
    assert theta.grad is not None and theta.grad.tolist() == [-3.0, 3.0, 0.0]


def test_one_anchor_is_its_normalised_fisher_to_the_bit() -> None:
    net, _ = _net_and_batch()
    params = {name: param for name, param in net.named_parameters() if param.requires_grad}
    generator = torch.Generator().manual_seed(5)
    fisher = {name: torch.rand(param.shape, generator=generator).double() for name, param in params.items()}
    anchor = {name: param.detach() - 0.1 for name, param in params.items()}
    ewc = EWC(params, anchor, fisher, strength=0.3)
    ewc.add_gradient_()
    for name, weight in normalise_fisher(fisher).items():
        expected = torch.zeros_like(weight).addcmul_(weight, params[name].detach() - anchor[name], value=0.3)
        assert torch.equal(params[name].grad, expected)  # type: ignore[arg-type]


def test_later_fishers_are_in_the_units_of_the_first() -> None:
    """F (1, 3) is divided by 2, and so is (20, 60): twenty times as stiff, twenty times the pull."""
    theta = nn.Parameter(torch.tensor([1.0, 1.0]))
    at_zero, at_two = {"theta": torch.zeros(2)}, {"theta": torch.full((2,), 2.0)}
    small, large = {"theta": torch.tensor([1.0, 3.0])}, {"theta": torch.tensor([20.0, 60.0])}
    EWC({"theta": theta}, [at_zero, at_two], [small, large], strength=1.0).add_gradient_()
    assert theta.grad is not None and theta.grad.tolist() == pytest.approx([0.5 - 10.0, 1.5 - 30.0])
    theta.grad = None
    scaled = [{"theta": 1e-8 * fisher["theta"]} for fisher in (small, large)]  # another unit for all changes nothing
    EWC({"theta": theta}, [at_zero, at_two], scaled, strength=1.0).add_gradient_()
    assert theta.grad is not None and theta.grad.tolist() == pytest.approx([0.5 - 10.0, 1.5 - 30.0])


def test_the_units_are_saved_and_an_older_state_without_them_is_read() -> None:
    theta = nn.Parameter(torch.tensor([1.0]))
    saved = EWC({"theta": theta}, {"theta": torch.zeros(1)}, {"theta": torch.tensor([4.0])}, 1.0).state_dict()
    older = {key: value for key, value in saved.items() if key != "scale"}
    for state, stiffness in (
        (saved, 8.0 / 4.0),
        (older, 1.0),
    ):  # an older state does not tell what its F was measured as
        fresh = EWC({"theta": theta})
        fresh.load_state_dict(state)
        fresh.add_anchor({"theta": torch.zeros(1)}, {"theta": torch.tensor([8.0])})
        theta.grad = None
        fresh.add_gradient_()
        assert theta.grad is not None and float(theta.grad) == pytest.approx(1.0 + stiffness)


def test_online_ewc_keeps_the_newest_anchor_and_fades_the_old_fisher() -> None:
    ewc, theta = _spring(strength=1.0)  # F (0.5, 1.5)
    ewc.add_anchor({"theta": torch.tensor([1.0, 1.0])}, {"theta": torch.tensor([1.0, 1.0])}, decay=0.5)
    assert ewc.anchor_count == 1
    ewc.add_gradient_()
    assert theta.grad is not None and theta.grad.tolist() == pytest.approx([0.0, (0.75 + 1.0) / 1.5 * 4.0])
    with pytest.raises(ValueError, match="decay"):
        ewc.add_anchor({"theta": theta}, {"theta": torch.ones(2)}, decay=1.5)


def test_online_ewc_does_not_stiffen_with_age() -> None:
    """F is the mean of all Fishers, each of mean 1 whatever its units, with weights 0.9^k."""
    theta = nn.Parameter(torch.tensor([1.0, 1.0]))
    ewc, measured = EWC({"theta": theta}), [(1.0, 3.0), (20.0, 0.0), (4.0, 4.0), (3.0, 1.0)]
    for fisher in measured:
        ewc.add_anchor({"theta": torch.zeros(2)}, {"theta": torch.tensor(fisher)}, decay=0.9)
    weights = [0.9**age for age in (3, 2, 1, 0)]
    mean = [sum(w * f[i] / (sum(f) / 2) for w, f in zip(weights, measured, strict=True)) / sum(weights) for i in (0, 1)]
    again = EWC({"theta": theta})
    again.load_state_dict(ewc.state_dict())
    again.add_gradient_()
    assert theta.grad is not None and theta.grad.tolist() == pytest.approx(mean)
    assert sum(mean) / 2 == pytest.approx(1.0)
    for each in (ewc, again):
        each.add_anchor({"theta": torch.zeros(2)}, {"theta": torch.tensor([2.0, 0.0])}, decay=0.9)
    assert ewc.penalty().item() == again.penalty().item()


def test_strength_zero_and_no_anchor_are_no_ops() -> None:
    for ewc in (_spring(0.0)[0], EWC({"theta": nn.Parameter(torch.ones(2))})):
        theta = ewc.params["theta"]
        before = theta.detach().clone()
        ewc.add_gradient_()
        ewc.pull_(0.1)
        assert theta.grad is None and torch.equal(theta, before) and ewc.penalty().item() == 0.0


def _train(strength: float) -> float:
    """Fit a task that wants other weights; returns how far they went from the anchor."""
    torch.manual_seed(0)
    net = nn.Linear(4, 2)
    params = dict(net.named_parameters())
    anchor = {name: param.detach().clone() for name, param in params.items()}
    ewc = EWC(params, anchor, {name: torch.rand_like(param) + 0.1 for name, param in params.items()}, strength)
    features = torch.randn(64, 4)
    target = net(features).detach() + features @ torch.ones(4, 2)
    optimiser = torch.optim.SGD(net.parameters(), lr=0.1)
    for _ in range(100):
        optimiser.zero_grad()
        (net(features) - target).square().mean().backward()
        optimiser.step()
        ewc.pull_(0.1)
    return max(float((param - anchor[name]).detach().abs().max()) for name, param in params.items())


def test_a_stiffer_spring_holds_better_and_a_huge_one_holds() -> None:
    free, soft, stiff = _train(0.0), _train(3.0), _train(1e9)
    assert free > 0.9 and 0.1 < soft < 0.8 * free and stiff < 1e-6


def test_pull_agrees_with_the_gradient_for_small_steps() -> None:
    ewc, theta = _spring()
    ewc.add_gradient_()
    assert theta.grad is not None
    expected = theta.detach() - 1e-5 * theta.grad
    ewc.pull_(1e-5)
    torch.testing.assert_close(theta.detach(), expected, rtol=0, atol=2e-6)


def test_state_survives_and_belongs_to_its_net_only() -> None:
    ewc, theta = _spring()
    ewc.add_anchor({"theta": torch.tensor([2.0, 2.0])}, {"theta": torch.tensor([1.0, 3.0])})
    fresh = EWC({"theta": theta}, strength=0.1)
    fresh.load_state_dict(ewc.state_dict())
    assert fresh.penalty().item() == ewc.penalty().item() > 0.0 and fresh.anchor_count == 2
    with pytest.raises(ValueError, match="for other parameters.*theta"):
        EWC({"weight": theta}).load_state_dict(ewc.state_dict())
    with pytest.raises(ValueError, match="other shapes"):
        EWC({"theta": nn.Parameter(torch.zeros(3))}).load_state_dict(ewc.state_dict())


def test_the_anchor_does_not_follow_the_weights() -> None:
    theta = nn.Parameter(torch.tensor([1.0, 2.0]))
    ewc = EWC({"theta": theta}, {"theta": theta}, {"theta": torch.ones(2)}, strength=2.0)
    with torch.no_grad():
        theta.add_(1.0)
    assert ewc.penalty().item() == pytest.approx(2.0)


def test_settings_that_make_no_sense_are_refused() -> None:
    theta = {"theta": nn.Parameter(torch.ones(2))}
    for strength in (-1.0, float("inf"), float("nan")):
        with pytest.raises(ValueError, match="finite number >= 0"):
            EWC(theta, strength=strength)
    with pytest.raises(ValueError, match="1 anchors and 0 Fishers"):
        EWC(theta, [{"theta": torch.ones(2)}], [])
    with pytest.raises(ValueError, match="at least one parameter"):
        EWC({})
