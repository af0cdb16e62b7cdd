"""The files of the GLUE server: all eleven, in its format, in the order of the test sets, and never quietly something else."""

import zipfile
from dataclasses import replace

import datasets
import pytest
import torch
from datasets import ClassLabel, Dataset, Features, Value

from distil import data, paths, student, submission, train, vocabulary, words
from distil.data import DataError
from distil.submission import FILES
from distil.tasks import MNLI, PAPER, SST2, TASKS

OFFICIAL = {
    "CoLA": 1063,
    "SST-2": 1821,
    "MRPC": 1725,
    "STS-B": 1379,
    "QQP": 390_965,
    "MNLI-m": 9796,
    "MNLI-mm": 9847,
    "QNLI": 5463,
    "RTE": 3000,
    "WNLI": 146,
    "AX": 1104,
}
ROWS = {"SST-2": 9, "QQP": 8, "MNLI-m": 7, "MNLI-mm": 6}  # of the tiny test sets below
PREDICTED = {"SST-2": ("sst2", "test"), "QQP": ("qqp", "test")}
PREDICTED |= {"MNLI-m": ("mnli", "test_matched"), "MNLI-mm": ("mnli", "test_mismatched")}
ZERO_ONE, NLI = {"0", "1"}, {"entailment", "neutral", "contradiction"}
TWO_WAY = {"entailment", "not_entailment"}
WORDS = ["do", "n't", "film", '"', "good", "bad", "café", "why", "?", ".", "a", "it"]
PHRASES = ["Don't ", 'Film "good" ', "café\r", " bad.", "WHY?", "a film, it", "unheardof", "good  bad "]


def sentences(count, seed):
    """Sentences of very different lengths, so that a batch order is never the file's."""
    return ["".join(PHRASES[(seed + i * k) % 8] + " " for k in range(1 + (5 * i + seed) % 7)) for i in range(count)]


def rows_of(name, task):
    columns = (sentences(ROWS[name], len(name) + 3 * k) for k in range(len(TASKS[task].text)))
    return list(zip(*columns, strict=True))


def tsv(spec, texts, columns=None):
    """A test file as GLUE writes it: a number first, for MNLI also other columns between, no label."""
    head = ["index", *(["genre"] if spec is MNLI else []), *(columns or spec.text)]
    lines = [[str(i), *(["fiction"] if spec is MNLI else []), *text] for i, text in enumerate(texts)]
    return "".join("\t".join(fields) + "\n" for fields in [head, *lines])


@pytest.fixture
def glue(tmp_path, monkeypatch):
    """A folder with tiny test sets, whose number of rows counts as official."""
    tiny = tuple(replace(file, rows=ROWS.get(file.name, 4)) for file in FILES)
    monkeypatch.setattr(submission, "FILES", tiny)
    monkeypatch.setattr(paths, "ARTIFACTS", tmp_path / "artifacts")
    monkeypatch.setattr(train, "PREDICT_TOKENS", 16)  # several batches, longest first
    monkeypatch.delenv("GLUE_DIR", raising=False)
    for name, (task, split) in PREDICTED.items():
        path = tmp_path / "glue" / TASKS[task].folder / f"{split}.tsv"
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes(tsv(TASKS[task], rows_of(name, task)).encode())
    return tmp_path / "glue"


@pytest.fixture
def students():
    for task in PAPER:
        make_student(task)


def make_student(task, role="student-distilled", seed=0):
    """A student that knows nothing, with weights so large that its answers differ."""
    spec = TASKS[task]
    torch.manual_seed(16 + seed)
    sizes = {"hidden_size": 4, "fc_size": 6, "num_labels": len(spec.labels), "dropout": 0.5}
    net = student.BiLSTMStudent(
        torch.randn(2 + len(WORDS), 5), **sizes, pair=spec.pair, channels="multichannel", pooling="last"
    )
    with torch.no_grad():
        for name, weight in net.named_parameters():
            if not name.startswith("channels"):
                weight.normal_(0, 1.5)
    student.save(paths.artifact("glue", task, f"{role}-seed{seed}"), net, ["<pad>", "<unk>", *WORDS])


def run(*arguments):
    return submission.main(["--profile", "glue", *map(str, arguments)])


def made(name):
    """Header, index and predictions of one written file."""
    text = (paths.ARTIFACTS / "glue" / "submission" / f"{name}.tsv").read_bytes().decode()
    header, *lines = text.removesuffix("\n").split("\n")
    index, predictions = zip(*(line.split("\t") for line in lines), strict=True)
    return header, list(index), list(predictions)


def one_by_one(name, role="student-distilled", seed=0):
    """The predictions of a file, worked out one example at a time."""
    task, _ = PREDICTED[name]
    net, known = student.load(paths.artifact("glue", task, f"{role}-seed{seed}"))
    ids, answers = {word: i for i, word in enumerate(known)}, []
    for texts in rows_of(name, task):
        encoded = [torch.tensor([vocabulary.encode(words.tokenize(text), ids)]) for text in texts]
        inputs = [part for one in encoded for part in (one, torch.tensor([one.shape[1]]))]
        answers.append(TASKS[task].labels[int(net(*inputs).argmax())])
    return answers


def fails(capsys, *arguments):
    """The one line that a failing command says; nothing is written."""
    assert run(*arguments) == 2
    line = capsys.readouterr().err
    assert line.startswith("error: ") and line.count("\n") == 1 and line.endswith("\n")
    assert not (paths.ARTIFACTS / "glue" / "submission").exists()
    return line


# --- what is written --------------------------------------------------------------------------------------------------


def test_the_eleven_files_have_their_official_number_of_rows():
    assert {file.name: file.rows for file in FILES} == OFFICIAL
    assert {file.name: (file.task, file.split) for file in FILES if file.task} == PREDICTED


def test_every_file_is_there_and_zipped_flat(glue, students):
    assert run("--source", glue) == 0
    folder = paths.ARTIFACTS / "glue" / "submission"
    assert {path.name for path in folder.iterdir()} == {f"{name}.tsv" for name in OFFICIAL} | {"submission.zip"}
    with zipfile.ZipFile(folder / "submission.zip") as pack:
        assert sorted(pack.namelist()) == sorted(f"{name}.tsv" for name in OFFICIAL)
        assert all(pack.read(name) == (folder / name).read_bytes() for name in pack.namelist())


def test_header_index_rows_and_label_words(glue, students):
    run("--source", glue)
    allowed = dict.fromkeys(OFFICIAL, ZERO_ONE) | dict.fromkeys(("MNLI-m", "MNLI-mm", "AX"), NLI)
    allowed |= dict.fromkeys(("QNLI", "RTE"), TWO_WAY) | {"STS-B": {"2.500"}}
    for name in OFFICIAL:
        header, index, predictions = made(name)
        assert header == "index\tprediction"
        assert index == [str(i) for i in range(ROWS.get(name, 4))], name
        assert set(predictions) <= allowed[name], name
        assert name in PREDICTED or len(set(predictions)) == 1, name


def test_the_unsubmitted_files_have_their_official_size(tmp_path):
    submission.write({file.name: [file.filler] * file.rows for file in FILES}, tmp_path)
    assert {name: (tmp_path / f"{name}.tsv").read_text().count("\n") - 1 for name in OFFICIAL} == OFFICIAL


@pytest.mark.parametrize("name", PREDICTED)
def test_predictions_stand_in_the_order_of_the_file(glue, students, name):
    run("--source", glue)
    wanted = one_by_one(name)
    assert made(name)[2] == wanted
    assert len(set(wanted)) > 1 and wanted != wanted[::-1]  # or the test could not fail


def test_matched_and_mismatched_are_different_files(glue, students):
    run("--source", glue)
    before = {name: made(name) for name in OFFICIAL}
    path = glue / "MNLI" / "test_mismatched.tsv"
    path.write_bytes(tsv(MNLI, rows_of("MNLI-mm", "mnli")[::-1]).encode())
    run("--source", glue)
    assert {name for name in OFFICIAL if made(name) != before[name]} == {"MNLI-mm"}
    assert made("MNLI-mm")[2] == before["MNLI-mm"][2][::-1]


def test_role_and_seed_pick_the_student(glue, students):
    for task in PAPER:
        make_student(task, "student-baseline", 3)
    assert run("--source", glue, "--role", "student-baseline", "--seed", 3) == 0
    for name in PREDICTED:
        assert made(name)[2] == one_by_one(name, "student-baseline", 3)
    assert any(one_by_one(name) != one_by_one(name, "student-baseline", 3) for name in PREDICTED)


def test_glue_dir_is_the_default_source(glue, students, monkeypatch):
    monkeypatch.setenv("GLUE_DIR", str(glue))
    assert run("--source", "") == 0  # Make gives what it has, which may be nothing
    assert made("SST-2")[2] == one_by_one("SST-2")
    monkeypatch.setenv("GLUE_DIR", "/no/such/folder")
    assert run("--source", glue) == 0  # what is typed counts more
    assert run() == 2


# --- the hub's format -------------------------------------------------------------------------------------------------


@pytest.fixture
def hub_cache(tmp_path, monkeypatch):
    """A cache of its own: of a local folder, that of ``datasets`` knows the last name and not the contents."""
    monkeypatch.setattr(datasets.config, "HF_DATASETS_CACHE", tmp_path / "cache")


def hub_repository(folder, spec, splits):
    """A local folder in the hub's own format: parquet files and a README that names configs and splits."""
    features = Features({name: Value("string") for name in spec.hub_text})
    features |= {"label": ClassLabel(names=list(spec.labels)), "idx": Value("int32")}
    listed = []
    for split, texts in splits.items():
        columns = dict(zip(spec.hub_text, map(list, zip(*texts, strict=True)), strict=True))
        columns |= {"label": [-1] * len(texts), "idx": list(range(len(texts)))}
        path = folder / spec.name / f"{split}-00000-of-00001.parquet"
        path.parent.mkdir(parents=True, exist_ok=True)
        Dataset.from_dict(columns, features=Features(features)).to_parquet(str(path))
        listed.append(f"  - split: {split}\n    path: {spec.name}/{path.name}\n")
    head = f"---\nconfigs:\n- config_name: {spec.name}\n  data_files:\n{''.join(listed)}---\n"
    (folder / "README.md").write_text(head, encoding="utf-8")
    return str(folder)


def test_the_hubs_format_gives_the_same_sentences(tmp_path, hub_cache):
    matched, mismatched = rows_of("MNLI-m", "mnli"), rows_of("MNLI-mm", "mnli")
    folder = hub_repository(tmp_path, MNLI, {"test_matched": matched, "test_mismatched": mismatched})
    assert submission.read_hub(MNLI, "test_matched", folder, None) == matched
    assert submission.read_hub(MNLI, "test_mismatched", folder, None) == mismatched
    with pytest.raises(DataError, match=r"mnli/test: .*Unknown split") as caught:
        submission.read_hub(MNLI, "test", folder, None)
    assert "\n" not in str(caught.value)


def test_a_hub_column_that_is_missing_is_named(tmp_path, hub_cache):
    spec = replace(SST2, hub_text=("text",))
    folder = hub_repository(tmp_path, spec, {"test": [("a film",)]})
    with pytest.raises(DataError, match="sst2/test: no column 'sentence'"):
        submission.read_hub(SST2, "test", folder, None)


def test_the_source_hub_reads_the_pinned_revision(glue, students, monkeypatch):
    asked = []

    def load_dataset(repository, name, *, split, revision):
        asked.append((repository, name, split, revision))
        file = next(file for file, where in PREDICTED.items() if where == (name, split))
        columns = zip(*rows_of(file, name), strict=True)
        return Dataset.from_dict(dict(zip(TASKS[name].hub_text, map(list, columns), strict=True)))

    monkeypatch.setattr(datasets, "load_dataset", load_dataset)
    assert run() == 0  # configs/glue/data.yaml says hub
    assert asked == [(data.GLUE_REPOSITORY, *where, data.GLUE_REVISION) for where in PREDICTED.values()]
    assert all(made(name)[2] == one_by_one(name) for name in PREDICTED)


@pytest.mark.parametrize("error", [ConnectionError, datasets.exceptions.DatasetGenerationError])
def test_a_hub_out_of_reach_is_one_line(glue, students, monkeypatch, capsys, error):
    def load_dataset(*_, **__):
        raise error("Couldn't reach\nthe Hub")

    monkeypatch.setattr(datasets, "load_dataset", load_dataset)
    assert "sst2/test: Couldn't reach the Hub" in fails(capsys, "--source", "hub", "--partial")


# --- what goes wrong --------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("source", ["packages", "toy", "/no/such/folder"])
def test_a_source_without_glues_test_sets_is_refused(glue, students, capsys, monkeypatch, source):
    for name in ("packages", "toy"):  # the words mean the same as in load_task, even where there are such folders
        (glue / name).mkdir()
    monkeypatch.chdir(glue)
    line = fails(capsys, "--source", source, "--partial")
    assert f"source '{source}' is neither 'hub' nor a folder" in line and "GLUE_DIR" in line


def test_the_source_of_the_profile_is_refused_too(glue, capsys):
    assert submission.main(["--profile", "offline"]) == 2
    assert "trains on other data than GLUE's" in capsys.readouterr().err
    assert submission.main(["--profile", "nonsense", "--source", str(glue)]) == 2
    assert "unknown profile 'nonsense'" in capsys.readouterr().err


def test_a_missing_student_says_what_to_run(glue, students, capsys):
    (paths.artifact("glue", "qqp", "student-distilled-seed0") / "config.json").unlink()  # it is still training
    line = fails(capsys, "--source", glue)
    assert "no student-distilled of qqp" in line and "make reproduce PROFILE=glue TASKS=qqp SEEDS=0" in line
    assert "--partial fills QQP.tsv" in line


def test_a_missing_test_file_is_named(glue, students, capsys):
    (glue / "MNLI" / "test_mismatched.tsv").unlink()
    line = fails(capsys, "--source", glue)
    assert "MNLI/test_mismatched.tsv" in line and "missing file" in line and "--partial fills MNLI-mm.tsv" in line


@pytest.mark.parametrize("change", [lambda texts: texts[1:], lambda texts: [*texts, texts[0]]])
def test_a_wrong_number_of_rows_is_named_with_both_counts(glue, students, capsys, change):
    texts = change(rows_of("QQP", "qqp"))
    (glue / "QQP" / "test.tsv").write_bytes(tsv(TASKS["qqp"], texts).encode())
    assert f"QQP/test.tsv: wanted GLUE's 8 rows, got {len(texts)}" in fails(capsys, "--source", glue)


@pytest.mark.parametrize(
    "content, wanted",
    [
        (tsv(SST2, rows_of("SST-2", "sst2"), ["text"]).encode(), "test.tsv, line 1: no column 'sentence'"),
        (b"index\tsentence\n0\tfine\n1 bad\n", "test.tsv, line 3: 1 columns, wanted 2; is a tab missing?"),
        (b"index\tsentence\n0\tfine\tfilm\n", "test.tsv, line 2: 3 columns, wanted 2; is a tab too many?"),
        (b"index\tsentence\n0\tfine\n1\tcaf\xe9\n", "test.tsv, line 3: not UTF-8"),
        (b"", "test.tsv, line 1: no column 'sentence'"),
        (b"index\tsentence\n", "test.tsv: wanted GLUE's 9 rows, got 0"),
    ],
)
def test_a_malformed_test_file_is_named_with_its_line(glue, students, capsys, content, wanted):
    (glue / "SST-2" / "test.tsv").write_bytes(content)
    assert wanted in fails(capsys, "--source", glue)


def test_a_short_row_is_never_left_out(glue, students, capsys):
    """Unlike in training: every later prediction would move up a row."""
    path = glue / "QQP" / "test.tsv"
    path.write_bytes(path.read_bytes() + b"8\tonly one question\n")
    assert "QQP/test.tsv, line 10: 2 columns, wanted 3" in fails(capsys, "--source", glue, "--partial")


def test_a_file_is_read_as_glue_writes_it(tmp_path):
    path = tmp_path / "test.tsv"
    path.write_bytes('\ufeffsentence\tindex\r\n" a quote begins it \t0\r\ncafé\r ☕ \t1\n\t2\n\r\n'.encode())
    assert submission.read_tsv(SST2, path) == [('" a quote begins it ',), ("café\r ☕ ",), ("",)]


def test_partial_fills_what_cannot_be_predicted_and_says_so(glue, students, capsys):
    (paths.artifact("glue", "qqp", "student-distilled-seed0") / "config.json").unlink()
    (glue / "MNLI" / "test_matched.tsv").unlink()
    (glue / "SST-2" / "test.tsv").write_bytes(tsv(SST2, rows_of("SST-2", "sst2")[1:]).encode())
    assert run("--source", glue, "--partial") == 0
    assert made("QQP")[2] == ["0"] * 8 and made("MNLI-m")[2] == ["entailment"] * 7 and made("SST-2")[2] == ["0"] * 9
    assert made("MNLI-mm")[2] == one_by_one("MNLI-mm")
    said = capsys.readouterr().out
    for name in ("QQP", "MNLI-m", "SST-2"):
        assert f"{name}.tsv cannot be predicted: " in said and f"{name}.tsv  filled with" in said
    assert "MNLI-mm.tsv  predicted" in said and "MNLI-mm.tsv cannot" not in said


def test_a_failed_write_leaves_the_last_zip_whole(glue, students, monkeypatch):
    run("--source", glue)
    archive = paths.ARTIFACTS / "glue" / "submission" / "submission.zip"
    before = archive.read_bytes()
    monkeypatch.setattr(zipfile.ZipFile, "writestr", lambda *_: (_ for _ in ()).throw(OSError("disk full")))
    with pytest.raises(OSError, match="disk full"):
        run("--source", glue)
    assert archive.read_bytes() == before
