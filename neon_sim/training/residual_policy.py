"""What acts on the legs: the task's own command to the walker, and a network's residual on top of its targets."""

from typing import Any, Final

import numpy as np
import torch

from neon_sim.g1.joints import HOME
from neon_sim.locomotion.residual import OWN_JOINTS, ResidualConfig, ResidualWalker, Window
from neon_sim.training.residual_model import Healthy, ResidualNet, features_of

CHUNK: Final = 16  # control steps that a residual is wanted for
TRIED: Final = 4  # chunks that one thing is tried for: if it were tried all along, what it does would be seen before it


class ResidualPolicy:
    """Tells the walker the task's own command, and adds the network's residual to it.

    The command is what the task's words ask for, as its expert reads them: what is learned here is the body.

    Args:
        net: from features to residual; None adds nothing.
        healthy: how features are normalised.
        practice_rad: std of what is tried beside it, drawn anew every `TRIED` chunks.

    Attributes:
        offset: (15,) rad, what is tried now.
        windows: of the running episode, one before each chunk.
    """

    def __init__(self, net: ResidualNet | None, healthy: Healthy | None, practice_rad: float = 0.0) -> None:
        self.net, self.healthy, self.practice_rad = net, healthy, practice_rad
        self.rng = np.random.default_rng(0)
        self.offset = np.zeros(OWN_JOINTS)
        self.windows: list[Window] = []
        self._env: Any = None

    def join(self, env: Any) -> None:
        """Act in a simulated env from now on: its robot's walker gets a residual, if it has none yet."""
        if not isinstance(env.robot.walker, ResidualWalker):
            limit = ResidualConfig() if self.net is None else ResidualConfig(limit=self.net.limit)
            env.robot.walker = ResidualWalker(env.robot.walker, limit)
        self._env = env

    def begin(self, seed: int) -> None:
        """The next episode is this seed's: what is tried follows from it alone."""
        self.rng = np.random.default_rng([seed, 7])

    def reset(self, env_ids: list[int] | None = None) -> None:
        """Forget the episode before."""
        self.windows = []

    def observe(self, obs: Any, now_s: float) -> None:
        """The walker has sensed all that is needed."""

    @torch.no_grad()
    def act(self) -> np.ndarray:
        """Set the residual of the next chunk; returns (1, 16, A), arms at home and the task's command.

        Raises:
            ValueError: `join` was not called.
        """
        if self._env is None:
            raise ValueError("This policy sits on no robot yet: call join(env) first.")
        walker: ResidualWalker = self._env.robot.walker
        if self.practice_rad > 0.0 and len(self.windows) % TRIED == 0:
            self.offset = self.rng.normal(0.0, self.practice_rad, OWN_JOINTS)
        self.windows.append(walker.take())
        wanted = self.offset
        if self.net is not None and self.healthy is not None:
            features = self.healthy.normalised(features_of(self.windows))
            wanted = wanted + self.net(features[None])[0].double().numpy()
        walker.wanted = wanted
        velocity = self._env.privileged().get("wanted_velocity", np.zeros(3))
        return np.tile(self._env.action_map.encode(HOME, velocity), (1, CHUNK, 1))

    def end(self) -> None:
        """Close the last window of the episode."""
        self.windows.append(self._env.robot.walker.take())
