"""``make verify`` says match only of equal bits."""

import numpy as np
import pytest
import verify

from distil import paths, records
from distil.records import KEYS


@pytest.fixture
def put(tmp_path, monkeypatch):
    monkeypatch.setattr(paths, "ROOT", tmp_path)

    def put(root, shift=0.0, **changes):
        labels = np.arange(10) % 2
        record = {key: {} for key in KEYS} | {"config": {"epochs": 3}, "metrics": {"dev": {"accuracy": 1.0}}} | changes
        path = root / "runs" / "offline" / "sst2" / "student-baseline-seed0.json"
        records.write(path, record, {"dev": (np.eye(2)[labels] + shift, labels)})

    return put


def test_equal_bits_match_and_others_say_by_how_much(put, tmp_path, capsys):
    put(tmp_path / "results")
    put(tmp_path / "new")
    assert verify.main(str(tmp_path / "new")) == 0 and "match: runs/offline" in capsys.readouterr().out
    put(tmp_path / "new", shift=0.001)
    assert verify.main(str(tmp_path / "new")) == 1
    assert "DIFFERS" in (out := capsys.readouterr().out) and "differ by 0.001, 0.0% of answers" in out


def test_another_config_or_other_examples_are_no_match(put, tmp_path, capsys):
    put(tmp_path / "results")
    put(tmp_path / "new", config={"epochs": 4})
    assert (
        verify.main(str(tmp_path / "new")) == 1 and "another config than the record: epochs" in capsys.readouterr().out
    )
    assert verify.main(str(tmp_path / "nothing")) == 1
