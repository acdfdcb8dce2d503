"""Training: a killed run ends with the weights of one that was not; readout, words and bundle on data known by hand."""

import argparse
import importlib
import json
import os
import signal
import sys
import warnings
from dataclasses import asdict, replace
from pathlib import Path
from typing import cast

import numpy as np
import pytest
import torch
from torch import nn

sys.path.insert(0, str(Path(__file__).resolve().parents[1] / "agents"))

import train_world_model as script

from neon_sim.sensors.proprio import PROPRIO_SLICES
from neon_sim.shipped import walker_fingerprint
from neon_sim.training.run_folder import claim_folder
from neon_sim.world_model.amortised import AmortisedConfig, Pairs, hindsight_pairs
from neon_sim.world_model.bundle import Bundle, load_bundle, save_bundle
from neon_sim.world_model.config import lewm_config
from neon_sim.world_model.dataset import ResidentRollouts, Rollouts, encode_rollouts, moments_of, whole_episodes
from neon_sim.world_model.lewm import LeWM
from neon_sim.world_model.parts import PartsConfig, fit_parts, planned_pairs
from neon_sim.world_model.probe import Probe, fit_linear_probe, score_probe
from neon_sim.world_model.readout import GoalReader, ReaderConfig, Readout, push_labels, state_distance, step_labels
from neon_sim.world_model.report import commit, draw_report, felt_labels, held_out_report, machine, rank_summary
from neon_sim.world_model.rollouts import RolloutConfig, mixed_for, save_shard, shards_of
from neon_sim.world_model.training import STATE_FILE, WorldModelTrainer, read_log
from neon_sim.world_model.training_config import (
    WATCHED,
    WorldModelTraining,
    model_config,
    of_size,
    schedule,
    timed_schedule,
)

TRAINING = WorldModelTraining(size="tiny", updates=6, batch=4, checkpoint_every=2, log_every=1, held_out=0.25)
STEPS = 12


@pytest.fixture(scope="module")
def data(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Eight made-up episodes of navigate: a bright square that the commands push over the picture; one falls early."""
    folder, rng = tmp_path_factory.mktemp("rollouts"), np.random.default_rng(0)
    config = RolloutConfig("navigate", episodes=8, steps=STEPS, image_size=32, shard_episodes=4)
    for shard in shards_of(config, folder):
        save_shard(shard, [_episode(rng, 5 if shard.number == 1 and i == 0 else STEPS + 1) for i in range(shard.count)])
    return folder


def _episode(rng: np.random.Generator, length: int) -> dict[str, object]:
    commands = rng.uniform(-1, 1, (STEPS, 3)).astype(np.float32)
    place = np.vstack([[12, 12], 12 + 2 * commands[:, :2].cumsum(0)]).clip(0, 24)
    frames = np.zeros((STEPS + 1, 32, 32, 3), np.uint8)
    for frame, (x, y) in zip(frames, place.astype(int), strict=True):
        frame[x : x + 8, y : y + 8] = 255
    base = np.concatenate([place, np.zeros((STEPS + 1, 1))], axis=1).astype(np.float32)
    three = np.tile(place[:, :1], (1, 3)).astype(np.float32) / 24
    objects = np.full((STEPS + 1, 5, 3), np.nan, np.float32)
    objects[:, 0] = three  # a red marker and no other
    return {
        "frames": frames,
        "proprio": rng.normal(size=(STEPS + 1, 125)).astype(np.float32),
        "commands": commands,
        "base": base,
        "palms": np.tile(three, (1, 2)),
        "thing": three,
        "target": three,
        "objects": objects,
        "reset": True,
        "length": length,
        "instruction": "walk to the red marker",
        "behaviour": "random",
        "seed": 0,
    }


def _trainer(data: Path, folder: Path) -> WorldModelTrainer:
    return WorldModelTrainer(model_config("navigate", TRAINING, 32), TRAINING, Rollouts(data), folder)


def test_a_killed_run_ends_with_the_same_bits(data: Path, tmp_path: Path) -> None:
    whole = _trainer(data, tmp_path / "whole")
    assert whole.run() and whole.step == 6
    assert not _trainer(data, tmp_path / "killed").run(stop_at=3)  # a checkpoint at 2; the third update is lost
    resumed = _trainer(data, tmp_path / "killed")
    assert resumed.run()
    for name, value in whole.model.state_dict().items():
        assert torch.equal(value, resumed.model.state_dict()[name]), name
    assert read_log(tmp_path / "killed") == read_log(tmp_path / "whole")
    assert [row["step"] for row in read_log(tmp_path / "whole")] == [1, 2, 3, 4, 5, 6]
    (tmp_path / "whole" / STATE_FILE).write_bytes(b"half of")
    with pytest.raises(ValueError, match="is damaged"):
        _trainer(data, tmp_path / "whole").run()


def test_a_training_that_a_gpu_began_goes_on_on_a_cpu(data: Path, tmp_path: Path) -> None:
    whole = _trainer(data, tmp_path / "whole")
    assert whole.run() and not _trainer(data, tmp_path / "moved").run(stop_at=2)
    path = tmp_path / "moved" / STATE_FILE
    state = torch.load(path, weights_only=True)
    for group in state["optimizer"]["param_groups"]:  # as a CUDA graph wants them
        group |= {"lr": torch.tensor(group["lr"]), "fused": True, "capturable": True}
    torch.save(state, path)
    moved = _trainer(data, tmp_path / "moved")
    assert moved.run()
    for name, value in whole.model.state_dict().items():
        assert torch.equal(value, moved.model.state_dict()[name]), name


def test_an_encoder_that_is_taken_over_stays_as_it_is(data: Path, tmp_path: Path) -> None:
    first = _trainer(data, tmp_path / "first")
    first.run()
    save_bundle(Bundle("navigate", first.model, Readout.empty(32)), tmp_path / "world")
    given = replace(TRAINING, encoder_from=str(tmp_path / "world"), felt_dim=8)
    second = WorldModelTrainer(model_config("navigate", given, 32), given, Rollouts(data), tmp_path / "second")
    before = {name: value.clone() for name, value in second.model.predictor.state_dict().items()}
    assert second.run()
    for name, value in first.model.encoder.state_dict().items():
        assert torch.equal(value, second.model.encoder.state_dict()[name]), name
    assert any(not torch.equal(value, before[name]) for name, value in second.model.predictor.state_dict().items())
    frames = torch.from_numpy(second.test_set.frames(0))[None]
    seen = second.model.encoder(frames[0])[None]
    torch.testing.assert_close(second.model.encode(seen), second.model.encode(frames))
    other = replace(given, size="tiny", patch_size=16, grid=2)
    with pytest.raises(ValueError, match="is of another size than this training's"):
        WorldModelTrainer(model_config("navigate", other, 32), other, Rollouts(data), tmp_path / "third")
    assert "encoder_from" not in TRAINING.learned_from  # runs from before it go on


class _Clock:
    """Ten seconds pass between two looks; at one of them somebody presses Ctrl-C."""

    def __init__(self, interrupted_at: int | None = None) -> None:
        self.looks, self.interrupted_at = 0, interrupted_at

    def __call__(self) -> float:
        self.looks += 1
        if self.looks == self.interrupted_at:
            os.kill(os.getpid(), signal.SIGINT)
        return 10.0 * self.looks


def test_minutes_end_a_training_and_all_its_pieces_count(data: Path, tmp_path: Path) -> None:
    minute = replace(TRAINING, minutes=1.0, judge_every=3)
    config = model_config("navigate", minute, 32)
    first = WorldModelTrainer(config, minute, Rollouts(data), tmp_path, _Clock(interrupted_at=3))
    assert not first.run() and first.step == 2 and first.seconds == 20.0 and first.done == pytest.approx(1 / 3)
    assert not first.model.training  # whoever is stopped leaves a model that is ready
    second = WorldModelTrainer(config, minute, Rollouts(data), tmp_path, _Clock())
    assert second.run() and second.step == 6 and second.seconds == 60.0  # not the six updates: ten seconds each
    assert second.optimizer.param_groups[0]["lr"] == pytest.approx(5e-4 * timed_schedule(50 / 60, minute))
    log = read_log(tmp_path)
    assert [row["step"] for row in log if "held_out_1" in row] == [3, 6]
    assert all(row["held_out_5"] > 0.0 and row["no_change_5"] > 0.0 for row in log if "held_out_1" in row)
    with pytest.raises(ValueError, match="minutes has to be above 0"):
        WorldModelTraining(minutes=0.0)


def test_the_schedule_over_time_by_hand() -> None:
    training = WorldModelTraining(minutes=1.0, warm_up=0.2)
    assert timed_schedule(0.0, training) == 0.01 and timed_schedule(0.1, training) == pytest.approx(0.5)
    assert timed_schedule(0.6, training) == pytest.approx(0.51) and timed_schedule(1.0, training) == pytest.approx(0.02)


def _linear_r2(model: LeWM, train: Rollouts, test: Rollouts) -> dict[str, float]:
    """A probe as trainings have one: of the square's place, over all moments."""
    (z, place), (z_test, place_test) = (
        moments_of(part, encode_rollouts(model, part), torch.from_numpy(part["thing"])) for part in (train, test)
    )
    return {"r2": float(score_probe(fit_linear_probe(z, place), z_test, place_test).r2[0])}


def test_a_supervised_loss_is_asked_for_and_named(data: Path, tmp_path: Path) -> None:
    taught = replace(TRAINING, updates=30, place_weight=1.0, learning_rate=3e-3)
    trainer = WorldModelTrainer(model_config("navigate", taught, 32), taught, Rollouts(data), tmp_path)
    trainer.run()
    asked = [row["extra"] for row in read_log(tmp_path)]
    assert 0.0 < np.mean(asked[-3:]) < 0.7 * np.mean(asked[:3])
    assert not any("layer" in name for name in trainer.model.state_dict())  # nothing of it is shipped
    assert taught.objective.endswith("weight 1.0: not LeWM as published")
    assert TRAINING.objective == "LeWM: no labels"
    for wrong in (-0.1, float("nan")):
        with pytest.raises(ValueError, match="place_weight has to be 0 or more"):
            replace(TRAINING, place_weight=wrong)


def test_judging_does_not_change_what_is_learned(data: Path, tmp_path: Path) -> None:
    often, never = (replace(TRAINING, updates=2, judge_every=every, probe_every=every) for every in (1, 100))
    states = []
    for name, training, probe in (("often", often, _linear_r2), ("never", never, None)):
        config = model_config("navigate", training, 32)
        trainer = WorldModelTrainer(config, training, Rollouts(data), tmp_path / name, probe=probe)
        trainer.run()
        states.append(trainer.model.state_dict())
    assert ["r2" in row for row in read_log(tmp_path / "often")] == [True, True]
    assert not any("r2" in row for row in read_log(tmp_path / "never"))
    assert all(torch.equal(value, states[1][name]) for name, value in states[0].items())


def test_who_goes_on_may_look_more_often(data: Path, tmp_path: Path) -> None:
    """A run that is stopped and goes on with other looks ends with the weights of one that was never stopped."""
    whole = _trainer(data, tmp_path / "whole")
    whole.run()
    _trainer(data, tmp_path / "run").run(stop_at=3)
    watched = replace(TRAINING, **dict.fromkeys(WATCHED, 1))
    config = model_config("navigate", watched, 32)
    resumed = WorldModelTrainer(config, watched, Rollouts(data), tmp_path / "run", probe=_linear_r2)
    assert resumed.run()
    assert ["r2" in row for row in read_log(tmp_path / "run")] == [False, False, True, True, True, True]
    states = [trainer.model.state_dict() for trainer in (whole, resumed)]
    assert all(torch.equal(value, states[1][name]) for name, value in states[0].items())


def test_a_folder_belongs_to_what_is_learned_not_to_what_is_told_of_it(tmp_path: Path) -> None:
    begun = script.settings(_flags(preset="tiny"))
    claim_folder(tmp_path, script.claim_of(begun))
    claim_folder(tmp_path, script.claim_of(script.settings(_flags(preset="tiny", probe_every=7, ranks=3))))
    for other in ({"updates": 61}, {"grid": 0}, {"episodes": 25}, {"seed": 1}):
        with pytest.raises(ValueError, match="begun with other settings"):
            claim_folder(tmp_path, script.claim_of(script.settings(_flags(preset="tiny", **other))))
    told = json.loads((tmp_path / "settings.json").read_text())
    assert told["walker"] == walker_fingerprint() and not {"ranks", "violations"} & set(told)


def test_what_is_trained_says_of_which_walker_it_learned(data: Path, tmp_path: Path) -> None:
    trainer = _trainer(data, tmp_path / "run")
    save_bundle(Bundle("navigate", trainer.model.eval(), Readout.empty(32)), tmp_path / "world")
    run = asdict(script.settings(_flags(preset="tiny", task="navigate")))
    report = {"run": run, "hours": {}, "machine": machine("cpu"), "parameters": trainer.model.parameter_table()}
    told = script.provenance(report, trainer, argparse.Namespace(commit="abc1234"))
    assert told["walker"] == walker_fingerprint() and told["commit"] == "abc1234"
    (tmp_path / "world" / "provenance.json").write_text(json.dumps(told))
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        load_bundle(tmp_path / "world")
    (tmp_path / "world" / "provenance.json").write_text(json.dumps(told | {"walker": {"weights": "another"}}))
    with pytest.warns(UserWarning, match="recordings of another walker"):
        load_bundle(tmp_path / "world")


def test_a_loss_that_is_no_number_ends_the_training_unsaved(data: Path, tmp_path: Path) -> None:
    trainer = _trainer(data, tmp_path)
    with torch.no_grad():
        trainer.model.predictor.places.fill_(float("nan"))
    with pytest.raises(ValueError, match="loss of update 1"):
        trainer.run()
    assert not (tmp_path / STATE_FILE).exists()


def test_prefixes_are_learned_on_demand(data: Path, tmp_path: Path) -> None:
    training = replace(TRAINING, updates=1, prefix=True)
    trainer = WorldModelTrainer(model_config("navigate", training, 32), training, Rollouts(data), tmp_path)
    trainer.run()
    assert trainer.model.config.prefix and read_log(tmp_path)[0]["prefix"] > 0.0


def test_resident_windows_are_those_from_the_disk(data: Path) -> None:
    rollouts = Rollouts(data).part(np.array([0, 3, 4, 5]))  # the third of them fell after five moments
    drawn = [
        rollouts.windows(np.random.default_rng(1), 40, 4, ("objects",)),
        ResidentRollouts(rollouts, "cpu", ("objects",)).windows(np.random.default_rng(1), 40, 4),
    ]
    assert set(drawn[0]) == {"frames", "proprio", "actions", "objects"} == set(drawn[1])
    assert all(torch.equal(value.nan_to_num(), drawn[1][name].nan_to_num()) for name, value in drawn[0].items())
    assert rollouts.nbytes == (3 * 13 + 5) * 32 * 32 * 3


def test_what_was_done_before_a_fall_is_imitated_and_padding_is_not() -> None:
    latents = torch.arange(20.0).view(2, 10, 1)  # a latent is its own number: nothing may come from 13 on
    actions = latents[:, :-1].clone()
    lengths = torch.tensor([10, 3])
    sizes = AmortisedConfig(dim=1, action_dim=1, plan_steps=2)
    pairs = hindsight_pairs(latents, actions, 400, sizes, torch.Generator().manual_seed(0), lengths)
    fell = pairs.latents >= 10.0
    assert bool(fell.any()) and float(pairs.goals[fell].max()) == 12.0
    assert torch.equal(pairs.goals - pairs.latents, pairs.steps[:, None].float())
    weighed = pairs.actions.squeeze(-1)[(pairs.weight > 0) & fell]
    assert set(weighed.tolist()) == {10.0, 11.0}
    with pytest.raises(ValueError, match="two moments or more"):
        hindsight_pairs(latents, actions, 4, sizes, torch.Generator(), torch.tensor([10, 1]))


def test_other_settings_do_not_take_up_a_run(data: Path, tmp_path: Path) -> None:
    _trainer(data, tmp_path).run(stop_at=2)
    other = WorldModelTraining(size="tiny", updates=7, batch=4, checkpoint_every=2, log_every=1, held_out=0.25)
    trainer = WorldModelTrainer(model_config("navigate", other, 32), other, Rollouts(data), tmp_path)
    with pytest.raises(ValueError, match="other settings"):
        trainer.run()
    with pytest.raises(ValueError, match="sees 32 px"):
        model_config("navigate", TRAINING, 64)


def test_the_schedule_by_hand() -> None:
    training = WorldModelTraining(updates=110, warm_up=10 / 110)
    assert schedule(0, training) == pytest.approx(0.1) and schedule(9, training) == 1.0
    assert schedule(60, training) == pytest.approx(0.51) and schedule(110, training) == pytest.approx(0.02)


def test_steps_are_seen_from_the_robot() -> None:
    base = np.array([[0.0, 0.0, np.pi / 2], [0.0, 1.0, np.pi], [-2.0, 1.0, -np.pi + 0.5]])
    assert step_labels(base) == pytest.approx(np.array([[1.0, 0.0, np.pi / 2], [2.0, 0.0, 0.5]]))


def test_pushes_are_seen_from_the_robot_whatever_it_does_itself() -> None:
    base = np.array([[0.0, 0.0, np.pi / 2], [0.0, 1.0, np.pi], [-2.0, 1.0, -np.pi + 0.5]])
    box_w = np.array([[1.0, 2.0], [1.0, 2.5], [0.7, 2.5]])
    cosine, sine = np.cos(base[:, 2]), np.sin(base[:, 2])
    dx, dy = (box_w - base[:, :2]).T
    thing = np.stack([cosine * dx + sine * dy, -sine * dx + cosine * dy, np.zeros(3)], axis=-1)
    assert push_labels(base, thing) == pytest.approx(np.array([[0.5, 0.0], [0.3, 0.0]]), abs=1e-12)


def _known_readout() -> Readout:
    """Latents of 17 numbers: places in the first twelve, then the step to a latent (3) and the box's (2)."""
    place, step, push = nn.Linear(17, 12, bias=False), nn.Linear(34, 3, bias=False), nn.Linear(34, 2, bias=False)
    nn.init.zeros_(step.weight)
    nn.init.zeros_(push.weight)
    with torch.no_grad():
        place.weight.copy_(torch.eye(17)[:12])
        step.weight[:, 29:32].copy_(torch.eye(3))
        push.weight[:, 32:].copy_(torch.eye(2))
    nets = (place, step, push)
    return Readout(*[Probe(net, torch.zeros(2, net.in_features), torch.zeros(2, net.out_features)) for net in nets])


def test_imagined_steps_add_up_to_a_square() -> None:
    imagined = torch.zeros(1, 1, 4, 17)
    imagined[..., 12:15] = torch.tensor([1.0, 0.0, torch.pi / 2])  # a metre ahead, then a quarter turn left, four times
    walked = _known_readout().walked(torch.zeros(1, 17), imagined)[0, 0]
    expected = torch.tensor([[1.0, 0.0], [1.0, 1.0], [0.0, 1.0], [0.0, 0.0]])
    torch.testing.assert_close(walked[:, :2], expected, atol=1e-5, rtol=0)
    torch.testing.assert_close(walked[:, 2], torch.pi / 2 * torch.arange(1.0, 5.0))


def test_outcomes_and_distances_by_hand() -> None:
    readout, imagined = _known_readout(), torch.zeros(1, 1, 2, 17)
    imagined[..., 12:15] = torch.tensor([1.0, 0.0, torch.pi / 2])
    imagined[..., 15:] = torch.tensor([0.2, 0.0])  # the box is pushed ahead, then, after the quarter turn, to the left
    start = torch.zeros(1, 17)
    start[..., 6:8] = torch.tensor([0.5, 0.1])  # the box, ahead and left
    box = readout.outcome("push_box", start, imagined)
    torch.testing.assert_close(box[0, 0, :, 0], torch.tensor([[0.7, 0.1], [0.7, 0.3]]), atol=1e-6, rtol=0)
    imagined = imagined[:, :, :1]
    assert readout.outcome("navigate", start, imagined)[0, 0, 0, 0].tolist() == [1.0, 0.0]
    imagined[..., :6] = torch.arange(6.0)
    assert readout.outcome("reach", start, imagined)[0, 0, 0].tolist() == [[0, 1, 2], [3, 4, 5]]
    goal = torch.tensor([[[1.0, 2.0]]])
    assert state_distance(readout, "navigate", start, goal)(imagined).item() == pytest.approx(4.0)


def test_a_reader_names_the_hand() -> None:
    reader = GoalReader(ReaderConfig(dim=2, text_dim=2))
    last = reader.net[-1]
    assert isinstance(last, nn.Linear)
    nn.init.zeros_(last.weight)
    last.bias.data = torch.tensor([0.3, 0.0, 0.2, 5.0])
    right = reader.goal("reach", torch.zeros(1, 2), torch.zeros(1, 2))[0]
    torch.testing.assert_close(right, torch.tensor([[0.14, 0.20, -0.02], [0.3, 0.0, 0.2]]))
    last.bias.data[3] = -5.0
    left = reader.goal("reach", torch.zeros(1, 2), torch.zeros(1, 2))[0]
    torch.testing.assert_close(left, torch.tensor([[0.3, 0.0, 0.2], [0.14, -0.20, -0.02]]))
    torch.testing.assert_close(
        reader.goal("navigate", torch.zeros(1, 2), torch.zeros(1, 2)), torch.tensor([[[0.3, 0.0]]])
    )


def test_parts_bundle_and_report(data: Path, tmp_path: Path) -> None:
    trainer = _trainer(data, tmp_path / "run")
    trainer.run()
    few = PartsConfig(
        readout_epochs=1, reader_updates=2, head_updates=2, distil_plans=4, samples=8, iterations=1, horizon=3
    )
    bundle = fit_parts("navigate", trainer.model, trainer.train_set, few)
    save_bundle(bundle, tmp_path / "world")
    loaded = load_bundle(tmp_path / "world")
    z = torch.randn(3, 32)
    assert loaded.task == "navigate" and loaded.space.dim == 3
    assert torch.equal(loaded.readout.place(z), bundle.readout.place(z))
    for name in ("cloned", "amortised"):
        ours, theirs = getattr(bundle, name), getattr(loaded, name)
        assert torch.equal(ours(z, z, torch.ones(3)), theirs(z, z, torch.ones(3)))
    assert loaded.reader is not None and bundle.reader is not None
    text = torch.randn(3, bundle.reader.config.text_dim)
    assert torch.equal(loaded.reader(z, text), bundle.reader(z, text))

    quick = PartsConfig(readout_epochs=1, reader_updates=2, head_updates=2, distil_plans=0)
    assert bundle.sight is None and fit_parts("push_box", trainer.model, trainer.train_set, quick).sight is not None

    report = held_out_report(bundle, trainer.train_set, trainer.test_set, horizon=4)
    assert report["rollout"]["horizon"] == 4 and len(report["rollout"]["model"]) == 4
    assert report["moments"] == {"train": 70, "test": 26}  # six and two episodes of 13, one of which ends after 5
    assert set(report["probes"]) == {"with proprio", "picture alone"}
    told = report["objects"]["with proprio"]["mlp"]
    assert set(told) == {"marker_red"} and set(told["marker_red"]) == {"ahead", "left", "up"}
    assert report["probes"]["with proprio"]["mlp"]["marker_left"]["r2"] == told["marker_red"]["left"]
    tilt = report["probes"]["with proprio"]["linear"]["tilt"]
    assert set(tilt) == {"r2", "pearson", "rmse"} and "x, y, yaw" in report["base_pose"]
    report["ranks"] = rank_summary([0.3, None, 0.5], 64)
    report["expectation"] = {
        "vanished": {"pairs": 2, "normal": 2.0, "violated": 3.0, "effect_size": 1.0, "p_value": 0.5},
        "recoloured": {"pairs": 0, "normal": None, "violated": None, "effect_size": None, "p_value": None},
    }
    draw_report(report, read_log(tmp_path / "run"), tmp_path / "report.png")
    assert (tmp_path / "report.png").stat().st_size > 10_000
    (tmp_path / "world" / "parts.json").write_text("{}")
    with pytest.raises(ValueError, match="whole world model with its parts"):
        load_bundle(tmp_path / "world")


def test_half_a_bundle_is_half_as_large_and_reads_the_same(data: Path, tmp_path: Path) -> None:
    model = _trainer(data, tmp_path / "run").model.eval()
    with torch.no_grad():
        model.proprio.std[:3] = torch.tensor([1e-7, 2e-7, 3e-7])  # 16 bits would make a zero of the first
    bundle = Bundle("navigate", model, Readout.empty(32))
    for name, half in (("whole", False), ("half", True)):
        save_bundle(bundle, tmp_path / name, half)
    whole, half = (sum(f.stat().st_size for f in (tmp_path / name).glob("*.safetensors")) for name in ("whole", "half"))
    assert half < 0.62 * whole
    loaded = load_bundle(tmp_path / "half")
    assert all(value.dtype != torch.float16 for value in loaded.model.state_dict().values())
    assert torch.equal(loaded.model.proprio.std, model.proprio.std)
    frames = Rollouts(data).windows(np.random.default_rng(0), 2, 3)["frames"]
    with torch.no_grad():
        torch.testing.assert_close(loaded.model.encode(frames), model.encode(frames), atol=2e-3, rtol=0)


def test_ranks_are_summed_up_and_drawn_from_what_there_is() -> None:
    found = rank_summary([0.2, None, 0.8, 0.4], 64)
    assert (found["problems"], found["median"], found["plans"]) == (3, pytest.approx(0.4), 64)
    assert found["quartiles"] == pytest.approx([0.3, 0.6])
    assert found["undefined"] == 1
    assert rank_summary([None], 64)["median"] is None and rank_summary([None], 64)["undefined"] == 1


def test_a_report_says_where_it_was_made(tmp_path: Path) -> None:
    told = machine("cpu")
    assert told["cpu"] and told["cores"] >= 1 and told["gpu"] is None and told["torch"] == torch.__version__
    assert commit(tmp_path) is None  # no checkout


def test_seconds_of_all_pieces_are_kept(tmp_path: Path) -> None:
    (tmp_path / "seconds.json").write_text('{"recording": 100.0}')
    with pytest.raises(KeyboardInterrupt), script.timed(tmp_path, "recording"):
        raise KeyboardInterrupt
    with script.timed(tmp_path, "report"):
        pass
    told = json.loads((tmp_path / "seconds.json").read_text())
    assert 100.0 < told["recording"] < 110.0 and 0.0 <= told["report"] < 10.0


def test_recording_stops_by_the_clock_and_keeps_whole_shards(tmp_path: Path) -> None:
    config = RolloutConfig("navigate", episodes=3, steps=2, image_size=32, shard_episodes=1)
    script.collect(config, tmp_path, workers=1, minutes=0.3, clock=_Clock())  # 10 s and 20 s are over after two shards
    assert len(Rollouts(tmp_path)) == 2


def test_recordings_of_another_run_fit_or_are_refused(tmp_path: Path) -> None:
    config = RolloutConfig("navigate", episodes=3, steps=2, image_size=32, shard_episodes=1)
    claim_folder(tmp_path, {"rollouts": asdict(config), "walker": walker_fingerprint(), "record_minutes": None})
    script.collect(replace(config, episodes=2), tmp_path / "data", workers=1, minutes=None)
    with pytest.raises(ValueError, match="lacks 1 parts of its recording"):
        script.check_recorded(tmp_path, config)
    script.collect(config, tmp_path / "data", workers=1, minutes=None)
    script.check_recorded(tmp_path, config)
    for folder, other in ((tmp_path, replace(config, stop_share=0.2)), (tmp_path / "nothing", config)):
        with pytest.raises(ValueError, match="Record anew"):
            script.check_recorded(folder, other)


def test_a_bundle_may_lack_what_nobody_fitted(data: Path, tmp_path: Path) -> None:
    model = _trainer(data, tmp_path / "run").model.eval()
    save_bundle(Bundle("navigate", model, Readout.empty(32)), tmp_path / "world")
    loaded = load_bundle(tmp_path / "world")
    assert loaded.reader is None and loaded.cloned is None and loaded.amortised is None


def test_flags_go_to_the_part_that_they_name() -> None:
    names = ("size", "episodes", "updates", "minutes", "record_minutes", "batch", "learning_rate", "prefix", "ranks")
    names += ("seed", "probe_every", "patch_size", "proprio_dropout", "felt_dim", "place_weight", "grid")
    names += ("encoder_from",)
    given = argparse.Namespace(preset="tiny", task="navigate", **dict.fromkeys(names))
    tiny = script.PRESETS["tiny"]
    assert script.settings(given) == replace(tiny, rollouts=mixed_for("navigate", tiny.rollouts))
    given.episodes, given.seed = 77, 5
    run = script.settings(given)
    assert run.rollouts.episodes == 77 and run.parts.episodes == tiny.parts.episodes  # recorded, and encoded for parts
    assert run.training.seed == run.parts.seed == 5
    given.minutes, given.record_minutes, given.prefix, given.ranks = 2.0, 3.0, True, 0
    run = script.settings(given)
    assert (run.training.minutes, run.record_minutes, run.training.prefix, run.ranks) == (2.0, 3.0, True, 0)
    assert model_config("navigate", run.training, 32).prefix
    given.patch_size, given.proprio_dropout, given.felt_dim, given.place_weight = 16, 0.5, 8, 0.1
    given.grid = 2
    run = script.settings(given)
    config = model_config("navigate", run.training, 32)
    assert (config.patch_size, config.grid, config.proprio_dropout, config.felt_dim) == (16, 2, 0.5, 8)
    assert run.training.place_weight == 0.1
    given.preset, given.minutes, given.updates, given.size = "gpu", None, 50, "xs"
    assert script.settings(given).training.minutes is None  # who names updates wants them


def _flags(**given: object) -> argparse.Namespace:
    names = (*script.TRAINING_FLAGS, "episodes", "record_minutes", "ranks")
    return argparse.Namespace(**dict.fromkeys(names) | {"preset": "default", "task": "push_box"} | given)


@pytest.mark.parametrize(
    ("preset", "size", "patch_size", "grid", "image_size"),
    [
        ("default", None, 16, 4, 64),
        ("default", "xs", 16, 4, 64),  # the preset's own size, said once more
        ("default", "s", None, 4, 96),
        ("default", "tiny", None, 4, 32),
        ("default", "paper", None, 0, 224),  # as published
        ("gpu", "xs", 16, 4, 64),
        ("tiny", "tiny", None, 4, 32),
    ],
)
def test_another_size_sees_as_well(
    preset: str, size: str | None, patch_size: int | None, grid: int, image_size: int
) -> None:
    run = script.settings(_flags(preset=preset, size=size))
    assert (run.training.patch_size, run.training.grid, run.rollouts.image_size) == (patch_size, grid, image_size)
    assert run.training.size == (size or "xs")
    assert script.settings(_flags(preset=preset, size=size, grid=0)).training.grid == 0  # who names one gets it


def test_sizes_bring_their_own_patches() -> None:
    ours = script.OUR_TRAINING
    assert (ours.size, ours.patch_size, ours.grid) == ("xs", 16, 4) and of_size(ours, "xs") is ours
    assert model_config("reach", of_size(ours, "tiny"), 32).patch_size == 8
    assert of_size(ours, "paper").grid == 0 and of_size(ours, "paper").updates == ours.updates
    with pytest.raises(ValueError, match="huge"):
        script.settings(_flags(size="huge"))


def test_tilt_is_where_gravity_points(data: Path) -> None:
    rollouts = Rollouts(data)
    labels = felt_labels(rollouts)
    assert labels.shape == (8, STEPS + 1, 37)
    assert np.array_equal(labels[..., 35:], rollouts["proprio"][..., PROPRIO_SLICES["gravity"]][..., :2])
    assert np.array_equal(labels[..., 6:35], rollouts["proprio"][..., PROPRIO_SLICES["joint_vel"]])


@pytest.mark.parametrize("name", ["train_world_model", "train_push_t"])
@pytest.mark.parametrize(
    ("device", "match"), [("gpu", "Unknown device 'gpu'"), ("cuda", "no cuda device that torch can use here")]
)
def test_a_device_that_is_not_there_is_said_before_anything_is_done(
    name: str, device: str, match: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    if device == "cuda" and torch.cuda.is_available():
        pytest.skip("this machine has one")
    pytest.importorskip("pymunk") if name == "train_push_t" else None
    flags = ["--preset", "tiny", "--device", device, "--out", str(tmp_path / "out")]
    monkeypatch.setattr(sys, "argv", [name, *flags])
    with pytest.raises(SystemExit, match=match):
        importlib.import_module(name).main()
    assert not (tmp_path / "out").exists()


def test_a_folder_without_rollouts_says_whose_to_record(tmp_path: Path) -> None:
    with pytest.raises(ValueError, match="--task TASK --collect"):
        Rollouts(tmp_path)
    with pytest.raises(ValueError, match="train_world_model.py --task TASK"):
        load_bundle(tmp_path)


def test_plans_are_kept_with_the_start_and_the_goal_that_they_are_for() -> None:
    """A world that goes where it is pushed: z_{t+1} = z_t + (a, 0). From 0 to 3 the push is ahead, from 3 to 0 back."""

    class Pushed(nn.Module):
        def rollout(self, latents: torch.Tensor, past: torch.Tensor, actions: torch.Tensor, prefix: bool = False):
            steps = torch.cat([actions, torch.zeros_like(actions)], dim=-1)
            return latents[:, -1:, None] + steps.cumsum(2)

    world = nn.Module()
    world.predictor = Pushed()
    sizes = AmortisedConfig(dim=2, action_dim=1, plan_steps=3)
    places = torch.tensor([[0.0, 0.0], [3.0, 0.0]])
    drawn = Pairs(places, places.flip(0), torch.tensor([3, 4]), torch.zeros(2, 3, 1), torch.ones(2, 3))
    config = PartsConfig(samples=64, iterations=8, horizon=3, hold=1)
    found = planned_pairs(cast(LeWM, world), drawn, config, sizes, torch.Generator().manual_seed(0))
    assert torch.equal(found.latents, places) and torch.equal(found.goals, places.flip(0))
    assert found.steps.tolist() == [3, 4] and bool((found.weight == 1.0).all())
    assert float(found.actions[0].min()) > 0.6 and float(found.actions[1].max()) < -0.6  # all the way is 1, 1, 1


@pytest.mark.slow
def test_the_script_records_trains_and_reports(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    flags = ["--preset", "tiny", "--updates", "4", "--episodes", "20", "--workers", "1", "--device", "cpu"]
    monkeypatch.setattr(sys, "argv", ["train_world_model.py", *flags, "--ranks", "1", "--out", str(tmp_path)])
    script.main()
    report = json.loads((tmp_path / "report.json").read_text())
    assert report["task"] == "reach" and report["updates"] == 4 and report["run"]["training"]["grid"] == 4
    assert report["ranks"]["problems"] + report["ranks"]["undefined"] + report["ranks"]["without_a_problem"] == 1
    assert report["probes"]["picture alone"]["linear"]["tilt"] is not None
    assert (tmp_path / "report.png").stat().st_size > 10_000
    told = json.loads((tmp_path / "world_model" / "provenance.json").read_text())
    assert told["walker"] == walker_fingerprint() and told == report["provenance"]
    with warnings.catch_warnings():
        warnings.simplefilter("error")  # it knows its walker
        loaded = load_bundle(tmp_path / "world_model")
    assert loaded.task == "reach" and loaded.reader is not None and loaded.amortised is not None
    weights = (tmp_path / "world_model" / "world_model.safetensors").read_bytes()
    script.main()  # everything is there
    assert (tmp_path / "world_model" / "world_model.safetensors").read_bytes() == weights


def test_a_model_without_proprioception_encodes_pictures(data: Path) -> None:
    torch.manual_seed(0)
    model, rollouts = LeWM(lewm_config("tiny", action_dim=3, proprio_dim=0)).eval(), Rollouts(data)
    some = rollouts.part(np.arange(2))
    assert torch.equal(encode_rollouts(model, some), encode_rollouts(model, some, proprio=False))


def test_padding_is_not_encoded(data: Path, tmp_path: Path) -> None:
    model, rollouts = _trainer(data, tmp_path / "run").model.eval(), Rollouts(data)
    latents = encode_rollouts(model, rollouts)
    short = int(np.flatnonzero(rollouts["length"] == 5)[0])
    assert bool((latents[short, 5:] == 0).all()) and bool((latents[short, :5] != 0).any())
    assert len(whole_episodes(rollouts)) == 7
