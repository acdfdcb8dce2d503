"""The flags that everything which trains understands: several sources from a file, bad episodes left out, a teacher."""

import argparse
import json
import runpy
import sys
from dataclasses import replace
from pathlib import Path

import pytest
from source_files import source_config
from tiny_data import write_episodes

from neon_sim.data.data_soup import DataSoup
from neon_sim.data.soup_file import read_options, read_soup
from neon_sim.g1.action_space import G1ActionSpace
from neon_sim.training import flags
from neon_sim.training.config import MULTITASK, PRESETS
from neon_sim.training.flags import (
    add_data_flags,
    add_teacher_flags,
    put_in,
    skipped_line,
    soup_from,
    told_lines,
    with_data,
)

ROOT = Path(__file__).resolve().parents[1]


def parsed(*flags: str) -> argparse.Namespace:
    parser = argparse.ArgumentParser()
    add_data_flags(parser)
    add_teacher_flags(parser)
    return parser.parse_args(flags)


def soup_file(folder: Path, **changes: object) -> Path:
    write_episodes(folder / "own", 3)
    oxe = source_config("oxe", folder / "oxe")
    sources = [
        {"name": "own", "type": "neon_sim", "path": str(folder / "own"), "weight": 3.0},
        {"name": "robot", "type": "oxe", "path": oxe.path, "options": {"fps": 5.0}},
    ]
    path = folder / "soup.json"
    path.write_text(json.dumps({"sources": sources, "validation_share": 0.0, **changes}))
    return path


def test_a_soup_file_mixes_several_sources(tmp_path: Path) -> None:
    args = parsed("--soup", str(soup_file(tmp_path)), "--skip-bad", "--teacher", "big/best", "--teacher-weight", "0.8")
    config = PRESETS["compact_reach"]()
    put_in(config, args)
    assert config.data is not None and config.data.skip_bad and config.data.validation_share == 0.0
    assert (config.teacher, config.teacher_weight) == ("big/best", 0.8)
    soup = DataSoup(config.data)
    assert soup.shares.tolist() == [0.75, 0.25] and soup[0].chunk.shape == (16, 17)


def test_failures_are_left_out_of_every_source_and_readers_are_counted(tmp_path: Path) -> None:
    config = PRESETS["compact_tasks"]()
    put_in(config, parsed("--successes-only", "--num-workers", "2"))
    assert config.data is not None and all(source.successes_only for source in config.data.sources)
    assert config.num_workers == 2
    stats = {"best_loss": 0.25, "steps": 9, "seconds": 90.0, "skipped": {"b": 2}}
    stats["sources"] = {"a": {"failures_left_out": 3}, "b": {"failures_left_out": 0}, "c": {}}
    lines = told_lines(stats, Path("best")).splitlines()
    assert lines[0] == "Left out, because they did not succeed: 3 of 'a'." and "2 of 'b'" in lines[1]
    assert lines[2] == "Best loss: 0.2500 after 9 steps in 1.5 minutes. Wrote best"


def test_one_source_may_have_options(tmp_path: Path) -> None:
    oxe = source_config("oxe", tmp_path / "oxe")
    flags = ("--dataset", oxe.path, "--dataset-type", "oxe")
    soup = soup_from(parsed(*flags, "--source-options", '{"fps": 5.0}'), None)
    assert soup is not None and not soup.skip_bad and len(DataSoup(soup)) > 0
    assert soup_from(parsed(), None) is None
    preset = PRESETS["compact_reach"]().data
    assert soup_from(parsed(), preset) is preset
    relative = soup_from(parsed("--dataset", "arm", "--relative-actions"), None)
    assert relative is not None and relative.sources[0].use_relative_actions
    assert not soup.sources[0].use_relative_actions


@pytest.mark.parametrize(
    ("text", "part"),
    [
        ('{"sources": [{"name": "a", "type": "neon_sim"}]}', "a source wants name, type and path; path missing"),
        ('{"sources": [], "skipbad": true}', "Unknown key of DataSoupConfig .*Did you mean 'skip_bad'"),
        (
            '{"sources": [{"name": "a", "type": "oxe", "path": "x", "weigth": 1}]}',
            "Unknown key of DataSourceConfig .*Did you mean 'weight'",
        ),
        ('{"source": []}', 'should have "sources"'),
        ("[]", "should hold a JSON object"),
        ("{", "is not JSON"),
    ],
)
def test_a_wrong_soup_file_is_answered(tmp_path: Path, text: str, part: str) -> None:
    (tmp_path / "soup.json").write_text(text)
    with pytest.raises(ValueError, match=part):
        read_soup(tmp_path / "soup.json")


def test_flags_that_do_not_go_together_are_answered(tmp_path: Path) -> None:
    with pytest.raises(FileNotFoundError, match="no soup file"):
        read_soup(tmp_path / "none.json")
    with pytest.raises(ValueError, match="leave out --dataset"):
        soup_from(parsed("--soup", "a.json", "--dataset", "b"), None)
    with pytest.raises(ValueError, match="--source-options belong to a --dataset"):
        soup_from(parsed("--source-options", "{}"), None)
    with pytest.raises(ValueError, match='--relative-actions belong to a --dataset; .*"use_relative_actions": true'):
        soup_from(parsed("--relative-actions"), None)
    for text in ("fps=5", "[5]"):
        with pytest.raises(ValueError, match="should be a JSON object"):
            read_options(text)


@pytest.mark.parametrize(
    ("flags", "message"),
    [
        (("--epochs", "0"), "--epochs wants at least 1, got 0"),
        (("--preset", "compact_reach", "--epochs", "0"), "TrainConfig.epochs must be positive, got 0"),
        (("--preset", "compact_reach"), "reach.dataset"),  # is not there, and no id of the hub
    ],
)
def test_pretrain_answers_before_it_takes_a_folder(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path, flags: tuple[str, ...], message: str
) -> None:
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(sys, "argv", ["pretrain.py", *flags, "--out", "out"])
    with pytest.raises(SystemExit, match=message):
        runpy.run_path(str(ROOT / "agents" / "pretrain.py"), run_name="__main__")
    assert list(tmp_path.iterdir()) == []


def test_a_presets_data_are_fetched_once_and_folders_stay(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    config = PRESETS["edge_3b"]()
    assert config.data is not None
    fetched = {one.path: str(tmp_path / one.name) for one in config.data.sources}
    monkeypatch.setattr(flags, "dataset_folder", fetched.__getitem__)
    found = with_data(config).data
    assert found is not None and [one.path for one in found.sources] == list(fetched.values())
    assert [one.weight for one in found.sources] == [one.weight for one in config.data.sources]


def test_what_was_left_out_is_said() -> None:
    assert skipped_line({}) == ""
    assert skipped_line({"b": 2, "a": 1}).endswith("1 of 'a', 2 of 'b'.")


def test_every_preset_can_learn_from_its_kinds_of_data(tmp_path: Path) -> None:
    """A chunk of the policy's own layout comes out of a small data set of each type that the preset mixes."""
    written: dict[str, str] = {}

    def path_of(kind: str, mode: str) -> str:
        """A small data set of this type, ours in the mode that is wanted."""
        key = f"{kind}_{mode}" if kind == "neon_sim" else kind
        if key not in written:
            own = kind == "neon_sim"
            folder = tmp_path / key
            written[key] = (
                str(write_episodes(folder, 2, control_mode=mode)) if own else source_config(kind, folder).path
            )
        return written[key]

    for name, build in PRESETS.items():
        config = build()
        assert config.data is not None and config.output_dir == f"runs/{name}"
        space = G1ActionSpace(config.model.control_mode)
        sources = [replace(one, path=path_of(one.type, str(space.mode))) for one in config.data.sources]
        soup = DataSoup(replace(config.data, sources=sources, validation_share=0.0), space)
        for source in soup.names:
            assert soup.window(source, 0, 0).chunk.shape == (16, space.dim), name
    folders = [build().output_dir for build in (*PRESETS.values(), *MULTITASK.values())]
    assert len(set(folders)) == len(folders)
