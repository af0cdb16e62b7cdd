"""Every source has one shape, and a bad file is refused with its name, line and column."""

import hashlib
import json
import re
from unittest import mock

import datasets
import make_toy
import pytest
from datasets import ClassLabel, Dataset, Features, Value

from distil import config, data, records, run, words
from distil.data import load_task

SST2, QQP, MNLI = (config.task(name) for name in ("sst2", "qqp", "mnli"))


@pytest.fixture(autouse=True)
def folders(tmp_path, monkeypatch):
    monkeypatch.setattr(records, "ARTIFACTS", tmp_path / "artifacts")
    monkeypatch.setattr(records, "RESULTS", tmp_path / "results")
    monkeypatch.setattr(datasets.config, "HF_DATASETS_CACHE", tmp_path / "cache")


@pytest.mark.parametrize("spec", [SST2, QQP, MNLI], ids=lambda spec: spec.name)
def test_the_contract_of_load_task_and_every_word_of_the_toy_files_has_a_tag(spec):
    splits, tags = load_task(spec.name, "toy"), config.TOY / "tags.json"
    assert set(splits) == {"train", "dev"} | ({"dev_mismatched"} if spec is MNLI else set())
    for rows in splits.values():
        assert set(rows.column_names) == {*spec.columns, "label", "idx"}
        assert rows.features["label"].names == list(spec.labels)
        assert rows["idx"][:] == list(range(len(rows)))
        assert set(rows["label"]) == set(range(len(spec.labels)))
        known = {word for name in spec.columns for t in rows[name] for word in words.tokenize(t)}
        assert known <= set(json.loads(tags.read_text(encoding="utf-8")))
    train, dev = ({tuple(row.values())[:-2] for row in splits[name]} for name in ("train", "dev"))
    assert not train & dev
    for name, text in make_toy.files().items():
        assert (config.TOY / name).read_text(encoding="utf-8") == text, name


OK = None
HEAD = b"sentence\tlabel\n"
GOOD = HEAD + b"a fine film\t1\na dull film\t0\n"
QHEAD = b"id\tqid1\tqid2\tquestion1\tquestion2\tis_duplicate\n"
FILES = {  # name: (task, content of train.tsv, what the error says or OK)
    "CR": (SST2, GOOD.replace(b"\n", b"\r"), OK),
    "BOM, CRLF, blank lines": (SST2, b"\xef\xbb\xbf" + GOOD.replace(b"\n", b"\r\n\r\n")[:-4], OK),
    "quotes": (SST2, HEAD + b'"a\t1\na\\t \\\\ c\t1\nNA\t0\n\t1\n \t0\n.!?\t1\n1 2\t0\n', OK),
    "scripts": (SST2, HEAD + "\U0001f600\u200d\U0001f469\t1\nفيلم\t1\n好电影 e̸̴\t0\n".encode(), OK),
    "line separators": (SST2, HEAD + "a\u2028b\u0085c\x0cd\x0be\t1\nd\t0\n".encode(), OK),
    "controls": (SST2, HEAD + b"a\x00b\t1\nc\x1b[31m\t0\nd\re <br />\t0\n[MASK] <pad>\t0\n", OK),
    "long": (SST2, HEAD + b"film " * 10_000 + b"\t1\n" + b"x" * 100_000 + b"\t0\n", OK),
    "no bytes": (SST2, b"", r"line 1: no column 'sentence'"),
    "the header alone": (SST2, HEAD + b"\n \n\t\n", r"train\.tsv: no rows"),
    "a column twice": (SST2, b"label\tsentence\tlabel\n1\ta\t1\n", "line 1: two columns 'label'"),
    "a missing tab": (SST2, HEAD + b"a 1\n", r"line 2: 1 columns.* has 2; is a tab missing\?"),
    "a tab too many": (SST2, HEAD + b"a\tb\t1\n", r"line 2: 3 columns.* is a tab too many\?"),
    "a wrong label": (SST2, HEAD + b"a\t1\n\nb\t2\n", r"line 4, column 'label': '2' is not"),
    "a very long label": (SST2, HEAD + b"a\t" + b"1" * 9000, r"line 2, column 'label'"),
    "Latin-1": (SST2, b"\xef\xbb\xbf" + GOOD + b"caf\xe9\t1\n", r"line 4: not UTF-8"),
    "GLUE's few short rows": (QQP, QHEAD + b"0\t1\t2\ta ?\tb ?\t1\n\n" + b"1\t2\n" * 10, OK),
    "too many short rows": (QQP, QHEAD + b"1\t2\n" * 11, r"line 12: 2 columns, the header has 6"),
}


def glue_folder(tmp_path, spec, train):
    (tmp_path / spec.folder).mkdir()
    for split in spec.splits.values():
        (tmp_path / spec.folder / split["file"]).write_bytes(train)
    return str(tmp_path)


@pytest.mark.parametrize("name", FILES)
def test_a_file_is_read_and_prepared_or_refused_in_one_line(name, tmp_path):
    spec, train, wanted = FILES[name]
    source = glue_folder(tmp_path, spec, train)
    if wanted is OK:
        home = tmp_path / "prepared"
        rows = load_task(spec.name, source)["train"]
        prepared = data.prepare({"train": rows}, spec, home, max_train=0, max_dev=0, seed=0)
        assert prepared["train"]["label"][:] == rows["label"][:]
        for column in spec.columns:
            found = [text.split() for text in prepared["train"][column]]
            assert found == [words.tokenize(text) for text in rows[column]]
        return
    with pytest.raises(ValueError, match=wanted) as caught:
        load_task(spec.name, source)
    message = str(caught.value).replace(str(tmp_path), "")
    assert "train.tsv" in message and "\n" not in message and len(message) <= 400


@pytest.mark.parametrize("ending, inside", [("\n", "\r"), ("\r\n", "\r"), ("\r", "\n")])
def test_texts_and_labels_come_as_the_file_has_them(tmp_path, ending, inside):
    text = f'\ufeffsentence\tlabel#" it {inside} begins \t1 ##café ☕ \t0#'.replace("#", ending)
    rows = load_task("sst2", glue_folder(tmp_path, SST2, text.encode()))["train"]
    assert rows["sentence1"][:] == [f'" it {inside} begins ', "café ☕ "]
    assert rows["label"][:] == [1, 0] and rows["idx"][:] == [0, 1]


def test_a_test_file_is_a_split_if_it_has_labels_and_what_is_missing_is_named(tmp_path, capsys):
    with pytest.raises(ValueError, match=r"cannot read .*SST-2/train\.tsv.*No such file"):
        load_task("sst2", str(tmp_path))
    source, test = glue_folder(tmp_path, SST2, GOOD), tmp_path / "SST-2" / "test.tsv"
    test.write_bytes(GOOD)
    assert load_task("sst2", source)["test"]["label"][:] == [1, 0]
    test.write_text("index\tsentence\n0\ta fine film\n")  # GLUE's own
    assert set(load_task("sst2", source)) == {"train", "dev"}
    assert "test.tsv of SST-2 has no column 'label', so" in capsys.readouterr().out
    (tmp_path / "SST-2" / "dev.tsv").unlink()
    (tmp_path / "SST-2" / "dev.tsv").mkdir()
    with pytest.raises(ValueError, match=r"cannot read .*dev\.tsv.*Is a directory"):
        load_task("sst2", source)
    with pytest.raises(config.ConfigError, match="cola"):
        load_task("cola", "toy")


NUMBERED = [f'it says "go", {"left" * (i % 7)}\r\nand\t{chr(97 + i)}' for i in range(26)]
ROWS = [(text, ("no", "NA")[number % 3 == 0]) for number, text in enumerate(NUMBERED)]


def write_rows(path, rows, label=str):
    """Write the columns ``text`` and ``kind`` in the format that the file's name says."""
    made = Dataset.from_dict({"text": [t for t, _ in rows], "kind": [label(k) for _, k in rows]})
    getattr(made, f"to_{path.suffix[1:].removesuffix('l')}")(path)


def own(configs, path, more=""):
    """Load the task ``mine``, whose data are a file, a folder or a set of the hub."""
    mine = f"mine: {{data: '{path}', text: [text], label: kind{more}}}\n"
    configs("tasks", mine + (config.ROOT / "configs" / "tasks.yaml").read_text("utf-8"))
    return load_task("mine", config.settings("mine", "data", "mine").source)


LABELS = {"NA, no": str, "0, 2": "NAno".index, "false, true": "no".__eq__}


@pytest.mark.parametrize("end", [".csv", ".jsonl", ".parquet"])
@pytest.mark.parametrize("names", LABELS)
def test_own_data_come_as_the_format_has_them_and_dev_is_drawn(tmp_path, configs, end, names):
    write_rows(path := tmp_path / f"all{end}", ROWS, LABELS[names])
    splits = own(configs, path)
    rows = [row for name in ("train", "dev") for row in splits[name]]
    assert sorted((row["sentence1"], ("NA", "no")[row["label"]]) for row in rows) == sorted(ROWS)
    found = ", ".join(splits["dev"].features["label"].names)
    assert found == (names.title() if end == ".csv" and "true" in names else names)
    assert sorted(splits["dev"]["label"]) == [0, 1, 1]  # of each label a tenth
    assert load_task("mine", str(path))["dev"][:] == splits["dev"][:]


FAULTY = [
    ("a.csv", b'text,kind\n"a\nb",x\nc,d,e\n', r"a\.csv: .*Row #3: Expected 2 columns, got 3"),
    ("a.csv", b"text,kind\na,x\ncaf\xe9,y\n", r"a\.csv: .*Row #3.* UTF8"),
    (
        "a.csv",
        b"text,kind\na,x\nb,\n",
        r"a\.csv, row 3, column 'kind': .* delete a test file without labels$",
    ),
    ("a.csv", b"text,kind,text\na,x,b\n", r"a\.csv: .*text.* exists 2 times"),
    ("a.csv", b"x,y\na,b\n", r"a\.csv, row 1: no column 'text': .*got \['x', 'y'\]"),
    ("a.csv", b"text,kind\na,x\nb,x\n", r"mine: labels: List should have at least 2"),
    ("a.jsonl", b'{"text":"a","kind":1}\n{"text":"b" "kind":2}\n', r"a\.jsonl: .* in row 2;"),
    ("a.jsonl", b'{"text":"a","kind":1}\n{"kind":2}\n', r"row 2, column 'text': .* got None"),
    ("a.jsonl", b'{"text":"a","kind":1}\n{"text":5,"kind":2}\n', r"number in row 2;"),
    ("a.jsonl", b'{"text":"caf\xe9","kind":1}\n', r"a\.jsonl: .*UTF8"),
    ("a.parquet", b"PAR1", r"a\.parquet: .*save it again as parquet"),
    ("a.xlsx", b"", r"a\.xlsx: wanted a file that ends in \.csv, \.tsv"),
    ("a.tsv", b"good\tpos\nbad\tneg\n", r"a\.tsv, line 1: no column 'text'.*\['good', 'pos'\]"),
]


@pytest.mark.parametrize(("name", "content", "said"), FAULTY)
def test_own_data_with_a_fault_are_refused_in_one_line(tmp_path, configs, name, content, said):
    (tmp_path / name).write_bytes(content)
    with pytest.raises((ValueError, config.ConfigError), match=said) as caught:
        own(configs, tmp_path / name)
    assert "\n" not in str(caught.value) and len(str(caught.value)) <= 500


def test_a_folder_needs_one_file_for_each_split_and_classes_need_a_row(tmp_path, configs, capsys):
    with pytest.raises(config.ConfigError, match=r"no file or folder /gone; .* 40 digits"):
        own(configs, "/gone")
    write_rows(tmp_path / "train.csv", ROWS)
    write_rows(tmp_path / "val.jsonl", ROWS[:3])
    assert own(configs, tmp_path).num_rows == {"train": 26, "dev": 3}
    write_rows(tmp_path / "dev.csv", ROWS)
    with pytest.raises(ValueError, match=r"at most one for dev.* 'val.jsonl'\]"):
        own(configs, tmp_path)
    write_rows(path := tmp_path / "a.parquet", [("a", 1), ("b", "nan")], float)
    with pytest.raises(ValueError, match="row 2, column 'kind': wanted text, got nan"):
        own(configs, path)
    (glue := tmp_path / "glue").mkdir()
    for name in ("train", "dev"):
        (glue / f"{name}.tsv").write_bytes(b"text\tkind\na\tx\nb\ty\n")
    (glue / "test.tsv").write_text("index\ttext\n0\ta\n")
    splits = own(configs, glue, ", labels: [x, y, $0_$9]")
    data.prepare(splits, config.task("mine"), tmp_path / "p", max_train=0, max_dev=0, seed=0)
    said = capsys.readouterr().out
    assert set(splits) == {"train", "dev"} and "test.tsv of mine has no column 'kind'" in said
    assert "no training row has the label $0_$9" in said


def test_twenty_imbalanced_classes_keep_their_shares_and_near_duplicates_stay_together():
    sizes = [400 >> k // 3 for k in range(20)]
    texts = [(k, chr(97 + i // 26), chr(97 + i % 26)) for k in range(20) for i in range(sizes[k])]
    rows = [(f"a{a * 'b'} {b} {c}", a) for a, b, c in texts]
    rows += [(f"{b}, A{a * 'B'}! 7{c}", a) for a, b, c in texts]
    train, dev = data.draw_dev(rows)
    for k, size in enumerate(sizes):
        count = sum(label == k for _, label in dev)
        assert abs(count - 0.2 * size) <= 2 + 0.02 * size and count
    halves = [{frozenset(re.findall("[a-z]+", t.lower())) for t, _ in p} for p in (train, dev)]
    assert not set.intersection(*halves) and sorted(train + dev) == sorted(rows)


def test_a_task_of_the_command_line_is_known_by_bytes_and_columns(tmp_path, configs, monkeypatch):
    write_rows(path := tmp_path / "mine.csv", ROWS)
    words = {"DATA": str(path), "TEXT": "text", "LABEL": "kind", "TASKS": "mine"}
    [monkeypatch.setenv(*pair) for pair in words.items()]
    config.tasks.cache_clear()
    step = records.Step("data", "mine", "mine")
    settings = config.settings("mine", "data", "mine")
    first = step.inputs(settings)
    assert set(first) == {"source/mine.csv", "task"} and settings.source == str(path)
    step.write(settings, first, {}, labels={"train": {"NA": 9, "no": 17}}, rows={}, digests={})
    assert str(tmp_path) not in step.path.read_text()
    assert run.reason(step) == "" and step.spec.labels == ["NA", "no"]
    write_rows(path, ROWS[1:])
    assert "source/mine.csv has changed" in run.reason(step)
    monkeypatch.setenv("TEXT", "kind text")
    config.tasks.cache_clear()
    assert step.inputs(settings)["task"] != first["task"] and config.task("mine").pair


def test_a_set_of_the_hub_is_read_at_its_commit(tmp_path, configs, monkeypatch):
    kinds, asked = Features({"text": Value("string"), "kind": ClassLabel(names=["b", "a"])}), []
    rows = {"train": [0, 1], "validation": [1, 0], "test": [-1, -1]}
    made = {n: Dataset.from_dict({"text": ["x", "y"], "kind": k}, kinds) for n, k in rows.items()}
    monkeypatch.setattr(data, "load_dataset", lambda *a, **k: asked.append((a, k)) or made)
    splits = own(configs, f"some/set@{'0a' * 20}")
    where = {"revision": "0a" * 20, "cache_dir": str(tmp_path / "artifacts" / "hub")}
    assert asked == [(("some/set", None), where)]
    assert set(splits) == {"train", "dev"} and splits["dev"]["label"][:] == [0, 1]


def prepare():
    """Prepare 50 rows of the toy QQP as 01_data does; return their folder and splits."""
    step = records.Step("data", "p", "qqp")
    settings = config.DataSettings(source="toy", max_train=50, max_dev=0)
    home = step.folder(settings, {})
    splits = data.prepare(load_task("qqp", "toy"), QQP, home, max_train=50, max_dev=0, seed=0)
    outputs = {path.name: records.sha256(path) for path in home.iterdir()}
    digests = {name: data.digest(split) for name, split in splits.items()}
    step.write(settings, {}, outputs, dataset="toy/qqp", rows=splits.num_rows, digests=digests)
    return home, splits


def test_the_cut_depends_on_the_seed_and_a_limit_of_zero_keeps_all(tmp_path):
    def cut(name, n, seed):
        splits = data.prepare(raw, SST2, tmp_path / name, max_train=n, max_dev=9, seed=seed)
        assert splits.num_rows == {"train": n or len(raw["train"]), "dev": 9}
        return records.sha256(tmp_path / name / "train.parquet")

    raw = load_task("sst2", "toy")
    assert cut("a", 50, 3) == cut("b", 50, 3) != cut("c", 50, 4) and cut("d", 0, 3)


def test_prepared_data_reload_as_they_were_written_and_a_damaged_file_is_named(tmp_path):
    with pytest.raises(records.RecordError, match="qqp"):
        data.load_prepared("p", "qqp")  # 01_data has not run
    home, made = prepare()
    again = data.load_prepared("p", "qqp")
    assert again.num_rows == {"train": 50, "dev": 80}
    for name, split in again.items():
        assert split.features == made[name].features and split[:] == made[name][:]
        assert data.digest(split) == data.digest(made[name])
    raw = load_task("qqp", "toy")["train"]
    for row in again["train"]:
        assert row["sentence1"].split() == words.tokenize(raw[row["idx"]]["sentence1"])
    assert not (tmp_path / "cache").exists()  # which is in the home folder by default
    changed = made["train"].map(lambda row: {"sentence1": row["sentence1"] + " x"})
    path = home / "train.parquet"
    damages = [lambda: changed.to_parquet(path), path.unlink]
    damages += [lambda: path.write_bytes(path.read_bytes()[:-20])]
    for damage in damages:
        damage()
        with pytest.raises(records.RecordError, match=r"train\.parquet"):
            data.load_prepared("p", "qqp")
        prepare()  # another run mends it
        again = data.load_prepared("p", "qqp")
        assert data.digest(again["train"]) == data.digest(made["train"])


def test_a_data_set_is_named_in_records_by_what_it_is():
    """The digest must never change: this is its value since the start."""
    rows = {"sentence1": ['caf\u00e9 "a"'], "sentence2": ["b"], "label": [1], "idx": [0]}
    text = '["caf\u00e9 \\"a\\"", "b", 1]'
    assert data.digest(Dataset.from_dict(rows)) == hashlib.sha256(text.encode()).hexdigest()
    assert data.dataset_name("sst2", "packages", 8041) == "vader-movie"
    assert data.dataset_name("sst2", "toy", 240) == "toy/sst2"
    assert data.dataset_name("mnli", "hub", 392_702) == "glue/mnli"
    assert data.dataset_name("mnli", "/some/folder", 46_467) == "glue-part/mnli"


def hub_set(spec):
    """Return a task as nyu-mll/glue has it; test splits have no public labels: they are -1."""
    names = ["negative", "positive"] if spec is SST2 else list(spec.labels)
    texts, made = spec.hub_text or spec.text, {}
    features = {column: Value("string") for column in texts}
    features |= {"label": ClassLabel(names=names), "idx": Value("int32")}
    for split in [*(split["hub"] for split in spec.splits.values()), "test"]:
        rows = {column: [f"{split} {column} {i}" for i in range(4)] for column in texts}
        rows |= {"label": [-1] * 4 if split == "test" else [1, 0, 1, 1], "idx": [0, 1, 2, 3]}
        made[split] = Dataset.from_dict(rows, Features(features))
    return made


@pytest.mark.parametrize("spec", [SST2, QQP, MNLI], ids=lambda spec: spec.name)
def test_glue_is_read_as_the_hub_has_it_and_one_out_of_reach_is_one_line(monkeypatch, spec):
    monkeypatch.setattr(data, "load_dataset", load := mock.Mock(return_value=hub_set(spec)))
    splits = load_task(spec.name, "hub")
    assert load.call_args.args == (data.GLUE_REPOSITORY, spec.name)
    assert load.call_args.kwargs["revision"] == data.GLUE_REVISION
    assert set(splits) == set(spec.splits) - {"test"}
    for name, rows in splits.items():
        assert rows.column_names == [*spec.columns, "label", "idx"]
        for column, theirs in zip(spec.columns, spec.hub_text or spec.text, strict=True):
            assert rows[column][:] == [f"{spec.splits[name]['hub']} {theirs} {i}" for i in range(4)]
        assert rows["label"][:] == [1, 0, 1, 1] and rows["idx"][:] == [0, 1, 2, 3]
    assert spec is not MNLI or splits["dev"].features["label"].names == list(MNLI.labels)
    load.side_effect = OSError("no route\n" + "x" * 999)
    line = rf"cannot load {spec.name} of .*GLUE_DIR.*no route"
    with pytest.raises(ValueError, match=line) as caught:
        load_task(spec.name, "hub")
    assert len(str(caught.value)) <= 500 and "\n" not in str(caught.value)
