"""Checkpoint folders: formats, old weights, growing into another mode, the card, and a hub on this machine."""

import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import torch
from local_hub import Hub, call, running_hub
from tiny_neon import tiny_features, tiny_model, tiny_senses

from neon_sim.model.checkpoint import FORMAT, OLD_WEIGHTS_FILE, WEIGHTS_FILE
from neon_sim.model.hub import dataset_folder, local_folder, push_folder
from neon_sim.model.neon_vla import NeonVLA


@pytest.fixture(scope="module")
def backbone(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tmp_path_factory.mktemp("backbone")


@pytest.fixture
def checkpoint(backbone: Path, tmp_path: Path) -> Path:
    tiny_model(backbone).save_pretrained(tmp_path / "policy")
    return tmp_path / "policy"


def edit(path: Path, **changes: Any) -> None:
    path.write_text(json.dumps({**json.loads(path.read_text()), **changes}))


def test_the_format_is_written_and_a_later_one_is_refused(checkpoint: Path) -> None:
    assert json.loads((checkpoint / "config.json").read_text())["format"] == FORMAT
    edit(checkpoint / "config.json", format=FORMAT + 1)
    with pytest.raises(ValueError, match=f"has format {FORMAT + 1}; this version reads {FORMAT}. Upgrade"):
        NeonVLA.from_pretrained(checkpoint)


def test_a_later_format_may_keep_its_weights_elsewhere(checkpoint: Path) -> None:
    edit(checkpoint / "config.json", format=FORMAT + 1)
    (checkpoint / WEIGHTS_FILE).rename(checkpoint / "weights-00001-of-00002.safetensors")
    (checkpoint / "action_space.json").unlink()
    with pytest.raises(ValueError, match="Upgrade neon_sim"):
        NeonVLA.from_pretrained(checkpoint)


def test_the_documents_weights_file_is_read(checkpoint: Path) -> None:
    new = NeonVLA.from_pretrained(checkpoint)
    (checkpoint / WEIGHTS_FILE).unlink()
    torch.save(new.state_dict(), checkpoint / OLD_WEIGHTS_FILE)
    old = NeonVLA.from_pretrained(checkpoint)
    for name, value in new.state_dict().items():
        assert torch.equal(old.state_dict()[name], value), name


class Bomb:
    """Unpickling it would leave a file behind."""

    def __init__(self, path: str) -> None:
        self.path = path

    def __reduce__(self) -> Any:
        return open, (self.path, "w")


def test_code_in_old_weights_does_not_run(checkpoint: Path, tmp_path: Path) -> None:
    (checkpoint / WEIGHTS_FILE).unlink()
    torch.save({"goal_embed.0.bias": Bomb(str(tmp_path / "ran"))}, checkpoint / OLD_WEIGHTS_FILE)
    with pytest.raises(ValueError, match="does not hold a whole Neon checkpoint"):
        NeonVLA.from_pretrained(checkpoint)
    assert not (tmp_path / "ran").exists()


@pytest.mark.parametrize(
    ("had", "wanted", "kept", "new"),
    [
        ("arms_only", "upper_body", {"arms", "locomotion"}, {"torso_head"}),
        ("upper_body", "whole_body", {"arms", "torso_head"}, {"legs"}),
        ("upper_body", "arms_only", {"arms", "locomotion"}, set()),
    ],
)
def test_a_mode_grows_and_the_old_heads_keep_their_bits(
    backbone: Path, tmp_path: Path, had: str, wanted: str, kept: set[str], new: set[str]
) -> None:
    old = tiny_model(backbone, control_mode=had)
    old.save_pretrained(tmp_path / "policy")
    with pytest.raises(ValueError, match=f"space is {had}.*wanted {wanted}"):
        NeonVLA.from_pretrained(tmp_path / "policy", control_mode=wanted)
    grown = NeonVLA.from_pretrained(tmp_path / "policy", control_mode=wanted, grow=True)
    assert set(grown.action_head.heads) == kept | new and grown.config.control_mode == wanted
    before = old.state_dict()
    for name, value in grown.state_dict().items():
        if not any(name.startswith(f"action_head.heads.{group}.") for group in new):
            assert torch.equal(value, before[name]), name
    with torch.no_grad():
        features, senses = tiny_features(2), tiny_senses(2)
        chunk, chunk_before = grown(features, senses)[0], old(features, senses)[0]
    for group in kept:
        assert torch.equal(
            chunk[..., grown.action_space.groups[group]], chunk_before[..., old.action_space.groups[group]]
        )


def test_nothing_but_heads_may_differ_when_it_grows(checkpoint: Path) -> None:
    edit(checkpoint / "config.json", use_audio=False)
    with pytest.raises(ValueError, match="Only action heads may differ.*unknown"):
        NeonVLA.from_pretrained(checkpoint, control_mode="upper_body", grow=True)


def test_the_card_tells_what_was_recorded_and_what_was_not(backbone: Path, tmp_path: Path) -> None:
    model = tiny_model(backbone)
    model.save_pretrained(tmp_path / "plain")
    card = (tmp_path / "plain" / "README.md").read_text()
    assert card.startswith("---\nlicense: mit\n") and "Not recorded." in card and "Not measured." in card
    rows = [{"task": "reach", "cell": "nominal", "success": "98.0 % [95.0, 99.2] (196/200)"}]
    model.save_pretrained(tmp_path / "told", training={"command": "agents/pretrain.py", "seed": 7}, results=rows)
    card = (tmp_path / "told" / "README.md").read_text()
    assert '"seed": 7' in card and "| reach | nominal | 98.0 % [95.0, 99.2] (196/200) |" in card
    assert f"| trainable | {model.parameter_table()['trainable']:,} |" in card


def test_a_card_goes_along_with_its_weights_and_with_no_others(backbone: Path, tmp_path: Path) -> None:
    rows = [{"task": "reach", "cell": "nominal", "success": "98.0 % [95.0, 99.2] (196/200)"}]
    tiny_model(backbone).save_pretrained(tmp_path / "told", training={"seed": 7}, results=rows)
    model = NeonVLA.from_pretrained(tmp_path / "told")
    model.save_pretrained(tmp_path / "again")
    card = (tmp_path / "again" / "README.md").read_text()
    assert '"seed": 7' in card and "| reach | nominal |" in card and 'from_pretrained("again")' in card
    with torch.no_grad():
        next(model.parameters()).add_(1e-3)
    model.save_pretrained(tmp_path / "other")
    card = (tmp_path / "other" / "README.md").read_text()
    assert "Not recorded." in card and "Not measured." in card


def test_the_shipped_card_says_what_was_measured() -> None:
    root = Path(__file__).resolve().parents[1]
    reach = json.loads((root / "benchmarks" / "results" / "reach.json").read_text())
    card = (root / "assets" / "g1" / "demo_heads" / "README.md").read_text()
    for label, name in (("as it is", "policy"), ("camera blanked", "camera blanked")):
        assert f"| reach | {label} | {reach['figures'][name]['success']} |" in card
    assert f"{reach['date']}, commit {reach['commit']}" in card


def test_what_is_neither_a_folder_nor_an_id() -> None:
    with pytest.raises(FileNotFoundError, match="'a/b/c' is neither a folder nor a hub id"):
        local_folder("a/b/c")
    with pytest.raises(ValueError, match="explicit OWNER/NAME, got 'neon'"):
        push_folder(Path("."), "neon")


# --- a hub on this machine ------------------------------------------------------------------------------------------


@pytest.fixture
def hub() -> Iterator[Hub]:
    with running_hub() as server:
        yield server


def test_a_checkpoint_goes_to_the_hub_and_comes_back(hub: Hub, checkpoint: Path, tmp_path: Path) -> None:
    pushed = call(
        hub,
        tmp_path / "home",
        f"from pathlib import Path\nfrom neon_sim.model.hub import push_folder\n"
        f"print(push_folder(Path({str(checkpoint)!r}), 'someone/neon'))",
    )
    assert pushed.returncode == 0, pushed.stderr
    assert hub.created[0]["visibility"] == "private"
    assert set(hub.files) == {WEIGHTS_FILE, "config.json", "action_space.json", "README.md"}
    fetched = call(
        hub, tmp_path / "home", "from neon_sim.model.hub import local_folder\nprint(local_folder('someone/neon'))"
    )
    assert fetched.returncode == 0, fetched.stderr
    folder = Path(fetched.stdout.strip())
    for name in hub.files:
        assert (folder / name).read_bytes() == (checkpoint / name).read_bytes()
    gone = call(hub, tmp_path / "other", "from neon_sim.model.hub import local_folder\nlocal_folder('nobody/gone')")
    assert gone.returncode != 0 and "FileNotFoundError: There is no folder 'nobody/gone'" in gone.stderr
    assert "pass its folder" in gone.stderr


def test_a_public_repository_is_given_nothing_that_should_be_private(
    hub: Hub, checkpoint: Path, tmp_path: Path
) -> None:
    hub.private = False  # somebody made it public
    code = (
        f"from pathlib import Path\nfrom neon_sim.model.hub import push_folder\npush_folder(Path({str(checkpoint)!r}), "
    )
    refused = call(hub, tmp_path / "home", code + "'someone/neon')")
    assert refused.returncode != 0 and hub.files == {} and hub.created == []
    assert (
        "ValueError: The hub's repository 'someone/neon' is public, and a private one was asked for" in refused.stderr
    )
    asked = call(hub, tmp_path / "home", code + "'someone/neon', private=False)")
    assert asked.returncode == 0 and WEIGHTS_FILE in hub.files, asked.stderr


def test_a_model_pushes_itself_and_its_card_says_where_it_is(hub: Hub, checkpoint: Path, tmp_path: Path) -> None:
    model = "from neon_sim.model.neon_vla import NeonVLA\nNeonVLA.from_pretrained"
    pushed = call(hub, tmp_path / "home", f"{model}({str(checkpoint)!r}).push_to_hub('someone/neon')")
    assert pushed.returncode == 0, pushed.stderr
    copied = call(hub, tmp_path / "home", f"{model}('someone/neon').save_pretrained({str(tmp_path / 'copy')!r})")
    assert copied.returncode == 0, copied.stderr
    assert (tmp_path / "copy" / WEIGHTS_FILE).read_bytes() == (checkpoint / WEIGHTS_FILE).read_bytes()
    assert 'from_pretrained("someone/neon")' in hub.files["README.md"].decode()


def test_a_data_set_is_fetched_by_its_id(hub: Hub, tmp_path: Path) -> None:
    hub.data = {"meta/info.json": b"{}", "data/chunk-000/file-000.parquet": bytes(range(256))}
    code = "from neon_sim.model.hub import dataset_folder\nprint(dataset_folder({!r}))"
    fetched = call(hub, tmp_path / "home", code.format("someone/neon"))
    assert fetched.returncode == 0, fetched.stderr
    for name, content in hub.data.items():
        assert (Path(fetched.stdout.strip()) / name).read_bytes() == content
    gone = call(hub, tmp_path / "home", code.format("nobody/gone"))
    assert gone.returncode != 0 and "FileNotFoundError: There is no data set 'nobody/gone'" in gone.stderr
    for path in (str(tmp_path), "runs/some/where", "./here"):  # there, or no id: no hub is asked
        assert dataset_folder(path) == path
