"""Actions mean what the table in the design says, on every joint, in both directions."""

import json
import timeit
from dataclasses import replace

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.extra import numpy as hnp

from neon_sim.data.action_space import ControlMode as DocumentedControlMode
from neon_sim.data.action_space import G1ActionSpace as DocumentedActionSpace
from neon_sim.g1 import joints
from neon_sim.g1.action_space import DOCUMENT_ORDER, HARDWARE_ORDER, VELOCITY_NAMES, ControlMode, G1ActionSpace

SPACES = [
    *(G1ActionSpace(mode, center) for mode in ControlMode for center in ("home", "limits")),
    G1ActionSpace("whole_body", include_locomotion=True),
]
LEFT_ARM, RIGHT_ARM, WAIST = list(range(15, 22)), list(range(22, 29)), [12, 13, 14]
LEFT_LEG, RIGHT_LEG = list(range(0, 6)), list(range(6, 12))


@pytest.mark.parametrize(
    ("space", "dim", "indices"),
    [
        (G1ActionSpace("arms_only"), 17, LEFT_ARM + RIGHT_ARM),
        (G1ActionSpace("upper_body"), 20, LEFT_ARM + RIGHT_ARM + WAIST),
        (G1ActionSpace("whole_body"), 29, LEFT_ARM + RIGHT_ARM + WAIST + LEFT_LEG + RIGHT_LEG),
        (G1ActionSpace("whole_body", include_locomotion=True), 32, LEFT_ARM + RIGHT_ARM + WAIST + LEFT_LEG + RIGHT_LEG),
    ],
)
def test_layout(space: G1ActionSpace, dim: int, indices: list[int]) -> None:
    assert space.dim == dim == len(space.names)
    assert space.joint_indices.tolist() == indices
    assert np.flatnonzero(space.owned_mask).tolist() == sorted(indices)
    assert [name for name in space.names if name not in VELOCITY_NAMES] == [
        joints.JOINT_NAMES[index] for index in indices
    ]


def test_groups_cover_the_action_without_overlap() -> None:
    assert G1ActionSpace("arms_only").groups == {"arms": slice(0, 14), "locomotion": slice(14, 17)}
    assert G1ActionSpace("upper_body").groups == {
        "arms": slice(0, 14),
        "locomotion": slice(14, 17),
        "torso_head": slice(17, 20),
    }
    assert G1ActionSpace("whole_body").groups == {
        "arms": slice(0, 14),
        "torso_head": slice(14, 17),
        "legs": slice(17, 29),
    }
    data_set = G1ActionSpace("whole_body", include_locomotion=True)
    assert data_set.groups["locomotion"] == slice(29, 32)
    assert data_set.names[29:] == ("vx", "vy", "yaw_rate")
    assert G1ActionSpace("upper_body").names[14:] == (
        "vx",
        "vy",
        "yaw_rate",
        "waist_yaw_joint",
        "waist_roll_joint",
        "waist_pitch_joint",
    )


def test_the_first_entry_is_the_left_shoulder_pitch_by_hand() -> None:
    space = G1ActionSpace("arms_only")
    action = np.zeros(17)
    for value, expected in ((1.0, 2.6704), (-1.0, -3.0892), (0.5, 0.5 * (0.2 + 2.6704)), (-0.5, 0.5 * (0.2 - 3.0892))):
        action[0] = value
        target, velocity = space.decode(action)
        assert target[15] == pytest.approx(expected, abs=1e-12)
        assert np.array_equal(np.delete(target, 15), np.delete(joints.HOME, 15))
        assert not velocity.any()


def test_limits_center_is_min_max_scaling() -> None:
    target, _ = G1ActionSpace("whole_body", "limits").decode(np.full(29, 0.25))
    np.testing.assert_allclose(target, joints.LOWER + 0.625 * (joints.UPPER - joints.LOWER), rtol=0, atol=1e-12)


def test_velocity_entries_scale_by_their_limits() -> None:
    action = np.zeros(17)
    action[14:] = (1.0, -0.5, 0.25)
    assert G1ActionSpace().decode(action)[1].tolist() == [0.5, -0.25, 0.25]
    assert G1ActionSpace(max_velocity=(1.0, 0.4, 2.0)).decode(action)[1].tolist() == [1.0, -0.2, 0.5]


@pytest.mark.parametrize("space", SPACES, ids=str)
def test_ends_are_the_limits_to_the_bit(space: G1ActionSpace) -> None:
    owned = space.owned_mask
    for value, limit in ((1.0, joints.UPPER), (-1.0, joints.LOWER)):
        target, velocity = space.decode(np.full(space.dim, value, dtype=np.float32))
        assert np.array_equal(target[owned], limit[owned])
        assert np.array_equal(target[~owned], joints.HOME[~owned])
        assert velocity.tolist() == ([0.5 * value, 0.5 * value, value] if space.has_velocity else [0.0, 0.0, 0.0])
        assert np.array_equal(space.encode(target, velocity), np.full(space.dim, value))
    if space.action_center == "home":
        assert np.array_equal(space.decode(np.zeros(space.dim))[0], joints.HOME)


@pytest.mark.parametrize("space", SPACES, ids=str)
@settings(max_examples=25, deadline=None)
@given(data=st.data())
def test_encode_undoes_decode_for_any_leading_shape(space: G1ActionSpace, data: st.DataObject) -> None:
    lead = data.draw(st.sampled_from([(), (3,), (2, 4)]))
    action = data.draw(hnp.arrays(np.float64, (*lead, space.dim), elements=st.floats(-1, 1)))
    target, velocity = space.decode(action)
    assert target.shape == (*lead, 29) and velocity.shape == (*lead, 3)
    assert (target >= joints.LOWER - 1e-12).all() and (target <= joints.UPPER + 1e-12).all()
    np.testing.assert_allclose(space.encode(target, velocity), action, rtol=0, atol=1e-12)


def test_a_batch_decodes_as_its_rows() -> None:
    space = G1ActionSpace("upper_body")
    actions = np.random.default_rng(0).uniform(-1, 1, (5, 20))
    targets, velocities = space.decode(actions)
    for action, target, velocity in zip(actions, targets, velocities, strict=True):
        assert np.array_equal(space.decode(action)[0], target)
        assert np.array_equal(space.decode(action)[1], velocity)


def test_decoded_arrays_are_fresh_each_time() -> None:
    space = G1ActionSpace()
    space.decode(np.zeros(17))[0][:] = 9.0
    assert np.array_equal(space.decode(np.zeros(17))[0], joints.HOME)


def test_encode_cuts_what_is_out_of_range_and_decode_does_not_hide_it() -> None:
    space = G1ActionSpace()
    assert np.array_equal(space.encode(joints.UPPER + 1.0)[:14], np.ones(14))
    assert np.array_equal(space.encode(joints.HOME)[14:], np.zeros(3))
    assert (space.decode(np.full(17, 1.5))[0][15:] > joints.UPPER[15:]).all()


def test_wrong_shapes_are_refused_with_both_shapes() -> None:
    with pytest.raises(ValueError, match=r"17\), got \(20,\)"):
        G1ActionSpace().decode(np.zeros(20))
    with pytest.raises(ValueError, match=r"got \(4, 29\) and \(3,\)"):
        G1ActionSpace().encode(np.zeros((4, 29)), np.zeros(3))
    with pytest.raises(ValueError, match=r"got \(17,\)"):
        G1ActionSpace().encode(np.zeros(17))


def test_document_order_is_left_arm_right_arm_torso_legs_and_back() -> None:
    assert DOCUMENT_ORDER.tolist() == LEFT_ARM + RIGHT_ARM + WAIST + LEFT_LEG + RIGHT_LEG
    hardware = np.arange(29.0)
    assert np.array_equal(hardware[DOCUMENT_ORDER][HARDWARE_ORDER], hardware)
    assert [joints.JOINT_NAMES[index] for index in DOCUMENT_ORDER] == list(G1ActionSpace("whole_body").names)


@pytest.mark.parametrize("space", [*SPACES, G1ActionSpace(max_velocity=(1.0, 0.4, 2.0))], ids=str)
def test_json_round_trip(space: G1ActionSpace) -> None:
    again = G1ActionSpace.from_json(space.to_json())
    assert again == space and hash(again) == hash(space)
    action = np.linspace(-1, 1, space.dim)
    assert np.array_equal(again.decode(action)[0], space.decode(action)[0])


def _edited(**changes: object) -> str:
    return json.dumps({**json.loads(G1ActionSpace().to_json()), **changes})


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("{", "must be JSON"),
        ("[1]", "exactly the keys"),
        (_edited(gripper=True), "gripper"),
        (json.dumps({"control_mode": "arms_only"}), "exactly the keys"),
        (_edited(control_mode="legs_only"), "Unknown control mode 'legs_only'"),
        (
            _edited(names=[*G1ActionSpace().names[1::-1], *G1ActionSpace().names[2:]]),
            "left_shoulder_roll_joint.*arms_only.*Map the data",
        ),
        (_edited(control_mode="upper_body"), "upper_body.*waist_yaw_joint"),
        (_edited(upper=[3.0] * 17), "upper .* is not that of arms_only"),
        (_edited(center="middle"), "center middle is not that of arms_only"),
        (_edited(action_center="limits"), "center .* is not that of arms_only .17 wide, centered on limits"),
        (_edited(max_velocity=5), "max_velocity must be three"),
    ],
)
def test_json_of_another_meaning_is_refused(text: str, message: str) -> None:
    with pytest.raises(ValueError, match=message):
        G1ActionSpace.from_json(text)


def test_spaces_are_equal_when_numbers_mean_the_same() -> None:
    assert G1ActionSpace() == G1ActionSpace(ControlMode.ARMS_ONLY, include_locomotion=True)
    assert G1ActionSpace("whole_body") == G1ActionSpace(
        "whole_body", include_locomotion=False, max_velocity=(9.0, 9.0, 9.0)
    )
    assert G1ActionSpace() != G1ActionSpace(action_center="limits")
    assert G1ActionSpace() != G1ActionSpace(max_velocity=(0.5, 0.5, 0.9))
    assert G1ActionSpace("whole_body") != G1ActionSpace("whole_body", include_locomotion=True)
    assert G1ActionSpace() != "arms_only"
    assert replace(G1ActionSpace(include_locomotion=True), control_mode="whole_body").dim == 29


def test_a_checkpoint_of_another_space_is_refused_with_both_named() -> None:
    G1ActionSpace().require_equal(G1ActionSpace())
    with pytest.raises(ValueError, match=r"checkpoint's action space is upper_body \(20 .* wanted arms_only \(17 "):
        G1ActionSpace().require_equal(G1ActionSpace("upper_body"))


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ({"control_mode": "arms_onyl"}, "Did you mean 'arms_only'"),
        ({"action_center": "hom"}, "Did you mean 'home'"),
        ({"include_locomotion": False}, "always carries vx"),
        ({"max_velocity": (0.5, 0.0, 1.0)}, "three positive"),
        ({"max_velocity": (0.5, float("nan"), 1.0)}, "three positive"),
        ({"max_velocity": (0.5, 1.0)}, "three positive"),
    ],
)
def test_wrong_settings_are_refused(arguments: dict[str, object], message: str) -> None:
    with pytest.raises(ValueError, match=message):
        G1ActionSpace(**arguments)  # type: ignore[arg-type]


def test_the_documents_import_path_gives_the_same_classes() -> None:
    assert DocumentedActionSpace is G1ActionSpace and DocumentedControlMode is ControlMode


def test_decoding_one_action_fits_the_control_loop() -> None:
    space, action = G1ActionSpace("upper_body"), np.full(20, 0.3, dtype=np.float32)
    best = min(timeit.repeat(lambda: space.decode(action), number=2000, repeat=5)) / 2000
    assert best < 40e-6  # 6 us on a free core; five times that leaves room for a loaded machine
