"""Whose folder it is."""

from pathlib import Path

import pytest

from neon_sim.training.run_folder import MARKER, claim_folder


def test_a_run_goes_on_in_its_own_folder_only(tmp_path: Path) -> None:
    folder = tmp_path / "run"
    claim_folder(folder, {"preset": "tiny", "seed": 0})
    (folder / "state.pt").write_text("half-way")
    claim_folder(folder, {"seed": 0, "preset": "tiny"})  # the same run, in any order
    assert sorted(path.name for path in folder.iterdir()) == [MARKER, "state.pt"]
    with pytest.raises(ValueError, match="(?s)other settings.*--out"):
        claim_folder(folder, {"preset": "default", "seed": 0})


def test_a_folder_of_somebody_else_is_left_alone(tmp_path: Path) -> None:
    (tmp_path / "thesis.tex").write_text("dear")
    with pytest.raises(ValueError, match="not empty"):
        claim_folder(tmp_path, {"preset": "tiny"})
    assert [path.name for path in tmp_path.iterdir()] == ["thesis.tex"]


def test_who_was_killed_while_claiming_may_claim_again(tmp_path: Path) -> None:
    (tmp_path / f"{MARKER}.partial").write_text('{"pre')
    claim_folder(tmp_path, {"preset": "tiny"})
    assert [entry.name for entry in tmp_path.iterdir()] == [MARKER]
