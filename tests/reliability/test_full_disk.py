"""A disk that is full: what was whole stays whole, the error says so, and the same call goes on once there is space."""

import errno
import os
import subprocess

import numpy as np
import pytest
import torch

from distil import paths, records, steps, transfer
from distil.augment import SYNTHETIC, Sample

WORDS = [f"w{number}" for number in range(5000)]


@pytest.fixture
def disk(tmp_path):
    """A disk of 4 MB, and a function that gives it 64."""
    home = tmp_path / "disk"
    home.mkdir()
    if (
        os.geteuid()
        or subprocess.run(["mount", "-t", "tmpfs", "-o", "size=4m", "none", str(home)], capture_output=True).returncode
    ):
        pytest.skip("only a user who may mount can make a small disk")

    def grow():
        subprocess.run(["mount", "-o", "remount,size=64m", str(home)], check=True)

    yield home, grow
    subprocess.run(["umount", str(home)], check=True)


def samples():
    rng = np.random.default_rng(0)
    return [Sample(i, SYNTHETIC, (" ".join(rng.choice(WORDS, 100)),)) for i in range(20_000)]


def label(texts):
    return np.array([[len(text), 1.0] for text in texts[0]], np.float32)


def test_whole_shards_stay_and_the_rest_follows(disk, tmp_path):
    home, grow = disk
    everything = samples()
    with pytest.raises(OSError) as caught:
        transfer.write_labelled(everything, label, home / "set", identity="x", shard_rows=2000)
    assert caught.value.errno == errno.ENOSPC
    whole = sorted(path.name for path in (home / "set").glob("part-*.parquet"))
    assert 0 < len(whole) < 10
    seen = []

    def counted(texts):
        seen.append(len(texts[0]))
        return label(texts)

    grow()
    transfer.write_labelled(everything, counted, home / "set", identity="x", shard_rows=2000)
    assert len(seen) == 10 - len(
        [name for name in whole if (home / "set" / name).with_suffix(transfer.SEALED).exists()]
    )
    transfer.write_labelled(everything, label, tmp_path / "undisturbed", identity="x", shard_rows=2000)
    assert transfer.digest(home / "set") == transfer.digest(tmp_path / "undisturbed")


def test_a_record_is_the_old_one_or_the_new_one(disk):
    home, _ = disk
    path = home / "runs" / "teacher-seed0.json"
    records.write(path, {"profile": "p", "n": 1})
    (home / "filler").write_bytes(b"x" * (4 * 2**20 - 64 * 2**10))
    with pytest.raises(OSError) as caught:
        records.write(
            path,
            {"profile": "p", "n": 2},
            {"dev": (np.random.default_rng(0).normal(size=(90_000, 2)), np.zeros(90_000, int))},
        )
    assert caught.value.errno == errno.ENOSPC
    (home / "filler").unlink()
    assert records.read(path)["n"] == 1


def test_a_checkpoint_is_the_old_one_or_the_new_one(disk):
    home, _ = disk
    path = home / "checkpoint.pt"
    torch.save({"epoch": 1}, path)
    from distil import train

    network = torch.nn.Linear(1500, 1000)  # 6 MB
    with pytest.raises((OSError, RuntimeError)):  # torch's writer has an error of its own
        train._save_checkpoint(path, "x", network, torch.optim.SGD(network.parameters(), 1.0), [], {})
    assert torch.load(path, weights_only=True) == {"epoch": 1}


def test_a_step_does_not_even_start_and_says_what_to_do(disk, monkeypatch, capsys):
    home, _ = disk
    monkeypatch.setattr(paths, "ARTIFACTS", home)
    assert steps.main(["01_data", "--profile", "smoke", "--task", "sst2"]) == 1
    assert "only 0.0 GB free, wanted 2. Free some space" in capsys.readouterr().err
