"""The model card of a checkpoint: what it is, how it was trained, what it reaches."""

import json
import re
from collections.abc import Mapping, Sequence
from typing import Any, Final

_HEADER = """---
license: mit
library_name: neon_sim
pipeline_tag: robotics
tags: [robotics, humanoid, unitree-g1, vision-language-action]
---
"""
CARD: Final = "README.md"
_TRAINING: Final = "## Training\n\n"
_RESULTS: Final = "## Results\n\n"
_CONFIG: Final = "## Config\n\n"


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
    parts.append(f"{_TRAINING}{told}")
    parts.append(_results(results, ""))
    parts.append(f"{_CONFIG}{_as_json(config)}")
    return "\n".join(parts)


def put_name(card: str, name: str) -> str:
    """The card under another title, which is also what it tells others to load; all else to the letter.

    Args:
        card: of `model_card`.
        name: a folder, or OWNER/NAME.

    Raises:
        ValueError: a card without title or without the line that loads it.
    """
    title = re.search(r"^# (.+)$", card, re.MULTILINE)
    loads = f'from_pretrained("{title.group(1)}")' if title else ""
    if title is None or loads not in card:
        raise ValueError("This card has no title that it says how to load. Write it anew: NeonVLA.save_pretrained.")
    named = f"{card[: title.start()]}# {name}{card[title.end() :]}"
    return named.replace(loads, f'from_pretrained("{name}")', 1)


def put_told(card: str, other: str) -> str:
    """The card with another's sections Training and Results, what lies between included; unchanged if it has none.

    Args:
        card: of `model_card`, of the same weights as `other`.
        other: a card that says how they were made and what they reach.
    """
    _, begun, rest = other.partition(_TRAINING)
    told, ended, _ = rest.partition(_CONFIG)
    if not begun or not ended:
        return card
    before, _, rest = card.partition(_TRAINING)
    return f"{before}{_TRAINING}{told}{_CONFIG}{rest.partition(_CONFIG)[2]}"


def put_results(card: str, results: Sequence[Mapping[str, Any]], note: str) -> str:
    """The card with other results, all else to the letter.

    Args:
        card: of `model_card`.
        results: rows with the same keys.
        note: what they are and when they were measured, a sentence above the table.

    Raises:
        ValueError: a card that has no sections Results and Config, one after the other.
    """
    before, found, rest = card.partition(_RESULTS)
    _, followed, config = rest.partition(_CONFIG)
    if not found or not followed:
        raise ValueError("This card has no sections Results and Config. Write it anew: NeonVLA.save_pretrained.")
    return f"{before}{_results(results, note)}\n{_CONFIG}{config}"


def _results(rows: Sequence[Mapping[str, Any]], note: str) -> str:
    cells = [tuple(str(value) for value in row.values()) for row in rows]
    told = f"{note}\n\n" if note else ""
    return f"{_RESULTS}{told}{_table(tuple(rows[0]), cells) if rows else 'Not measured.'}\n"


def _table(header: Sequence[str], rows: Sequence[Sequence[str]]) -> str:
    lines = [header, ["---"] * len(header), *rows]
    return "".join(f"| {' | '.join(line)} |\n" for line in lines)


def _as_json(values: Mapping[str, Any]) -> str:
    return f"```json\n{json.dumps(dict(values), indent=2, default=str)}\n```\n"
