"""The README's first screen is run, and what it points at exists."""

import re
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from neon_sim.model.neon_vla import NeonVLA

ROOT = Path(__file__).resolve().parents[1]
README = (ROOT / "README.md").read_text(encoding="utf-8")


def test_the_python_example_runs() -> None:
    (example,) = re.findall(r"```python\n(.*?)```", README, re.DOTALL)
    names: dict[str, object] = {}
    exec(compile(example, "README.md", "exec"), names)
    obs, info = names["obs"], names["info"]
    assert isinstance(obs, dict) and isinstance(info, dict)
    assert {"proprio", "eef", "camera", "lidar", "audio", "instruction", "command"} == set(obs)
    assert "hand" in info["instruction"] and np.isfinite(float(str(names["reward"])))


def test_the_life_in_the_page_on_self_learning_runs_and_goes_on(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Three episodes in the place of sixty, and three more of a second process."""
    page = (ROOT / "docs" / "self_learning.md").read_text(encoding="utf-8")
    (example,) = re.findall(r"```python\n(.*?)```", page, re.DOTALL)
    monkeypatch.chdir(tmp_path)
    for last in (3, 6):
        names: dict[str, Any] = {}
        short = example.replace(", 60)", f", {last})").replace("20", "4")
        exec(compile(short, "self_learning.md", "exec"), names)
        names["env"].close()
        assert names["learner"].episodes == last and len(names["learner"].buffer) + 6 * (last > 4) * 4 == 6 * last
    assert NeonVLA.from_pretrained("runs/my_life/policy").senses == names["model"].senses


def test_the_table_of_tasks_is_the_one_made_from_the_code() -> None:
    """docs/tasks.md, which `test_contact_sheet.py` compares with the code; if it changed, copy it here."""
    (table,) = re.findall(r"<!-- tasks -->\n(.*?)<!-- /tasks -->", README, re.DOTALL)
    assert table == (ROOT / "docs" / "tasks.md").read_text(encoding="utf-8")


def test_links_and_pictures_exist() -> None:
    targets = [target for target in re.findall(r"\]\(([^)#]+)\)", README) if "://" not in target]
    assert len(targets) >= 5
    assert [target for target in targets if not (ROOT / target).exists()] == []


def test_commands_exist() -> None:
    makefile = (ROOT / "Makefile").read_text(encoding="utf-8")
    for target in re.findall(r"^make ([a-z-]+)", README, re.MULTILINE):
        assert re.search(rf"^(?:[\w-]+ )*{target}(?: [\w-]+)*:", makefile, re.MULTILINE), target
    scripts = re.findall(r"^python (\S+\.py)", README, re.MULTILINE)
    assert len(scripts) >= 5 and all((ROOT / script).is_file() for script in scripts)
