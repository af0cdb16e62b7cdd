"""``load_task`` keeps its contract for every task, reads GLUE's files as they are, and otherwise names file, line and column."""

import os
import re
from pathlib import Path

import make_toy
import pytest

from distil import data, packaged, paths, records, words
from distil.data import DataError, load_hub, load_task, read_tsv
from distil.tasks import PAPER, QQP, SST2


@pytest.mark.parametrize("task", PAPER)
def test_the_contract_of_load_task(task):
    splits, spec = load_task(task, "toy"), PAPER[task]
    assert set(splits) == {"train", "dev"} | ({"dev_mismatched"} if task == "mnli" else set())
    for rows in splits.values():
        assert set(rows.column_names) == {*spec.columns, "label", "idx"}
        assert rows.features["label"].names == list(spec.labels)
        assert rows["idx"][:] == list(range(len(rows)))
        assert set(rows["label"]) == set(range(len(spec.labels)))
    texts = {name: set(zip(*(rows[c] for c in spec.columns), strict=True)) for name, rows in splits.items()}
    assert not texts["train"] & texts["dev"]


def test_the_toy_files_are_what_their_script_writes():
    for name, text in make_toy.files().items():
        assert (paths.TOY / name).read_text(encoding="utf-8") == text, name


def test_every_toy_word_has_a_tag():
    import json

    lexicon = json.loads((paths.TOY / "tags.json").read_text(encoding="utf-8"))
    for task, spec in PAPER.items():
        for rows in load_task(task, "toy").values():
            for column in spec.columns:
                assert {word for text in rows[column] for word in words.tokenize(text)} <= set(lexicon)


def sst2(folder, train, dev="sentence\tlabel\nfine film\t1\n", encoding="utf-8"):
    (folder / "SST-2").mkdir()
    (folder / "SST-2" / "train.tsv").write_bytes(train if isinstance(train, bytes) else train.encode(encoding))
    (folder / "SST-2" / "dev.tsv").write_text(dev, encoding="utf-8")
    return str(folder)


def test_a_directory_is_read_as_glue_writes_it(tmp_path):
    text = 'sentence\tlabel\n" a quote begins it \t1\r\ncafé\r ☕ \t0\n\n'
    rows = load_task("sst2", sst2(tmp_path, "\ufeff" + text))["train"]
    assert rows["sentence1"][:] == ['" a quote begins it ', "café\r ☕ "] and rows["label"][:] == [1, 0]


@pytest.mark.parametrize(
    "train, wanted",
    [
        ("text\tlabel\na\t1\n", r"train.tsv, line 1: no column 'sentence'"),
        ("sentence\tlabel\na\t1\nb 0\n", r"train.tsv, line 3: 1 columns, the header has 2"),
        ("sentence\tlabel\na\t1\nb\t2\n", r"train.tsv, line 3, column 'label': '2' is not one of"),
        ("sentence\tlabel\na\t\n", r"train.tsv, line 2, column 'label': ''"),
        ("sentence\tlabel\na\textra\t1\n", r"train.tsv, line 2: 3 columns, the header has 2; is a tab too many"),
        (b"\xef\xbb\xbfsentence\tlabel\nok\t1\n\xe9\t1\n", r"train.tsv, line 3: not UTF-8"),
        ("sentence\tlabel\n", r"train.tsv: no rows"),
        ("", r"train.tsv, line 1: no column 'sentence'"),
        (b"sentence\tlabel\nok\t1\ncaf\xe9\t1\n", r"train.tsv, line 3: not UTF-8"),
    ],
)
def test_a_malformed_file_is_named_with_its_line(tmp_path, train, wanted):
    with pytest.raises(DataError, match=wanted):
        load_task("sst2", sst2(tmp_path, train))


def test_a_missing_folder_file_or_task_is_named(tmp_path):
    with pytest.raises(DataError, match=r"no folder .*SST-2"):
        load_task("sst2", str(tmp_path))
    folder = sst2(tmp_path, "sentence\tlabel\na\t1\n")
    (tmp_path / "SST-2" / "dev.tsv").unlink()
    with pytest.raises(DataError, match=r"missing file .*dev\.tsv"):
        load_task("sst2", folder)
    with pytest.raises(DataError, match="unknown task 'cola'"):
        load_task("cola", "toy")


def test_short_rows_of_glues_own_qqp_file_are_left_out(tmp_path):
    path = tmp_path / "train.tsv"
    path.write_text(
        "id\tqid1\tqid2\tquestion1\tquestion2\tis_duplicate\n0\t1\t2\ta ?\tb ?\t1\n1\t2\n", encoding="utf-8"
    )
    assert read_tsv(QQP, path) == [("a ?", "b ?", 1)]
    with path.open("a", encoding="utf-8") as stream:
        stream.write("2\t3\n" * 10)  # GLUE has a handful: more are damage
    with pytest.raises(DataError, match=r"line 13: 2 columns, the header has 6; is a tab missing"):
        read_tsv(QQP, path)


def test_prepared_data_reload_to_the_same_digest(tmp_path, monkeypatch):
    monkeypatch.setattr(paths, "ARTIFACTS", tmp_path)
    raw = load_task("qqp", "toy")
    folder = paths.artifact("p", "qqp", "data")
    made = data.prepare(raw, QQP, folder, max_train=50, max_dev=0, seed=3)
    again = data.load_prepared("p", "qqp")
    assert {name: len(rows) for name, rows in again.items()} == {"train": 50, "dev": 80}
    assert {name: data.digest(rows) for name, rows in again.items()} == {
        name: data.digest(rows) for name, rows in made.items()
    }
    other = data.prepare(raw, QQP, folder, max_train=50, max_dev=0, seed=4)
    assert data.digest(other["train"]) != data.digest(made["train"])
    idx, text = made["train"]["idx"][0], made["train"]["sentence1"][0]
    assert text == " ".join(words.tokenize(raw["train"]["sentence1"][idx]))


def test_unprepared_data_say_what_to_run(tmp_path, monkeypatch):
    monkeypatch.setattr(paths, "ARTIFACTS", tmp_path)
    with pytest.raises(DataError, match="01_data"):
        data.load_prepared("offline", "sst2")


def test_a_data_set_is_named_by_what_it_is():
    assert data.dataset_name("sst2", "packages", 8041) == "vader-movie"
    assert data.dataset_name("sst2", "toy", 240) == "toy/sst2"
    assert data.dataset_name("mnli", "hub", 392_702) == "glue/mnli"
    assert data.dataset_name("mnli", "/some/folder", 46_467) == "glue-part/mnli"


def test_a_hub_that_cannot_be_reached_says_what_to_do(tmp_path):
    with pytest.raises(DataError, match=r"cannot load sst2 of .*GLUE_DIR"):
        load_hub(SST2, str(tmp_path / "nothing"), None)


@pytest.mark.parametrize("damage", ["another word", "cut"])
def test_prepared_data_that_are_not_those_on_record_are_refused(tmp_path, monkeypatch, damage):
    monkeypatch.setattr(paths, "ARTIFACTS", tmp_path / "artifacts")
    monkeypatch.setattr(paths, "RESULTS", tmp_path / "results")
    folder = paths.artifact("p", "sst2", "data")
    made = data.prepare(load_task("sst2", "toy"), SST2, folder, max_train=20, max_dev=0, seed=3)
    record = {"profile": "p", "task": "sst2", "digests": {name: data.digest(rows) for name, rows in made.items()}}
    records.write(paths.data_record("p", "sst2"), record)
    assert len(data.load_prepared("p", "sst2")["train"]) == 20
    path = folder / "train.parquet"
    if damage == "cut":
        path.write_bytes(path.read_bytes()[:-20])
    else:
        made["train"].map(lambda row: {"sentence1": row["sentence1"] + " x"}).to_parquet(str(path))
    with pytest.raises(DataError, match=r"p/sst2 are not those of their record.*Delete results/data/p/sst2\.json"):
        data.load_prepared("p", "sst2")


@pytest.mark.skipif(not os.environ.get("GLUE_DIR"), reason="GLUE_DIR is not set: there is no SST-2 to compare with")
def test_how_much_of_vader_movie_stands_in_sst2():
    """What README says of it: 62% of the sentences, 98% of these with the same label, and four fifths of SST-2's dev."""
    folder = data.load_directory(SST2, Path(os.environ["GLUE_DIR"]))
    movie = packaged.load("sst2")

    def labels(splits, *names):
        return {re.sub("[^a-z0-9]", "", text.lower()): label for name in names for text, label in splits[name]}

    glue, ours = labels(folder, "train", "dev"), labels(movie, *movie)
    shared = glue.keys() & ours.keys()
    assert len(shared) / len(ours) == pytest.approx(0.62, abs=0.01)
    assert sum(glue[text] == ours[text] for text in shared) / len(shared) == pytest.approx(0.98, abs=0.01)
    dev = labels(folder, "dev")
    assert len(dev.keys() & ours.keys()) / len(dev) == pytest.approx(0.82, abs=0.01)
