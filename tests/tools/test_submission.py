"""GLUE's eleven files and the release folder, from students that know nothing but differ."""

import ast
import re
import zipfile

import compare
import numpy as np
import pytest
import release
import submission
import torch
from huggingface_hub import ModelCard
from scipy.special import softmax

import distil
from distil import config, data, metrics, records, student, teacher, train, words
from distil.records import Step

WORDS = ["do", "n't", "film", "good", "bad", "café", "why", "?", ".", "a", "it"]
SMALL = {"SST-2": 9, "QQP": 8, "MNLI-m": 7, "MNLI-mm": 6}
pytestmark = pytest.mark.usefixtures("home")


def make_student(profile, task, seed=0, arm="distilled"):
    """A student with random weights so large that its answers differ, on record."""
    step, spec = Step("student", profile, task, arm, seed), config.task(task)
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
    outputs = {name: records.sha256(step.folder({}, {}) / name) for name in distil.FILES}
    known = {"n_params": {"non_embedding": 1}, "vocabulary": {"words": 13}}
    known |= {"training_examples": 3, "synthetic_examples": 1, "chosen_on": "dev"}
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


@pytest.mark.parametrize("task", ["sst2", "qqp"])
def test_the_card_of_a_release_runs_and_its_scores_are_measured(task, capsys, monkeypatch):
    steps = [make_student("smoke", task, seed) for seed in (0, 1)]
    make_student("smoke", task, 1, "plain")
    rows = {"sentence1": [f"{a} {b}" for a in WORDS for b in WORDS], "sentence2": WORDS * 11}
    rows["label"] = [int(i % 5 < i % 3 + 1) for i in range(121)]
    gold, teachers = np.array(rows["label"]), np.random.default_rng(3).normal(size=(121, 2))
    splits = ("train", "dev", "test")[: 2 + (task == "qqp")]  # the last one is scored
    monkeypatch.setattr(data, "load_prepared", lambda *_: dict.fromkeys(splits, rows))
    monkeypatch.setattr(compare, "SECONDS", 0)  # one batch each
    monkeypatch.setattr(compare.fast, "WORTH_COMPILING", 999)
    by, said = steps[1].sibling("teacher"), dict.fromkeys(splits[1:], (teachers, gold))
    by.write({"model": "tiny", "max_length": 9, "precision": "float32"}, {}, {}, said)
    tiny = teacher.load(teacher.resolve("tiny", [WORDS])[0], 2)
    [part.save_pretrained(by.finished()) for part in tiny]
    release.main(["--profile", "smoke", "--task", task])
    folder = records.ARTIFACTS / "smoke" / "release" / task
    card = ModelCard.load(folder / "README.md")
    assert "(1, the best of 2)" in card.text and card.data.library_name == "distil"
    assert f"same 121 {splits[-1]} examples" in card.text
    measured = {result.metric_name: result.metric_value for result in card.data.eval_results}
    texts = list(zip(*(rows[column] for column in config.task(task).columns), strict=True))
    for name in compare.FORMS:
        found = distil.load(folder, name).predict_proba(texts)
        answers = found.argmax(axis=1)
        assert len(set(answers)) > 1
        assert measured[f"accuracy ({name})"] == np.mean(answers == gold)
        f1 = np.mean([metrics.evaluate(found, gold, label)["f1"] for label in (0, 1)])
        alike = np.mean(answers == teachers.argmax(axis=1))
        (line,) = re.findall(rf"\| distilled, `{name}` (.*)", card.text)
        n = [float(number) / 100 for number in re.findall(r"\d+\.\d+", line)]
        assert [n[3], n[-4]] == pytest.approx([f1, alike], abs=0.00051) and n[4] < f1 < n[5]
    assert (f"F1 of {config.task(task).meanings[1]} " in card.text) == (task == "qqp")
    assert (f"f1, of duplicate ({distil.ONNX})" in measured) == (task == "qqp")
    printed = capsys.readouterr().out.split("these texts:\n")[1]
    distance = np.abs(distil.load(folder).predict_proba(texts) - softmax(teachers, axis=1))
    assert printed.split("\n")[0].endswith(": " + " | ".join(texts[distance.sum(1).argmax()]))
    assert printed.count("\ngold") == 4 and "gold" not in card.text  # which has no text of a user
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


def test_dev_chooses_the_threshold_below_which_the_teacher_is_asked():
    """The student is wrong on the 15 of 100 texts of lowest score; its teacher is always right."""
    score, gold = 0.5001 + 0.005 * np.arange(100), np.zeros(100, int)
    own = np.stack([score, 1 - score], axis=1)
    own[:15] = own[:15, ::-1]
    dev = own, np.eye(2)[gold], gold
    pairs = {"dev": dev, "test": [one[50:] for one in dev]}
    found = compare.fallback(pairs, "dev", (1, 10))
    assert [row["accuracy"] for row in found] == ["85.0", "90.0", "95.0", *["100.0"] * 4]
    wanted = {"asks below": "0.600", "asks for": "20.0%", "accuracy": "100.0", "mean ms": "3.00"}
    assert [row for row in found if row.pop("")] == [wanted]
    test = [row for row in compare.fallback(pairs, "test", (1, 10)) if row.pop("")]
    assert test == [wanted | {"asks for": "0.0%", "mean ms": "1.00"}]
