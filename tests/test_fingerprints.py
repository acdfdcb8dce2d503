"""Which code and which walker something was made with: comments change nothing, numbers do, and a bundle says so."""

import ast
import json
import warnings
from pathlib import Path

import pytest

from neon_sim.shipped import _said, asset_path, code_digest, walker_fingerprint
from neon_sim.world_model.bundle import load_bundle, other_walker


def _told(source: str) -> list[str]:
    return [_said(node) for node in ast.walk(ast.parse(source))]


def test_what_code_does_counts_and_what_it_says_about_itself_does_not() -> None:
    words, others = (_told(f'"""{text}"""\nSTEP = 0.02\n') for text in ("About this.", "About that."))
    assert words == others == _told('"""x"""\nSTEP = 0.02  # s\n')
    assert _told("STEP = 0.03") != _told("STEP = 0.02") != _told("PACE = 0.02")


def test_a_digest_is_of_the_files_that_are_named() -> None:
    assert code_digest("walker.py") == code_digest("walker.py") != code_digest("locomotion/*.py")
    assert len(code_digest("walker.py")) == 12
    with pytest.raises(FileNotFoundError, match=r"No source file 'wlker\.py'"):
        code_digest("wlker.py")


def test_a_bundle_of_another_walker_is_told(tmp_path: Path) -> None:
    world = asset_path("g1/world_models/reach")
    for path in world.iterdir():
        (tmp_path / path.name).write_bytes(path.read_bytes())
    told = json.loads((tmp_path / "provenance.json").read_text())
    for walker, differs in (
        (walker_fingerprint(), []),
        (walker_fingerprint() | {"code": "0", "body": "0"}, ["code", "body"]),
    ):
        (tmp_path / "provenance.json").write_text(json.dumps(told | {"walker": walker}))
        assert other_walker(tmp_path) == differs
    with pytest.warns(UserWarning, match=r"recordings of another walker \(code, body\)"):
        load_bundle(tmp_path)
    (tmp_path / "provenance.json").write_text(json.dumps({key: told[key] for key in told if key != "walker"}))
    assert other_walker(tmp_path) == []
    with pytest.warns(UserWarning, match="does not tell the walker.*train anew.*--task reach") as warned:
        load_bundle(tmp_path)
    assert len(warned) == 1
    (tmp_path / "provenance.json").unlink()
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        load_bundle(tmp_path)
