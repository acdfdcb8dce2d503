"""What a latent knows of objects, by colour: read off a random net, a loss by hand, and axes that say nothing."""

import numpy as np
import pytest
import torch
from torch import nn

from neon_sim.world_model.config import lewm_config
from neon_sim.world_model.dataset import Rollouts
from neon_sim.world_model.lewm import LeWM
from neon_sim.world_model.objects import PlaceHead, over_colours, reset_probe
from neon_sim.world_model.rollouts import RolloutConfig, save_shard, shards_of

EPISODES = 240


@pytest.fixture(scope="module")
def rollouts(tmp_path_factory: pytest.TempPathFactory) -> Rollouts:
    """Episodes of two moments of reach: how far ahead the red ball is makes the picture bright; left is not in it."""
    folder, rng = tmp_path_factory.mktemp("rollouts"), np.random.default_rng(0)
    config = RolloutConfig("reach", EPISODES, steps=1, image_size=32, shard_episodes=EPISODES)
    save_shard(shards_of(config, folder)[0], [_episode(rng, i) for i in range(EPISODES)])
    return Rollouts(folder)


def _episode(rng: np.random.Generator, i: int) -> dict[str, object]:
    ahead, left = rng.uniform(0.0, 1.0, 2)
    objects = np.full((2, 5, 3), np.nan, np.float32)
    objects[:, 0] = [ahead, left, 0.3]  # red, always as high; no other ball is there
    if i % 10 == 0:
        objects[0] = 7.0  # began in mid-episode: nobody may look at it
    return {
        "frames": np.full((2, 32, 32, 3), round(255 * ahead), np.uint8),
        "proprio": np.zeros((2, 125), np.float32),
        "commands": np.zeros((1, 6), np.float32),
        "objects": objects,
        "length": 2,
        "reset": i % 10 > 0,
    }


def test_what_is_in_the_picture_is_read_and_what_is_not_is_not(rollouts: Rollouts) -> None:
    torch.manual_seed(0)
    model = LeWM(lewm_config("tiny")).eval()
    found = reset_probe("reach", model, *rollouts.split(0.25))
    assert set(found) == {"r2_ball_ahead", "r2_ball_left"}  # and not how high: it never moves
    assert found["r2_ball_ahead"] > 0.9 and found["r2_ball_left"] < 0.2
    few = rollouts.part(np.arange(15))  # too few to say anything
    assert reset_probe("reach", model, few, few) == {}


def test_the_mean_over_colours_by_hand() -> None:
    scores = {"ball_red": {"left": 0.4, "up": 1.0}, "ball_blue": {"left": 0.8}, "box": {"left": 0.1}}
    assert over_colours(scores) == {"ball_left": pytest.approx(0.6), "ball_up": 1.0, "box_left": 0.1}


def test_the_supervised_loss_by_hand() -> None:
    objects = np.full((4, 2, 3), np.nan, np.float32)
    objects[:, 0] = [[1, 0, 0], [3, 0, 0], [1, 0, 0], [3, 0, 0]]  # ahead: 2 and 1; left and up never move
    objects[0, 1] = 5.0
    head = PlaceHead(2, objects, weight=0.5)
    nn.init.zeros_(head.layer.weight)
    nn.init.zeros_(head.layer.bias)
    asked = torch.full((1, 1, 2, 3), torch.nan)
    asked[0, 0, 0] = torch.tensor([4.0, 0.0, 1.0])  # two standard deviations ahead, 1 m up, and one that is right
    assert head.loss(torch.randn(1, 1, 2), asked).item() == pytest.approx(0.5 * (4.0 + 0.0 + 1.0) / 3.0)
    assert head.loss(torch.randn(1, 1, 2), asked * torch.nan).item() == 0.0
