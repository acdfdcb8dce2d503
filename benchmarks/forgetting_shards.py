"""Finished shards of the forgetting benchmark: what was lived with other settings than the folder's is not read."""

import hashlib
import json
from collections.abc import Mapping
from typing import Any

from forgetting_job import ShardJob


def settings_digest(settings: Mapping[str, Any]) -> str:
    """What a shard carries of its arm's settings, `forgetting_settings.settings_of`."""
    text = json.dumps(settings, sort_keys=True, default=str)
    return hashlib.blake2b(text.encode(), digest_size=8).hexdigest()


def read_shard(job: ShardJob) -> dict[str, Any]:
    """A shard that was lived with the settings that the folder has of its arm.

    Raises:
        FileNotFoundError: the shard is missing.
        ValueError: it was lived with other settings, or nobody knows with which.
    """
    shard: dict[str, Any] = json.loads(job.path.read_text())
    found, anew = shard.get("settings"), "Move it away, and the same command lives it anew."
    if found is None:
        raise ValueError(f"{job.path} is from before shards said which settings and code they were lived with. {anew}")
    if not job.settings_path.exists():
        raise ValueError(f"{job.path} belongs to settings that are not there: {job.settings_path} is missing. {anew}")
    if found != settings_digest(json.loads(job.settings_path.read_text())):
        raise ValueError(f"{job.path} was lived with other settings or code than {job.settings_path} says. {anew}")
    return shard
