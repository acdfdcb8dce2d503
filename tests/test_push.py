"""What the trainer pushes is what lies in `best`, to the byte, under the repository's name."""

from pathlib import Path

import pytest
from local_hub import call, running_hub
from tiny_neon import tiny_model

from neon_sim.model.card import put_name
from neon_sim.model.checkpoint import WEIGHTS_FILE
from neon_sim.training.push import Pusher
from neon_sim.training.train_config import TrainConfig

PUSH = """
from neon_sim.training.push import Pusher
from neon_sim.training.train_config import TrainConfig
Pusher(TrainConfig(output_dir={folder!r}, hub_model_id="someone/neon")).push()
"""


def test_the_best_goes_as_it_lies_there(tmp_path: Path) -> None:
    best = tmp_path / "run" / "best"
    tiny_model(tmp_path / "backbone").save_pretrained(best, training={"steps": 7})
    (best / "adapter").mkdir()
    (best / "adapter" / "adapter_model.safetensors").write_bytes(b"of the best step")
    (best / "notes.txt").write_text("not for others")
    card = (best / "README.md").read_text()
    with running_hub() as hub:
        pushed = call(hub, tmp_path / "home", PUSH.format(folder=str(tmp_path / "run")))
        assert pushed.returncode == 0, pushed.stderr
        assert hub.created[0]["visibility"] == "private"
        sent = dict(hub.files)
    told = sent.pop("README.md").decode()
    assert set(sent) == {"config.json", "action_space.json", WEIGHTS_FILE, "adapter/adapter_model.safetensors"}
    assert all((best / name).read_bytes() == content for name, content in sent.items())
    assert 'from_pretrained("someone/neon")' in told and "\n# someone/neon\n" in told and '"steps": 7' in told
    assert (best / "README.md").read_text() == card == put_name(told, "best")


def test_nothing_is_pushed_unasked_or_under_a_card_of_another_kind(tmp_path: Path) -> None:
    Pusher(TrainConfig(output_dir=str(tmp_path))).push()  # no name: nothing is looked for
    (tmp_path / "best").mkdir()
    pusher = Pusher(TrainConfig(output_dir=str(tmp_path), hub_model_id="someone/neon", push_every_s=0.0))
    with pytest.raises(OSError, match="Not pushed to someone/neon: .*README.md"):
        pusher.push()
    (tmp_path / "best" / "README.md").write_text("Mine.\n")
    with pytest.warns(UserWarning, match="has no title .*The training goes on"):
        pusher.now_and_then()
