# /// script
# requires-python = ">=3.11,<3.13"
# dependencies = ["neon-sim[train,vla,data]"]
#
# [tool.uv.sources]
# neon-sim = { path = "..", editable = true }
# ///
"""Train the action layer with the documents' command line.

    python scripts/train_neon.py --backbone Qwen/Qwen2.5-VL-3B-Instruct --mode arms_only --epochs 3 \\
        --batch-size 4 --dataset lerobot/xvla-agibot-world --output YOUR_USERNAME/neon-g1-v1
    torchrun --nproc-per-node 2 scripts/train_neon.py --preset compact_reach --dataset runs/data/reach/dataset
    torchrun --nproc-per-node 4 scripts/train_neon.py --backbone Qwen/Qwen2.5-VL-7B-Instruct --lora --shard-backbone \\
        --dataset lerobot/xvla-agibot-world --output runs/lora

--output OWNER/NAME is a repository of the hub, pushed to privately when the training ends; a path with more or fewer
slashes, or one that begins with a dot, is a local folder. The same line goes on with a run that was interrupted.
A data set that is no folder here, and whose name is OWNER/NAME, is fetched from the hub. A job of `hf jobs uv run`
gets this file alone: docs/training.md says what its header must name there.
"""

import argparse
from dataclasses import replace
from pathlib import Path

from neon_sim.model.video_backbone import BackboneConfig
from neon_sim.names import nearest
from neon_sim.training.config import PRESETS, TrainConfig
from neon_sim.training.flags import add_data_flags, add_teacher_flags, put_in, told_lines, with_data
from neon_sim.training.train import NeonTrainer

MODES = ("arms_only", "upper_body", "whole_body")


def parse(argv: list[str] | None = None) -> argparse.Namespace:
    """The documents' flags, and --preset, --max-steps, --public and those of neon_sim.training.flags besides."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--preset", default="default_arms_only", help=f"one of {', '.join(PRESETS)}")
    parser.add_argument("--backbone", help="compact, TRIBEv2, a hub id or a folder (default: the preset's)")
    parser.add_argument("--mode", choices=MODES, help="control mode (default: the preset's)")
    parser.add_argument("--audio", action="store_true", help="hear: an audio encoder beside the backbone")
    add_data_flags(parser)
    add_teacher_flags(parser)
    parser.add_argument("--epochs", type=int)
    parser.add_argument("--max-steps", type=int, help="optimiser steps, in place of --epochs")
    parser.add_argument("--batch-size", type=int)
    parser.add_argument("--lr", type=float)
    parser.add_argument("--lora", action="store_true", help="train a LoRA adapter on the backbone")
    parser.add_argument("--shard-backbone", action="store_true", help="each process keeps a share of it (FSDP2)")
    parser.add_argument("--output", help="OWNER/NAME on the hub, or a local folder (default: the preset's)")
    parser.add_argument("--public", action="store_true", help="push to a public repository")
    return parser.parse_args(argv)


def is_hub_id(output: str) -> bool:
    """OWNER/NAME, and no folder that is there."""
    return output.count("/") == 1 and not output.startswith((".", "/", "~", "runs/")) and not Path(output).exists()


def config_from(args: argparse.Namespace) -> TrainConfig:
    """The preset with what the flags say. Raises ValueError or FileNotFoundError for a soup that makes no sense."""
    if args.preset not in PRESETS:
        raise SystemExit(str(nearest("preset", args.preset, PRESETS)))
    config = PRESETS[args.preset]()
    model = config.model
    if args.backbone:
        model = replace(model, backbone=BackboneConfig(model_id=args.backbone))
    if args.lora:
        model = replace(model, backbone=replace(model.backbone, freeze_backbone=False, load_in_4bit=False))
        config.optim, config.feature_cache = "adamw", None
    config.model = replace(model, control_mode=args.mode or model.control_mode, use_audio=args.audio or model.use_audio)
    put_in(config, args)
    told = {"epochs": args.epochs, "max_steps": args.max_steps, "batch_size": args.batch_size, "learning_rate": args.lr}
    for name, value in told.items():
        if value is not None:
            setattr(config, name, value)
    config.shard_backbone = args.shard_backbone
    if args.output and is_hub_id(args.output):
        config.hub_model_id, config.hub_private = args.output, not args.public
        config.output_dir = f"runs/{args.output.rpartition('/')[2]}"
    elif args.output:
        config.output_dir = args.output
    return config


def main(argv: list[str] | None = None) -> None:
    """Train and say what came of it."""
    try:
        config = with_data(config_from(parse(argv)))
        trainer = NeonTrainer(config)
        stats = trainer.train()
    except (ValueError, OSError, ImportError, FloatingPointError) as error:
        raise SystemExit(str(error)) from None
    except KeyboardInterrupt:
        raise SystemExit("Stopped; the same line goes on.") from None
    if trainer.team.leads:
        print(told_lines(stats, config.folder / "best"))


if __name__ == "__main__":
    main()
