"""The 24 presets: backbone, control mode and heads that go together (the documents name eight; D11).

Each is a function without arguments that returns a `TrainConfig` of its own, to be changed at will. Sizes, rates and
batches are the documents' for standard and large heads. Presets for foundation models mix the documents' data sets,
which have to be downloaded; `compact_*` ones learn from what `agents/collect.py` recorded, on two CPU cores.
"""

from collections.abc import Callable, Sequence
from dataclasses import replace
from typing import Any, Final

from neon_sim.data.data_soup import DataSoupConfig
from neon_sim.data.source import DataSourceConfig
from neon_sim.model.audio import AudioConfig
from neon_sim.model.neon_vla import NeonConfig
from neon_sim.model.video_backbone import TRIBE, BackboneConfig
from neon_sim.training.multitask import STANDING, standing_soup
from neon_sim.training.train_config import TrainConfig

__all__ = ["MULTITASK", "PRESETS", "TrainConfig", "default_arms_only_config", "large_arms_config"]

OMNI_7B, OMNI_3B = "Qwen/Qwen2.5-Omni-7B", "Qwen/Qwen2.5-Omni-3B"
VL_7B, VL_3B = "Qwen/Qwen2.5-VL-7B-Instruct", "Qwen/Qwen2.5-VL-3B-Instruct"
COSMOS_8B, COSMOS_2B = "nvidia/Cosmos-Reason2-8B", "nvidia/Cosmos-Reason2-2B"
RECORDED: Final = "runs/data"  # agents/collect.py --task TASK --out runs/data/TASK
TELEOPERATION: Final = "runs/data/g1_teleop"
STATE_DIM: Final = 64  # numbers of the `state` sensor
WORD_PLACES: Final = 64  # of the choice that words are: enough for each meaning, with each hand, to have a few

_STANDARD: Final[dict[str, Any]] = {"mlp_hidden": 512}
_LARGE: Final[dict[str, Any]] = {"mlp_hidden": 2048, "action_head_layers": 8, "proprioception_hidden": 512}
_LARGE_TRAINING: Final[dict[str, Any]] = {"learning_rate": 1e-4, "batch_size": 2, "gradient_accumulation": 16}


def default_arms_only_config() -> TrainConfig:
    """Standard heads for the arms on Qwen2.5-Omni-7B."""
    return _on("default_arms_only", OMNI_7B, "arms_only")


def default_upper_body_config() -> TrainConfig:
    """Standard heads for arms and waist on Qwen2.5-Omni-7B."""
    return _on("default_upper_body", OMNI_7B, "upper_body")


def default_wholebody_config() -> TrainConfig:
    """Standard heads for every joint on Qwen2.5-Omni-7B, a chunk for every group (D15)."""
    return _on("default_wholebody", OMNI_7B, "whole_body")


def large_arms_config() -> TrainConfig:
    """Large heads for the arms on Qwen2.5-Omni-7B."""
    return _large("large_arms", OMNI_7B, "arms_only")


def large_upper_body_config() -> TrainConfig:
    """Large heads for arms and waist on Qwen2.5-Omni-7B."""
    return _large("large_upper_body", OMNI_7B, "upper_body")


def large_wholebody_config() -> TrainConfig:
    """Large heads for every joint on Qwen2.5-Omni-7B."""
    return _large("large_wholebody", OMNI_7B, "whole_body")


def g1_omnimodal_config() -> TrainConfig:
    """Every joint and every sense on Qwen2.5-Omni-7B, from G1 teleoperation beside the documents' mixture.

    data: the teleoperation stream (data source type "teleop") in `TELEOPERATION`; no public set of it is named.
    """
    config = _on("g1_omnimodal", OMNI_7B, "whole_body", use_lidar=True, use_audio=True)
    stream = DataSourceConfig("g1-teleop", "teleop", TELEOPERATION)
    config.data = DataSoupConfig([stream, *documents_soup().sources])
    return config


def flow_arms_config() -> TrainConfig:
    """A flow-matching head that attends to Qwen2.5-Omni-7B's tokens."""
    return _on("flow_arms", OMNI_7B, "arms_only", head={"head_type": "flow"}, cross_attention=True)


def dit_arms_config() -> TrainConfig:
    """A diffusion-transformer head that attends to Qwen2.5-Omni-7B's tokens."""
    return _on("dit_arms", OMNI_7B, "arms_only", head={"head_type": "dit"}, cross_attention=True)


def ensemble_arms_config() -> TrainConfig:
    """MLP, flow and diffusion transformer under a gate on Qwen2.5-Omni-7B."""
    return _on("ensemble_arms", OMNI_7B, "arms_only", head={"head_type": "ensemble"}, cross_attention=True)


def cosmos_physics_config() -> TrainConfig:
    """Standard heads for the arms on Cosmos-Reason2-8B."""
    return _on("cosmos_physics", COSMOS_8B, "arms_only")


def cosmos_wholebody_config() -> TrainConfig:
    """Standard heads for every joint on Cosmos-Reason2-8B."""
    return _on("cosmos_wholebody", COSMOS_8B, "whole_body")


def cosmos_edge_config() -> TrainConfig:
    """Narrow heads on Cosmos-Reason2-2B."""
    return _on("cosmos_edge", COSMOS_2B, "arms_only", mlp_hidden=256)


def large_cosmos_config() -> TrainConfig:
    """Large heads for the arms on Cosmos-Reason2-8B."""
    return _large("large_cosmos", COSMOS_8B, "arms_only")


def edge_3b_config() -> TrainConfig:
    """Narrow heads on Qwen2.5-Omni-3B, for the robot's own computer."""
    return _on("edge_3b", OMNI_3B, "arms_only", mlp_hidden=256)


def edge_vl_3b_config() -> TrainConfig:
    """Narrow heads on Qwen2.5-VL-3B, without ears."""
    return _on("edge_vl_3b", VL_3B, "arms_only", mlp_hidden=256, use_audio=False)


def vl_arms_config() -> TrainConfig:
    """Standard heads for the arms on Qwen2.5-VL-7B, without ears."""
    return _on("vl_arms", VL_7B, "arms_only", use_audio=False)


def vl_wholebody_config() -> TrainConfig:
    """Standard heads for every joint on Qwen2.5-VL-7B, without ears."""
    return _on("vl_wholebody", VL_7B, "whole_body", use_audio=False)


def tribe_arms_config() -> TrainConfig:
    """Standard heads for the arms on the three encoders of TRIBEv2."""
    return _on("tribe_arms", TRIBE, "arms_only")


def tribe_omnimodal_config() -> TrainConfig:
    """Every joint and every sense on the three encoders of TRIBEv2."""
    return _on("tribe_omnimodal", TRIBE, "whole_body", use_lidar=True, use_audio=True)


def compact_reach_config() -> TrainConfig:
    """The arms on the compact backbone, from recorded reaches.

    data: from agents/collect.py --task reach --as-judged --policy noisy_expert --sensors proprio camera --episodes 3000
    --out runs/data/reach. Success in closed loop: 200 of 200 balls after 12.3 minutes of training and 5.4 of collecting
    on two cores (RESULTS.md).
    """
    return _compact("compact_reach", "reach")


def compact_tasks_config() -> TrainConfig:
    """One policy for several tasks that need no walking; the words choose."""
    config = _compact("compact_tasks", "reach", "track", "press", "wave", "stand", mlp_hidden=512)
    config.epochs = 20
    return config


def compact_flow_config() -> TrainConfig:
    """A flow-matching head on the compact backbone, from recorded reaches."""
    return _compact("compact_flow", "reach", head={"head_type": "flow"})


def compact_wholebody_config() -> TrainConfig:
    """Every joint on the compact backbone, from recorded whole-body episodes, in which the expert balances.

    data: from agents/collect.py --task stand --control-mode whole_body --sensors proprio camera --episodes 500
    --out runs/data/stand_whole_body. Success in closed loop: not measured; the policy has to balance by itself.
    """
    return _compact("compact_wholebody", "stand_whole_body", control_mode="whole_body", head={"chunk_all_groups": True})


PRESETS: Final[dict[str, Callable[[], TrainConfig]]] = {
    build.__name__.removesuffix("_config"): build
    for build in (
        default_arms_only_config, default_upper_body_config, default_wholebody_config, large_arms_config,
        large_upper_body_config, large_wholebody_config, g1_omnimodal_config, flow_arms_config, dit_arms_config,
        ensemble_arms_config, cosmos_physics_config, cosmos_wholebody_config, cosmos_edge_config, large_cosmos_config,
        edge_3b_config, edge_vl_3b_config, vl_arms_config, vl_wholebody_config, tribe_arms_config,
        tribe_omnimodal_config, compact_reach_config, compact_tasks_config, compact_flow_config,
        compact_wholebody_config,
    )
}  # fmt: skip


def multitask_state_config(tasks: Sequence[str] = STANDING, data: str = "runs/multitask/state") -> TrainConfig:
    """One policy for the tasks that need no walking, from words and the privileged `state`: what seeing costs, it has.

    data: from agents/collect.py --task standing --as-judged --policy noisy_expert --stand-share 0.125
    --sensors state proprio.

    There is no picture, so no goal is read out of one. The state says where everything is in every scene, and in every
    scene some episodes are of a robot that was told to stand: only the words, which no sample loses, tell which. Chunks
    are differences to the last sent target, because the experts' are: to hold still is then zero, however much an arm
    sags, and what is learned of it cannot add up to a drift. What is to be done, the words say as a choice among places
    where the wordings of the training lie, and all else the state.
    """
    model = NeonConfig(
        mlp_hidden=256,
        dropout=0.0,
        vision_dropout=0.0,
        sense_dropout=0.0,
        tracking_noise=0.0,
        goal_width=0,
        use_lidar=False,
        use_audio=False,
        extra_senses={"state": STATE_DIM},
        relative_to_target=True,
        heads_read=True,
        word_choices=WORD_PLACES,
        use_vision=False,
        head={"state_relative": True, "use_separate_heads": False},
    )
    return _multitask(model, tasks, data, "state", goal_weight=0.0, reworded=0.5)


def multitask_config(tasks: Sequence[str] = STANDING, data: str = "runs/multitask/camera") -> TrainConfig:
    """One policy for the tasks that need no walking, from camera and words, and from what it hears.

    data: from agents/collect.py --task standing --as-judged --policy noisy_expert --stand-share 0.125
    --sensors proprio camera audio --microphones 2.

    The heads are those of `multitask_state`. It remembers 3 s of sound: the longest sentence takes 2.3 s, and begins
    within half a second. Of so much, a spectrum every 20 ms has to do. A frozen ear knows the words that are said, as
    500 scenes teach none: each of them is learned by heart.
    """
    model = NeonConfig(
        mlp_hidden=256,
        dropout=0.0,
        sense_dropout=0.0,
        tracking_noise=0.0,
        use_lidar=False,
        audio=AudioConfig(output_dim=64, hop=320),
        sound_memory_s=3.0,
        microphones=2,
        relative_to_target=True,
        goal_hears=True,
        ear="compact_ear",
        heads_read=True,
        word_choices=WORD_PLACES,
        head={"state_relative": True, "use_separate_heads": False},
    )
    return _multitask(model, tasks, data, "camera", reworded=0.5)


MULTITASK: Final[dict[str, Callable[..., TrainConfig]]] = {  # beside the 24
    "multitask_state": multitask_state_config,
    "multitask": multitask_config,
}


def documents_soup() -> DataSoupConfig:
    """The mixture of the documents' custom soup: paths are hub ids, to be downloaded to folders of those names."""
    return DataSoupConfig(
        [
            DataSourceConfig("agibot", "lerobot", "lerobot/xvla-agibot-world", weight=2.0),
            DataSourceConfig("bridge", "lerobot", "lerobot/bridge_v2"),
            DataSourceConfig("cosmos-synth", "cosmos_dreamgen", "nvidia/GR1-100", 1.5, use_relative_actions=True),
            DataSourceConfig("voice-cmds", "voice_commands", "cagataydev/vlm-voice-commands", weight=0.3),
        ]
    )


def _on(preset: str, backbone: str, control_mode: str, **changes: Any) -> TrainConfig:
    """Standard heads on a foundation model, in a folder of the preset's own."""
    settings = {**_STANDARD, "dropout": 0.1, "use_lidar": False, **changes}
    if control_mode == "whole_body":
        settings["head"] = {"chunk_all_groups": True, **settings.get("head", {})}
    model = NeonConfig(backbone=BackboneConfig(model_id=backbone), control_mode=control_mode, **settings)
    return TrainConfig(model, documents_soup(), output_dir=f"runs/{preset}", feature_cache="runs/features")


def _large(preset: str, backbone: str, control_mode: str) -> TrainConfig:
    """Large heads on a foundation model."""
    return replace(_on(preset, backbone, control_mode, **_LARGE), **_LARGE_TRAINING)


def _multitask(model: NeonConfig, tasks: Sequence[str], data: str, kind: str, **changes: Any) -> TrainConfig:
    """Heads on the shipped backbone that knows words, from recordings of the tasks that need no walking."""
    model = replace(model, backbone=BackboneConfig(weights="compact_words"))
    who = "all" if tuple(tasks) == STANDING else "_".join(tasks)
    settings = {"epochs": 30, "batch_size": 128, "gradient_accumulation": 1, "learning_rate": 1e-3, **changes}
    return TrainConfig(
        model,
        standing_soup(data, tasks),
        output_dir=f"runs/multitask/{kind}_{who}",
        optim="adamw",
        bf16=False,
        ema_decay=0.998,
        feature_cache="runs/features",
        **settings,
    )


def _compact(preset: str, *tasks: str, **changes: Any) -> TrainConfig:
    """Heads on the shipped backbone, from recordings of some tasks."""
    sources = [DataSourceConfig(task, "neon_sim", f"{RECORDED}/{task}/dataset") for task in tasks]
    return TrainConfig(
        NeonConfig(**changes),
        DataSoupConfig(sources),
        output_dir=f"runs/{preset}",
        epochs=16,
        batch_size=64,
        gradient_accumulation=1,
        learning_rate=1e-3,
        optim="adamw",
        feature_cache="runs/features",
    )
