"""How many weights the action layer has, beside what the documents behind Neon say: the two tables in README.md.

    python benchmarks/parameter_table.py    # counts, prints, and puts the tables between README.md's markers

Our column for Qwen2.5-Omni has the standard heads (512 wide, without LiDAR) on features of the width that the documents
name: 2048 for the 3B model, 3584 for the 7B one. Those are built with shapes and no weights.
"""

import textwrap
from collections.abc import Mapping, Sequence
from typing import Final

import torch
from report import ROOT, put_section, replace_file, table
from torch import nn

from neon_sim.model.action_heads import (
    ActionChunkingHead,
    DiTActionHead,
    EnsembleHead,
    FlowMatchingHead,
    MLPDecoder,
    StateRelativeHead,
)
from neon_sim.model.layers import ResidualScale, RMSNorm
from neon_sim.model.neon_vla import NeonConfig, NeonVLA
from neon_sim.model.video_backbone import VideoBackbone
from neon_sim.shipped import asset_path

SECTION: Final = "parameters"  # of README.md
STANDARD: Final = NeonConfig(mlp_hidden=512, dropout=0.1, use_lidar=False)
GRID: Final = 64  # cells of a 224 px picture in Qwen2.5-Omni
FEATURES: Final = 2048  # that the documents' constructors of single heads read
TOTAL: Final = "all that is trained"
LAYER_HEADER: Final = (
    "trained, `arms_only`",
    "documents",
    "ours, 2048 wide",
    "ours, 3584 wide",
    "shipped, 160 wide",
)
HEAD_HEADER: Final = ("one head, 2048 to 16 x 17", "action heads page", "home page", "ours")
# What the paper (table 4), the home page, the training page and the page of action heads say.
LAYER_CLAIMS: Final[dict[str, str]] = {
    "arms head": "1.5 M",
    "locomotion head": "0.4 M",
    "fusion": "4.2 M",
    "proprioception encoder": "0.1 M",
    "other encoders": "-",
    "goal reader": "-",
    "norms (in the heads)": "3 K",
    "residual scales (in the heads)": "10",
    TOTAL: "6.2 M (paper), 6 M (home), 7.3 M on 7B and 2 M on 3B (training)",
}
HEAD_CLAIMS: Final[dict[str, tuple[str, str]]] = {
    "MLPDecoder": ("1.5 M, in the ensemble 3 M", "2 M"),
    "ActionChunkingHead": ("1.5 M", "-"),
    "FlowMatchingHead": ("4 M", "4 M"),
    "DiTActionHead": ("6 M", "6 M"),
    "StateRelativeHead": ("+ 0", "3 M"),
    "EnsembleHead": ("13 M", "8 M"),
}


def bare_backbone(width: int) -> VideoBackbone:
    """What NeonVLA asks of a backbone before there is a clip: features of that width on a grid of `GRID` cells."""
    backbone = VideoBackbone()
    backbone.hidden_size, backbone.num_tokens = width, GRID
    return backbone


def weights_of(module: nn.Module, kind: type[nn.Module] = nn.Module) -> int:
    """Weights of a module that are in parts of one kind; without a kind all of them."""
    if kind is nn.Module:
        return sum(parameter.numel() for parameter in module.parameters())
    return sum(weights_of(part) for part in module.modules() if isinstance(part, kind))


def layer_counts(model: NeonVLA) -> dict[str, int]:
    """Weights by row of the first table, from `NeonVLA.parameter_table` and, within the heads, by group and kind."""
    counted = model.parameter_table()
    groups = {name: weights_of(head) for name, head in model.action_head.heads.items()}
    others = sum(count for name, count in counted.items() if name.endswith("_encoder")) - counted["proprio_encoder"]
    return {
        "arms head": groups["arms"],
        "locomotion head": groups["locomotion"],
        "fusion": counted["fusion"],
        "proprioception encoder": counted["proprio_encoder"],
        "other encoders": others,
        "goal reader": counted["goal_reader"] + counted["goal_embed"],
        "norms (in the heads)": weights_of(model.action_head, RMSNorm),
        "residual scales (in the heads)": weights_of(model.action_head, ResidualScale),
        TOTAL: counted["trainable"],
    }


def head_counts() -> dict[str, int]:
    """Weights of each kind of head as the documents construct it: 2048 features in, 16 steps of 17 actions out."""
    with torch.device("meta"):
        chunking = ActionChunkingHead(FEATURES, 17)
        heads = {
            "MLPDecoder": MLPDecoder(FEATURES, 17),
            "ActionChunkingHead": chunking,
            "FlowMatchingHead": FlowMatchingHead(FEATURES, 17),
            "DiTActionHead": DiTActionHead(FEATURES, 17),
            "EnsembleHead": EnsembleHead(FEATURES, 17),
        }
        wrapped = weights_of(StateRelativeHead(chunking, 17, 16)) - weights_of(chunking)
    return {name: weights_of(head) for name, head in heads.items()} | {"StateRelativeHead": wrapped}


def layer_columns() -> list[dict[str, int]]:
    """The first table's counts: on 2048, on 3584, and as shipped (the compact backbone)."""
    with torch.device("meta"):
        models = [NeonVLA(STANDARD, bare_backbone(width)) for width in (2048, 3584)]
    return [layer_counts(model) for model in (*models, NeonVLA.from_pretrained(asset_path("g1/demo_heads")))]


def short(count: int) -> str:
    """ "1.36 M", "98 K", "7"."""
    if count >= 1e5:
        return f"{count / 1e6:.2f} M"
    return f"{count / 1e3:.0f} K" if count >= 1e3 else str(count)


def section(columns: Sequence[Mapping[str, int]], heads: Mapping[str, int]) -> str:
    """Both tables, and what contradicts what."""
    layer = [[name, claim, *(short(column[name]) for column in columns)] for name, claim in LAYER_CLAIMS.items()]
    head = [[f"`{name}`", *claims, short(heads[name])] for name, claims in HEAD_CLAIMS.items()]
    arms, locomotion = (columns[0][f"{name} head"] for name in ("arms", "locomotion"))
    points = [
        "The sum: the paper's abstract speaks of heads of 2 M, its table 4 of 6.2 M in all, the home page of 6 M, the "
        "training page of 7.3 M for one preset and of 2 M for another; 0.2 % of the backbone (paper) is 0.08 % (home).",
        "Table 4's fusion is 2048 x 2048 = 4.2 M, one linear layer of a 3B model's width; on the 7B one, which the "
        f"7.3 M are for, a layer of that kind alone has 3584 x 3584 = 12.8 M; ours has {short(columns[1]['fusion'])}, "
        "the senses' columns included.",
        "Arms and locomotion heads of one width differ by nothing but 14 and 3 outputs, not by 1.1 M: ours have "
        f"{short(arms)} and {short(locomotion)}.",
        "Eight DiT blocks 384 wide have 4 x 384² x 8 = 4.7 M in attention and 6 x 384² x 8 = 7.1 M in adaLN before any "
        f"MLP, and not 6 M; ours {short(heads['DiTActionHead'])}.",
        "The state-relative head is a wrapper without weights on one page and has 3 M on another; the ensemble has "
        f"13 M or 8 M, ours {short(heads['EnsembleHead'])}.",
    ]
    return "\n\n".join(
        (table(LAYER_HEADER, layer), table(HEAD_HEADER, head), "\n".join(bullet(point) for point in points))
    )


def bullet(text: str) -> str:
    """A list's point in lines of 120 characters at most."""
    return textwrap.fill(text, 120, initial_indent="- ", subsequent_indent="  ")


def main() -> None:
    """Count, print, replace the section."""
    body = section(layer_columns(), head_counts())
    readme = ROOT / "README.md"
    replace_file(readme, put_section(readme.read_text(encoding="utf-8"), SECTION, body))
    print(f"{body}\nWrote them into {readme}")


if __name__ == "__main__":
    main()
