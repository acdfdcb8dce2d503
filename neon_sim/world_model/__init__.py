"""A latent world model (LeWM), planners that search in it, and what tells how far to trust it. Torch, no simulator."""

from neon_sim.world_model.config import SIZES, LeWMConfig, lewm_config
from neon_sim.world_model.lewm import LeWM, distance_to, latent_cost, load_world_model, save_world_model
from neon_sim.world_model.plan import Box, Plan, shifted
from neon_sim.world_model.planner import CEM, MPPI, GradientPlanner, Planner, icem

__all__ = [
    "CEM",
    "MPPI",
    "SIZES",
    "Box",
    "GradientPlanner",
    "LeWM",
    "LeWMConfig",
    "Plan",
    "Planner",
    "distance_to",
    "icem",
    "latent_cost",
    "lewm_config",
    "load_world_model",
    "save_world_model",
    "shifted",
]
