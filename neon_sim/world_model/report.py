"""How good a trained world model is, on held-out episodes: probes, rollout error, what words mean; with a picture.

And where it was made: the machine, the code, the time.
"""

import os
import platform
import subprocess
from collections.abc import Sequence
from pathlib import Path
from typing import Any, Final

import numpy as np
import torch
from torch import Tensor

from neon_sim.world_model.bundle import Bundle
from neon_sim.world_model.dataset import Rollouts, encode_rollouts, moments_of, whole_episodes
from neon_sim.world_model.objects import object_scores, over_colours
from neon_sim.world_model.probe import (
    ProbeScore,
    RolloutError,
    fit_linear_probe,
    fit_mlp_probe,
    rollout_error,
    score_probe,
)
from neon_sim.world_model.readout import PLACES, embed_words, place_labels, step_pairs

_JOINT_VEL: Final = slice(29, 58)  # of the proprio vector
_MOVES_M: Final = 0.005  # in 0.1 s, or the box stands
_TILT: Final = slice(119, 121)  # of the same: gravity's ahead and left, pelvis frame, the sines of pitch and roll
POSE_NOTE: Final = (
    "Of the base pose, the tilt of the pelvis is probed. Where in the world the robot stands and looks (x, y, yaw) is "
    "not: one picture and one proprioception do not say it. What 0.1 s change of it is told by two neighbouring "
    "latents, `step` and `turn_deg` of the readout. The pelvis' height is not in the recordings."
)


def held_out_report(
    bundle: Bundle,
    train: Rollouts,
    test: Rollouts,
    horizon: int = 25,
    seed: int = 0,
    max_episodes: int = 300,
    device: str = "cpu",
) -> dict[str, Any]:
    """Plain numbers. Probes are fitted on training episodes and judged on held-out ones, with and without
    proprioception in the latent: `objects` has R² of each object's place by axis, `probes` the mean over colours, and
    palms, joint velocities and the pelvis' tilt. Errors in centimetres are medians.

    Tilt is felt, so "with proprio" should know it; "picture alone" has to see it. Of the base pose it is the part that
    one moment can carry and recordings have: `POSE_NOTE`, which goes along as `base_pose`, says what is left out.

    device: where pictures are encoded; the bundle is on the CPU before and after.
    Raises ValueError if no held-out episode is long enough for the rollout error.
    """
    train, test = (part.part(np.arange(min(max_episodes, len(part)))) for part in (train, test))
    generator = torch.Generator().manual_seed(seed)
    report: dict[str, Any] = {"moments": {"train": train.moments, "test": test.moments}, "probes": {}, "objects": {}}
    report["base_pose"] = POSE_NOTE
    latents = {}
    bundle.model.to(device)
    for name, felt in (("with proprio", True), ("picture alone", False)):
        latents[name] = [encode_rollouts(bundle.model, part, felt) for part in (train, test)]
    bundle.model.to("cpu")
    for name, (z, z_test) in latents.items():
        report["probes"][name] = _probes(train, test, [z, z_test], generator)
        report["objects"][name] = told = object_scores(bundle.task, train, test, z, z_test, generator)
        for kind, scores in told.items():
            report["probes"][name][kind] |= {place: {"r2": r2} for place, r2 in over_colours(scores).items()}
    z = latents["with proprio"][1]
    report["readout_cm"] = readout_error_cm(bundle, test, z)
    report["words_cm"] = words_error_cm(bundle, test, z)
    report["rollout"] = _rollout(bundle, test, z, horizon)
    report["latent_std"] = float(z[:, 0].std(0).mean())  # near 1; near 0 is a collapse
    return report


def _probes(train: Rollouts, test: Rollouts, latents: list[Tensor], generator: torch.Generator) -> dict[str, Any]:
    """R squared, correlation and rmse of linear and MLP probes of what the robot feels: the mean over its parts."""
    (z, labels), (z_test, labels_test) = (
        moments_of(part, found, torch.from_numpy(felt_labels(part)))
        for part, found in zip((train, test), latents, strict=True)
    )
    names = {"palms": slice(0, 6), "joint_vel": slice(6, 35), "tilt": slice(35, 37)}
    scores = {
        "linear": score_probe(fit_linear_probe(z, labels), z_test, labels_test),
        "mlp": score_probe(fit_mlp_probe(z, labels, generator), z_test, labels_test),
    }
    return {kind: {name: _mean(score, at) for name, at in names.items()} for kind, score in scores.items()}


def felt_labels(rollouts: Rollouts) -> np.ndarray:
    """(N, T, 37): palms m, joint velocities rad/s, and the pelvis' tilt as the sines of pitch and roll."""
    proprio = rollouts["proprio"]
    return np.concatenate([rollouts["palms"], proprio[..., _JOINT_VEL], proprio[..., _TILT]], axis=-1)


def _mean(score: ProbeScore, at: slice) -> dict[str, float | None]:
    """Mean over the entries that move; None where none does."""
    named = {"r2": score.r2, "pearson": score.pearson, "rmse": score.rmse}
    return {
        name: float(np.nanmean(value[at])) if np.isfinite(value[at]).any() else None for name, value in named.items()
    }


def readout_error_cm(bundle: Bundle, rollouts: Rollouts, latents: Tensor) -> dict[str, float]:
    """Median error of the readout: each place in cm, a step of 0.1 s in cm and degrees, and the box's in cm where there
    is one, of the steps in which it moves.
    """
    z, places = moments_of(rollouts, latents, torch.from_numpy(place_labels(rollouts)))
    with torch.no_grad():
        off = bundle.readout.place(z) - places
        pairs, steps, pushes = step_pairs(rollouts, latents)
        step_off = bundle.readout.step(pairs) - steps
        push_off = None if bundle.readout.push is None else bundle.readout.push(pairs) - pushes
    found = {
        name: 100.0 * float(off[:, at].unflatten(-1, (-1, 3)).norm(dim=-1).median()) for name, at in PLACES.items()
    }
    found["step"] = 100.0 * float(step_off[:, :2].norm(dim=-1).median())
    found["turn_deg"] = float(torch.rad2deg(step_off[:, 2].abs().median()))
    moves = pushes.norm(dim=-1) > _MOVES_M
    if push_off is not None and moves.any():
        found["push"] = 100.0 * float(push_off[moves].norm(dim=-1).median())
    return found


def words_error_cm(bundle: Bundle, rollouts: Rollouts, latents: Tensor) -> float | None:
    """Median distance of the place that the words are read to mean from the named target, cm; at the first moment."""
    if bundle.reader is None:
        return None
    with torch.no_grad():
        found = bundle.reader(latents[:, 0], embed_words(rollouts["instruction"]))[:, :3]
    return 100.0 * float((found - torch.from_numpy(rollouts["target"][:, 0])).norm(dim=-1).median())


def _rollout(bundle: Bundle, test: Rollouts, latents: Tensor, horizon: int) -> dict[str, Any]:
    """latents (N, T, D) of `test`."""
    whole = whole_episodes(test)
    latents = latents[torch.from_numpy(test["length"] == latents.shape[1])]
    if len(whole) < 2:
        raise ValueError(
            f"The rollout error wants two held-out episodes without a fall, got {len(whole)}. Record more episodes."
        )
    commands = torch.from_numpy(whole["commands"])
    horizon = min(horizon, latents.shape[1] - bundle.model.config.history)
    found: RolloutError = rollout_error(bundle.model, latents, commands, horizon)
    curves = {name: getattr(found, name).tolist() for name in ("model", "no_change", "shuffled")}
    return curves | {"spread": found.spread, "horizon": horizon}


def draw_report(report: dict[str, Any], log: list[dict[str, float]], path: Path) -> None:
    """Panels in a PNG: the losses with the held-out errors, the rollout error against the horizon, what probes read,
    what surprised (if the report has `expectation`, from `expectation_report`), and how plans are ordered (if it has
    `ranks`, from `rank_summary`).
    """
    import matplotlib

    matplotlib.use("Agg")
    from matplotlib import pyplot as plt

    ranks = report.get("ranks")
    count = 4 + bool(ranks and ranks["rho"])
    figure, (losses, errors, probes, surprises, *order) = plt.subplots(1, count, figsize=(4.4 * count, 4), dpi=120)
    _draw_log(log, losses)
    rollout = report["rollout"]
    for name in ("model", "no_change", "shuffled"):
        errors.plot(np.arange(1, rollout["horizon"] + 1) * 0.1, rollout[name], label=name.replace("_", " "))
    errors.axhline(rollout["spread"], color="#999999", linestyle=":", label="another frame at random")
    errors.set(xlabel="s ahead", ylabel="squared latent error per entry", title="imagined against real, held out")
    rows = {(k, p): v for k, kinds in report["probes"].items() for p, v in kinds.items()}
    names = list(next(iter(rows.values())))
    for i, ((kind, probe), values) in enumerate(rows.items()):
        heights = [max(0.0, values[name]["r2"] or 0.0) for name in names]
        probes.bar(np.arange(len(names)) + 0.2 * (i - 1.5), heights, 0.18, label=f"{probe}, {kind}")
    probes.set_xticks(range(len(names)), [name.replace("_", "\n") for name in names], fontsize=7)
    probes.set(ylim=(0, 1), title="R² of probes, held out")
    _draw_expectation(report.get("expectation", {}), surprises)
    if ranks and order:
        _draw_ranks(ranks, order[0])
    for axes in (losses, errors, probes, surprises, *order):
        if axes.get_legend_handles_labels()[0]:
            axes.legend(frameon=False, fontsize=7)
        axes.spines[["top", "right"]].set_visible(False)
    path.parent.mkdir(parents=True, exist_ok=True)
    figure.tight_layout()
    figure.savefig(path)
    plt.close(figure)


def _draw_log(log: list[dict[str, float]], axes: Any) -> None:
    """Training losses, and the errors on held-out episodes, which say whether more updates would help."""
    for name in ("prediction", "sigreg"):
        axes.plot([row["step"] for row in log], [row[name] for row in log], linewidth=0.8, label=name)
    judged = [row for row in log if "held_out_1" in row]
    for name in [name for name in (judged[-1] if judged else ()) if name.startswith(("held_out", "no_change"))]:
        style = ":" if name.startswith("no_change") else "-"
        label = name.replace("held_out_", "held out, steps ahead: ").replace("no_change_", "if nothing moved: ")
        axes.plot([row["step"] for row in judged], [row[name] for row in judged], style, marker=".", label=label)
    axes.set(xlabel="update", yscale="log", title="losses, and held-out errors")


def rank_summary(correlations: Sequence[float | None], plans: int) -> dict[str, Any]:
    """Spearman's rho between imagined and real costs of `plans` random plans, one for each problem that was posed: all
    of them, and their median and quartiles (None without a single one). None: all plans cost the same there, as of a
    box that none of them touches. Those are `undefined`, and no part of `problems`.
    """
    found = [value for value in correlations if value is not None]
    low, middle, high = np.quantile(found, (0.25, 0.5, 0.75)).tolist() if found else (None, None, None)
    return {
        "plans": plans,
        "problems": len(found),
        "undefined": len(correlations) - len(found),
        "rho": found,
        "median": middle,
        "quartiles": [low, high],
    }


def _draw_ranks(ranks: dict[str, Any], axes: Any) -> None:
    """One dot for each problem."""
    axes.set(title="rank correlation of plans,\nimagined against real cost", ylim=(-1, 1))
    axes.plot(sorted(ranks["rho"]), "o", color="#4477aa", markersize=4)
    axes.axhline(ranks["median"], color="#cc6677", label=_rank_label(ranks))
    axes.axhline(0.0, color="#999999", linestyle=":", label="chance")
    axes.set(xlabel="problem, by its correlation")


def _rank_label(ranks: dict[str, Any]) -> str:
    """For the picture's legend: the median of how many problems, and of how many more there is no order."""
    undefined = ranks.get("undefined", 0)  # reports of before have no count of them
    return f"median {ranks['median']:.2f}, n {ranks['problems']}" + (f", {undefined} undefined" if undefined else "")


def machine(device: str) -> dict[str, Any]:
    """Processor, cores that this process may use, GPU (None without), and versions."""
    names = []
    if Path("/proc/cpuinfo").exists():
        lines = Path("/proc/cpuinfo").read_text(encoding="utf-8").splitlines()
        names = [line.partition(":")[2].strip() for line in lines if line.startswith("model name")]
    return {
        "cpu": names[0] if names else platform.processor() or platform.machine(),
        "cores": len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count(),
        "gpu": torch.cuda.get_device_name(device) if device.startswith("cuda") else None,
        "python": platform.python_version(),
        "torch": torch.__version__,
    }


def commit(folder: Path) -> str | None:
    """Short hash of the checkout that holds `folder`, with "-dirty" if files differ from it; None without one."""
    try:
        found = subprocess.run(
            ["git", "-C", str(folder), "describe", "--always", "--dirty", "--abbrev=7", "--exclude", "*"],
            capture_output=True,
            text=True,
            check=False,
        )
    except FileNotFoundError:  # no git here
        return None
    return found.stdout.strip() or None


def _draw_expectation(expectation: dict[str, Any], axes: Any) -> None:
    """A bar for each violation: mean surprise with it over that without, and how sure the difference is."""
    found = {kind: row for kind, row in expectation.items() if row["p_value"] is not None}
    for place, row in enumerate(found.values()):
        ratio = row["violated"] / row["normal"]
        axes.bar(place, ratio, 0.6, color="#4477aa")
        axes.text(place, ratio, f"p {row['p_value']:.2g}\nn {row['pairs']}", ha="center", va="bottom", fontsize=7)
    axes.axhline(1.0, color="#999999", linestyle=":")
    axes.set_xticks(range(len(found)), list(found))
    axes.set(title="surprise over the undisturbed one")
    axes.margins(y=0.2)  # for what stands above the bars
