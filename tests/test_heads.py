"""Demonstrations and what is trained on them: the heads, the forward model, the ceiling."""

import copy
from pathlib import Path

import numpy as np
import pytest
import torch
from tiny_neon import open_reach, tiny_demos, tiny_model

from neon_sim.inference.neon_policy import NeonPolicy
from neon_sim.inference.references import REFERENCES
from neon_sim.model.goal import goal_position
from neon_sim.rollout import rollout
from neon_sim.sim.faults import ActuatorFault
from neon_sim.training.ceiling import SEED, record_both, train_jointly
from neon_sim.training.demos import CHUNK, DemoConfig, Demos, record_demo, save_rows
from neon_sim.training.forward_model import ForwardModel, fused_features, pretrain_forward_model
from neon_sim.training.heads import HeadTrainer, HeadTraining, set_input_statistics

QUICK = HeadTraining(epochs=4, batch_size=16, learning_rate=3e-3)


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Where the module's one tiny backbone lies."""
    return tmp_path_factory.mktemp("backbone")


def test_the_last_episodes_are_held_back_whole() -> None:
    demos = tiny_demos(episodes=20, chunks=3)
    train, test = demos.split(0.1)
    assert test.tolist() == list(range(54, 60)) and train.tolist() == list(range(54))
    train, test = tiny_demos(episodes=2).split(0.05)
    assert len(train) == len(test) == 3  # never none


def test_consecutive_rows_belong_to_one_episode() -> None:
    assert tiny_demos(episodes=3, chunks=3).consecutive().tolist() == [0, 1, 3, 4, 6, 7]
    assert tiny_demos(episodes=3, chunks=1).consecutive().tolist() == []


def test_rows_are_read_as_float32_and_missing_senses_are_left_out() -> None:
    demos = tiny_demos(episodes=2)
    demos.arrays["lidar"] = demos.arrays["lidar"].half()
    del demos.arrays["audio"]
    rows = torch.tensor([4, 1])
    senses = demos.senses(rows)
    assert set(senses) == {"proprio", "eef", "lidar"} and senses["lidar"].dtype == torch.float32
    assert torch.equal(senses["proprio"][0], demos.arrays["proprio"][4])
    assert torch.equal(demos.features(rows).pooled[1], demos.arrays["pooled"][1])
    assert set(demos.senses(rows, ("eef",))) == {"eef"}


@pytest.fixture(scope="module")
def recorded(folder: Path) -> tuple[list[dict[str, np.ndarray]], list[bool]]:
    """Two real demonstrations with every sense, one of them disturbed."""
    env = open_reach(sensors=("proprio", "camera", "lidar", "audio"))
    policy = NeonPolicy(tiny_model(folder))
    rows, reached = [], []
    for seed, share in ((0, 0.0), (1, 1.0)):
        episode, success = record_demo(env, policy, DemoConfig(noisy_share=share), seed)
        rows += episode
        reached.append(success)
    env.close()
    return rows, reached


def test_a_recorded_row_holds_what_was_there(recorded: tuple[list[dict[str, np.ndarray]], list[bool]]) -> None:
    rows, reached = recorded
    assert len(rows) == 14 and reached[0]
    first = rows[0]
    shapes = {name: value.shape for name, value in first.items()}
    assert shapes == {
        "tokens": (64, 40),
        "pooled": (40,),
        "text": (40,),
        "proprio": (125,),
        "eef": (14,),
        "lidar": (3072,),
        "audio": (5120,),
        "hand": (),
        "target_pos_b": (3,),
        "expert": (CHUNK, 17),
        "executed": (CHUNK, 17),
        "episode": (),
    }
    assert {name for name, value in first.items() if value.dtype == np.float16} == {
        "tokens",
        "pooled",
        "text",
        "lidar",
        "audio",
    }
    assert [int(row["episode"]) for row in rows] == [0] * 7 + [1] * 7


def test_the_palm_ends_at_the_target_that_was_written_down(
    recorded: tuple[list[dict[str, np.ndarray]], list[bool]],
) -> None:
    rows = recorded[0][:7]  # undisturbed
    assert all(np.array_equal(row["expert"], row["executed"]) for row in rows)
    where = slice(0, 3) if rows[0]["hand"] == 0 else slice(7, 10)
    distance = [float(np.linalg.norm(row["eef"][where] - row["target_pos_b"])) for row in rows]
    assert distance[-1] < 0.04 < 0.1 < distance[0]


def test_a_disturbed_chunk_leaves_the_expert_on_the_arms_only(
    recorded: tuple[list[dict[str, np.ndarray]], list[bool]],
) -> None:
    for row in recorded[0][7:]:
        off = row["executed"] - row["expert"]
        assert np.abs(off[:, :14]).max() > 0.01 and not off[:, 14:].any()
        assert np.abs(row["executed"]).max() <= 1.0
        assert np.abs(off[-1]).sum() > np.abs(off[0]).sum()  # it grows over the chunk


def test_shards_come_back_in_order(recorded: tuple[list[dict[str, np.ndarray]], list[bool]], tmp_path: Path) -> None:
    rows = recorded[0]
    save_rows(rows[:7], tmp_path / "a.npz")
    save_rows(rows[7:], tmp_path / "b.npz")
    demos = Demos.load([tmp_path / "a.npz", tmp_path / "b.npz"])
    assert len(demos) == 14 and sorted(path.name for path in tmp_path.iterdir()) == ["a.npz", "b.npz"]
    for name, value in demos.arrays.items():
        assert np.array_equal(value.numpy(), np.stack([row[name] for row in rows])), name
    assert demos.consecutive().tolist() == [*range(6), *range(7, 13)]


def test_input_statistics_centre_and_do_not_blow_up_a_channel_that_hardly_moved(folder: Path) -> None:
    model, demos = tiny_model(folder), tiny_demos()
    demos.arrays["proprio"][:, 0] = torch.linspace(1.0, 3.0, len(demos))
    demos.arrays["proprio"][:, 1] = 0.5  # never moved
    rows = torch.arange(len(demos))
    set_input_statistics(model, demos, rows)
    encoder = model.proprio_encoder
    assert float(encoder.mean[0]) == pytest.approx(2.0) and float(encoder.mean[1]) == pytest.approx(0.5)
    assert float(encoder.std[0]) == pytest.approx(float(torch.linspace(1.0, 3.0, len(demos)).std()))
    assert float(encoder.std[1]) == pytest.approx(0.03)
    assert torch.equal(model.eef_encoder.mean, demos.arrays["eef"].mean(0))


def test_training_lowers_every_figure_and_leaves_the_backbone(folder: Path) -> None:
    model, demos = tiny_model(folder), tiny_demos(episodes=120)
    frozen = copy.deepcopy(model.backbone.state_dict())
    trainer = HeadTrainer(model, demos, HeadTraining(epochs=8, batch_size=16, learning_rate=3e-3))
    before = trainer.evaluate()
    seen: list[dict[str, float]] = []
    history = trainer.run(seen.append)
    assert seen == history and [line["epoch"] for line in history] == list(range(1, 9)) and not model.training
    assert history[-1]["train_loss"] < 0.6 * history[0]["train_loss"]
    for name in ("mse_true_goal", "mse_read_goal", "goal_cm_median"):
        assert history[-1][name] < 0.8 * before[name], name
    assert all(torch.equal(value, frozen[name]) for name, value in model.backbone.state_dict().items())


def test_figures_by_hand(folder: Path) -> None:
    demos = tiny_demos()
    trainer = HeadTrainer(tiny_model(folder), demos, QUICK)
    figures, rows = trainer.evaluate(), trainer.test_rows
    with torch.no_grad():
        raw = trainer.model.goal_reader(demos.features(rows))
    error_cm = 100 * (goal_position(raw) - demos.arrays["target_pos_b"][rows]).norm(dim=-1)
    assert figures["goal_cm_median"] == pytest.approx(float(error_cm.median()))
    assert figures["goal_under_3cm"] == pytest.approx(float((error_cm < 3).float().mean()))
    right = raw[:, :2].argmax(-1) == demos.arrays["hand"][rows]
    assert figures["hand_accuracy"] == pytest.approx(float(right.float().mean()))


def test_a_resumed_training_is_the_same_training_to_the_bit(folder: Path, tmp_path: Path) -> None:
    demos = tiny_demos()
    whole = HeadTrainer(tiny_model(folder), demos, QUICK)

    def keep_the_second(figures: dict[str, float]) -> None:
        if figures["epoch"] == 2:
            torch.save(whole.state_dict(), tmp_path / "state.pt")

    history = whole.run(keep_the_second)
    torch.rand(5)
    resumed = HeadTrainer(tiny_model(folder, seed=9), demos, QUICK)
    resumed.load_state_dict(torch.load(tmp_path / "state.pt", weights_only=True))
    assert resumed.epoch == 2
    again = resumed.run()
    for name, value in whole.model.state_dict().items():
        assert torch.equal(resumed.model.state_dict()[name], value), name
    without_clock = [[{k: v for k, v in line.items() if k != "seconds"} for line in h] for h in (history, again)]
    assert without_clock[0] == without_clock[1] and len(again) == 4


def test_a_finished_training_trains_no_more(folder: Path) -> None:
    trainer = HeadTrainer(tiny_model(folder), tiny_demos(), QUICK)
    trainer.run()
    weights = copy.deepcopy(trainer.model.state_dict())
    assert len(trainer.run()) == 4
    assert all(torch.equal(value, weights[name]) for name, value in trainer.model.state_dict().items())


def test_the_forward_model_begins_at_no_change_and_beats_it_when_trained(folder: Path) -> None:
    model, demos = tiny_model(folder), tiny_demos(episodes=200, chunks=2)
    # What is seen after a chunk follows from what was seen before and from the chunk.
    arrays = demos.arrays
    push = torch.rand(400, 1, 1, generator=torch.Generator().manual_seed(1)) * 2.0 - 1.0
    arrays["executed"] = push.expand(400, 16, 17)
    for name in ("pooled", "proprio", "eef"):
        arrays[name][1::2] = arrays[name][0::2]
    arrays["pooled"][1::2] += 2.0 * push[0::2, 0]
    senses = ("proprio", "eef")
    forward_model, share = pretrain_forward_model(model, demos, senses, seed=0, epochs=30)
    rows = demos.consecutive()
    before, after = fused_features(model, demos, rows, senses), fused_features(model, demos, rows + 1, senses)
    held_back = slice(180, 200)
    with torch.no_grad():
        predicted = forward_model(before[held_back], arrays["executed"][rows][held_back])
    error = (predicted - after[held_back]).square().mean() / (before[held_back] - after[held_back]).square().mean()
    assert share == pytest.approx(float(error), rel=1e-4) and share < 0.5
    untrained = ForwardModel.for_model(model)
    chunk = torch.zeros(1, 16, 17)
    for param in untrained.net[-1].parameters():
        param.data.zero_()
    assert torch.equal(untrained(before[:1], chunk), before[:1])
    assert untrained.wanted_change(arrays["text"][:3]).shape == (3, model.fused_dim)


def test_the_ceiling_learns_both_robots_and_leaves_the_env_healthy(folder: Path) -> None:
    env, model = open_reach(), tiny_model(folder)
    fault = ActuatorFault("right_shoulder_pitch_joint", strength=0.7, bias=0.25)
    zero_before = rollout(env, REFERENCES["zero"](env), 32, seed=3).observations["proprio"]
    data = record_both(env, model, fault, episodes=2, seed=0)
    assert (
        data["fused"].shape == (14, model.fused_dim)
        and data["goal"].shape == (14, 5)
        and data["expert"].shape == (14, 16, 17)
    )
    assert env.task.known_fault is None
    env.world.apply_fault(fault)
    ignorant, _ = record_demo(env, NeonPolicy(model), DemoConfig(), SEED + 1)  # the same episode, not told
    env.world.apply_fault(None)
    assert not np.allclose(data["expert"][7:], [row["expert"] for row in ignorant], atol=1e-2)
    assert np.array_equal(rollout(env, REFERENCES["zero"](env), 32, seed=3).observations["proprio"], zero_before)
    frozen = {name: value.clone() for name, value in model.state_dict().items()}
    first = train_jointly(copy.deepcopy(model), data, seed=0, epochs=1)
    last = train_jointly(model, data, seed=0, epochs=30)
    assert last < 0.7 * first
    moved = {name.split(".")[0] for name, value in model.state_dict().items() if not torch.equal(value, frozen[name])}
    assert moved == {"goal_embed", "action_head"}
    env.close()


def test_the_faulty_expert_makes_up_for_what_it_knows(folder: Path) -> None:
    """The ceiling's labels are worth learning: told of the fault, the expert reaches on the broken robot."""
    env, model = open_reach(), tiny_model(folder)
    fault = ActuatorFault("right_shoulder_pitch_joint", strength=0.7, bias=0.25)
    env.world.apply_fault(fault)
    reached = {}
    for known in (None, fault):
        env.task.known_fault = known
        done = []
        for seed in range(20, 28):
            env.reset(seed=seed)
            if env.privileged()["hand"] == 1:
                done.append(record_demo(env, NeonPolicy(model), DemoConfig(noisy_share=0.0), seed)[1])
        reached[known is not None] = np.mean(done)
    env.close()
    assert reached[True] > 0.7 > 0.3 > reached[False]
