"""The transfer set on disk: order and logits come back, finished shards are not labelled twice, another identity starts anew."""

import json

import numpy as np
import pytest

from distil import transfer
from distil.augment import REAL, SYNTHETIC, Sample
from distil.words import MASK


def samples(n=10):
    return [Sample(i, SYNTHETIC if i % 2 else REAL, (f"a {MASK} w{i}", "b")) for i in range(n)]


class Labeller:
    def __init__(self):
        self.seen = []

    def __call__(self, texts):
        self.seen += texts[0]
        return np.array([[float(text.split("w")[1]), 1.0] for text in texts[0]], np.float32)


def test_what_is_written_is_read_in_order(tmp_path):
    labeller = Labeller()
    total, earlier = transfer.write_labelled(
        samples(), labeller, tmp_path / "t", identity="x", mask_token="<mask>", shard_rows=4
    )
    table = transfer.read(tmp_path / "t")
    assert (total, earlier) == (10, 0) and len(list((tmp_path / "t").glob("part-*.parquet"))) == 3
    assert labeller.seen[3] == "a <mask> w3"
    assert table["sentence1"].to_pylist()[3] == f"a {MASK} w3" and table["sentence2"].to_pylist() == ["b"] * 10
    assert table["kind"].to_pylist() == [i % 2 for i in range(10)]
    np.testing.assert_array_equal(transfer.logits(table), [[i, 1] for i in range(10)])
    filtered = table.filter(table["kind"].to_numpy() == SYNTHETIC)
    np.testing.assert_array_equal(transfer.logits(filtered)[:, 0], [1, 3, 5, 7, 9])


def test_only_missing_shards_are_labelled_again(tmp_path):
    transfer.write_labelled(samples(), Labeller(), tmp_path / "t", identity="x", shard_rows=4)
    before = transfer.digest(tmp_path / "t")
    (tmp_path / "t" / "part-00001.parquet").unlink()
    labeller = Labeller()
    transfer.write_labelled(samples(), labeller, tmp_path / "t", identity="x", shard_rows=4)
    assert [text.split("w")[1] for text in labeller.seen] == ["4", "5", "6", "7"]
    assert transfer.digest(tmp_path / "t") == before


def test_shards_of_another_identity_are_labelled_anew_and_that_is_said(tmp_path, capsys):
    transfer.write_labelled(samples(10), Labeller(), tmp_path / "t", identity="x", shard_rows=4)
    assert not capsys.readouterr().out
    transfer.write_labelled(samples(3), Labeller(), tmp_path / "t", identity="y", shard_rows=4)
    assert len(transfer.read(tmp_path / "t")) == 3
    assert "labelled anew" in capsys.readouterr().err


def test_shards_of_another_arithmetic_of_the_teacher_are_labelled_anew(tmp_path, monkeypatch):
    code = set()
    monkeypatch.setattr(transfer, "code_digest", lambda *modules: code.update(modules) or "before")
    transfer.write_labelled(samples(10), Labeller(), tmp_path / "t", identity="x", shard_rows=4)
    monkeypatch.setattr(transfer, "code_digest", lambda *modules: "after")
    transfer.write_labelled(samples(10), again := Labeller(), tmp_path / "t", identity="x", shard_rows=4)
    assert len(again.seen) == 10 and code >= {"fastbert", "batching"}


def test_the_time_of_shards_that_were_there_counts(tmp_path):
    transfer.write_labelled(samples(10), Labeller(), tmp_path / "t", identity="x", shard_rows=4)
    for number, seconds in enumerate((2.5, 4.0, 1.0)):
        about = tmp_path / "t" / f"part-{number:05d}.json"
        about.write_text(json.dumps(json.loads(about.read_text()) | {"seconds": seconds}))
    (tmp_path / "t" / "part-00001.parquet").unlink()
    assert transfer.write_labelled(samples(10), Labeller(), tmp_path / "t", identity="x", shard_rows=4) == (10, 3.5)


def test_a_missing_set_says_what_to_run(tmp_path):
    with pytest.raises(FileNotFoundError, match="03_transfer_set"):
        transfer.read(tmp_path / "none")


def test_shards_with_other_sentences_are_labelled_anew_and_surplus_ones_go(tmp_path):
    transfer.write_labelled(samples(10), Labeller(), tmp_path / "t", identity="x", shard_rows=4)
    changed = [*samples(4)[:3], Sample(3, REAL, ("w99", "b"))]
    labeller = Labeller()
    transfer.write_labelled(changed, labeller, tmp_path / "t", identity="x", shard_rows=4)
    assert labeller.seen == [f"a {MASK} w0", f"a {MASK} w1", f"a {MASK} w2", "w99"]
    assert transfer.read(tmp_path / "t")["sentence1"].to_pylist()[3:] == ["w99"]


def test_a_synthetic_example_has_the_teachers_argmax_and_a_real_one_its_gold_label(tmp_path):
    transfer.write_labelled(samples(), Labeller(), tmp_path / "t", identity="x", shard_rows=4)
    table = transfer.read(tmp_path / "t")  # logits (i, 1): the teacher says 1 for i = 0 and 0 from i = 2 on
    gold = np.array([0, 0, 1, 0, 1, 0, 1, 0, 1, 0])
    assert transfer.targets(table, gold).tolist() == [0, 0, 1, 0, 1, 0, 1, 0, 1, 0]
    assert transfer.targets(table, 1 - gold).tolist() == [1, 0, 0, 0, 0, 0, 0, 0, 0, 0]


def test_sentences_come_back_shard_after_shard(tmp_path):
    transfer.write_labelled(samples(), Labeller(), tmp_path / "t", identity="x", shard_rows=4)
    table = transfer.read(tmp_path / "t")
    assert len(table.column("sentence1").chunks) == 3
    assert list(transfer.sentences(table, "sentence1")) == table.column("sentence1").to_pylist()


def test_a_subset_has_the_real_rows_a_share_of_the_others_and_nothing_of_what_is_held_out(tmp_path):
    many = [Sample(i // 5, SYNTHETIC if i % 5 else REAL, (f"w{i}",)) for i in range(2000)]
    transfer.write_labelled(many, Labeller(), tmp_path / "t", identity="x", shard_rows=300)
    table, nothing = transfer.read(tmp_path / "t"), np.zeros(400, bool)
    assert transfer.subset(table, 1.0, nothing, seed=0).equals(table)
    assert transfer.subset(table, 0.0, nothing, seed=0)["kind"].to_pylist() == [REAL] * 400
    quarter = transfer.subset(table, 0.25, nothing, seed=0)
    assert quarter["kind"].to_pylist().count(REAL) == 400 and 300 < len(quarter) - 400 < 500
    held = np.arange(400) < 100
    assert set(transfer.subset(table, 1.0, held, seed=0)["idx"].to_pylist()) == set(range(100, 400))


@pytest.mark.parametrize("damage", ["cut", "emptied", "one bit"])
def test_a_damaged_shard_is_labelled_anew_and_never_read_in_silence(tmp_path, damage):
    transfer.write_labelled(samples(), Labeller(), tmp_path / "t", identity="x", shard_rows=4)
    before = transfer.digest(tmp_path / "t")
    path = tmp_path / "t" / "part-00001.parquet"
    raw = bytearray(path.read_bytes())
    raw[len(raw) // 3] ^= 1
    path.write_bytes({"cut": raw[: len(raw) // 2], "emptied": b"", "one bit": raw}[damage])
    with pytest.raises(transfer.TransferError, match="not the transfer set of its record"):
        transfer.read(tmp_path / "t", before)
    labeller = Labeller()
    transfer.write_labelled(samples(), labeller, tmp_path / "t", identity="x", shard_rows=4)
    assert len(labeller.seen) == 4
    assert len(transfer.read(tmp_path / "t", before)) == 10
