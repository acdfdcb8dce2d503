"""docs/inference.md: its fragments run, one after the other, and do what the page says."""

import re
from pathlib import Path
from typing import Any

import pytest

from neon_sim.inference.neon_policy import NeonPolicy

ROOT = Path(__file__).resolve().parents[1]
PAGE = (ROOT / "docs" / "inference.md").read_text(encoding="utf-8")


def test_the_fragments_run(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(ROOT)
    names: dict[str, Any] = {}
    fragments = re.findall(r"```python\n(.*?)```", PAGE, re.DOTALL)
    assert len(fragments) == PAGE.count("```") // 2 == 5
    for fragment in fragments:
        exec(compile(fragment, "docs/inference.md", "exec"), names)
    assert len(names["episode"]) == 40 and names["late"].delay == 3
    policy = names["policy"]
    assert policy.answers == policy.statistics.rows == 4  # at steps 0, 10, 20 and 30
    assert policy.heavy_share == 1.0  # nothing that an untrained head says agrees with the draft
    assert names["routed"].answers == 4 and names["routed"].heavy_share < 1.0
    assert isinstance(names["guided"], NeonPolicy) and names["guided"].decision is not None
    names["env"].close()
    assert "inference.md" in (ROOT / "README.md").read_text(encoding="utf-8")
