"""From a config to the backbone that it names: the family is read from the weights, not guessed from a name."""

import json
from pathlib import Path
from typing import Any

from neon_sim.model.backbones.chat_backbone import ChatBackbone
from neon_sim.model.backbones.cosmos import Cosmos
from neon_sim.model.backbones.loading import read_config, source_of, unreadable
from neon_sim.model.backbones.qwen_omni import QwenOmni
from neon_sim.model.backbones.qwen_vl import QwenVL
from neon_sim.model.backbones.tribe import MODEL_TYPE, load_tribe
from neon_sim.model.video_backbone import DOCUMENTED, TRIBE, BackboneConfig, VideoBackbone
from neon_sim.names import nearest

# `model_type` of a config.json -> the family. A thinker that was saved by itself is an Omni as well.
CHAT_FAMILIES: dict[str, type[ChatBackbone]] = {
    "qwen2_5_omni": QwenOmni,
    "qwen2_5_omni_thinker": QwenOmni,
    "qwen2_5_vl": QwenVL,
    "qwen3_vl": Cosmos,
}


def build(config: BackboneConfig) -> VideoBackbone:
    """Build the backbone of a foundation model; its weights are read now only if `lazy_load` is off.

    Raises:
        ImportError, ConnectionError, ValueError: as `VideoBackbone.from_config`.
    """
    backbone = load_tribe(config) if _is_tribe(config) else _build_chat(config)
    return backbone if config.lazy_load else backbone.load()


def _is_tribe(config: BackboneConfig) -> bool:
    if config.model_id == TRIBE and config.weights is None:
        return True
    file = Path(source_of(config)) / "config.json"
    if not file.is_file():
        return False
    try:
        return json.loads(file.read_text()).get("model_type") == MODEL_TYPE
    except (json.JSONDecodeError, UnicodeDecodeError, AttributeError) as error:
        raise unreadable(str(file.parent), error) from error


def _build_chat(config: BackboneConfig) -> ChatBackbone:
    source = source_of(config)
    model_config: Any = read_config(source, config.revision)
    found = model_config.model_type
    if found not in CHAT_FAMILIES:
        raise nearest(f"backbone family (model_type of {source})", found, [*CHAT_FAMILIES, MODEL_TYPE])
    family = CHAT_FAMILIES[found]
    wanted = DOCUMENTED.get(config.model_id)
    if wanted is not None and CHAT_FAMILIES.get(wanted) is not family:
        raise ValueError(
            f"{config.model_id} is a {wanted}, but {source} holds a {found}. Give the folder of the model that "
            "model_id names, or the folder itself as model_id."
        )
    if found == "qwen2_5_omni":
        model_config = model_config.thinker_config
    return family(config, model_config)
