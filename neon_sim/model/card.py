"""The model card of a checkpoint: what it is, how it was trained, what it reaches."""

import json
from collections.abc import Mapping, Sequence
from typing import Any

_HEADER = """---
license: mit
library_name: neon_sim
pipeline_tag: robotics
tags: [robotics, humanoid, unitree-g1, vision-language-action]
---
"""


def model_card(
    name: str,
    config: Mapping[str, Any],
    parameters: Mapping[str, int],
    training: Mapping[str, Any] | None = None,
    results: Sequence[Mapping[str, Any]] = (),
) -> str:
    """Markdown with the hub's front matter.

    Args:
        name: title.
        config: of the model, as in config.json.
        parameters: `NeonVLA.parameter_table()`.
        training: command, data, seed, hours and whatever else made the weights.
        results: NeonBench rows, one mapping each with the same keys.
    """
    parts = [
        _HEADER,
        f"# {name}\n\nAn action layer for the Unitree G1 on the frozen backbone `{config['backbone']['model_id']}`, "
        f"control mode `{config['control_mode']}`. The backbone is not in this repository.\n",
        "## Use\n\n```python\nfrom neon_sim.model.neon_vla import NeonVLA\n\n"
        f'model = NeonVLA.from_pretrained("{name}")\n```\n',
        f"## Parameters\n\n{_table(('component', 'parameters'), [(k, f'{v:,}') for k, v in parameters.items()])}",
    ]
    told = "Not recorded.\n" if training is None else _as_json(training)
    parts.append(f"## Training\n\n{told}")
    rows = [tuple(str(value) for value in row.values()) for row in results]
    parts.append(f"## Results\n\n{_table(tuple(results[0]), rows) if results else 'Not measured.'}\n")
    parts.append(f"## Config\n\n{_as_json(config)}")
    return "\n".join(parts)


def _table(header: Sequence[str], rows: Sequence[Sequence[str]]) -> str:
    lines = [header, ["---"] * len(header), *rows]
    return "".join(f"| {' | '.join(line)} |\n" for line in lines)


def _as_json(values: Mapping[str, Any]) -> str:
    return f"```json\n{json.dumps(dict(values), indent=2, default=str)}\n```\n"
