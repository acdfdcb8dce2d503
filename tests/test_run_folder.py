"""Whose folder it is."""

from pathlib import Path

import pytest

from neon_sim.training.run_folder import MARKER, begin_folder, claim_folder


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


def test_a_file_is_no_folder(tmp_path: Path) -> None:
    (tmp_path / "thesis.tex").write_text("dear")
    said = r"thesis\.tex is a file, and runs have folders\. Choose another --out"
    for path in (tmp_path / "thesis.tex", tmp_path / "thesis.tex" / "run"):
        with pytest.raises(ValueError, match=said):
            claim_folder(path, {})
        with pytest.raises(ValueError, match=said):
            begin_folder(path, False, "a")
    assert (tmp_path / "thesis.tex").read_text() == "dear"


def test_who_was_killed_while_claiming_may_claim_again(tmp_path: Path) -> None:
    (tmp_path / f"{MARKER}.partial").write_text('{"pre')
    claim_folder(tmp_path, {"preset": "tiny"})
    assert [entry.name for entry in tmp_path.iterdir()] == [MARKER]


def test_a_run_that_was_begun_otherwise_is_not_resumed(tmp_path: Path) -> None:
    with pytest.raises(ValueError, match="holds no run to resume"):
        begin_folder(tmp_path / "run", True, "a")
    begin_folder(tmp_path / "run", False, "a")
    (tmp_path / "run" / "state.pt").write_bytes(b"learned")
    begin_folder(tmp_path / "run", True, "a")
    assert (tmp_path / "run" / "state.pt").read_bytes() == b"learned"
    with pytest.raises(ValueError, match="begun with other settings"):
        begin_folder(tmp_path / "run", True, "b")
    begin_folder(tmp_path / "run", False, "b")
    assert not (tmp_path / "run" / "state.pt").exists()
    (tmp_path / "own").mkdir()
    (tmp_path / "own" / "thesis.tex").write_text("dear")
    with pytest.raises(ValueError, match="is not empty and holds no earlier run"):
        begin_folder(tmp_path / "own", False, "b")
    assert (tmp_path / "own" / "thesis.tex").exists()
