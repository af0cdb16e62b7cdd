"""The transfer set on disk: what is written is read, and only whole shards survive a restart."""

import json

import numpy as np
import pyarrow.parquet as pq
import pytest

from distil import records, transfer
from distil.augment import REAL, SYNTHETIC, Sample, transfer_set
from distil.words import MASK


def samples(n=10):
    return [Sample(i, SYNTHETIC if i % 2 else REAL, (f"a {MASK} w{i}", "b")) for i in range(n)]


class Labeller:
    """Gives the logits (number of the sentence, 1); is killed when it reads sentence ``until``."""

    def __init__(self, until=None):
        self.seen, self.until, self.first = [], until, None

    def __call__(self, texts):
        numbers = [text.split("w")[1] for text in texts[0]]
        if self.until in numbers:
            raise KeyboardInterrupt
        self.seen, self.first = self.seen + numbers, self.first or texts[0][0]
        return np.array([[float(number), 1.0] for number in numbers], np.float32)


def write(folder, made=None, labeller=None, rows=4):
    labeller, made = labeller or Labeller(), samples() if made is None else made
    return transfer.write_labelled(made, labeller, folder, mask_token="<mask>", shard_rows=rows)


def digests(folder):
    return {path.name: records.sha256(path) for path in folder.glob("*.parquet")}


def test_what_is_written_is_read_in_order(tmp_path):
    assert write(tmp_path / "t", iter(samples()), label := Labeller()) == (10, 0)
    table = transfer.read(tmp_path / "t")
    assert label.first == "a <mask> w0" and table["sentence1"][3].as_py() == f"a {MASK} w3"
    assert table["kind"].to_pylist() == [0, 1] * 5 and table["sentence2"].to_pylist() == ["b"] * 10
    assert list(transfer.sentences(table, "sentence1")) == table["sentence1"].to_pylist()
    np.testing.assert_array_equal(transfer.logits(table), [[i, 1] for i in range(10)])
    odd = table.filter(table["kind"].to_numpy() == SYNTHETIC)
    assert transfer.logits(odd)[:, 0].tolist() == [1, 3, 5, 7, 9]


def test_a_killed_run_goes_on_and_ends_with_the_same_bytes_and_seconds(tmp_path):
    write(tmp_path / "undisturbed")
    with pytest.raises(KeyboardInterrupt):
        write(tmp_path / "t", labeller=Labeller(until="9"))
    assert not (tmp_path / "t").exists()
    for number, seconds in enumerate((2.5, 4.0)):
        about = tmp_path / "t.part" / f"part-{number:05d}.json"
        about.write_text(json.dumps([json.loads(about.read_text())[0], seconds]))
    again = Labeller()
    assert write(tmp_path / "t", labeller=again) == (10, 6.5) and again.seen == ["8", "9"]
    assert digests(tmp_path / "t") == digests(tmp_path / "undisturbed")


@pytest.mark.parametrize("damage", ["cut", "one bit", "logits", "gone", "no digest"])
@pytest.mark.parametrize("finished", [True, False])
def test_a_damaged_shard_is_labelled_again(tmp_path, damage, finished):
    write(tmp_path / "t")
    before = digests(tmp_path / "t")
    folder = tmp_path / "t" if finished else (tmp_path / "t").rename(tmp_path / "t.part")
    path, about = folder / "part-00001.parquet", folder / "part-00001.json"
    raw, table = bytearray(path.read_bytes()), pq.read_table(path)
    other = table.set_column(4, "logits", table["logits"][::-1])
    raw[len(raw) // 3] ^= 1
    {
        "cut": lambda: path.write_bytes(raw[: len(raw) // 2]),
        "one bit": lambda: path.write_bytes(raw),
        "gone": path.unlink,
        "no digest": about.unlink,
        "logits": lambda: pq.write_table(other, path),
    }[damage]()
    write(tmp_path / "t", labeller=(again := Labeller()))
    assert again.seen == ["4", "5", "6", "7"]
    assert digests(tmp_path / "t") == before
    write(tmp_path / "t", [*samples()[:3], Sample(3, REAL, ("w99", "b"))], again := Labeller())
    assert again.seen == ["0", "1", "2", "99"]  # other sentences


def test_a_synthetic_example_has_the_teachers_argmax_and_a_real_one_its_gold_label(tmp_path):
    write(tmp_path / "t")
    table = transfer.read(tmp_path / "t")  # logits (i, 1): the teacher says 1 for i = 0, else 0
    gold = np.array([0, 0, 1, 0, 1, 0, 1, 0, 1, 0])
    assert transfer.targets(table, gold).tolist() == [0, 0, 1, 0, 1, 0, 1, 0, 1, 0]
    assert transfer.targets(table, 1 - gold).tolist() == [1, 0, 0, 0, 0, 0, 0, 0, 0, 0]


def test_a_subset_has_the_real_rows_a_share_of_the_others_and_nothing_held_out(tmp_path):
    many = [Sample(i // 5, SYNTHETIC if i % 5 else REAL, (f"w{i}",)) for i in range(2000)]
    write(tmp_path / "t", many, rows=300)
    table, nothing = transfer.read(tmp_path / "t"), np.zeros(400, bool)
    assert transfer.subset(table, 1.0, nothing, seed=0).equals(table)
    assert transfer.subset(table, 0.0, nothing, seed=0)["kind"].to_pylist() == [REAL] * 400
    quarter, again, other = (transfer.subset(table, 0.25, nothing, seed=s) for s in (0, 0, 1))
    assert quarter.equals(again) and not quarter.equals(other)
    assert quarter["kind"].to_pylist().count(REAL) == 400 and 300 < len(quarter) - 400 < 500
    kept = transfer.subset(table, 1.0, np.arange(400) < 100, seed=0)["idx"].to_pylist()
    assert set(kept) == set(range(100, 400))


def test_a_word_of_either_column_may_replace_one_of_the_same_tag():
    columns, tags = [[["a"] * 9], [["b"] * 9]], [[["NN"] * 9]] * 2
    rates = {"p_mask": 0.0, "p_pos": 1.0, "p_ng": 0.0}
    _, *drawn = transfer_set(columns, tags, n_iter=3, seed=0, **rates)
    assert all({*text.split()} == {"a", "b"} for text in drawn[2].sentences)
