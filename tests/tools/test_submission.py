"""GLUE's eleven files and the release folder, from students that know nothing but differ."""

import ast
import re
import zipfile

import numpy as np
import pytest
import release
import submission
import torch
from huggingface_hub import ModelCard

import distil
from distil import config, data, records, student, train, words
from distil.records import Step

WORDS = ["do", "n't", "film", "good", "bad", "café", "why", "?", ".", "a", "it"]
SMALL = {"SST-2": 9, "QQP": 8, "MNLI-m": 7, "MNLI-mm": 6}
pytestmark = pytest.mark.usefixtures("home")


def make_student(profile, task, seed=0):
    """A student with random weights so large that its answers differ, on record."""
    step, spec = Step("student", profile, task, "distilled", seed), config.task(task)
    if not step.sibling("data").path.exists():
        folder = step.sibling("data").folder({}, {})
        raw = data.load_task(task, "toy")
        splits = data.prepare(raw, spec, folder, max_train=0, max_dev=0, seed=0)
        files = {path.name: records.sha256(path) for path in folder.glob("*.parquet")}
        digests = {split: data.digest(rows) for split, rows in splits.items()}
        facts = {"dataset": "toy", "rows": splits.num_rows, "digests": digests}
        step.sibling("data").write({}, {}, files, **facts)
        guess = {"dev": (np.eye(2, dtype=np.float32), np.array([0, 1]))}
        step.sibling("teacher").write({"model": "tiny"}, {}, {}, guess)
        step.sibling("transfer-set").write({}, {}, {}, guess)
    torch.manual_seed(16 + seed)
    sizes = {"hidden_size": 4, "fc_size": 6, "num_labels": len(spec.labels), "dropout": 0.5}
    kind = {"pair": spec.pair, "channels": "multichannel", "pooling": "last"}
    net = student.BiLSTMStudent(torch.randn(2 + len(WORDS), 5), **sizes, **kind)
    with torch.no_grad():
        for name, weight in net.named_parameters():
            if not name.startswith("channels"):
                weight.normal_(0, 1.5)
    with records.whole_folder(step.folder({}, {})) as part:
        student.save(part, net, ["<pad>", "<unk>", *WORDS], spec.meanings)
    outputs = {name: records.sha256(step.folder({}, {}) / name) for name in student.FILES}
    known = {"n_params": {"non_embedding": 1}, "vocabulary": {"words": 13}}
    known |= {"training_examples": 3, "synthetic_examples": 1}
    logits = np.eye(2, dtype=np.float32)[[0, seed % 2]]
    step.write({}, {}, outputs, {"dev": (logits, np.array([0, 1]))}, **known)
    return step


@pytest.fixture
def glue(home, monkeypatch):
    """GLUE's test files in miniature, and a student of each task."""
    monkeypatch.setattr(submission, "ROWS", dict.fromkeys(submission.ROWS, 4) | SMALL)
    monkeypatch.setattr(train, "PREDICT_TOKENS", 16)  # several batches, longest first
    for name, (task, split) in submission.TESTS.items():
        spec = config.task(task)
        rows = ["\t".join(["index", *spec.text])]
        for i in range(SMALL[name]):
            times = (1 + (5 * i + k) % 4 for k in range(len(spec.text)))
            rows.append("\t".join([str(i), *("Don't film. " * n + WORDS[i] for n in times)]))
        path = home / "glue" / spec.folder / f"{split}.tsv"
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text("\n".join(rows) + "\n", encoding="utf-8")
    for task in ("sst2", "qqp", "mnli"):
        make_student("glue", task)
    return home / "glue"


def run(source, *arguments):
    submission.main(["--profile", "glue", "--source", str(source), *arguments])
    folder = records.ARTIFACTS / "glue" / "submission"
    return {path.stem: path.read_text().splitlines() for path in folder.glob("*.tsv")}


def test_header_index_rows_and_label_words(glue):
    made = run(glue)
    assert sorted(made) == sorted(submission.ROWS)
    for name, lines in made.items():
        index = [line.split("\t")[0] for line in lines]
        assert index == ["index", *map(str, range(submission.ROWS[name]))]
    archive = zipfile.ZipFile(records.ARTIFACTS / "glue" / "submission" / "submission.zip")
    assert sorted(archive.namelist()) == sorted(f"{name}.tsv" for name in made)
    for name in SMALL:  # in the order of the file
        task, split = submission.TESTS[name]
        spec, wanted = config.task(task), []
        net, ids = student.load(Step("student", "glue", task, "distilled").files())
        for texts in submission.read_tsv(spec, glue / spec.folder / f"{split}.tsv"):
            rows = [[ids.get(word, 1) for word in words.tokenize(text)] for text in texts]
            inputs = [x for row in rows for x in (torch.tensor([row]), torch.tensor([len(row)]))]
            wanted.append(spec.labels[int(net(*inputs).argmax())])
        assert [line.split("\t")[1] for line in made[name][1:]] == wanted


def test_what_is_missing_is_one_line_or_a_constant(glue, capsys):
    (glue / "QQP" / "test.tsv").write_text("index\tquestion1\tquestion2\n0\tonly\n")
    with pytest.raises(SystemExit, match=r"error: .*QQP/test.tsv, line 2: wanted 3 columns, got 2"):
        run(glue)
    assert {line.split("\t")[1] for line in run(glue, "--partial")["QQP"][1:]} == {"0"}
    assert "QQP.tsv is filled with a constant" in capsys.readouterr().out
    with pytest.raises(SystemExit, match="wanted a profile that trains on GLUE"):
        run(glue / "nowhere")


@pytest.mark.parametrize("task", ["sst2", "qqp"])
def test_the_card_of_a_release_runs_and_its_scores_are_measured(task, capsys, monkeypatch):
    steps = [make_student("smoke", task, seed) for seed in (0, 1)]
    dev = {"sentence1": [f"{a} {b}" for a in WORDS for b in WORDS], "sentence2": WORDS * len(WORDS)}
    dev["label"] = [int(i % 5 < i % 3 + 1) for i in range(len(WORDS) ** 2)]
    monkeypatch.setattr(data, "load_prepared", lambda *_: {"dev": dev})
    release.main(["--profile", "smoke", "--task", task])
    folder = records.ARTIFACTS / "smoke" / "release" / task
    card = ModelCard.load(folder / "README.md")
    assert "(1, the best of 2)" in card.text and card.data.library_name == "distil"
    measured = {result.metric_name: result.metric_value for result in card.data.eval_results}
    texts = list(zip(*(dev[column] for column in config.task(task).columns), strict=True))
    for name in release.FORMS:
        answers = distil.load(folder, name).predict_proba(texts).argmax(axis=1)
        assert len(set(answers)) > 1
        assert measured[f"accuracy ({name})"] == np.mean(answers == np.array(dev["label"]))
    assert (f"F1 of {config.task(task).meanings[1]} |" in card.text) == (task == "qqp")
    assert (f"f1, of duplicate ({distil.ONNX})" in measured) == (task == "qqp")
    snippet, answer = re.findall(r"```(?:python)?\n(.+?)\n```", card.text, re.DOTALL)
    monkeypatch.chdir(folder.parent)
    capsys.readouterr()
    exec(snippet, {})
    found, wanted = (ast.literal_eval(text)[0] for text in (capsys.readouterr().out, answer))
    assert found == wanted | {"score": pytest.approx(wanted["score"])}
    assert wanted["label"] in config.task(task).meanings
    (steps[1].finished() / "model.safetensors").write_bytes(b"")
    with pytest.raises(SystemExit, match=r"error: .*model.safetensors is missing or not as"):
        release.main(["--profile", "smoke", "--task", task])
