"""A simulated G1 behind the robot's own topics and services, in this process or in one of its own."""

from neon_sim.real.bridge.bridge import Bridge, Event
from neon_sim.real.bridge.config import BridgeConfig
from neon_sim.real.bridge.faults import WireFaults
from neon_sim.real.bridge.gamepad import Gamepad

__all__ = ["Bridge", "BridgeConfig", "Event", "Gamepad", "WireFaults"]
