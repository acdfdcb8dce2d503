"""The walker's network by hand on a net of two inputs, and its file of weights."""

from dataclasses import fields, replace
from pathlib import Path

import numpy as np
import pytest

from neon_sim.locomotion.network import WalkerWeights, load_weights, parameters, save_weights

HIDDEN = (
    np.array([[1.0, 2.0], [-1.0, 0.5], [0.0, 1.0]], dtype=np.float32),
    np.array([0.5, 0.0, -1.0], dtype=np.float32),
)
LAST = (np.array([[1.0, 1.0, 10.0], [2.0, 0.0, 0.0]], dtype=np.float32), np.array([0.25, -1.0], dtype=np.float32))
TINY = WalkerWeights(
    gains=np.linspace(0.1, 1.8, 18),
    mean=np.array([1.0, -2.0]),
    scale=np.array([0.5, 4.0]),
    layers=(HIDDEN, LAST),
    note="python agents/train_walker.py --preset tiny, seed 0",
    asked=np.array([[-0.5, 0.0, 1.0]] * 3),
    reached=np.array([[-0.25, 0.0, 0.8]] * 3),
)


def test_two_layers_by_hand():
    # (3, -1.75): normalised ((3 - 1) / 2, (-1.75 + 2) x 4) = (1, 1); hidden (3.5, -0.5, 0), and below zero e^x - 1.
    below = np.exp(-0.5) - 1.0
    # (1, -2.125): (0, -0.5); hidden (-0.5, -0.25, -1.5).
    other = np.exp([-0.5, -0.25, -1.5]) - 1.0
    expected = [[3.5 + below + 0.25, 6.0], [other @ [1.0, 1.0, 10.0] + 0.25, 2.0 * other[0] - 1.0]]
    action = TINY.act(np.array([[3.0, -1.75], [1.0, -2.125]]))
    np.testing.assert_allclose(action, expected, atol=1e-6)
    assert action.dtype == np.float64


@pytest.mark.parametrize(
    ("value", "elu"), [(2.0, 2.0), (0.0, 0.0), (-0.001, -0.0009995), (-1.0, -0.63212), (-100.0, -1.0), (50.0, 50.0)]
)
def test_elu_between_layers_and_not_after_the_last(value, elu):
    one = (np.ones((1, 1), dtype=np.float32), np.zeros(1, dtype=np.float32))
    shifted = (one[0], np.array([value], dtype=np.float32))
    net = replace(TINY, mean=np.zeros(1), scale=np.ones(1), layers=(shifted, one))
    np.testing.assert_allclose(net.act(np.zeros((1, 1))), [[elu]], rtol=1e-4)
    linear = replace(net, layers=(shifted,))
    np.testing.assert_allclose(linear.act(np.zeros((1, 1))), [[value]], rtol=1e-6)


def test_inputs_count_up_to_eight_standard_deviations():
    net = replace(TINY, layers=((np.eye(2, dtype=np.float32), np.zeros(2, dtype=np.float32)),))
    # One standard deviation is 2 of the first input and 0.25 of the second.
    observation = np.array([[17.5, -4.5], [16.9, -3.9], [-1e9, 1e9]])
    np.testing.assert_allclose(net.act(observation), [[8.0, -8.0], [7.95, -7.6], [-8.0, 8.0]], rtol=1e-6)
    np.testing.assert_array_equal(observation[2], [-1e9, 1e9])


def test_what_to_ask_for_is_the_table_turned_round():
    # Asked for 1 it reaches 0.8: for 0.4 ask half of that. Asked for -0.5 it reaches -0.25. Beyond: its limit.
    np.testing.assert_allclose(TINY.ask(np.array([0.4, -0.125, 0.0])), [0.5, -0.25, 0.0])
    np.testing.assert_allclose(TINY.ask(np.array([0.9, -3.0, 0.8])), [1.0, -0.5, 1.0])


def test_each_row_is_decided_alone():
    observations = np.random.default_rng(0).normal(size=(7, 2))
    together = TINY.act(observations)
    for row in range(7):
        np.testing.assert_allclose(TINY.act(observations[row : row + 1])[0], together[row], atol=1e-6)


def test_what_is_saved_is_loaded(tmp_path):
    path = tmp_path / "walker.npz"
    save_weights(path, TINY)
    loaded = load_weights(path)
    for field in fields(WalkerWeights):
        if field.name != "layers":
            np.testing.assert_array_equal(getattr(loaded, field.name), getattr(TINY, field.name), err_msg=field.name)
    assert loaded.note == TINY.note and isinstance(loaded.note, str)
    assert len(loaded.layers) == 2
    for layer, expected in zip(loaded.layers, TINY.layers, strict=True):
        for got, wanted in zip(layer, expected, strict=True):
            np.testing.assert_array_equal(got, wanted)
            assert got.dtype == np.float32
    observations = np.random.default_rng(1).normal(size=(4, 2))
    np.testing.assert_array_equal(loaded.act(observations), TINY.act(observations))


def test_more_than_ten_layers_keep_their_order(tmp_path):
    layers = tuple((np.full((1, 1), float(index)), np.zeros(1)) for index in range(12))
    save_weights(tmp_path / "deep.npz", replace(TINY, layers=layers))
    assert [float(weight[0, 0]) for weight, _ in load_weights(tmp_path / "deep.npz").layers] == list(range(12))


def test_saving_leaves_one_file_and_replaces_the_old_one(tmp_path):
    path = tmp_path / "walker.npz"
    save_weights(path, TINY)
    save_weights(path, replace(TINY, note="second"))
    assert [file.name for file in tmp_path.iterdir()] == ["walker.npz"]
    assert load_weights(path).note == "second"


def test_a_missing_file_names_the_command_that_makes_one(tmp_path):
    with pytest.raises(FileNotFoundError, match=r"No walker at .*none\.npz.*python agents/train_walker\.py --out"):
        load_weights(tmp_path / "none.npz")
    with pytest.raises(FileNotFoundError, match="No walker at"):
        load_weights(tmp_path)  # a folder


@pytest.mark.parametrize("arrays", [{"eye": np.eye(2), "arm": np.ones(1)}, {"gains": np.ones(18), "eye": np.eye(2)}])
def test_another_file_is_refused_with_what_it_holds(tmp_path, arrays):
    path: Path = tmp_path / "other.npz"
    np.savez(path, **arrays)
    held = ", ".join(sorted(arrays))
    with pytest.raises(ValueError, match=rf"other\.npz holds no walker but {held}\. agents/train_walker\.py writes"):
        load_weights(path)


def test_parameters_are_counted():
    assert parameters(TINY.layers) == 6 + 3 + 6 + 2
    assert parameters([]) == 0


@pytest.mark.parametrize("content", [b"hello", b"", b"PK\x03\x04 cut short"])
def test_a_file_that_is_no_archive_is_refused_with_the_next_move(tmp_path, content):
    path = tmp_path / "walker.npz"
    path.write_bytes(content)
    with pytest.raises(ValueError, match=r"cannot be read.*agents/train_walker\.py writes walker\.npz"):
        load_weights(path)


def test_half_a_walker_is_refused(tmp_path):
    path = tmp_path / "walker.npz"
    np.savez(path, gains=np.zeros(18), mean=np.zeros(2), scale=np.ones(2), note=np.array(""), weight_0=np.eye(2))
    with pytest.raises(ValueError, match="holds no walker but"):
        load_weights(path)
