"""Checkpoints: whole or absent, and never executed."""

import os
import pickle
from pathlib import Path

import pytest
import torch

from vesselgan.errors import InputError
from vesselgan.training import load_checkpoint, save_checkpoint


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
