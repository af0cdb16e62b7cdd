"""Records are whole or absent, small, complete, and come back as they went."""

import numpy as np
import pytest

from distil import records
from distil.records import KEYS, RecordError


def record(**changes):
    return dict.fromkeys(KEYS, 0) | {"role": "teacher"} | changes


def test_a_record_and_its_predictions_come_back(tmp_path):
    logits, labels = np.random.default_rng(0).normal(size=(9, 3)).astype(np.float32), np.arange(9) % 3
    path = tmp_path / "a" / "teacher-seed0.json"
    records.write(path, record(seed=4), {"dev": (logits, labels), "test": (logits[:2], labels[:2])})
    assert records.read(path)["seed"] == 4
    back = records.read_predictions(path)
    np.testing.assert_array_equal(back["dev"][0], logits)
    np.testing.assert_array_equal(back["test"][1], labels[:2])
    assert sorted(p.name for p in path.parent.iterdir()) == ["teacher-seed0.json", "teacher-seed0.npz"]


def test_the_record_comes_last(tmp_path, monkeypatch):
    monkeypatch.setattr(records.np, "savez_compressed", lambda *a, **k: (_ for _ in ()).throw(OSError("disk full")))
    path = tmp_path / "r.json"
    with pytest.raises(OSError, match="disk full"):
        records.write(path, record(), {"dev": (np.zeros((1, 2)), np.zeros(1))})
    assert not path.exists()


def test_an_incomplete_or_large_record_is_refused(tmp_path):
    incomplete = record()
    del incomplete["inputs"]
    with pytest.raises(RecordError, match="inputs"):
        records.write(tmp_path / "r.json", incomplete)
    with pytest.raises(RecordError, match="65536"):
        records.write(tmp_path / "r.json", record(extra="x" * 70_000))
    assert list(tmp_path.iterdir()) == []


def test_a_missing_or_damaged_record_says_what_to_do(tmp_path):
    with pytest.raises(RecordError, match="make reproduce"):
        records.read(tmp_path / "none.json")
    (tmp_path / "bad.json").write_text('{"seed": ')
    with pytest.raises(RecordError, match="damaged"):
        records.read(tmp_path / "bad.json")


def test_no_path_of_a_machine_is_published():
    from distil.config import DataConfig

    assert records.config_of(DataConfig("/home/someone/glue", 0, 0))["source"] == "glue"
    assert records.config_of(DataConfig("~/someone/glue", 0, 0))["source"] == "glue"
    assert records.config_of(DataConfig("../someone/glue", 0, 0))["source"] == "glue"
    assert records.config_of(DataConfig("hub", 0, 0))["source"] == "hub"
