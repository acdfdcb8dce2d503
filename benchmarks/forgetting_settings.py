"""What a shard was made with: a folder is gone on with only by who would make the same again.

Each arm answers for itself, so another arm's settings may change, and arms and seeds may be added.
"""

import hashlib
import json
from collections.abc import Sequence
from dataclasses import asdict
from pathlib import Path
from typing import Any, Final

from forgetting_arms import learner_config
from forgetting_code import benchmark_code, life_code
from forgetting_job import ShardJob
from forgetting_shards import read_shard
from forgetting_world import world_of

from neon_sim.shipped import walker_fingerprint
from neon_sim.training.atomic_file import replace_bytes

_ITS_OWN: Final = ("plan", "learner", "labels", "rival")  # of each arm; the rest is the same for all


def judging_of(job: ShardJob) -> dict[str, Any]:
    """All that decides how weights fare when they are judged, but for the weights."""
    regimes = [(regime.name, regime.fault, regime.faults) for regime in job.regimes]
    found = {"task": job.task, "seed": job.seed, "judged": job.preset.judged, "regimes": regimes}
    found |= {"policy": _digest_of(Path(job.policy)), "walker": walker_fingerprint()}
    found |= {"code": life_code(job.task), "world": world_of(job.task)}
    return found | ({"rival": asdict(job.preset.rival)} if job.kind.remembers else {})


def settings_of(job: ShardJob) -> dict[str, Any]:
    """What must be the same for a shard to be gone on with or merged, whatever its seed."""
    found = judging_of(job) | {"plan": job.kind.plan, "learner": repr(learner_config(job.preset, job.kind, 0))}
    del found["seed"]
    length = {name: getattr(job.preset, name) for name in ("first_visit", "again", "steps")}
    labels = {"code": benchmark_code("reward")} if job.kind.labels else {}
    return found | {"life": length, "labels": labels}


def prepare(jobs: Sequence[ShardJob]) -> None:
    """Make the folder of some jobs, or go on in it.

    Raises:
        SystemExit: an arm of theirs was begun there with other settings, or another arm with what all must share;
            nothing is written.
        ValueError: a finished shard of theirs does not belong to the settings.
    """
    folder = jobs[0].settings_path.parent
    wanted = {job.arm: json.loads(json.dumps(settings_of(job), default=str)) for job in jobs}
    shared = {name: value for name, value in wanted[jobs[0].arm].items() if name not in _ITS_OWN}
    for path in sorted(folder.glob("*.json")):
        begun, mine = json.loads(path.read_text()), wanted.get(path.stem, shared)
        odd = [name for name in mine if begun.get(name) != mine[name]]
        if odd:
            heads = ", rival_*.pt" if path.stem == "randomised" else ""
            raise SystemExit(
                f"{jobs[0].out} was begun with other settings for the arm '{path.stem}': {', '.join(odd)}. Choose"
                f" another --out, or delete {path}{heads} and what shards and states hold of this arm, to live it anew."
            )
    for arm, settings in wanted.items():
        replace_bytes(folder / f"{arm}.json", (json.dumps(settings, indent=1) + "\n").encode())
    for job in jobs:
        if job.path.exists():
            read_shard(job)  # before hours are spent beside what cannot be merged


def _digest_of(folder: Path) -> str:
    digest = hashlib.blake2b(digest_size=16)
    for path in sorted(folder.iterdir()):
        digest.update(path.read_bytes() if path.is_file() and path.suffix != ".md" else b"")
    return digest.hexdigest()
