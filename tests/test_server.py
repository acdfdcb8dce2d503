"""The inference server: chunks take over while the robot acts, the queue has an end, and HTTP says what is wrong."""

import base64
import http.client
import io
import json
import runpy
import socket
import sys
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import closing, contextmanager
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from PIL import Image
from tiny_neon import noise_frames, tiny_model, tiny_senses

from neon_sim.inference.chunking import ChunkingConfig, merge_chunk
from neon_sim.inference.http_api import HttpConfig, read_json, read_observation
from neon_sim.inference.observation import check_observation
from neon_sim.inference.server import NeonInferenceServer
from neon_sim.inference.turns import Busy, OutOfTurn
from neon_sim.model.neon_vla import NeonVLA

WORDS = "touch the red ball"
FRAMES = noise_frames(1, 6, 128)[0]
PROPRIO = tiny_senses(1)["proprio"][0].numpy()


@pytest.fixture(scope="module")
def policy(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A checkpoint of random heads on a tiny backbone."""
    base = tmp_path_factory.mktemp("server")
    tiny_model(base / "backbone").save_pretrained(base / "policy")
    return base / "policy"


@pytest.fixture(scope="module")
def shared(policy: Path) -> NeonInferenceServer:
    """One server; tests that use it begin with a reset."""
    return NeonInferenceServer(policy, "cpu")


@pytest.fixture
def server(shared: NeonInferenceServer) -> NeonInferenceServer:
    shared.reset()
    return shared


@contextmanager
def during(server: NeonInferenceServer, call: Callable[[], Any]) -> Iterator[None]:
    """Call something in the middle of each forward pass: on the way into the backbone."""

    def hook(module: Any, inputs: Any) -> None:
        call()

    handle = server.model.backbone.register_forward_pre_hook(hook)
    yield
    handle.remove()


def until_in_line(server: NeonInferenceServer, count: int) -> None:
    """Return when that many observations are being answered or waiting."""
    for _ in range(3000):
        if server.status()["in_line"] >= count:
            return
        time.sleep(0.01)
    raise TimeoutError(f"Never were {count} observations in line.")


def actions(server: NeonInferenceServer, count: int) -> np.ndarray:
    return np.stack([server.get_action() for _ in range(count)])


def test_actions_are_the_chunks_in_order(server: NeonInferenceServer, policy: Path) -> None:
    assert server.due
    chunk = server.predict(FRAMES[0], WORDS, PROPRIO)
    expected = NeonVLA.from_pretrained(policy).predict(FRAMES[0], WORDS, PROPRIO)
    assert chunk.shape == (16, 17) and np.array_equal(chunk, expected)
    assert not server.due and server.remaining == 16
    assert np.array_equal(actions(server, 10), chunk[:10])
    assert server.due and server.remaining == 6


@pytest.mark.parametrize("schedule", ["linear", "ema"])
def test_the_next_chunk_takes_over_as_its_schedule_says(policy: Path, schedule: str) -> None:
    server = NeonInferenceServer(policy, "cpu", blend_schedule=schedule, execution_horizon=8)
    first = server.predict(FRAMES[0], WORDS, PROPRIO, time_s=0.0)
    assert np.array_equal(actions(server, 8), first[:8]) and server.due
    second = server.predict(FRAMES[1], WORDS, -PROPRIO, time_s=0.16)
    expected = merge_chunk(first[None, 8:], second[None], 0, ChunkingConfig(schedule))[0]
    np.testing.assert_allclose(actions(server, 16), expected, atol=1e-6)
    assert not np.allclose(expected[:8], second[:8], atol=1e-4)


def test_what_the_robot_did_meanwhile_is_skipped(server: NeonInferenceServer) -> None:
    first = server.predict(FRAMES[0], WORDS, PROPRIO)
    actions(server, 10)
    with during(server, lambda: actions(server, 3)):
        second = server.predict(FRAMES[1], WORDS, -PROPRIO)
    expected = merge_chunk(first[None, 13:], second[None], 3, ChunkingConfig())[0]
    assert server.remaining == 13
    np.testing.assert_allclose(actions(server, 13), expected, atol=1e-6)


def test_what_the_robot_did_while_the_observation_waited_is_skipped_too(policy: Path) -> None:
    server = NeonInferenceServer(policy, "cpu", blend_schedule="latest")
    server.predict(FRAMES[0], WORDS, PROPRIO)
    answers: list[np.ndarray] = []
    waiting = threading.Thread(target=lambda: answers.append(server.predict(FRAMES[2], WORDS, PROPRIO)))

    def others() -> None:  # inside the second forward pass: a third observation arrives, and four actions leave
        if waiting.ident is None:
            waiting.start()
            until_in_line(server, 2)
            actions(server, 4)

    with during(server, others):
        server.predict(FRAMES[1], WORDS, PROPRIO)
        waiting.join(30.0)
    assert server.remaining == 12
    assert np.array_equal(actions(server, 12), answers[0][4:])


def test_pictures_become_a_clip_and_a_clip_replaces_them(server: NeonInferenceServer) -> None:
    predict = server.model.predict
    server.predict(FRAMES[0], WORDS, time_s=0.0)
    second = server.predict(FRAMES[1], WORDS, time_s=0.5)
    assert np.array_equal(second, predict(FRAMES[[0, 0, 0, 1]], WORDS))  # 4 per second; the past repeats the oldest
    third = server.predict(FRAMES[2], WORDS, time_s=0.75)
    assert np.array_equal(third, predict(FRAMES[[0, 0, 1, 2]], WORDS))
    assert np.array_equal(server.predict(FRAMES[:4], WORDS, time_s=1.0), predict(FRAMES[:4], WORDS))
    assert np.array_equal(server.predict(FRAMES[5], WORDS, time_s=1.25), predict(FRAMES[[1, 2, 3, 5]], WORDS))
    with pytest.raises(ValueError, match=r"time_s ran backwards, 1.250 to 1.000"):
        server.predict(FRAMES[0], WORDS, time_s=1.0)


def test_all_senses_reach_the_network(server: NeonInferenceServer) -> None:
    given_ = {name: value[0].numpy() for name, value in tiny_senses(1).items() if name != "proprio"}
    chunk = server.predict(FRAMES[0], WORDS, PROPRIO, **given_)
    assert np.array_equal(chunk, server.model.predict(FRAMES[0], WORDS, PROPRIO, **given_))
    assert not np.array_equal(chunk, server.model.predict(FRAMES[0], WORDS, PROPRIO))


def test_no_action_before_a_chunk_nor_long_after_the_last(policy: Path) -> None:
    server = NeonInferenceServer(policy, "cpu", hold_steps=2)
    with pytest.raises(OutOfTurn, match="There is no chunk yet: predict"):
        server.get_action()
    chunk = server.predict(FRAMES[0], WORDS)
    assert np.array_equal(actions(server, 18), chunk[[*range(16), 15, 15]])
    for _ in range(2):
        with pytest.raises(OutOfTurn, match="The plan ran out 2 actions ago: stop the robot"):
            server.get_action()
    again = server.predict(FRAMES[1], WORDS)
    assert np.array_equal(server.get_action(), again[0])
    server.reset()
    with pytest.raises(OutOfTurn, match="no chunk yet"):
        server.get_action()


def test_too_many_observations_are_refused_at_once(policy: Path) -> None:
    server = NeonInferenceServer(policy, "cpu", max_waiting=1)
    inside, go_on = threading.Event(), threading.Event()
    threads = [threading.Thread(target=lambda: server.predict(FRAMES[0], WORDS)) for _ in range(2)]

    def block() -> None:
        inside.set()
        assert go_on.wait(30.0)

    with during(server, block):
        threads[0].start()
        assert inside.wait(30.0)
        threads[1].start()
        until_in_line(server, 2)
        with pytest.raises(Busy, match="2 observations are being answered or waiting"):
            server.predict(FRAMES[0], WORDS)
        go_on.set()
        for thread in threads:
            thread.join(30.0)
    assert server.status()["answered"] == 2
    server.predict(FRAMES[0], WORDS)  # the line is empty again


def test_an_observation_from_before_a_reset_is_not_answered(server: NeonInferenceServer) -> None:
    with server._lock:
        episode = server._episode
    server.reset()
    seen = check_observation(server.model, FRAMES[0], WORDS, None, {})
    with pytest.raises(OutOfTurn, match="A reset came while this observation waited"):
        server._answer(seen, 0.0, 0, episode)
    server.predict(FRAMES[0], WORDS)


def test_a_network_that_fails_leaves_the_plan_as_it_was(policy: Path) -> None:
    server = NeonInferenceServer(policy, "cpu")

    def fail() -> None:
        raise RuntimeError("out of memory")

    first = server.predict(FRAMES[0], WORDS)
    actions(server, 4)
    with during(server, fail), pytest.raises(RuntimeError, match="out of memory"):
        server.predict(FRAMES[1], WORDS)
    assert np.array_equal(actions(server, 2), first[4:6]) and server.status()["dropped_chunks"] == 1
    with torch.no_grad():
        server.model.fusion.proj.bias.fill_(torch.nan)
    with pytest.raises(RuntimeError, match="not finite. Nothing of it is sent"):
        server.predict(FRAMES[1], WORDS)
    assert np.array_equal(actions(server, 2), first[6:8])


def test_noise_begins_anew_with_each_episode(tmp_path: Path) -> None:
    tiny_model(tmp_path / "backbone", head={"head_type": "flow"}).save_pretrained(tmp_path / "policy")
    server = NeonInferenceServer(tmp_path / "policy", "cpu", seed=3)
    first, second = (server.predict(FRAMES[0], WORDS) for _ in range(2))
    assert not np.array_equal(first, second)
    server.reset()
    assert np.array_equal(server.predict(FRAMES[0], WORDS), first)


@pytest.mark.gpu
def test_a_gpu_answers_as_the_cpu_does(policy: Path) -> None:
    server = NeonInferenceServer(policy, "cuda")
    assert server.status()["device"].startswith("cuda")
    expected = NeonVLA.from_pretrained(policy).predict(FRAMES[0], WORDS, PROPRIO)
    np.testing.assert_allclose(server.predict(FRAMES[0], WORDS, PROPRIO), expected, atol=1e-3)


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"blend_schedule": "linaer"}, "Did you mean 'linear'"),
        ({"execution_horizon": 0}, "at least 1 step, got 0"),
        ({"execution_horizon": 17}, "at most the chunk's 16 steps, got 17"),
        ({"max_waiting": -1}, "want 0 or more, got -1"),
        ({"device": "gpu"}, "gpu"),
    ],
)
def test_a_server_that_cannot_be_is_refused(policy: Path, changes: dict[str, Any], message: str) -> None:
    with pytest.raises((ValueError, RuntimeError), match=message):
        NeonInferenceServer(policy, **changes)


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"image": FRAMES[0, :64]}, "sees 128 x 128 px, got 64 x 128. Crop and resize"),
        ({"image": FRAMES[0, ..., 0]}, r"whole numbers 0 to 255, got \(128, 128\) uint8"),
        ({"image": FRAMES[0].astype(np.float32)}, "got .* float32"),
        ({"image": FRAMES[0].astype(np.int64) + 200}, "0 to 255, got 200 to"),
        ({"image": np.zeros((65, 128, 128, 3), np.uint8)}, "at most 64 frames"),
        ({"instruction": " "}, "1 to 1000 characters"),
        ({"instruction": 3}, "1 to 1000 characters of text, got 3"),
        ({"proprioception": PROPRIO[:5]}, r"wants \(125,\) numbers, got \(5,\)"),
        ({"proprioception": np.full(125, np.nan)}, "proprioception wants finite numbers"),
        ({"eef": np.zeros(13)}, "eef wants 14 numbers, got 13"),
        ({"eef": "left"}, "eef wants finite numbers, got 'left'"),
        ({"eef": np.zeros((1, 14))}, "eef wants one row"),
        ({"lidar": np.zeros(4)}, "lidar wants x, y, z of 1 to 65536 points"),
        ({"audio": np.zeros(100)}, "audio wants 0.1 to 30 s at 16 kHz, got 0.00625 s"),
        ({"lidra": np.zeros(3)}, "Did you mean 'lidar'"),
        ({"time_s": np.nan}, "time_s wants seconds, got nan"),
    ],
)
def test_what_is_no_observation_is_refused_and_costs_nothing(
    server: NeonInferenceServer, changes: dict[str, Any], message: str
) -> None:
    good: dict[str, Any] = {"image": FRAMES[0], "instruction": WORDS, "proprioception": PROPRIO}
    with pytest.raises(ValueError, match=message):
        server.predict(**good | changes)
    assert server.due and server.status()["in_line"] == 0
    server.predict(**good)


# Over HTTP


@pytest.fixture
def port(server: NeonInferenceServer) -> Iterator[int]:
    """The server, listening."""
    with server.listen(HttpConfig(port=0, max_connections=3, max_body_bytes=300_000)) as listener:
        thread = threading.Thread(target=listener.serve_forever, kwargs={"poll_interval": 0.02})
        thread.start()
        yield listener.server_port
        listener.shutdown()
        thread.join(10.0)


def ask(port: int, method: str, path: str, body: Any = None, **headers: str) -> tuple[int, dict[str, Any]]:
    """Status and JSON of one request."""
    with closing(http.client.HTTPConnection("127.0.0.1", port, timeout=30)) as connection:
        raw = body if isinstance(body, bytes) or body is None else json.dumps(body).encode()
        connection.request(method, path, raw, headers)
        reply = connection.getresponse()
        return reply.status, json.loads(reply.read())


def binary(array: np.ndarray) -> dict[str, Any]:
    return {"shape": list(array.shape), "dtype": str(array.dtype), "data": base64.b64encode(array.tobytes()).decode()}


def png(picture: np.ndarray) -> str:
    file = io.BytesIO()
    Image.fromarray(picture).save(file, "PNG")
    return base64.b64encode(file.getvalue()).decode()


def question(**changes: Any) -> dict[str, Any]:
    return {"image": binary(FRAMES[0]), "instruction": WORDS, **changes}


def test_the_loopback_and_port_8300_are_the_default() -> None:
    assert (HttpConfig().host, HttpConfig().port) == ("127.0.0.1", 8300)


def test_a_robot_is_served_over_one_connection(server: NeonInferenceServer, port: int) -> None:
    expected = server.model.predict(FRAMES[0], WORDS, PROPRIO)
    with closing(http.client.HTTPConnection("127.0.0.1", port, timeout=30)) as connection:

        def send(method: str, path: str, body: Any) -> dict[str, Any]:
            connection.request(method, path, json.dumps(body))
            return json.loads(connection.getresponse().read())

        health = send("GET", "/health", {})
        assert health["ready"] is False and health["due"] is True and health["image_size"] == 128
        assert health["action_space"]["control_mode"] == "arms_only" and health["senses"] == ["eef", "lidar", "audio"]
        reply = send("POST", "/predict", question(proprioception=PROPRIO.tolist(), time_s=0.0))
        np.testing.assert_array_equal(np.array(reply["chunk"], np.float32), expected)
        first, second = (send("POST", "/action", {}) for _ in range(2))
        np.testing.assert_array_equal(np.array([first["action"], second["action"]], np.float32), expected[:2])
        assert (second["remaining"], second["due"]) == (14, False)
        health = send("GET", "/health", {})
        assert health["answered"] >= 1 and health["latency_s"] > 0.0 and health["delay_steps"] >= 1
        assert send("POST", "/reset", {}) == {} and "error" in send("POST", "/action", {})


def test_pictures_come_as_lists_bytes_or_png(server: NeonInferenceServer, port: int) -> None:
    expected = server.model.predict(FRAMES[0], WORDS)
    for image in (FRAMES[0].tolist(), binary(FRAMES[0]), {"picture": png(FRAMES[0])}):
        ask(port, "POST", "/reset")
        status, reply = ask(port, "POST", "/predict", question(image=image))
        assert status == 200
        np.testing.assert_array_equal(np.array(reply["chunk"], np.float32), expected)


@pytest.mark.parametrize(
    ("method", "path", "body", "headers", "status", "message"),
    [
        ("GET", "/", None, {}, 404, "There is POST /predict, POST /action, POST /reset, GET /health"),
        ("GET", "/action", None, {}, 405, "/action wants POST, got GET"),
        ("POST", "/health", {}, {}, 405, "/health wants GET, got POST"),
        ("POST", "/action", {}, {"Origin": "http://evil.example"}, 403, "Web pages may not move the robot"),
        ("POST", "/action", None, {}, 409, "predict (POST /predict) comes before the first action"),
        ("POST", "/reset", None, {"Content-Length": "-3"}, 411, "wants a Content-Length in bytes"),
        ("POST", "/predict", b"x" * 300_001, {}, 413, "at most 300000 bytes, got 300001"),
        ("POST", "/predict", b"{", {}, 400, "The body is no JSON object"),
        ("POST", "/predict", b"[" * 100_000, {}, 400, "The body is no JSON object"),
        ("POST", "/predict", b"[1]", {}, 400, "wants a JSON object {...}, got a list"),
        ("POST", "/predict", b'{"image": NaN}', {}, 400, "NaN is no number"),
        ("POST", "/predict", b"\xff\xfe\x00", {}, 400, "The body is no JSON object"),
        ("POST", "/predict", {}, {}, 400, "wants image and instruction, got"),
        ("POST", "/predict", question(self=1), {}, 400, "Unknown field 'self'"),
        ("POST", "/predict", question(proprio=[0.0]), {}, 400, "Did you mean 'proprioception'"),
        ("POST", "/predict", question(time_s="now"), {}, 400, "time_s wants a number of seconds, got a str"),
        ("POST", "/predict", question(eef=[[1.0], [1.0, 2.0]]), {}, 400, "eef wants nested lists of one length"),
        ("POST", "/predict", question(eef=[10**400] * 14), {}, 400, "eef wants finite numbers"),
        ("POST", "/predict", question(image={"picture": "!"}), {}, 400, "image wants base64"),
        ("POST", "/predict", question(image={"picture": "AAAA"}), {}, 400, "image is no whole PNG or JPEG"),
        (
            "POST",
            "/predict",
            question(image={"shape": [2], "dtype": "uint8", "data": "AA=="}),
            {},
            400,
            "wants 2 bytes",
        ),
        ("POST", "/predict", question(image={"shape": [-1], "dtype": "uint8", "data": ""}), {}, 400, "wants a shape"),
        (
            "POST",
            "/predict",
            question(image={"shape": [1], "dtype": "object", "data": ""}),
            {},
            400,
            "a dtype of uint8",
        ),
    ],
)
def test_errors_say_what_to_do(
    port: int, method: str, path: str, body: Any, headers: dict[str, str], status: int, message: str
) -> None:
    got, reply = ask(port, method, path, body, **headers)
    assert got == status, reply
    assert message in reply["error"]


def test_a_cut_picture_and_a_huge_one_are_refused() -> None:
    whole = base64.b64decode(png(FRAMES[0]))
    for keep in (20, 40, 1000, len(whole) // 2):
        cut = base64.b64encode(whole[:keep]).decode()
        with pytest.raises(ValueError, match="image is no whole PNG or JPEG"):
            read_observation({"image": {"picture": cut}, "instruction": WORDS})
    file = io.BytesIO()
    Image.new("1", (20_000, 2_000)).save(file, "PNG")
    bomb = base64.b64encode(file.getvalue()).decode()
    assert len(bomb) < 50_000
    with pytest.raises(ValueError, match="at most 4000000 pixels, got 20000 x 2000"):
        read_observation({"image": {"picture": bomb}, "instruction": WORDS})


@given(st.integers(0, 20_000), st.integers(0, 255))
def test_a_damaged_picture_is_a_picture_or_a_value_error(place: int, byte: int) -> None:
    damaged = bytearray(base64.b64decode(png(FRAMES[0])))
    damaged[place % len(damaged)] = byte
    body = {"image": {"picture": base64.b64encode(damaged).decode()}, "instruction": WORDS}
    try:
        assert read_observation(body)["image"].shape[2] == 3
    except ValueError as error:
        assert "image" in str(error)


json_values = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats(allow_nan=False, allow_infinity=False) | st.text(max_size=5),
    lambda inner: st.lists(inner, max_size=4) | st.dictionaries(st.text(max_size=6), inner, max_size=3),
    max_leaves=12,
)


@given(image=json_values, eef=json_values, words=json_values, time_s=json_values)
def test_any_json_is_an_observation_or_a_value_error(
    shared: NeonInferenceServer, image: Any, eef: Any, words: Any, time_s: Any
) -> None:
    raw = json.dumps({"image": image, "instruction": words, "eef": eef, "time_s": time_s}).encode()
    with pytest.raises(ValueError, match="."):
        shared.predict(**read_observation(read_json(raw)))


def test_too_many_connections_are_turned_away_and_come_back(port: int) -> None:
    held = [socket.create_connection(("127.0.0.1", port)) for _ in range(3)]
    for line in held:  # each has a thread of its own, and says so
        line.sendall(b"GET /health HTTP/1.1\r\nHost: a\r\n\r\n")
        assert line.recv(15) == b"HTTP/1.1 200 OK"
    with closing(socket.create_connection(("127.0.0.1", port))) as fourth:
        assert fourth.recv(12) == b"HTTP/1.1 503"
    for line in held:
        line.close()
    statuses = set()
    while 200 not in statuses:  # until the three threads have seen it
        statuses.add(raw_health(port))
    assert statuses <= {200, 503}


def raw_health(port: int) -> int:
    with closing(socket.create_connection(("127.0.0.1", port))) as line:
        line.sendall(b"GET /health HTTP/1.1\r\nHost: a\r\nConnection: close\r\n\r\n")
        return int(line.recv(12).split()[1])


def test_a_client_that_says_nothing_is_hung_up_on(server: NeonInferenceServer) -> None:
    with server.listen(HttpConfig(port=0, timeout_s=1.0)) as listener:
        threading.Thread(target=listener.serve_forever, daemon=True).start()
        with closing(socket.create_connection(("127.0.0.1", listener.server_port))) as line:
            line.settimeout(10.0)
            line.sendall(b"POST /predict HTTP/1.1\r\nContent-Length: 99\r\n\r\n{")
            assert line.recv(1) == b""
        listener.shutdown()


def test_actions_are_not_kept_waiting_by_an_answer(server: NeonInferenceServer, port: int) -> None:
    ask(port, "POST", "/predict", question())
    got: list[int] = []
    with during(server, lambda: got.append(ask(port, "POST", "/action")[0])):  # in the middle of a forward pass
        assert ask(port, "POST", "/predict", question())[0] == 200
    assert got == [200]


def test_the_script_serves_itself_and_writes_what_it_did(
    policy: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    script = Path(__file__).resolve().parents[1] / "agents" / "serve.py"
    flags = [
        "--model",
        str(policy),
        "--device",
        "cpu",
        "--trial",
        "3",
        "--blend",
        "ema",
        "--out",
        str(tmp_path / "run"),
    ]
    monkeypatch.setattr(sys, "argv", [str(script), *flags])
    runpy.run_path(str(script), run_name="__main__")
    said = capsys.readouterr().out
    assert "on cpu: http://127.0.0.1:" in said and "/predict p50 " in said and "/action  p50 " in said
    done = json.loads((tmp_path / "run" / "serve.json").read_text())
    assert done["answered"] == 3 and done["blend_schedule"] == "ema" and done["starved_steps"] == 0
