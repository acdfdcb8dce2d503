"""Which code decides a life of the forgetting benchmark, and how it is judged: shards of other code are not merged.

No comment, docstring or layout counts. What `forgetting_arms.py` says of an arm and of a preset is not in here, as each
arm's settings have it one by one: arms may be added.
"""

import ast
import hashlib
from functools import lru_cache
from pathlib import Path
from typing import Final

from neon_sim.shipped import code_digest

# Of the package: what learns and what protects it, what acts, and the world that both meet.
_PACKAGE: Final = (
    *(f"training/{name}.py" for name in (
        "adoption", "drift", "ewc", "experience", "fisher", "forward_model", "head_decoder", "judging",
        "learner_config", "learner_state", "lived_chunk", "losses", "objective", "online", "practice", "quick_decoder",
        "self_learner",
    )),
    "training/protection/*.py", "training/residual_*.py",
    "model/neon_vla.py", "model/goal.py", "model/encoders.py", "model/action_heads/*.py", "inference/neon_policy.py",
    "env.py", "rollout.py", "safety.py", "vector_env/*.py", "g1/*.py", "sim/*.py",
    "tasks/arms.py", "tasks/palms.py", "tasks/task.py", "tasks/tolerance.py",
)  # fmt: skip
_BENCHMARK: Final = (
    "calibrate", "inside", "judge", "learners", "legs", "life", "randomised", "stages", "world",
)  # fmt: skip


def life_code(task: str) -> dict[str, str]:
    """Digests of the package's and of the benchmark's code that a task is lived and judged by.

    They are those of the time at which this process asked first, as is the code that it runs.
    """
    return {"package": code_digest(*_PACKAGE, f"tasks/{task}.py"), "benchmark": benchmark_code(*_BENCHMARK)}


@lru_cache
def benchmark_code(*names: str) -> str:
    """Digest of some of this benchmark's files, forgetting_NAME.py."""
    folder = Path(__file__).parent
    return said_by([(folder / f"forgetting_{name}.py").read_text(encoding="utf-8") for name in names])


def said_by(sources: list[str]) -> str:
    """First 12 hex digits of the SHA-256 of what Python sources do."""
    digest = hashlib.sha256()
    for source in sources:
        tree = ast.parse(source)
        for node in ast.walk(tree):
            if isinstance(node, ast.Expr) and isinstance(node.value, ast.Constant):
                node.value.value = None  # a docstring
        digest.update(ast.dump(tree).encode())
    return digest.hexdigest()[:12]
