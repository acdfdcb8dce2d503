"""Small episodes with every modality, and pictures that show their number, for the tests of data on disk."""

import numpy as np

from neon_sim.data.lerobot.columns import instruction_code
from neon_sim.episode import NeonEpisode

WORDS = "reach for the grüne ball"
BITS = 8  # of a number that is drawn into a picture


def full_episode(steps: int, seed: int = 0, words: str = WORDS) -> NeonEpisode:
    """Every kind of observation, small; pictures are of one colour each, which video keeps within a few levels."""
    rng = np.random.default_rng(seed)

    def floats(*shape: int) -> np.ndarray:
        return rng.normal(size=(steps, *shape)).astype(np.float32)

    colors = rng.integers(0, 256, (steps, 1, 1, 3), dtype=np.uint8)
    code = instruction_code(words)
    assert code is not None
    return NeonEpisode(
        observations={
            "command": floats(4),
            "instruction": np.tile(code, (steps, 1)),
            "proprio": floats(125),
            "eef": floats(14),
            "camera": np.broadcast_to(colors, (steps, 32, 48, 3)),
            "wrist_left": np.broadcast_to(colors[::-1], (steps, 32, 32, 3)),
            "lidar": floats(30),
            "audio": rng.integers(-32767, 32768, (steps, 64)).astype(np.float32) / np.float32(32767.0),
            "depth": rng.integers(0, 65536, (steps, 6, 8)).astype(np.float32) / np.float32(1000.0),
            "levels": rng.integers(0, 256, (steps, 6, 8, 1), dtype=np.uint8),
            "segmentation": rng.integers(-1, 9, (steps, 6, 8)).astype(np.int32),
            "imu": floats(6).astype(np.float64),
            "tactile": floats(2, 3, 4),
            "state": floats(9),
        },
        actions=np.tanh(floats(17)),
        rewards=floats(),
        terminated=np.arange(steps) == steps - 1,
        truncated=np.arange(steps) == (steps - 1 if seed % 2 else steps),
        instruction=words,
        success=bool(seed % 2),
        infos={"goal_hand": rng.integers(0, 2, steps), "goal_pos_b": floats(3)},
    )


def assert_same(read: NeonEpisode, written: NeonEpisode, loose: tuple[str, ...] = ("camera", "wrist_left")) -> None:
    """Equal to the bit, but for the colours in `loose`, which may be a few levels off."""
    assert list(read.observations) == list(written.observations)
    for part in ("observations", "infos"):
        for key, want in getattr(written, part).items():
            got = getattr(read, part)[key]
            assert (got.dtype, got.shape) == (want.dtype, want.shape), key
            if key in loose:
                assert np.abs(got.astype(int) - want).max() <= 8, key
            else:
                assert np.array_equal(got, want), key
    for name in ("actions", "rewards", "terminated", "truncated"):
        got, want = getattr(read, name), getattr(written, name)
        assert got.dtype == want.dtype and np.array_equal(got, want), name
    for name in ("instruction", "success", "rate_hz", "control_mode"):
        assert getattr(read, name) == getattr(written, name), name


def numbered_pictures(numbers: range, height: int = 48, width: int = 96) -> np.ndarray:
    """(T, H, W, 3) uint8: each picture shows its number as eight bars, bright for 1."""
    pictures = np.full((len(numbers), height, width, 3), 60, np.uint8)
    for row, number in enumerate(numbers):
        for bit in range(BITS):
            if number >> bit & 1:
                pictures[row, 8:40, 8 + 10 * bit : 16 + 10 * bit] = 230
    return pictures


def read_numbers(pictures: np.ndarray) -> list[int]:
    """What `numbered_pictures` drew."""
    bars = pictures[:, 24, [12 + 10 * bit for bit in range(BITS)], 0] > 145
    return [int(row @ (1 << np.arange(BITS))) for row in bars]
