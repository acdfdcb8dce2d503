"""The documents' own pages, where they lie beside the checkout: their Python runs as it stands there.

The pages are not part of the project. NEON_DOCUMENTS names another folder that holds them; without one, the calls of
tests/test_seed_fragments.py, which are written anew, stand for them. `neon` becomes `neon_sim`, hub ids become folders
on this machine, and names that a fragment takes for granted are given to it.
"""

import ast
import hashlib
import os
import re
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from foreign_folders import G1_ARMS, angles, bridge_folder, foreign_lerobot
from local_hub import call, running_hub
from source_files import cosmos_folder, voice_folder
from test_seed_fragments import chunk_and_mask, features
from tiny_backbones import save_omni
from tiny_data import soup_of, write_episodes
from tiny_neon import noise_frames, tiny_config

from neon_sim.model.action_heads import ActionHeadConfig, MLPDecoder, masked_mse
from neon_sim.model.neon_vla import NeonConfig, NeonVLA
from neon_sim.model.video_backbone import BackboneConfig
from neon_sim.training.config import TrainConfig

ROOT = Path(__file__).resolve().parents[1]
# What the code of each page hashes to (`code_of`): another one has fragments that nobody has looked at.
PAGES = {
    "003_training.txt": "a285dfc82698da03",
    "004_action_heads.txt": "bec600f168ef2bb4",
}
_CODE = re.compile(
    r"^(from|import) |^\s*[\w.]+ = \S|^\s*\w+=\S.*,?$|^\s*[\w.]+\($|^\s*[)\]}]+,?$"  # Python
    r"|^\s*(--|python |hf jobs)|_neon\.py"  # the shell
)
_BEGIN = re.compile(r"(from [\w.]+ import |import |def |[a-z_]\w* = \S|[a-z_]\w*\.\w+\()")  # a fragment's first line
_LONGEST = 80  # lines of a fragment


def page(name: str) -> str:
    """A page's text; the test is skipped where the pages are not on this machine."""
    named = os.environ.get("NEON_DOCUMENTS")
    folder = Path(named) if named else ROOT.parent / "shared" / "seeds"
    if not named and not folder.is_dir():
        pytest.skip(f"the documents are neither in {folder} nor in a folder that NEON_DOCUMENTS names")
    return (folder / name).read_text(encoding="utf-8")


def code_of(text: str) -> str:
    """A page's lines that are code or commands, without their comments and the space around them."""
    lines = [line.partition(" #")[0].strip() for line in text.splitlines() if _CODE.search(line)]
    return "\n".join(line for line in lines if line)


def fragments_of(text: str) -> list[str]:
    """A page's Python, for `neon_sim`: from each line that looks like some, as many lines as can be parsed together."""
    lines, found, start = text.splitlines(), [], 0
    while start < len(lines):
        ends = range(min(len(lines), start + _LONGEST), start, -1) if _BEGIN.match(lines[start]) else ()
        end, fragment = next(((end, code) for end in ends if (code := _parsed(lines[start:end]))), (start + 1, ""))
        found += [fragment.replace("from neon.", "from neon_sim.")] if fragment else []
        start = end
    return found


def _parsed(lines: list[str]) -> str:
    """Lines as Python, or "" if they are none. The pages have a function's body at the margin, as its head."""
    if lines[0].startswith("def "):
        deeper = [2 if before.lstrip().startswith("if ") else 1 for before in lines[:-1]]
        lines = [lines[0], *("    " * depth + line for depth, line in zip(deeper, lines[1:], strict=True))]
    code = "\n".join(lines).rstrip()
    try:
        ast.parse(code)
    except SyntaxError:
        return ""
    return code


def run(fragment: str, given: dict[str, Any]) -> None:
    """Run a fragment in the namespace `given`."""
    exec(compile(fragment, "<the documents>", "exec"), given)


def with_folders(fragment: str, folders: dict[str, Path]) -> str:
    """A fragment with folders in the places of what it would fetch or write elsewhere."""
    for there, here in folders.items():
        assert f'"{there}"' in fragment
        fragment = fragment.replace(f'"{there}"', repr(str(here)))
    return fragment


def small(config: TrainConfig, folder: Path) -> TrainConfig:
    """The same training with a small backbone and small heads, one step of it, no hub."""
    config.model = tiny_config(folder / "backbone", use_audio=False, use_lidar=False)
    config.output_dir, config.max_steps, config.gradient_accumulation = str(folder / "run"), 1, 1
    config.push_to_hub, config.device, config.optim, config.bf16 = False, "cpu", "adamw", False
    return config


@pytest.mark.parametrize("name", PAGES)
def test_the_documents_are_those_that_the_fragments_were_written_from(name: str) -> None:
    assert hashlib.sha256(code_of(page(name)).encode()).hexdigest()[:16] == PAGES[name]


def test_code_is_told_from_prose() -> None:
    text = "The head\nhead = FlowMatchingHead(\ninput_dim=2048, # wide\n)\nIt is small.\n    --trajs 10 \\\n"
    assert code_of(text) == "head = FlowMatchingHead(\ninput_dim=2048,\n)\n--trajs 10 \\"


def test_fragments_are_cut_out_of_their_prose() -> None:
    text = "Use it so:\nfrom neon.model import Head\n\nhead = Head(\nwidth=3, # wide\n)\nSmall.\ngraph TD\nA --> B\n"
    text += "def half(x):\nif x is None:\nx = 2\nreturn x / 2\nNot more.\nhead.go(1)\n"
    imported, half, gone = fragments_of(text)
    assert imported == "from neon_sim.model import Head\n\nhead = Head(\nwidth=3, # wide\n)" and gone == "head.go(1)"
    space: dict[str, Any] = {}
    run(half, space)
    assert (space["half"](None), space["half"](4)) == (1.0, 2.0)


def test_the_page_on_action_heads_runs() -> None:
    target, mask = chunk_and_mask()
    given = {"MLPDecoder": MLPDecoder, "F": torch.nn.functional, "features": features(), "target_actions": target}
    given |= {"mask": mask, "joint_positions": 0.1 * torch.ones(2, 17)}
    sampled = []
    fragments = fragments_of(page("004_action_heads.txt"))
    for fragment in fragments:
        run(fragment, given)
        if "sample(" in fragment:
            assert given["loss"].isfinite() and given["actions"].shape == (2, 16, 17)
            sampled.append(type(given["head"]).__name__)
    assert len(fragments) == 9 and sampled == ["FlowMatchingHead", "DiTActionHead"]
    assert given["decoder"](features()).shape == (2, 14)
    assert given["block"](torch.randn(2, 16, 384), torch.randn(2, 384), torch.randn(2, 5, 2048)).shape == (2, 16, 384)
    assert given["actions"].shape == (2, 16, 17)  # of the state-relative head
    assert given["head"](features()).shape == (2, 16, 17)  # of the ensemble
    switches = ("use_relu_squared", "use_rmsnorm", "use_residual_scale", "use_skip_connections", "soft_cap_value")
    assert given["config"] == ActionHeadConfig(**{name: 0 for name in switches})  # the vanilla one came last
    # Its loss has the padding in its mean, 4 steps of 16: ours leaves it out (D16).
    told = given["compute_loss"](None, torch.zeros_like(target), target, mask)
    torch.testing.assert_close(told, 0.75 * masked_mse(torch.zeros_like(target), target, mask))


def test_the_page_on_training_runs(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    large, soup, saving, loading, pushing = fragments_of(page("003_training.txt"))
    given: dict[str, Any] = {"small": small, "folder": tmp_path / "large"}
    given["data"] = soup_of(write_episodes(tmp_path / "data", 3, steps=16))
    before = "config.data = data\ntrainer = NeonTrainer(small(config, folder))"
    run(large.replace("trainer = NeonTrainer(config)", before), given)
    assert "Best loss: 0." in capsys.readouterr().out and given["config"].epochs == 5

    folders = {
        "lerobot/xvla-agibot-world": foreign_lerobot(
            tmp_path / "agibot", angles(30, 14), names={"action": G1_ARMS}, fps=30.0
        ),
        "lerobot/bridge_v2": bridge_folder(tmp_path / "bridge_v2"),
        "nvidia/GR1-100": cosmos_folder(tmp_path / "GR1-100"),
        "cagataydev/vlm-voice-commands": voice_folder(tmp_path / "vlm-voice-commands"),
    }
    run(with_folders(soup, folders), given)
    config = given["config"]
    assert (config.model.mlp_hidden, config.learning_rate, len(config.data.sources)) == (2048, 1e-4, 4)
    trained = given["NeonTrainer"](small(config, tmp_path / "soup"), progress=False).train()
    assert np.isfinite(trained["best_loss"])

    backbone = BackboneConfig(model_id=str(save_omni(tmp_path / "omni")), load_in_4bit=True, freeze_backbone=True)
    given["model"] = NeonVLA(NeonConfig(backbone=backbone, mlp_hidden=24, proprioception_hidden=16))
    policy = tmp_path / "policy"
    run(with_folders(saving, {"/path/to/model": policy}), given)
    given["frame"] = noise_frames(1, 1, 64)[0, 0]
    run(with_folders(loading, {"YOUR_USERNAME/neon-g1-v1": policy}), given)
    assert given["output"].shape == (16, 17) and np.isfinite(given["output"]).all()
    with running_hub() as hub:
        pushed = call(hub, tmp_path / "home", with_folders(pushing, {"/tmp/neon_output/best": policy}))
        assert pushed.returncode == 0, pushed.stderr
        assert set(hub.files) == {path.name for path in policy.iterdir()}
