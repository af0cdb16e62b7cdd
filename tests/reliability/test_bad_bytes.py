"""Each kind of file that a run keeps, damaged in each way: named and refused, or made again; never used in silence.

A kind is a function that keeps something in a folder and returns the file to damage and a reader. The reader must then either
raise an error that names the file, or return exactly what it returned before the damage.
"""

import hashlib
import json
import zipfile

import numpy as np
import pytest
import torch
from datasets import ClassLabel, Dataset, DatasetDict, Features, Value

from distil import data, packages, paths, pretrained, records, release, sealed, student, teacher, train, transfer, words
from distil.augment import SYNTHETIC, Sample
from distil.batching import Column, Examples
from distil.config import StudentConfig, TeacherConfig
from distil.packages import PackageError, PackageFile
from distil.records import RecordError
from distil.sealed import SealError
from distil.tasks import SST2

WAYS = {
    "cut": lambda raw, rng: raw[: len(raw) // 2],
    "emptied": lambda raw, rng: b"",
    "one bit": lambda raw, rng: _flip(raw, int(rng.integers(len(raw)))),
    "one bit near the start": lambda raw, rng: _flip(raw, int(rng.integers(min(64, len(raw))))),
    "one bit near the end": lambda raw, rng: _flip(raw, len(raw) - 1 - int(rng.integers(min(64, len(raw))))),
    "zeros at the end": lambda raw, rng: raw[: 3 * len(raw) // 4] + bytes(len(raw) - 3 * len(raw) // 4),
    "missing": None,
}
TEXTS = [f"{'good' if i % 2 else 'bad'} film {i % 7}" for i in range(32)]
LABELS = [i % 2 for i in range(32)]


def _flip(raw, at):
    return raw[:at] + bytes([raw[at] ^ 1]) + raw[at + 1 :]


@pytest.fixture(autouse=True)
def home(tmp_path, monkeypatch):
    monkeypatch.setattr(paths, "ARTIFACTS", tmp_path / "artifacts")
    monkeypatch.setattr(paths, "RESULTS", tmp_path / "results")
    monkeypatch.setattr(paths, "PACKAGES", tmp_path / "packages")
    monkeypatch.setattr(teacher, "bf16_is_faster", lambda device: False)
    return tmp_path


def split():
    features = Features({"sentence1": Value("string"), "label": ClassLabel(names=["0", "1"]), "idx": Value("int32")})
    return Dataset.from_dict({"sentence1": TEXTS, "label": LABELS, "idx": range(32)}, features=features)


def network():
    torch.manual_seed(0)
    return student.BiLSTMStudent(
        torch.randn(5, 8), hidden_size=4, fc_size=4, num_labels=2, pair=False, channels="multichannel", pooling="last",
        dropout=0.0,
    )  # fmt: skip


def bits(model):
    return hashlib.sha256(b"".join(t.float().numpy().tobytes() for t in model.state_dict().values())).hexdigest()


def package_file(home):
    home.joinpath("packages").mkdir()
    path = home / "packages" / "thing-1.0.whl"
    with zipfile.ZipFile(path, "w") as archive:
        archive.writestr("a.txt", "first")
    file = PackageFile("no-such-project-anywhere", "1.0", path.name, packages.sha256(path))

    def read():
        with packages.open_member(file, "a.txt") as stream:
            return stream.read()

    return path, read, PackageError


def pretrained_model(home):
    def read():
        folder, _ = pretrained.resolve_model("tiny", [TEXTS])
        return pretrained.weights(folder), packages.sha256(paths.ARTIFACTS.joinpath(folder, "tokenizer.json"))

    read()
    (folder,) = (paths.ARTIFACTS / "models").glob("tiny-*")
    return folder / "model.safetensors", read, None


def pretrained_tokenizer(home):
    path, read, _ = pretrained_model(home)
    return path.with_name("tokenizer.json"), read, None


def prepared_data(home):
    splits = DatasetDict({"train": split(), "dev": split()})
    prepared = data.prepare(splits, SST2, paths.artifact("p", "sst2", "data"), max_train=0, max_dev=0, seed=0)
    digests = {name: data.digest(rows) for name, rows in prepared.items()}
    records.write(paths.data_record("p", "sst2"), {"digests": digests})
    return (
        paths.artifact("p", "sst2", "data") / "train.parquet",
        lambda: data.load_prepared("p", "sst2")["train"]["sentence1"][:],
        data.DataError,
    )


def data_record(home):
    _, read, _ = prepared_data(home)
    return paths.data_record("p", "sst2"), read, RecordError


def tags(home):
    path, sentences = home / "tags.parquet", [text.split() for text in TEXTS]
    words.cached_tags(sentences, "toy", path)
    return path, lambda: words.cached_tags(sentences, "toy", path), None


def _teacher(home, learning_rates=(1.0e-3,)):
    config = TeacherConfig("tiny", "joint", list(learning_rates), 1, 16, 32, 0.1, 0.01, 1)
    splits = DatasetDict({"train": split(), "dev": split()})

    def tune():
        teacher.fine_tune(splits, SST2, config, seed=0, folder=home / "p" / "teacher-seed0")
        return pretrained.weights(home / "p" / "teacher-seed0")

    return tune


def teacher_weights(home):
    tune = _teacher(home)
    on_record = tune()
    folder = home / "p" / "teacher-seed0"

    def read():
        pretrained.check_weights(folder, on_record)
        return on_record

    return folder / "model.safetensors", read, pretrained.ModelError


def teacher_tokenizer(home):
    path, read, error = teacher_weights(home)
    return path.with_name("tokenizer.json"), read, error


def tuned_teacher(home):
    tune = _teacher(home)
    tune()
    return home / "p" / "teacher-seed0" / "model.safetensors", tune, None


def outcome_of_tuning(home):
    tune = _teacher(home)
    tune()
    return home / "p" / "teacher-seed0" / teacher.OUTCOME, tune, None


def teacher_checkpoint(home):
    """A run that was stopped after its first checkpoint."""
    tune = _teacher(home)
    wanted = tune()
    folder = home / "p" / "teacher-seed0"
    for path in folder.iterdir():
        path.unlink()
    folder.rmdir()
    original = teacher._keep
    teacher._keep = lambda *_: (_ for _ in ()).throw(KeyboardInterrupt)
    try:
        with pytest.raises(KeyboardInterrupt):
            tune()
    finally:
        teacher._keep = original
    (checkpoint,) = (home / "p" / "teacher-seed0-lr0.001").glob("checkpoint-*")

    tune.before = wanted  # tuning to the end here would remove the checkpoint
    return checkpoint / "optimizer.pt", tune, None


def shard(home):
    samples = [Sample(i, SYNTHETIC, (text,)) for i, text in enumerate(TEXTS)]

    def label():
        transfer.write_labelled(
            samples, lambda texts: np.array([[len(text), 1.0] for text in texts[0]], np.float32), home / "set",
            identity="x", shard_rows=10,
        )  # fmt: skip
        return transfer.digest(home / "set")

    label()
    return home / "set" / "part-00001.parquet", label, None


def seal_of_a_shard(home):
    path, label, _ = shard(home)
    return path.with_suffix(transfer.SEALED), label, None


def transfer_set_of_a_student(home):
    path, label, _ = shard(home)
    expected = label()
    return path, lambda: transfer.read(home / "set", expected).to_pydict(), transfer.TransferError


def student_checkpoint(home):
    ids = {word: number for number, word in enumerate(["<pad>", "<unk>", "good", "bad", "film"])}
    examples = Examples((Column.of(TEXTS, ids),), np.array(LABELS))
    config = StudentConfig(
        "random:8", 0, "multichannel", 4, 4, "last", 0.0, "mse", 1.0, 1.0, 0.0, 0.0, 2, 0, 8, 1.0, 0.95
    )

    def read():
        model = network()
        train.train_student(model, examples, examples, config, seed=0, checkpoint=home / "s" / "checkpoint.pt")
        return bits(model)

    read()
    return home / "s" / "checkpoint.pt", read, train.CheckpointError


def _student_file(name):
    def kind(home):
        student.save(home / "p" / "student", network(), ["<pad>", "<unk>", "a", "film", "good"])

        def read():
            model, vocabulary = student.load(home / "p" / "student")
            return bits(model), vocabulary, model.settings

        return home / "p" / "student" / name, read, SealError

    return kind


def _release_file(name):
    def kind(home):
        folder = home / "p" / "release"
        student.save(folder, network(), ["<pad>", "<unk>", "a", "film", "good"])
        (folder / "labels.json").write_text(json.dumps(["bad", "good"]))
        sealed.seal(folder)
        return folder / name, lambda: release.load(folder)("a good film"), SealError

    return kind


def record(home):
    path = home / "results" / "runs" / "p" / "sst2" / "teacher-seed0.json"
    records.write(
        path, {"profile": "p", "accuracy": 0.875, "history": [0.5, 0.875], "inputs": {"data/train": "f" * 64}}
    )
    return path, lambda: records.read(path), RecordError


def predictions(home):
    path = home / "results" / "runs" / "p" / "sst2" / "teacher-seed0.json"
    logits = np.random.default_rng(0).normal(size=(500, 2))
    records.write(path, {"profile": "p"}, {"dev": (logits, logits.argmax(axis=1))})

    def read():
        return {name: [array.tolist() for array in pair] for name, pair in records.read_predictions(path).items()}

    return path.with_suffix(".npz"), read, RecordError


KINDS = {
    kind.__name__.replace("_", " "): kind
    for kind in (
        package_file, pretrained_model, pretrained_tokenizer, prepared_data, data_record, tags, teacher_weights,
        teacher_tokenizer,
        tuned_teacher, outcome_of_tuning, teacher_checkpoint, shard, seal_of_a_shard, transfer_set_of_a_student,
        student_checkpoint, record, predictions,
    )
}  # fmt: skip
KINDS |= {f"a student's {name}": _student_file(name) for name in ("model.safetensors", "vocabulary.txt", "config.json")}
KINDS |= {f"a release's {name}": _release_file(name) for name in ("model.safetensors", "vocabulary.txt", "labels.json")}
STARTS_ANEW = {"student checkpoint", "data record"}  # of which a missing one is no damage


@pytest.mark.parametrize("way", WAYS)
@pytest.mark.parametrize("kind", KINDS)
def test_damage_is_named_or_repaired(kind, way, home):
    path, read, error = KINDS[kind](home)
    before = read.before if hasattr(read, "before") else read()
    raw = path.read_bytes()
    if WAYS[way] is None:
        path.unlink()
    else:
        path.write_bytes(WAYS[way](raw, np.random.default_rng(len(kind))))
    if error is None or (WAYS[way] is None and kind in STARTS_ANEW):
        assert read() == before
        return
    with pytest.raises(error) as caught:
        read()
    message = str(caught.value)
    assert "\n" not in message.strip() and any(part in message for part in (path.name, path.parent.name, "p/sst2"))
    if WAYS[way] is not None:
        assert path.exists(), "what is damaged may be the user's own: it is never deleted"
