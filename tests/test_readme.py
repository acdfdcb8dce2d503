"""The README's first screen is run, and what it points at exists."""

import re
from pathlib import Path

import numpy as np

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
