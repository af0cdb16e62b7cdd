"""The teacher: its logits, its fine-tuning and resuming, and models that it must refuse."""

import os
import signal
import subprocess
import sys
from pathlib import Path
from unittest import mock

import numpy as np
import pytest
import torch
import transformers
from datasets import ClassLabel, Dataset, DatasetDict, Features, Value
from safetensors.torch import load_file, save_file

from distil import config, records, teacher
from distil.speed.fastbert import FastBert

SST2, QQP = config.task("sst2"), config.task("qqp")
SMALL = {"hidden_size": 32, "num_hidden_layers": 2, "num_attention_heads": 2}
SMALL |= {"intermediate_size": 48, "max_position_embeddings": 40}
WORDS = ["[PAD]", "[UNK]", "[CLS]", "[SEP]", "[MASK]", "a", "bad", "film", "good", "the"]


@pytest.fixture(autouse=True)
def own_artifacts(tmp_path, monkeypatch):
    monkeypatch.setattr(records, "ARTIFACTS", tmp_path)


def settings(**changes):
    values = {"model": "tiny", "learning_rates": [5.0e-3], "epochs": 6, "batch_size": 16}
    values |= {"max_length": 32, "warmup": 0.1, "weight_decay": 0.01, "evals_per_epoch": 1}
    return config.TeacherSettings(**values | {"precision": "float32"} | changes)


def tune(folder, splits=None, spec=SST2, seed=0, **changes):
    splits = toy_splits() if splits is None else splits
    return teacher.fine_tune(splits, spec, settings(**changes), seed=seed, folder=folder)


def toy_splits(pair=False):
    rng = np.random.default_rng(0)
    labels = rng.integers(2, size=64).tolist()
    rest = [" ".join(rng.choice(["film", "a", "the"], rng.integers(1, 7))) for _ in labels]
    text = [f"{'good' if y else 'bad'} {words}" for y, words in zip(labels, rest, strict=True)]
    columns = {"sentence1": text} | ({"sentence2": text[::-1]} if pair else {})
    features = {name: Value("string") for name in columns} | {"label": ClassLabel(names=["0", "1"])}
    split = Dataset.from_dict(columns | {"label": labels}, features=Features(features))
    return DatasetDict({"train": split, "dev": split})


def tiny(spec, seed=0):
    texts = teacher.sentences(toy_splits(spec.pair)["train"], spec)
    torch.manual_seed(seed)
    return *teacher.load(teacher.resolve("tiny", texts)[0], len(spec.labels)), texts


def predict(model, tokenizer, texts, budget=512, precision="float32", **more):
    options = {"token_budget": budget, "precision": precision, "progress": False} | more
    return teacher.predict_logits(model, tokenizer, texts, **options)


def accuracy(folder, splits):
    logits = predict(*teacher.load(folder, 2), teacher.sentences(splits["dev"], SST2))
    return (logits.argmax(axis=1) == splits["dev"]["label"]).mean()


def write(folder, kind="Bert", head=None, **changes):
    """Write a model folder: a headless network, or a classifier of ``head`` labels."""
    transformers.BertTokenizer(vocab={w: i for i, w in enumerate(WORDS)}).save_pretrained(folder)
    values = {"vocab_size": len(WORDS), "num_labels": head or 2} | SMALL | changes
    network = f"{kind}ForSequenceClassification" if head else f"{kind}Model"
    made = getattr(transformers, f"{kind}Config")(**values)
    getattr(transformers, network)(made).save_pretrained(folder)
    return folder


@pytest.mark.parametrize("spec", [SST2, QQP], ids=["sst2", "qqp"])
def test_logits_do_not_depend_on_batch_or_order(spec):
    model, tokenizer, texts = tiny(spec)
    wide, narrow = predict(model, tokenizer, texts, 10_000), predict(model, tokenizer, texts, 1)
    np.testing.assert_allclose(wide, narrow, atol=1e-5)
    backwards = predict(model, tokenizer, [column[::-1] for column in texts], 64)
    np.testing.assert_allclose(wide, backwards[::-1], atol=1e-5)
    assert np.abs(wide[0] - wide[1]).max() > 1e-4
    cast = predict(model, tokenizer, texts, 99, "bfloat16")
    assert model.dtype == torch.bfloat16 and 0 < np.abs(wide - cast).max() < 0.05


def test_logits_are_those_of_the_network_on_each_pair_alone():
    model, tokenizer, texts = tiny(QQP)
    logits = predict(model, tokenizer, texts, **(cut := {"max_length": 9}))
    for row in (0, 1, 50):
        inputs = tokenizer(*(t[row] for t in texts), **cut, truncation=True, return_tensors="pt")
        expected = model(**inputs).logits[0].detach().numpy()
        np.testing.assert_allclose(logits[row], expected, atol=1e-5)
    assert np.abs(logits - predict(model, tokenizer, texts[::-1], **cut)).max() > 1e-4


def test_equal_examples_are_sent_once_and_labels_are_the_same_to_the_bit():
    model, tokenizer, (texts,) = tiny(SST2)
    once, forward = predict(model, tokenizer, [texts], 200), FastBert.forward
    with mock.patch.object(FastBert, "forward", autospec=True, side_effect=forward) as calls:
        repeated = predict(model, tokenizer, [texts + texts[::-1]], 200)
    assert sum(len(call.kwargs["input_ids"]) for call in calls.mock_calls) == len(set(texts))
    assert repeated.tobytes() == np.concatenate([once, once[::-1]]).tobytes()


def test_the_best_learning_rate_is_kept_and_a_finished_teacher_is_not_trained_again(tmp_path):
    folder, rates = tmp_path / "a" / "teacher", [1.0e-9, 5.0e-3]
    history = tune(folder, learning_rates=rates)
    assert [entry["lr"] for entry in history] == [1.0e-9] * 6 + [5.0e-3] * 6
    best = max(history, key=lambda entry: entry["dev_accuracy"])
    assert best["lr"] == 5.0e-3 and best["dev_accuracy"] > 0.9
    assert accuracy(folder, toy_splits()) == pytest.approx(best["dev_accuracy"])
    assert [path.name for path in folder.parent.iterdir()] == ["teacher"]
    assert all(path.suffix in (".json", ".safetensors") for path in folder.iterdir())
    assert tune(folder, {}, learning_rates=rates) == history
    model, _ = teacher.load(folder, 2)
    sizes = {name: value.numel() for name, value in model.named_parameters()}
    rest = sum(size for name, size in sizes.items() if not name.endswith("embeddings.weight"))
    assert teacher.num_parameters(model) == {"total": sum(sizes.values()), "non_embedding": rest}


def test_the_best_evaluation_is_kept_even_if_training_goes_on(tmp_path, monkeypatch):
    """And a rate is chosen by its best evaluation."""
    splits = toy_splits()
    splits["dev"] = splits["dev"].map(lambda row: {"label": 1 - row["label"]})  # learning hurts
    history = tune(tmp_path / "t", splits)
    scores = [entry["dev_accuracy"] for entry in history]
    assert scores[-1] < max(scores) == pytest.approx(accuracy(tmp_path / "t", splits))
    scores = iter([0.5, 0.7, 0.6, 0.5, 0.9, 0.6, 0.5, 0.6, 0.8])
    monkeypatch.setattr(teacher.metrics, "evaluate", lambda *_: {"accuracy": next(scores)})
    tune(tmp_path / "u", seed=5, learning_rates=[5.0e-3, 1.0e-9, 4.0e-3], epochs=3)
    tuned, (start, *_) = teacher.load(tmp_path / "u", 2)[0], tiny(SST2, seed=5)
    for ours, drawn in zip(tuned.parameters(), start.parameters(), strict=True):
        torch.testing.assert_close(ours, drawn, atol=1e-6, rtol=0)  # the best rate moves nothing


KILLED = {"learning_rates": [5.0e-3, 3.0e-3], "epochs": 4, "evals_per_epoch": 2}
PROGRAM = """
import os, signal, sys
from pathlib import Path
from test_teacher import KILLED, teacher, tune
where, folder = sys.argv[1], Path(sys.argv[2])
steps, original = [], getattr(teacher._Trainer, where)
def kill(self, *args, **options):
    steps.append(self.args.learning_rate)
    if steps.count(3.0e-3) == {"training_step": 11, "_save_rng_state": 3}[where]:
        os.kill(os.getpid(), signal.SIGKILL)
    return original(self, *args, **options)
setattr(teacher._Trainer, where, kill)
tune(folder, **KILLED)
"""


@pytest.mark.parametrize("where", ["training_step", "_save_rng_state"])
def test_a_run_killed_in_its_second_rate_ends_with_the_same_bits(tmp_path, where):
    """The kill comes in the middle of an interval, or of writing the third checkpoint."""
    folder = tmp_path / "killed"
    paths = os.pathsep.join([str(config.ROOT), str(Path(__file__).parent)])
    environment = os.environ | {"DISTIL_ARTIFACTS": str(tmp_path), "PYTHONPATH": paths}
    command = [sys.executable, "-c", PROGRAM, where, str(folder)]
    done = subprocess.run(command, env=environment, capture_output=True, text=True, check=False)
    assert done.returncode == -signal.SIGKILL, done.stderr[-2000:]
    with mock.patch.object(teacher, "_finite", side_effect=teacher._finite) as step:
        resumed = tune(folder, **KILLED)
    trained = sum(isinstance(call.args[0], torch.Tensor) for call in step.mock_calls)
    assert trained == 16 - {"training_step": 10, "_save_rng_state": 4}[where]
    straight = tune(tmp_path / "straight", **KILLED)
    for path in (tmp_path / "straight").iterdir():
        if path.name != teacher.OUTCOME:
            assert path.read_bytes() == (folder / path.name).read_bytes(), path.name
    without_clock = [[{**entry, "seconds": 0} for entry in run] for run in (resumed, straight)]
    assert without_clock[0] == without_clock[1] and len(resumed) == 16


def test_the_settings_reach_the_trainer_on_several_gpus(tmp_path, monkeypatch):
    monkeypatch.setattr(teacher, "device", lambda: torch.device("cuda"))
    monkeypatch.setattr(torch.cuda, "device_count", lambda: 4)
    arguments = teacher._arguments(64, settings(), 1.0e-3, 7, tmp_path)
    assert (arguments.n_gpu, arguments.train_batch_size, arguments.seed) == (1, 16, 7)
    assert arguments.data_seed == 7 and "length" in arguments.train_sampling_strategy
    assert arguments.get_warmup_steps(200) == 20 and arguments.weight_decay == 0.01


def test_numbers_that_are_not_finite_stop_everything(tmp_path):
    folder = write(tmp_path / "nan")
    weights = load_file(folder / "model.safetensors")
    weights["encoder.layer.0.output.dense.bias"][0] = float("nan")
    save_file(weights, folder / "model.safetensors", metadata={"format": "pt"})
    with pytest.raises(ValueError, match="not finite"):
        predict(*teacher.load(folder, 2), [["a film"]])
    with pytest.raises(ValueError, match="not finite"):
        tune(tmp_path / "t", model=str(folder))
    assert not list(tmp_path.glob("t.part/*/checkpoint-*"))
    strange = toy_splits().map(lambda row: {"sentence1": "un bon"})
    with pytest.raises(ValueError, match="lacks 50% of the text"):
        tune(tmp_path / "u", strange, model=str(write(tmp_path / "other")))


@pytest.mark.parametrize("kind", ["Roberta", "DistilBert", "MPNet", "Electra"])
def test_networks_without_pooler_or_token_types_can_teach(tmp_path, kind):
    sizes = {"dim": 32, "hidden_dim": 48, "n_layers": 2, "n_heads": 2}
    sizes = {"DistilBert": sizes, "Roberta": {"type_vocab_size": 1}}.get(kind, {})
    folder, splits = write(tmp_path / "model", kind, pad_token_id=0, **sizes), toy_splits(pair=True)
    tune(tmp_path / "t", splits, QQP, model=str(folder), epochs=1)
    model, tokenizer = teacher.load(tmp_path / "t", 2, max_length=32)
    assert predict(model, tokenizer, teacher.sentences(splits["dev"], QQP)).shape == (64, 2)


@pytest.mark.parametrize("left", ["multi_label_classification", "regression"])
def test_the_task_decides_the_loss_and_the_head_of_an_unfinished_model(tmp_path, capsys, left):
    folder = write(tmp_path / "head3", head=3, problem_type=left)
    model, _ = teacher.load(folder, 2)
    assert model.config.problem_type == "single_label_classification"
    assert model.classifier.out_features == 2
    assert capsys.readouterr().out.count("head3: a new output layer") == 1
    model, _ = teacher.load(folder, 3)
    assert model.config.problem_type == "single_label_classification"
    assert not capsys.readouterr().out
    (folder / teacher.OUTCOME).write_text("{}")
    with pytest.raises(ValueError, match="fine-tuned for a task without 2 labels"):
        teacher.load(folder, 2)


def test_a_model_of_the_hub_is_read_at_its_commit(tmp_path, monkeypatch):
    commit, folder, asked = "0123456789" * 4, write(tmp_path / "model"), []
    assert teacher.resolve(f"someone/bert@{commit}") == ("someone/bert", commit)
    for name in ("someone/bert", "someone/bert@main", "no/such/folder"):
        with pytest.raises(ValueError, match="all 40 digits of a commit"):
            teacher.resolve(name)
    for kind in (transformers.AutoTokenizer, transformers.AutoModelForSequenceClassification):

        def read(name, real=kind.from_pretrained, **options):
            asked.append((name, options.pop("revision")))
            return real(folder, **options)

        monkeypatch.setattr(kind, "from_pretrained", read)
    teacher.load("someone/bert", 2, commit)
    assert asked == [("someone/bert", commit)] * 2


DEEP = transformers.BertConfig(vocab_size=10, **SMALL | {"num_hidden_layers": 3})
NO_MASK = '{"tokenizer_class": "BertTokenizer", "mask_token": null}'
BROKEN = {
    "no tokenizer files": lambda folder: [path.unlink() for path in folder.glob("*token*")],
    "max_length = 64 word pieces with 40 positions": lambda folder: None,
    "its tokenizer has 10 words, its embeddings 7": lambda folder: write(folder, vocab_size=7),
    "weights do not fit": lambda folder: DEEP.save_pretrained(folder),
    "names no mask_token": lambda folder: (folder / "tokenizer_config.json").write_text(NO_MASK),
    "depend on the padding": lambda folder: write(folder, "FNet", max_position_embeddings=64),
    "cannot use .*model": lambda folder: (folder / "model.safetensors").unlink(),
}


@pytest.mark.parametrize("message", BROKEN)
def test_a_folder_that_cannot_teach_is_one_line(tmp_path, message):
    BROKEN[message](write(tmp_path / "model"))
    with pytest.raises(ValueError, match=message) as caught:
        teacher.load(tmp_path / "model", 2, max_length=64)
    assert "\n" not in str(caught.value) and len(str(caught.value)) <= 500
