"""Who plays in benchmarks/speculation.py: the two heads alone, the router, and speculation at tolerances found here.

A tolerance at which no draft is ever accepted tests nothing. So both heads are asked the same questions, those that
come up where each of them drives on seeds 100 to 104: how far the draft is from the heavy head's chunk, how far two
chunks of the heavy head are from each other, and how many steps of a draft each tolerance and check would accept.
"""

from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any, Final

import gymnasium
import numpy as np
import torch
from heavy_heads import ENV
from torch import Tensor

from neon_sim.inference.neon_policy import Decision, NeonPolicy
from neon_sim.inference.real_time import RealTimeConfig
from neon_sim.inference.router import RouterConfig
from neon_sim.inference.two_heads import RoutedPolicy, SpeculativePolicy
from neon_sim.model.neon_vla import NeonVLA
from neon_sim.model.speculative import SpeculativeConfig, accepted_prefix
from neon_sim.rollout import rollout

REAL_TIME: Final = RealTimeConfig()
ROUTER: Final = RouterConfig()
SEEDS: Final = tuple(range(100, 105))
TOLERANCES: Final = (0.025, 0.05, 0.1, 0.2, 0.4)  # action units
CHECK_TIMES: Final = (0.25, 0.5, 0.75)  # a head of four steps knows these
WANTED: Final = (0.5, 0.9)  # shares of the questions at which the heavy heads are to be spared


@dataclass(frozen=True)
class Setup:
    """One policy. kind: heavy, draft, routed or speculative, and only that one has a tolerance and a check time."""

    kind: str
    speculative: SpeculativeConfig | None = None
    check_time: float | None = None

    def build(self, heavy: NeonVLA, draft: NeonVLA) -> NeonPolicy:
        """The policy, chunks taking over from each other."""
        if self.kind == "speculative":
            return SpeculativePolicy(heavy, draft, self.speculative, self.check_time, real_time=REAL_TIME)
        if self.kind == "routed":
            return RoutedPolicy(heavy, draft, ROUTER, real_time=REAL_TIME)
        return NeonPolicy(heavy if self.kind == "heavy" else draft, real_time=REAL_TIME)


def setups_of(calibration: Mapping[str, Any]) -> dict[str, Setup]:
    """Every policy by its name, given what `calibrate` found."""
    found = {"heavy": Setup("heavy"), "draft": Setup("draft"), "routed": Setup("routed")}
    for tolerance in calibration["tolerances"]:
        config = SpeculativeConfig(tolerance=tolerance)
        found[f"speculative, {tolerance:g}"] = Setup("speculative", config, calibration["check_time"])
    return found


def calibrate(heads: Path, seeds: Sequence[int] = SEEDS, env_options: Mapping[str, Any] = ENV) -> dict[str, Any]:
    """Ask both heads the questions of some episodes; everything as JSON can hold it.

    Returns:
        questions; gap and spread (p50 and p90 over them, action units: the largest difference in the steps that are
        carried out, of draft and heavy chunk, of two heavy chunks); checks, one per check time, with its error (mean
        absolute difference of the opinion and the heavy chunk) and per tolerance the accepted prefixes' histogram and
        the share that spares the heavy heads; and what follows: check_time, the one of the least error, and tolerances.
    """
    torch.set_num_threads(1)
    heavy, draft = (NeonVLA.from_pretrained(heads / name) for name in ("dit", "draft"))
    asked = questions(heavy, draft, seeds, env_options)
    first = SpeculativeConfig.min_accepted
    policy = SpeculativePolicy(heavy, draft)
    with torch.no_grad():
        drafts = torch.cat([policy.decode_light(one.features, one.senses, one.goal) for one in asked])
        chunks, others = (
            torch.cat([policy.decode_heavy(one.features, one.senses, one.goal) for one in asked]) for _ in range(2)
        )
        checks: list[dict[str, Any]] = []
        for policy.check_time in CHECK_TIMES:
            pairs = zip(asked, drafts, strict=True)
            opinions = torch.cat(
                [policy.opinion(one.features, one.senses, one.goal, drafted[None]) for one, drafted in pairs]
            )
            error = float((opinions - chunks)[:, :first].abs().mean())
            found = {f"{tolerance:g}": acceptance(drafts, opinions, tolerance) for tolerance in TOLERANCES}
            checks.append({"check_time": policy.check_time, "error": error, "tolerances": found})
    best = min(checks, key=lambda check: check["error"])
    return {
        "questions": len(asked),
        "gap": quantiles((drafts - chunks)[:, :first]),
        "spread": quantiles((others - chunks)[:, :first]),
        "checks": checks,
        "check_time": best["check_time"],
        "tolerances": choose({float(key): row["spared"] for key, row in best["tolerances"].items()}),
    }


def choose(spared: Mapping[float, float]) -> list[float]:
    """The tolerances to play, out of the share of questions at which each spares the heavy heads.

    The default, and the smallest that spare as many as `WANTED` says, the largest of all where none does.
    """
    wanted = [min((tol for tol, share in spared.items() if share >= want), default=max(spared)) for want in WANTED]
    return sorted({SpeculativeConfig.tolerance, *wanted})


def acceptance(drafts: Tensor, opinions: Tensor, tolerance: float) -> dict[str, Any]:
    """How often n steps of the drafts (N, T, A) are accepted, and the share of drafts that spare the heavy heads."""
    accepted = accepted_prefix(drafts, opinions, tolerance)
    counts = torch.bincount(accepted, minlength=drafts.shape[1] + 1)
    spared = (accepted >= SpeculativeConfig.min_accepted).float().mean()
    return {"histogram": counts.tolist(), "spared": float(spared)}


def quantiles(differences: Tensor) -> dict[str, float]:
    """p50 and p90 over the rows of the largest absolute entry of (N, T, A)."""
    worst = differences.abs().amax((1, 2)).numpy()
    return {"p50": float(np.quantile(worst, 0.5)), "p90": float(np.quantile(worst, 0.9))}


def questions(heavy: NeonVLA, draft: NeonVLA, seeds: Sequence[int], env_options: Mapping[str, Any]) -> list[Decision]:
    """What the policies of both heads saw whenever they were asked, each on every seed."""
    env: Any = gymnasium.make("NeonG1-v0", disable_env_checker=True, **env_options).unwrapped
    asked: list[Decision] = []
    for model in (heavy, draft):
        policy = _Remembering(model, real_time=REAL_TIME)
        for seed in seeds:
            rollout(env, policy, seed=seed, keep=(), stop_on_success=True)
        asked += policy.decisions
    env.close()
    return asked


class _Remembering(NeonPolicy):
    """Keeps all its decisions."""

    def __init__(self, model: NeonVLA, **policy: Any) -> None:
        super().__init__(model, **policy)
        self.decisions: list[Decision] = []

    def act(self) -> np.ndarray:
        answer = super().act()
        assert self.decision is not None
        self.decisions.append(self.decision)
        return answer


def calibration_rows(calibration: Mapping[str, Any]) -> list[list[str]]:
    """A table of the checks: which tolerance accepts how much at which check time."""
    return [
        [
            f"{check['check_time']:g}",
            f"{check['error']:.3f}",
            tolerance,
            f"{100 * found['spared']:.0f} %",
            " ".join(map(str, found["histogram"])),
        ]
        for check in calibration["checks"]
        for tolerance, found in check["tolerances"].items()
    ]


def calibration_text(calibration: Mapping[str, Any]) -> str:
    """How far apart the heads are, and what is played for it."""
    gap, spread = (f"{one['p50']:.3f} (p90 {one['p90']:.3f})" for one in (calibration["gap"], calibration["spread"]))
    played = ", ".join(f"{tolerance:g}" for tolerance in calibration["tolerances"])
    return (
        f"{calibration['questions']} questions; the largest difference in the steps that are carried out is {gap} "
        f"action units between draft and heavy chunk, {spread} between two heavy chunks. Played: check time "
        f"{calibration['check_time']:g}, tolerances {played}."
    )


CALIBRATION_HEADER: Final = ("check time", "error", "tolerance", "spared", "drafts with 0, 1, 2, ... accepted steps")


def settings_of(setups: Mapping[str, Setup]) -> dict[str, Any]:
    """All that the policies' answers depend on, beside the heads' weights."""
    named = {name: asdict(setup) for name, setup in setups.items()}
    return {"setups": named, "router": asdict(ROUTER), "real_time": asdict(REAL_TIME), "env": ENV}
