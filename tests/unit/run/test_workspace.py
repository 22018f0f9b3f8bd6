"""The folder of a run: each stage is done once."""

from __future__ import annotations

import pytest

from retrieval_core.config.config import load_config
from retrieval_core.files import storage
from retrieval_core.run.workspace import Workspace


@pytest.fixture
def space(tmp_path):
    return Workspace(load_config(None, [f"run.output_dir={tmp_path}", "run.name=trial"]))


class Stage:
    """A stage that counts how often it was done."""

    def __init__(self, space):
        self.space, self.output, self.done = space, space.path("out", "result.txt"), 0

    def action(self):
        self.done += 1
        storage.write_bytes(self.output, b"x")
        return {"images": 3}

    def __call__(self, inputs, **options):
        return self.space.stage("embed.gallery", inputs, [self.output], self.action, **options)


def test_paths_are_absolute_and_urls_stay(space, tmp_path, monkeypatch):
    assert space.path("model", "config.json") == f"{tmp_path}/trial/model/config.json"
    assert space.work("a") == f"{tmp_path}/trial/work/a"
    assert space.arm_folder("frozen", "frozen") == space.folder
    assert space.arm_folder("histogram", "frozen") == space.work("arms", "histogram")
    monkeypatch.chdir(tmp_path)
    assert Workspace(load_config(None, ["run.name=r"])).folder == f"{tmp_path}/Output/r"
    assert Workspace(load_config(None, ["run.output_dir=s3://b/out"])).path("x") == "s3://b/out/run/x"
    assert storage.list_names(str(tmp_path)) == []


def test_a_finished_stage_is_skipped(space):
    stage = Stage(space)
    first = stage({"k": 1})
    assert (first["skipped"], first["images"], first["stage"], stage.done) == (False, 3, "embed.gallery", 1)
    assert first["seconds"] >= 0
    assert stage({"k": 1}) == first | {"skipped": True}
    assert stage.done == 1
    assert space.record("embed.gallery") == {key: value for key, value in first.items() if key != "skipped"}


def test_a_stage_with_other_inputs_is_redone(space):
    stage = Stage(space)
    fingerprints = {stage({"k": value})["fingerprint"] for value in (1, 2, 1)}
    assert (stage.done, len(fingerprints)) == (3, 2)


def test_two_stages_with_the_same_inputs_have_their_own_records(space):
    facts = [space.stage(name, {}, [], lambda: {})["fingerprint"] for name in ("embed.gallery", "embed.queries")]
    assert facts[0] != facts[1]


def test_overwrite_redoes_what_is_done(space):
    stage = Stage(space)
    stage({})
    assert stage({}, overwrite=True)["skipped"] is False
    assert stage.done == 2


def test_a_missing_output_is_made_again(space):
    stage = Stage(space)
    stage({})
    storage.remove(stage.output)
    stage({})
    assert stage.done == 2
    assert storage.exists(stage.output)


@pytest.mark.parametrize(
    "content", [b"", b'{"stage": ', b"\xff", b"null", b"[1]", b"{}", b'{"stage": "embed.gallery"}']
)
def test_a_corrupt_record_is_no_record(space, content, caplog):
    caplog.set_level("WARNING", "fabric_retrieval")
    stage = Stage(space)
    stage({})
    storage.write_bytes(space.work("stages", "embed.gallery.json"), content)
    assert space.record("embed.gallery") is None
    assert "embed.gallery: its record cannot be read" in caplog.text
    assert stage({})["skipped"] is False
    assert stage({})["skipped"] is True


def test_a_stage_that_fails_leaves_no_record(space):
    stage = Stage(space)
    stage({})

    def fail():
        raise ValueError("no")

    with pytest.raises(ValueError, match=r"^no$"):
        space.stage("embed.gallery", {"k": 2}, [], fail)
    assert space.record("embed.gallery") is None
    # What the failed attempt may have overwritten is not taken for the result of the inputs before.
    stage({})
    assert stage.done == 2


def test_a_stage_that_was_never_done_has_no_record(space):
    assert space.record("train") is None


def test_a_folder_that_cannot_be_written_is_told_and_nothing_is_left(space, tmp_path):
    def problem(folder):
        return Workspace(load_config(None, [f"run.output_dir={folder}"])).write_problem()

    assert (space.write_problem(), problem(tmp_path / "new" / "deep")) == (None, None)
    assert storage.list_names(str(tmp_path)) == []
    (tmp_path / "file").touch()
    (tmp_path / "gone").symlink_to(tmp_path / "nowhere")
    for name in ("file", "file/deeper", "gone"):
        assert problem(tmp_path / name) == f"{tmp_path / name.partition('/')[0]} is no folder; name another one"
    said = problem("/proc/out")  # nobody makes a file there, not even root
    assert said.startswith("/proc/out/run cannot be written: ")
    assert problem("memory://made/out") is None
    assert storage.list_names("memory://made/out/run") == []
    assert problem("nope://x").startswith("nope://x/run cannot be written: ")
