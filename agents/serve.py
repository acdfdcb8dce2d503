"""Serve a checkpoint to one robot over HTTP: POST /predict, /action, /reset, GET /health (see inference/http_api.py).

    python agents/serve.py                                        # the shipped demo heads on http://127.0.0.1:8300
    python agents/serve.py --model OWNER/NAME --device cuda --blend ema --horizon 8
    python agents/serve.py --trial 50                             # asks itself 50 times, prints the latency, ends

It listens on this machine alone unless --host says otherwise: whoever reaches the port moves the robot.
Ends with Ctrl-C, and then writes OUT/serve.json, what it did, if there is an --out.
"""

import argparse
import base64
import json
import threading
import time
from contextlib import closing
from http.client import HTTPConnection
from pathlib import Path
from typing import Any

import numpy as np

from neon_sim.inference.chunking import BLEND_SCHEDULES
from neon_sim.inference.engines import ENGINES
from neon_sim.inference.http_api import HttpConfig, Listener
from neon_sim.inference.server import NeonInferenceServer
from neon_sim.shipped import asset_path


def post(connection: HTTPConnection, path: str, body: dict[str, Any]) -> dict[str, Any]:
    """The reply to one JSON request; the connection stays open for the next."""
    connection.request("POST", path, json.dumps(body), {"Content-Type": "application/json"})
    return json.loads(connection.getresponse().read())


def trial(listener: Listener, side: int, questions: int) -> None:
    """Ask over HTTP with a black picture, act between, and print what each took."""
    threading.Thread(target=listener.serve_forever, daemon=True).start()
    black = base64.b64encode(bytes(side * side * 3)).decode()
    observation = {
        "image": {"shape": [side, side, 3], "dtype": "uint8", "data": black},
        "instruction": "touch the red ball with your right hand",
        "proprioception": [0.0] * 125,
    }
    took: dict[str, list[float]] = {"/predict": [], "/action": []}
    with closing(HTTPConnection(listener.config.host, listener.server_port, timeout=60)) as connection:
        for _ in range(questions):
            for path, body in (("/predict", observation), ("/action", {})):
                started_s = time.perf_counter()
                post(connection, path, body)
                took[path].append(1e3 * (time.perf_counter() - started_s))
    listener.shutdown()
    for path, times in took.items():
        print(f"{path:8} p50 {np.percentile(times, 50):.1f} ms, p99 {np.percentile(times, 99):.1f} ms")


def main() -> None:
    """Load, listen, and say where."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--model", default=str(asset_path("g1/demo_heads")), help="folder or hub id")
    parser.add_argument("--device", default="auto")
    parser.add_argument("--engine", default="auto", choices=ENGINES, help="how the action layer is run")
    parser.add_argument("--blend", default="linear", choices=BLEND_SCHEDULES)
    parser.add_argument("--horizon", type=int, default=10, help="steps of 20 ms between two observations")
    parser.add_argument("--host", default=HttpConfig.host)
    parser.add_argument("--port", type=int, default=HttpConfig.port)
    parser.add_argument("--trial", type=int, default=0, metavar="N")
    parser.add_argument("--out", type=Path)
    args = parser.parse_args()
    server = NeonInferenceServer(args.model, args.device, args.blend, args.horizon, engine=args.engine)
    with server.listen(HttpConfig(args.host, 0 if args.trial else args.port)) as listener:
        print(f"{args.model} on {server.status()['device']}: {listener.url}", flush=True)
        try:
            if args.trial:
                trial(listener, server.model.config.backbone.image_size, args.trial)
            else:
                listener.serve_forever()
        except KeyboardInterrupt:
            print("Stopped.")
    if args.out is not None:
        args.out.mkdir(parents=True, exist_ok=True)
        (args.out / "serve.json").write_text(json.dumps(server.status(), indent=2) + "\n")


if __name__ == "__main__":
    main()
