"""Checkpoints: whole or absent, and never executed."""

import os
import pickle
import zipfile
from pathlib import Path
from typing import Any

import pytest
import torch

from benchmark.stages.context import sound_checkpoint
from vesselgan.errors import InputError
from vesselgan.training import checkpoints_of, load_checkpoint, save_checkpoint
from vesselgan.training.loop import run_training


def test_a_state_comes_back_as_it_was(tmp_path: Path) -> None:
    state = {"step": 3, "config": "a", "weights": {"w": torch.arange(3.0)}, "history": [{"loss": float("inf")}]}
    save_checkpoint(tmp_path / "new" / "state.pt", state)
    loaded = load_checkpoint(tmp_path / "new" / "state.pt")
    assert torch.equal(loaded["weights"].pop("w"), state["weights"].pop("w"))  # type: ignore[attr-defined]
    assert loaded == state
    assert [path.name for path in (tmp_path / "new").iterdir()] == ["state.pt"]


def test_a_crash_while_writing_leaves_the_old_checkpoint(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    path = tmp_path / "state.pt"
    save_checkpoint(path, {"step": 1})

    def fail(descriptor: int) -> None:
        raise OSError("disk full")

    with monkeypatch.context() as patch:
        patch.setattr(os, "fsync", fail)
        with pytest.raises(OSError, match="disk full"):
            save_checkpoint(path, {"step": 2})
    assert load_checkpoint(path) == {"step": 1}
    save_checkpoint(path, {"step": 3})
    assert load_checkpoint(path) == {"step": 3}


def test_a_checkpoint_that_would_run_code_is_refused(tmp_path: Path) -> None:
    class Attack:
        def __reduce__(self) -> tuple[object, tuple[str]]:
            return os.mkdir, (str(tmp_path / "attacked"),)

    torch.save({"weights": Attack()}, tmp_path / "torch.pt")
    (tmp_path / "pickle.pt").write_bytes(pickle.dumps(Attack()))
    for name in ("torch.pt", "pickle.pt"):
        with pytest.raises(InputError, match=f"{name}: not a readable checkpoint"):
            load_checkpoint(tmp_path / name)
    assert not (tmp_path / "attacked").exists()


def test_missing_damaged_and_foreign_files_are_refused_in_one_line(tmp_path: Path) -> None:
    save_checkpoint(tmp_path / "whole.pt", {"weights": torch.zeros(1000)})
    (tmp_path / "half.pt").write_bytes((tmp_path / "whole.pt").read_bytes()[:2000])
    (tmp_path / "empty.pt").write_bytes(b"")
    torch.save([1, 2], tmp_path / "list.pt")
    for name, reason in {
        "absent.pt": "no such checkpoint",
        "half.pt": "not a readable checkpoint",
        "empty.pt": "not a readable checkpoint",
        "list.pt": "holds a list",
    }.items():
        with pytest.raises(InputError, match=f"{name}: {reason}") as refusal:
            load_checkpoint(tmp_path / name)
        assert "\n" not in str(refusal.value)


def flipped(path: Path) -> None:
    """One bit of a weight, which torch itself does not notice."""
    content = bytearray(path.read_bytes())
    content[content.index(WEIGHT.numpy().tobytes()) + 5] ^= 4
    path.write_bytes(content)


WEIGHT = torch.arange(100.0) + 0.123


def test_a_flipped_bit_is_noticed(tmp_path: Path) -> None:
    save_checkpoint(tmp_path / "state.pt", {"w": WEIGHT})
    flipped(tmp_path / "state.pt")
    torch.load(tmp_path / "state.pt", weights_only=True)
    with pytest.raises(InputError, match=r"state.pt: not a readable checkpoint \(.*is damaged"):
        load_checkpoint(tmp_path / "state.pt")


def test_a_packed_file_is_not_unfolded(tmp_path: Path) -> None:
    with zipfile.ZipFile(tmp_path / "bomb.pt", "w", zipfile.ZIP_DEFLATED) as archive:
        archive.writestr("archive/data.pkl", bytes(10**8))
    with pytest.raises(InputError, match="packed, as no checkpoint is"):
        load_checkpoint(tmp_path / "bomb.pt")


class Counting:
    """A training of ten steps whose outcome is the sum of their numbers."""

    device = torch.device("cpu")

    def __init__(self) -> None:
        self.steps_done, self.sum = 0, torch.zeros(())
        self.made: list[int] = []

    @property
    def finished(self) -> bool:
        return self.steps_done == 10

    def step(self, index: int) -> dict[str, torch.Tensor]:
        self.sum += index
        self.steps_done += 1
        self.made.append(index)
        return {"sum": self.sum.clone(), "outcome": torch.zeros(()), "loss_scale": torch.ones(())}

    def state_dict(self) -> dict[str, object]:
        return {"config": "ten", "steps_done": self.steps_done, "sum": self.sum, "w": WEIGHT}

    def load_state_dict(self, state: dict[str, Any]) -> None:
        if state.get("config") != "ten":
            raise InputError("the checkpoint belongs to a training with other settings; delete it to start again")
        self.steps_done, self.sum = state["steps_done"], state["sum"]


def train(checkpoint: Path, stop_at: int = 10) -> Counting:
    """Writes a checkpoint after every step."""
    trainer = Counting()

    def step(index: int) -> dict[str, torch.Tensor]:
        if index == stop_at:
            raise KeyboardInterrupt
        return trainer.step(index)

    run_training(
        trainer,
        step,
        checkpoint=checkpoint,
        checkpoint_every_s=0,
        on_step=None,
        max_bad_steps=20,
        explain=lambda index, overflow: "",
    )
    return trainer


@pytest.mark.parametrize("damage", ["flipped", "cut", "empty", "other settings", "lost"])
def test_a_training_goes_on_from_the_last_good_checkpoint(
    damage: str, tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    path = tmp_path / "checkpoint.pt"
    with pytest.raises(KeyboardInterrupt):
        train(path, stop_at=7)
    if damage == "flipped":
        flipped(path)
    elif damage == "cut":
        path.write_bytes(path.read_bytes()[:-30])
    elif damage == "empty":
        path.write_bytes(b"")
    elif damage == "other settings":
        torch.save({"config": "eleven"}, path)
    else:
        path.unlink()
    trainer = train(path)
    assert trainer.made == [6, 7, 8, 9], "the step that only the damaged one had is made again"
    assert trainer.sum == sum(range(10))
    lines = [record.getMessage() for record in caplog.records]
    assert len(lines) == (damage != "lost")
    assert all(line.endswith("the training goes on from the one before, step 6") for line in lines)
    assert load_checkpoint(path)["steps_done"] == 10


def test_without_a_good_checkpoint_nothing_is_overwritten(tmp_path: Path) -> None:
    (tmp_path / "checkpoint.pt").write_bytes(b"a thesis")
    with pytest.raises(InputError, match="not a readable checkpoint"):
        train(tmp_path / "checkpoint.pt")
    assert (tmp_path / "checkpoint.pt").read_bytes() == b"a thesis"


def test_a_stage_without_a_good_checkpoint_starts_again(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    with pytest.raises(KeyboardInterrupt):
        train(tmp_path / "checkpoint.pt", stop_at=7)
    for path in checkpoints_of(tmp_path / "checkpoint.pt"):
        flipped(path)
    trainer = train(sound_checkpoint(tmp_path))
    assert trainer.made == list(range(10))
    (record,) = caplog.records
    assert record.getMessage().endswith("no checkpoint is left, so the training starts again")
