# /// script
# requires-python = ">=3.11,<3.13"
# dependencies = ["neon-sim[train,vla,data]"]
# ///
"""Train the action layer with the documents' command line.

    python scripts/train_neon.py --backbone Qwen/Qwen2.5-VL-3B-Instruct --mode arms_only --epochs 3 \\
        --batch-size 4 --dataset lerobot/xvla-agibot-world --output YOUR_USERNAME/neon-g1-v1
    torchrun --nproc-per-node 2 scripts/train_neon.py --preset compact_reach --dataset runs/data/reach/dataset
    torchrun --nproc-per-node 4 scripts/train_neon.py --backbone Qwen/Qwen2.5-VL-7B-Instruct --lora --shard-backbone \\
        --dataset lerobot/xvla-agibot-world --output runs/lora
    hf jobs uv run --flavor a100-large --secrets HF_TOKEN --timeout 8h scripts/train_neon.py --audio --output ME/neon

--output OWNER/NAME is a repository of the hub, pushed to privately when the training ends; a path with more or fewer
slashes, or one that begins with a dot, is a local folder. The same line goes on with a run that was interrupted.
"""

import argparse
from dataclasses import replace
from pathlib import Path

from neon_sim.data.data_soup import DataSoupConfig
from neon_sim.data.source import DataSourceConfig
from neon_sim.model.video_backbone import BackboneConfig
from neon_sim.names import nearest
from neon_sim.training.config import PRESETS, TrainConfig
from neon_sim.training.train import NeonTrainer

MODES = ("arms_only", "upper_body", "whole_body")


def parse(argv: list[str] | None = None) -> argparse.Namespace:
    """The documents' flags, and --preset, --max-steps, --dataset-type, --public besides."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--preset", default="default_arms_only", help=f"one of {', '.join(PRESETS)}")
    parser.add_argument("--backbone", help="compact, TRIBEv2, a hub id or a folder (default: the preset's)")
    parser.add_argument("--mode", choices=MODES, help="control mode (default: the preset's)")
    parser.add_argument("--audio", action="store_true", help="hear: an audio encoder beside the backbone")
    parser.add_argument("--dataset", help="folder or downloaded hub id, in place of the preset's mixture")
    parser.add_argument("--dataset-type", default="lerobot", help="its format, see neon_sim.data.sources")
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
    """The preset with what the flags say."""
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
    if args.dataset:
        config.data = DataSoupConfig([DataSourceConfig("dataset", args.dataset_type, args.dataset)])
    for name, value in (("epochs", args.epochs), ("max_steps", args.max_steps), ("batch_size", args.batch_size)):
        if value is not None:
            setattr(config, name, value)
    config.learning_rate = args.lr or config.learning_rate
    config.shard_backbone = args.shard_backbone
    if args.output and is_hub_id(args.output):
        config.hub_model_id, config.hub_private = args.output, not args.public
        config.output_dir = f"runs/{args.output.rpartition('/')[2]}"
    elif args.output:
        config.output_dir = args.output
    return config


def main(argv: list[str] | None = None) -> None:
    """Train and say what came of it."""
    config = config_from(parse(argv))
    try:
        trainer = NeonTrainer(config)
    except (ValueError, OSError, ImportError) as error:
        raise SystemExit(str(error)) from None
    try:
        stats = trainer.train()
    except KeyboardInterrupt:
        raise SystemExit("Stopped; the same line goes on.") from None
    if trainer.team.leads:
        print(f"Best loss: {stats['best_loss']:.4f} after {stats['steps']} steps. Wrote {config.folder / 'best'}")


if __name__ == "__main__":
    main()
