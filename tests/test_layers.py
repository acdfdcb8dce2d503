"""Arrows point one way: who may import whom, read from the source with ast. This table is the map of the project."""

import ast
import os
import subprocess
import sys
from collections.abc import Iterable, Iterator
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[1]

# Unit = a module or package directly under neon_sim. Each may import itself, and what stands in its row.
GROUND = {"blas", "g1", "episode", "espeak", "instruction", "names", "shipped"}
BODY = GROUND | {"robot", "locomotion", "walker", "safety"}
SCENE = BODY | {"sim", "sensors", "tasks"}
WORLD = SCENE | {"env", "env_config", "vector_env", "rollout", "wrappers"}
BRAIN = {"training", "world_model", "inference", "eval"}  # they see worlds only as a gymnasium.Env
BRAIN_MAY = GROUND | BRAIN | {"model", "data", "safety", "rollout", "cells", "wrappers"}
MAY_IMPORT = (
    {unit: GROUND for unit in GROUND}
    | {unit: BODY for unit in BODY - GROUND}
    | {"locomotion": GROUND | {"robot"}}  # the walker's parts: it puts them together
    | {"walking": BODY | {"sim"}}  # the walker's training ground; it stands in nobody's row
    | {unit: SCENE for unit in SCENE - BODY}
    | {unit: WORLD for unit in WORLD - SCENE}
    | {"model": {"g1", "espeak", "names", "shipped"}, "data": GROUND}
    | {unit: BRAIN_MAY for unit in BRAIN}
    | {"cells": SCENE}  # NeonBench's worlds, in words that need no simulator
    | {"training": BRAIN_MAY | {"locomotion"}}  # what it trains for the walker is written in the walker's format
    | {"__init__": WORLD}
)
ON_THE_ROBOT = {"locomotion", "walker"}  # the robot's control process runs them, with numpy and nothing else
TORCH_UNITS = {"model", "data"} | BRAIN
NO_WORLD_UNITS = {"model", "data"} | BRAIN  # no mujoco, and neon_sim.model no gymnasium either
OUTSIDE = {"agents", "scripts", "benchmarks", "real", "tests"}  # they import neon_sim, never the other way round


def unit_of(path: Path, package: Path) -> str:
    """The unit that a source file belongs to: its first folder, or its own name directly under the package."""
    parts = path.relative_to(package).with_suffix("").parts
    return parts[0]


def absolute_name(node: ast.ImportFrom, path: Path, package: Path) -> str:
    """The dotted module of a from-import, with leading dots resolved."""
    if node.level == 0:
        return node.module or ""
    parents = (package.name, *path.relative_to(package).parent.parts)
    base = parents[: len(parents) - node.level + 1]
    return ".".join((*base, node.module) if node.module else base)


def imports_of(nodes: Iterable[ast.AST], path: Path, package: Path) -> Iterator[tuple[str, int]]:
    """Each (dotted name, line) that the import statements among `nodes` bring in."""
    for node in nodes:
        if isinstance(node, ast.Import):
            yield from ((alias.name, node.lineno) for alias in node.names)
        elif isinstance(node, ast.ImportFrom):
            module = absolute_name(node, path, package)
            yield from ((f"{module}.{alias.name}", node.lineno) for alias in node.names)


def wrong_arrows(package: Path) -> list[str]:
    """Every import inside `package` that the table above does not allow, as a line a person can act on."""
    wrong = []
    for path in sorted(package.rglob("*.py")):
        unit = unit_of(path, package)
        if unit not in MAY_IMPORT:
            wrong.append(f"{path.name}: unit {unit!r} has no row in tests/test_layers.py; give it its place there")
            continue
        nodes = ast.walk(ast.parse(path.read_text(encoding="utf-8")))  # a lazy import is an arrow too
        for name, line in imports_of(nodes, path, package):
            reason = objection(unit, name, package.name)
            if reason:
                wrong.append(f"{path.relative_to(package)}:{line} imports {name}: {reason}")
    return wrong


def objection(unit: str, name: str, package: str) -> str | None:
    """Why `unit` must not import the dotted `name`; None if it may."""
    top, _, rest = name.partition(".")
    target = rest.partition(".")[0]
    if top in OUTSIDE or (top == package and target in OUTSIDE):
        return f"{package} imports nothing from {sorted(OUTSIDE)}"
    if unit in ON_THE_ROBOT and top not in {package, "numpy"} | sys.stdlib_module_names:
        return "it runs on the robot, where numpy is all there is"
    if top == "torch" and unit not in TORCH_UNITS:
        return f"torch lives in {sorted(TORCH_UNITS)} only"
    if top == "mujoco" and unit in NO_WORLD_UNITS:
        return "it sees worlds only as a gymnasium.Env"
    if top == "gymnasium" and unit == "model":
        return "the model knows tensors, not worlds"
    if top == package and target in MAY_IMPORT and target != unit and target not in MAY_IMPORT[unit]:
        return f"{unit!r} may import {sorted(MAY_IMPORT[unit])}"
    return None


def test_arrows_point_one_way():
    wrong = wrong_arrows(ROOT / "neon_sim")
    assert not wrong, "\n".join(wrong)


@pytest.mark.parametrize(
    ("file", "source", "part"),
    [
        ("g1/joints.py", "from neon_sim.sim import model", "'g1' may import"),
        ("g1/joints.py", "from ..sim.model import build", "'g1' may import"),
        ("g1/joints.py", "from neon_sim import env", "'g1' may import"),
        ("env.py", "def f():\n    import torch.nn", "torch lives in"),
        ("sim/model.py", "from neon_sim.real import codec", "imports nothing from"),
        ("tasks/reach.py", "import agents.play", "imports nothing from"),
        ("model/fusion.py", "import mujoco", "only as a gymnasium.Env"),
        ("model/fusion.py", "import gymnasium as gym", "tensors, not worlds"),
        ("training/train.py", "from neon_sim.sim.model import build", "'training' may import"),
        ("training/train.py", "from neon_sim.walking.world import WalkWorld", "'training' may import"),
        ("locomotion/gait.py", "from neon_sim.walker import Walker", "'locomotion' may import"),
        ("locomotion/gait.py", "from neon_sim.sim.model import build", "'locomotion' may import"),
        ("locomotion/gait.py", "import mujoco", "numpy is all there is"),
        ("locomotion/network.py", "import torch", "numpy is all there is"),
        ("walker.py", "import scipy.spatial", "numpy is all there is"),
        ("walking/world.py", "import torch", "torch lives in"),
        ("walking/world.py", "from neon_sim.training.ppo import PPO", "'walking' may import"),
        ("walking/world.py", "from neon_sim import env", "'walking' may import"),
        ("tasks/walk.py", "from neon_sim.walking.orders import Orders", "'tasks' may import"),
        ("helpers.py", "import math", "no row"),
    ],
)
def test_a_wrong_arrow_is_seen(tmp_path, file, source, part):
    path = tmp_path / "neon_sim" / file
    path.parent.mkdir(parents=True)
    path.write_text(source)
    (wrong,) = wrong_arrows(tmp_path / "neon_sim")
    assert part in wrong


@pytest.mark.parametrize(
    ("file", "source"),
    [
        ("env.py", "from neon_sim.sim.sim_robot import SimRobot\nfrom neon_sim.tasks import make_task"),
        ("sim/sim_robot.py", "from .model import build\nfrom ..robot import Robot\nimport mujoco"),
        ("training/train.py", "import torch\nimport gymnasium\nfrom neon_sim.model import neon_vla"),
        ("data/data_soup.py", "from neon_sim.episode import NeonEpisode"),
        ("locomotion/gait.py", "import os\nimport numpy as np\nfrom neon_sim.g1 import joints\nfrom . import posture"),
        ("walker.py", "from neon_sim.locomotion.balance import Balance\nfrom neon_sim.shipped import asset_path"),
        (
            "walking/world.py",
            "import numpy\nfrom neon_sim.sim.batch import Truth\nfrom neon_sim.locomotion import gait",
        ),
        ("training/walker_run.py", "import torch\nfrom neon_sim.locomotion.network import save_weights"),
    ],
)
def test_a_right_arrow_passes(tmp_path, file, source):
    path = tmp_path / "neon_sim" / file
    path.parent.mkdir(parents=True)
    path.write_text(source)
    assert wrong_arrows(tmp_path / "neon_sim") == []


def module_name(path: Path) -> str:
    """The dotted name under which a file of this checkout is imported."""
    parts = path.relative_to(ROOT).with_suffix("").parts
    return ".".join(parts[:-1] if parts[-1] == "__init__" else parts)


def top_level_imports(path: Path, modules: set[str]) -> set[str]:
    """The modules of this package that a file needs in order to be imported; `if TYPE_CHECKING` never runs."""
    body = ast.parse(path.read_text(encoding="utf-8")).body
    names = {name for name, _ in imports_of(body, path, ROOT / "neon_sim")}
    return {name if name in modules else name.rpartition(".")[0] for name in names} & modules - {module_name(path)}


def test_modules_import_each_other_in_no_circle():
    files = {module_name(path): path for path in sorted((ROOT / "neon_sim").rglob("*.py"))}
    needs = {name: top_level_imports(path, set(files)) for name, path in files.items()}
    while needs:
        free = {name for name, needed in needs.items() if not needed & set(needs)}
        assert free, f"these modules wait for each other: {sorted(needs)}"
        needs = {name: needed for name, needed in needs.items() if name not in free}


def run_python(code: str) -> str:
    """Standard output of a fresh interpreter that sees the same packages as this one."""
    env = os.environ | {"PYTHONPATH": os.pathsep.join(filter(None, [str(ROOT), os.environ.get("PYTHONPATH")]))}
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, timeout=120, env=env)
    assert done.returncode == 0, done.stderr
    return done.stdout.strip()


HEAVY = "[m for m in ('torch', 'matplotlib', 'tensorboard', 'transformers', 'stable_baselines3') if m in sys.modules]"


def test_importing_neon_sim_loads_no_torch():
    assert run_python(f"import sys, neon_sim; print({HEAVY})") == "[]"


def test_stepping_the_env_loads_no_torch():
    code = (
        "import sys, gymnasium, neon_sim; "
        "env = gymnasium.make('NeonG1-v0', sensors=('proprio',), physics_dt=0.005); "
        f"env.reset(seed=0); env.step(env.action_space.sample() * 0); env.close(); print({HEAVY})"
    )
    assert run_python(code) == "[]"


def test_the_map_names_no_unit_twice_and_only_known_targets():
    assert GROUND < BODY < SCENE < WORLD
    assert all("walking" not in row for row in MAY_IMPORT.values())
    assert set().union(*MAY_IMPORT.values()) <= set(MAY_IMPORT)
