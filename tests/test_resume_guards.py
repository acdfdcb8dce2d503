"""What an earlier run kept is of one walker: its weights, its code and the body that it has."""

import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

sys.path.extend(str(Path(__file__).resolve().parents[1] / name) for name in ("benchmarks", "agents"))  # scripts
import ablate
import foreign_arm
import forgetting_gestures
import guidance
import heavy_heads
import speculation
import teaching
import tour_task
import video_or_image
import walking_tour

from neon_sim.shipped import asset_path, walker_fingerprint

OLD: dict[str, str] = {"weights": "of", "code": "another", "body": "day"}
HEADS = asset_path("g1/demo_heads")
WORLD = asset_path("g1/world_models/reach")
SETTINGS: dict[str, Callable[[], dict[str, Any]]] = {
    "ablate": lambda: ablate.settings_of(ablate.PRESETS["tiny"]),
    "guidance": lambda: guidance.settings_of(guidance.PRESETS["tiny"])["trained"]["flow"],
    "heavy_heads": lambda: heavy_heads.demos_settings(heavy_heads.SIZES["tiny"]),
    "speculation": lambda: speculation.preset_settings(speculation.PRESETS["tiny"])["trained"]["draft"],
    "teaching": lambda: teaching.settings_of(teaching.PRESETS["tiny"], HEADS, WORLD),
    "video_or_image": lambda: video_or_image.settings_of(video_or_image.PRESETS["tiny"]),
}


@pytest.mark.parametrize("of", sorted(SETTINGS))
def test_settings_tell_the_walker(of: str) -> None:
    assert SETTINGS[of]()["walker"] == walker_fingerprint()


def test_a_tour_is_of_the_walkers_own_weights_and_todays_code() -> None:
    config = tour_task.TASKS["published"]
    told = walking_tour.settings_of("standing", config)
    assert {name: told[name] for name in ("code", "body")} == {
        name: value for name, value in walker_fingerprint().items() if name != "weights"
    }
    assert told["weights"] == "none" and walking_tour.settings_of("shipped", config)["weights"] != "none"


def test_folders_of_another_walkers_demonstrations_are_refused(tmp_path: Path) -> None:
    """Nothing is recorded: the folder is asked first."""
    begin: dict[str, Callable[[Path], Any]] = {
        "foreign_arm": lambda folder: foreign_arm.run(foreign_arm.PRESETS["tiny"], folder, 1),
        "forgetting_gestures": lambda folder: forgetting_gestures.teach_gestures(folder, forgetting_gestures.TINY, 1),
        "heavy_heads": lambda folder: heavy_heads.prepare(folder, ("draft",), heavy_heads.SIZES["tiny"], 1, True),
    }
    claims = {
        "foreign_arm": foreign_arm.asdict(foreign_arm.PRESETS["tiny"]),
        "forgetting_gestures": forgetting_gestures.asdict(forgetting_gestures.TINY)
        | {"env": dict(forgetting_gestures.subject_of("wave").options)},
        "heavy_heads": heavy_heads.demos_settings(heavy_heads.SIZES["tiny"]),
    }
    for of, start in begin.items():
        heavy_heads.claim_folder(tmp_path / of, claims[of] | {"walker": OLD})
        with pytest.raises(ValueError, match="begun with other settings"):
            start(tmp_path / of)
        assert [path.name for path in (tmp_path / of).iterdir()] == ["settings.json"]
