"""Sending the best policy so far to the hub, while a training goes on and when it ends."""

import shutil
import time
import warnings
from pathlib import Path
from tempfile import TemporaryDirectory

from neon_sim.model.card import CARD, put_name
from neon_sim.model.hub import push_folder
from neon_sim.training.train_config import TrainConfig


class Pusher:
    """Pushes `best` to `config.hub_model_id`; does nothing without one.

    What goes is the folder's files as they lie there: the heads with the adapter that they were best on, whatever the
    training has made of it since.
    """

    def __init__(self, config: TrainConfig) -> None:
        self.config = config
        self._pushed_s = time.monotonic()

    def push(self) -> None:
        """Push now. Raises OSError where the hub cannot be reached or refuses, or the card is none of ours."""
        config = self.config
        if not config.push_to_hub or not config.hub_model_id:
            return
        best, name = config.folder / "best", config.hub_model_id
        try:
            with TemporaryDirectory() as parent:
                folder = Path(shutil.copytree(best, Path(parent) / "best"))
                card = folder / CARD
                card.write_text(put_name(card.read_text(encoding="utf-8"), name), encoding="utf-8")
                push_folder(folder, name, config.hub_private)
        except _refusals() as error:
            raise OSError(f"Not pushed to {name}: {error}. It lies in {best}.") from error

    def now_and_then(self) -> None:
        """Push, but not twice within `config.push_every_s`: a job that is cut off leaves something on the hub.

        What goes wrong is warned about: the network is no reason to stop training.
        """
        if time.monotonic() - self._pushed_s < self.config.push_every_s:
            return
        self._pushed_s = time.monotonic()
        try:
            self.push()
        except OSError as error:
            warnings.warn(f"{error} The training goes on.", stacklevel=2)


def _refusals() -> tuple[type[Exception], ...]:
    """What the hub raises where it cannot be reached: the bases of its own error are those of its HTTP client.

    And ValueError: a card that somebody has rewritten stops no training either.
    """
    from huggingface_hub.errors import HfHubHTTPError

    return (OSError, ValueError, *(base for base in HfHubHTTPError.__bases__ if issubclass(base, Exception)))
