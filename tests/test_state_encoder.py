"""StateEncoder: centimetres and whole numbers through one input; and a NeonVLA that is told the truth and no goal."""

from pathlib import Path

import pytest
import torch
from tiny_neon import open_reach, tiny_features, tiny_model, tiny_senses

from neon_sim.inference.blind_policy import BlindPolicy
from neon_sim.model.neon_vla import NeonVLA
from neon_sim.model.state_encoder import StateEncoder


def test_a_centimetre_is_seen_at_any_number_and_far_away_is_far_away() -> None:
    torch.manual_seed(0)
    encoder = StateEncoder(3)
    at = torch.tensor([[0.0, 5.0, -1.0], [8.0, 9.0, 100.0]])
    moved = at + torch.tensor([[0.01, 0.0, 0.0], [0.0, 0.0, 0.0]])
    # The finest wave is half a unit long: a centimetre is a fiftieth of it, 2 sin(pi / 50) = 0.126 in sine and cosine.
    seen = [
        torch.cat([(x[..., None] * encoder.waves).sin(), (x[..., None] * encoder.waves).cos()], -1) for x in (at, moved)
    ]
    assert float((seen[1] - seen[0])[0, 0].reshape(2, 5)[:, 0].norm()) == pytest.approx(0.12558, abs=1e-4)
    assert not torch.equal(encoder(at)[0], encoder(moved)[0])
    torch.testing.assert_close(encoder(at)[1], encoder(torch.full((1, 3), 8.0))[0])
    with pytest.raises(ValueError, match=r"wants \(B, 3\), got \(2, 4\)"):
        encoder(torch.zeros(2, 4))


def test_the_truth_moves_the_chunk_and_without_a_goal_the_goal_does_not(tmp_path: Path) -> None:
    model = tiny_model(
        tmp_path / "backbone", extra_senses={"state": 64}, goal_width=0, use_lidar=False, use_audio=False
    )
    features = tiny_features(2)
    senses = {name: tiny_senses(2)[name] for name in ("proprio", "eef")} | {"state": torch.randn(2, 64)}
    chunk, goal = model(features, senses)
    assert goal.shape == (2, 5) and model.parameter_table()["goal_embed"] == 0
    torch.testing.assert_close(model(features, senses, goal + 1.0)[0], chunk)
    assert not torch.allclose(model(features, {**senses, "state": torch.randn(2, 64)})[0], chunk)
    model.save_pretrained(tmp_path / "policy")
    again = NeonVLA.from_pretrained(tmp_path / "policy")
    torch.testing.assert_close(again(features, senses)[0], chunk)


def test_differences_may_be_to_what_the_motors_were_told(tmp_path: Path) -> None:
    proprio = torch.zeros(1, 125)
    proprio[0, 15], proprio[0, 87 + 15], proprio[0, 122] = 0.3, 0.2, 0.25  # left shoulder pitch, its error, forward m/s
    for relative, told in ((False, 0.3), (True, 0.5)):
        model = tiny_model(tmp_path / "backbone", head={"state_relative": True}, relative_to_target=relative)
        state = model.action_state({"proprio": proprio})
        target, velocity = model.action_space.decode(state[0].numpy())
        assert target[15] == pytest.approx(told, abs=1e-6) and velocity[0] == pytest.approx(0.25, abs=1e-6)
        assert target[22] == pytest.approx(0.0, abs=1e-6)  # the other arm is where it is


def test_a_blind_policy_needs_no_camera_and_heeds_none(tmp_path: Path) -> None:
    model = tiny_model(
        tmp_path / "backbone", extra_senses={"state": 64}, goal_width=0, use_lidar=False, use_audio=False
    )
    env, policy = open_reach(sensors=("state", "proprio")), BlindPolicy(model)
    obs, info = env.reset(seed=3)
    chunks = []
    for picture in ({}, {"camera": torch.full((128, 128, 3), 200, dtype=torch.uint8).numpy()}):
        policy.reset()
        policy.observe({**obs, **picture}, info["time_s"])
        chunks.append(policy.act())
    env.close()
    assert chunks[0].shape == (1, 16, 17) and (chunks[0] == chunks[1]).all()
