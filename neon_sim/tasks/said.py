"""What people say to the robot: the wordings of every task, by meaning."""

from typing import Final

from neon_sim.tasks import follow_voice, lift_box, look_at, navigate, press, push_box, reach, stand, track, wave
from neon_sim.tasks.wording import Wording

# Instructions. Those of walk are numbers, which a mean of words does not keep in order.
WRITTEN: Final[dict[str, Wording]] = {
    "reach": reach.WORDING,
    "track": track.WORDING,
    "press": press.WORDING,
    "press/either_hand": press.EITHER_HAND,
    "lift_box": lift_box.WORDING,
    "look_at": look_at.WORDING,
    "follow_voice": follow_voice.WORDING,
    "stand": stand.WORDING,
    "navigate": navigate.WORDING,
    "push_box": push_box.WORDING,
} | {f"wave/{name}": gesture.wording for name, gesture in wave.GESTURES.items()}

# Instructions as a voice may give them (`instruct="speech"`), and what is said in the tasks that are about hearing.
SPOKEN: Final[dict[str, Wording]] = WRITTEN | {"told": follow_voice.SPOKEN, "called": look_at.SPOKEN}
