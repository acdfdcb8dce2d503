"""NeonInferenceServer: one robot's policy behind `predict` and `get_action`, in a process or over HTTP.

`predict` takes an observation and makes a chunk of it, slowly; `get_action` hands out the next action of the plan, at
once. They are meant for two threads or two clients: real-time chunking lets the new chunk take over from the old one
while the robot keeps moving.
"""

import json
import threading
import time
from collections import deque
from pathlib import Path
from typing import Any

import numpy as np
import torch

from neon_sim.inference.action_layer import ActionLayer
from neon_sim.inference.chunking import ChunkingConfig, RealTimeChunker, delay_steps
from neon_sim.inference.http_api import HttpConfig, Listener
from neon_sim.inference.observation import KNOWN_SENSES, Observation, check_observation
from neon_sim.inference.policy import ClipBuffer, SoundBuffer
from neon_sim.inference.turns import Busy, OutOfTurn
from neon_sim.model.neon_vla import NeonVLA

CONTROL_HZ = 50.0


class NeonInferenceServer:
    """A checkpoint that answers observations, for one robot.

    Args:
        model_path: folder that `NeonVLA.save_pretrained` wrote, or a hub id. Its backbone is loaded at once.
        device: "auto" is cuda, mps or cpu, the first there is.
        blend_schedule: linear, exp, ema or latest, see `chunking.blend_weights`.
        execution_horizon: steps of 20 ms from one observation that a chunk is wanted for to the next.
        max_waiting: observations that may wait while one is being answered; more are refused.
        hold_steps: how often the last action is repeated once the plan has run out; then there is no action, and the
            robot's watchdog does the rest.
        seed: of the noise that heads which sample start from; every episode begins with it anew.
        engine: how goal reader, fusion and heads are run, of `engines.ENGINES`; "auto" is a CUDA graph where there is
            CUDA.

    Raises as `NeonVLA.from_pretrained`, `ChunkingConfig` and `ActionLayer`, and ValueError for a horizon beyond the
    chunk's end.
    """

    def __init__(
        self,
        model_path: str | Path,
        device: str = "auto",
        blend_schedule: str = "linear",
        execution_horizon: int = 10,
        *,
        max_waiting: int = 2,
        hold_steps: int = 25,
        seed: int = 0,
        engine: str = "auto",
    ) -> None:
        self._chunker = RealTimeChunker(ChunkingConfig(blend_schedule, execution_horizon))
        if min(max_waiting, hold_steps) < 0:
            raise ValueError(f"max_waiting and hold_steps want 0 or more, got {max_waiting} and {hold_steps}.")
        self.model = NeonVLA.from_pretrained(model_path, device=device)
        if execution_horizon > self.model.config.num_action_steps:
            length = self.model.config.num_action_steps
            raise ValueError(f"execution_horizon wants at most the chunk's {length} steps, got {execution_horizon}.")
        self.model.load_backbone()
        self._layer = ActionLayer(self.model, engine)
        self.max_waiting, self.hold_steps, self.seed = max_waiting, hold_steps, seed
        self._clip = ClipBuffer(fps=self.model.config.backbone.fps)
        memory_s = self.model.config.sound_memory_s
        microphones = self.model.config.microphones
        self._sound = SoundBuffer(memory_s, microphones=microphones) if memory_s else None
        self._generator = torch.Generator()
        self._turn = threading.Lock()  # one forward pass at a time; it guards the clip and the generator
        self._lock = threading.Lock()  # the plan and the counts; held for microseconds
        self._in_line = self._answered = self._episode = 0
        self._latencies_s: deque[float] = deque(maxlen=200)
        self.reset()

    def reset(self) -> None:
        """Forget the clip, the sound, the plan and the noise: a new episode. Waits for an answer that is under way."""
        with self._turn, self._lock:
            self._clip.clear()
            if self._sound is not None:
                self._sound.clear()
            self._chunker.reset()
            self._generator.manual_seed(self.seed)
            self._episode += 1
            self._sent = self._held = 0  # actions since the reset; of those, repeated ones since the plan ran out
            self._newest_s = -np.inf  # time of the newest frame
            self._began_s = time.monotonic()

    def predict(
        self,
        image: np.ndarray,
        instruction: str,
        proprioception: np.ndarray | None = None,
        *,
        time_s: float | None = None,
        **senses: np.ndarray,
    ) -> np.ndarray:
        """Answer an observation with a chunk (16, A) in [-1, 1], and let it take over the plan.

        Args:
            image: picture (H, W, 3) uint8, which joins those before it in a clip; or a whole clip (T, H, W, 3) at the
                backbone's frame rate, which replaces them.
            instruction: words.
            proprioception: (125,) as the env's "proprio".
            time_s: when the (newest) picture was taken, from any beginning; None is now.
            **senses: eef (14,), lidar (N*3,) m, audio (S,) at 16 kHz, and the config's extra ones.

        Raises:
            ValueError: an observation that is not one, or a time that runs backwards.
            Busy: too many are waiting.
            OutOfTurn: a reset came between the observation and its turn.
        """
        seen = check_observation(self.model, image, instruction, proprioception, senses)
        now_s = time.monotonic() - self._began_s if time_s is None else float(time_s)
        if not np.isfinite(now_s):
            raise ValueError(f"time_s wants seconds, got {time_s}.")
        with self._lock:
            if self._in_line > self.max_waiting:
                raise Busy(f"{self._in_line} observations are being answered or waiting. Send the newest one later.")
            self._in_line += 1
            sent, episode = self._sent, self._episode
        try:
            with self._turn:
                return self._answer(seen, now_s, sent, episode)
        finally:
            with self._lock:
                self._in_line -= 1

    def _answer(self, seen: Observation, now_s: float, sent: int, episode: int) -> np.ndarray:
        with self._lock:
            if episode != self._episode:
                raise OutOfTurn("A reset came while this observation waited. Take a new one.")
            senses = self._remember(seen, now_s)
            waited = self._sent - sent  # actions that left while this observation waited its turn
            self._chunker.request()
        started_s = time.perf_counter()
        usable = np.empty((1, 0, self.model.action_space.dim))  # nothing, if the network fails: the old plan goes on
        try:
            chunk = self._layer.predict(
                self._clip.clip(self.model.config.backbone.max_frames),
                seen.instruction,
                seen.proprioception,
                generator=self._generator,
                **senses,
            )
            if not np.isfinite(chunk).all():
                raise RuntimeError("The network answered with numbers that are not finite. Nothing of it is sent.")
            usable = chunk[None, waited:]
        finally:
            with self._lock:
                self._chunker.add(usable)
        with self._lock:
            self._latencies_s.append(time.perf_counter() - started_s)
            self._answered += 1
        return chunk

    def _remember(self, seen: Observation, now_s: float) -> dict[str, np.ndarray]:
        """Take in an observation; returns its senses, with as much sound as the model hears at once."""
        if now_s < self._newest_s:
            raise ValueError(f"time_s ran backwards, {self._newest_s:.3f} to {now_s:.3f}. Reset before a new episode.")
        self._newest_s = now_s
        if len(seen.frames) > 1:
            self._clip.clear()
        for age, frame in zip(reversed(range(len(seen.frames))), seen.frames, strict=True):
            self._clip.add(frame, now_s - age / self._clip.fps)
        if self._sound is None or "audio" not in seen.senses:
            return seen.senses
        self._sound.add(seen.senses["audio"], now_s)
        return seen.senses | {"audio": self._sound.sound()}

    def get_action(self) -> np.ndarray:
        """The next action (A,) in [-1, 1] of the plan; ask every 20 ms.

        Raises OutOfTurn before the first chunk, and when the plan ran out more than `hold_steps` actions ago.
        """
        with self._lock:
            if self._chunker.remaining:
                self._held = 0
            elif not self._sent:
                raise OutOfTurn("There is no chunk yet: predict (POST /predict) comes before the first action.")
            elif self._held >= self.hold_steps:
                raise OutOfTurn(f"The plan ran out {self._held} actions ago: stop the robot, and predict anew.")
            else:
                self._held += 1
            self._sent += 1
            return self._chunker.next_action()[0]

    @property
    def remaining(self) -> int:
        """Steps left in the plan."""
        with self._lock:
            return self._chunker.remaining

    @property
    def due(self) -> bool:
        """True when it is time for the next observation."""
        with self._lock:
            return self._chunker.due

    def status(self) -> dict[str, Any]:
        """What a client has to know, and how it goes; everything in it can be written as JSON.

        latency_s is the median of the last 200 answers, delay_steps the actions that leave in that time.
        """
        config, space = self.model.config, self.model.action_space
        with self._lock:
            latency_s = float(np.median(self._latencies_s)) if self._latencies_s else None
            return {
                "ready": self._chunker.remaining > 0 or self._sent > 0,
                "due": self._chunker.due,
                "remaining": self._chunker.remaining,
                "in_line": self._in_line,
                "answered": self._answered,
                "starved_steps": self._chunker.starved_steps,
                "dropped_chunks": self._chunker.dropped_chunks,
                "latency_s": latency_s,
                "delay_steps": None if latency_s is None else delay_steps(latency_s, CONTROL_HZ),
                "device": str(next(self.model.parameters()).device),
                "engine": self._layer.engine,
                "backbone": config.backbone.model_id,
                "image_size": config.backbone.image_size,
                "senses": [name for name in KNOWN_SENSES if name in self.model.senses],
                "control_hz": CONTROL_HZ,
                "chunk_steps": config.num_action_steps,
                "execution_horizon": self._chunker.config.execution_horizon,
                "blend_schedule": self._chunker.config.blend_schedule,
                "action_space": json.loads(space.to_json()),
            }

    def listen(self, config: HttpConfig | None = None) -> Listener:
        """Bind the HTTP port without serving yet: `Listener.serve_forever` does. OSError if the port is taken."""
        return Listener(self, config or HttpConfig())

    def serve(self, host: str = "127.0.0.1", port: int = 8300) -> None:
        """Serve over HTTP until Ctrl-C. Whoever reaches the port moves the robot: there is no password."""
        with self.listen(HttpConfig(host, port)) as listener:
            try:
                listener.serve_forever()
            except KeyboardInterrupt:
                return
