"""The wheel carries everything, and works where no checkout is."""

import os
import shutil
import subprocess
import sys
import tomllib
import zipfile
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[1]
PROJECT = tomllib.loads((ROOT / "pyproject.toml").read_text(encoding="utf-8"))
SHIPPED = ("neon_sim", "assets", "real")  # folder -> package: neon_sim, neon_sim.assets, neon_sim.real

STEP_ALL_SENSORS = """
import importlib.util, sys
import gymnasium, neon_sim
assert neon_sim.__file__.startswith(sys.prefix), neon_sim.__file__
assert importlib.util.find_spec("torch") is None, "the core installation must do without torch"
env = gymnasium.make("NeonG1-v0")
obs, info = env.reset(seed=0)
for _ in range(10):
    obs, reward, terminated, truncated, info = env.step(env.action_space.sample())
assert {"proprio", "eef", "command", "camera", "lidar", "audio", "instruction"} <= set(obs), sorted(obs)
env.close()
print("stepped", sorted(obs))
"""

STEP_STRING_FORM = """
import gymnasium
env = gymnasium.make("neon_sim:NeonG1-v0")
env.reset(seed=0)
env.step(env.action_space.sample())
env.close()
print("stepped")
"""


def shipped_packages() -> set[str]:
    """The packages that the folders of this checkout ask for."""
    packages = {".".join(path.parent.relative_to(ROOT).parts) for path in (ROOT / "neon_sim").rglob("__init__.py")}
    real = [path.parent.relative_to(ROOT) for path in (ROOT / "real").rglob("__init__.py")]
    packages |= {".".join(("neon_sim", *folder.parts)) for folder in real}
    return packages | {"neon_sim.assets"}


def shipped_files() -> set[str]:
    """The names inside the wheel of every source and asset file of this checkout."""
    names = set()
    for folder in SHIPPED:
        prefix = "" if folder == "neon_sim" else "neon_sim/"
        files = [path for path in (ROOT / folder).rglob("*") if path.is_file() and "__pycache__" not in path.parts]
        names |= {prefix + path.relative_to(ROOT).as_posix() for path in files}
    return names


def run(*command: str | Path, cwd: Path) -> str:
    """Standard output of a command that must succeed, away from the checkout and its PYTHONPATH."""
    env = {name: value for name, value in os.environ.items() if name not in ("PYTHONPATH", "VIRTUAL_ENV")}
    done = subprocess.run(list(map(str, command)), cwd=cwd, env=env, capture_output=True, text=True, timeout=900)
    assert done.returncode == 0, done.stdout + done.stderr
    return done.stdout


def test_every_package_is_listed():
    assert set(PROJECT["tool"]["setuptools"]["packages"]) == shipped_packages()


def test_every_pin_belongs_to_a_named_dependency():
    lines = (ROOT / "constraints.txt").read_text(encoding="utf-8").splitlines()
    pinned = {line.split("==")[0] for line in lines if line and not line.startswith("#")}
    extras = PROJECT["project"]["optional-dependencies"]
    wanted = " ".join([*PROJECT["project"]["dependencies"], *(item for items in extras.values() for item in items)])
    assert [name for name in pinned if name not in wanted.replace("imageio[ffmpeg]", "imageio imageio-ffmpeg")] == []
    assert "torch" in pinned and "torch==" not in wanted


@pytest.fixture(scope="module")
def wheel(tmp_path_factory) -> Path:
    """The wheel, built from a copy: setuptools would leave a build/ folder here and reuse what is stale in it."""
    source = tmp_path_factory.mktemp("source")
    for name in SHIPPED:
        if (ROOT / name).is_dir():
            shutil.copytree(ROOT / name, source / name, ignore=shutil.ignore_patterns("__pycache__"))
    for name in ("pyproject.toml", "README.md", "LICENSE"):
        shutil.copy(ROOT / name, source)
    run(sys.executable, "-m", "pip", "wheel", "-q", "--no-deps", "-w", "dist", ".", cwd=source)
    (built,) = (source / "dist").glob("neon_sim-*.whl")
    return built


@pytest.mark.wheel
def test_the_wheel_holds_every_file_and_nothing_else(wheel):
    names = set(zipfile.ZipFile(wheel).namelist())
    inside = {name for name in names if ".dist-info/" not in name}
    assert inside == shipped_files()
    assert "neon_sim/assets/g1/g1.xml" in inside
    assert any(name.endswith("licenses/LICENSE") for name in names)


@pytest.mark.wheel
def test_the_env_steps_in_a_clean_environment(wheel, tmp_path):
    run(sys.executable, "-m", "venv", "clean", cwd=tmp_path)
    python = tmp_path / "clean" / "bin" / "python"
    run(python, "-m", "pip", "install", "-q", "-c", ROOT / "constraints.txt", wheel, cwd=tmp_path)
    away = tmp_path / "away"
    away.mkdir()
    assert "stepped" in run(python, "-I", "-c", STEP_ALL_SENSORS, cwd=away)
    assert "stepped" in run(python, "-I", "-c", STEP_STRING_FORM, cwd=away)
