"""A tiny BERT: logits in order and independent of the batch, the mask stays whole, training saves and reloads, a run resumes."""

import dataclasses
import json

import numpy as np
import pytest
import torch
from datasets import ClassLabel, Dataset, DatasetDict, Features, Value

from distil import paths, pretrained, sealed, teacher
from distil.config import TeacherConfig
from distil.fastbert import FastBert
from distil.tasks import QQP, SST2
from distil.words import MASK, to_text

CONFIG = TeacherConfig("tiny", "joint", [1.0e-3], 2, 16, 32, 0.1, 0.01, 1)


@pytest.fixture(autouse=True)
def own_artifacts(tmp_path, monkeypatch):
    monkeypatch.setattr(paths, "ARTIFACTS", tmp_path)
    monkeypatch.setattr(teacher, "bf16_is_faster", lambda device: False)


def toy_splits(pair=False, n=64):
    rng = np.random.default_rng(0)
    labels = rng.integers(2, size=n).tolist()
    text = [
        f"{'good' if y else 'bad'} {' '.join(rng.choice(['film', 'a', 'the'], rng.integers(1, 7)))}" for y in labels
    ]
    columns = {"sentence1": text} | ({"sentence2": text[::-1]} if pair else {})
    features = Features({name: Value("string") for name in columns} | {"label": ClassLabel(names=["0", "1"])})
    split = Dataset.from_dict(columns | {"label": labels}, features=features)
    return DatasetDict({"train": split, "dev": split})


def tiny(spec, splits, pair_input="joint"):
    texts = pretrained.sentences(splits["train"], spec)
    folder, _ = pretrained.resolve_model("tiny", texts)
    return *pretrained.load(folder, len(spec.labels), pair_input=pair_input), texts


@pytest.mark.parametrize(("spec", "pair_input"), [(SST2, "joint"), (QQP, "joint"), (QQP, "separate")])
def test_logits_do_not_depend_on_batch_or_order(spec, pair_input):
    model, tokenizer, texts = tiny(spec, toy_splits(spec.pair), pair_input)
    wide = teacher.predict_logits(model, tokenizer, texts, token_budget=10_000, progress=False)
    narrow = teacher.predict_logits(model, tokenizer, texts, token_budget=1, progress=False)
    np.testing.assert_allclose(wide, narrow, atol=1e-5)
    reversed_ = teacher.predict_logits(model, tokenizer, [t[::-1] for t in texts], token_budget=64, progress=False)
    np.testing.assert_allclose(wide, reversed_[::-1], atol=1e-5)
    assert np.abs(wide[0] - wide[1]).max() > 1e-4


def test_an_example_that_occurs_twice_is_sent_once(monkeypatch):
    model, tokenizer, (texts,) = tiny(SST2, toy_splits())
    rows, forward = [], FastBert.forward

    def counted(self, input_ids, **inputs):
        rows.append(len(input_ids))
        return forward(self, input_ids, **inputs)

    monkeypatch.setattr(FastBert, "forward", counted)
    repeated = teacher.predict_logits(model, tokenizer, [texts + texts[::-1]], token_budget=200, progress=False)
    assert sum(rows) == len(set(texts))
    once = teacher.predict_logits(model, tokenizer, [texts], token_budget=200, progress=False)
    np.testing.assert_array_equal(repeated, np.concatenate([once, once[::-1]]))


def test_the_second_sentence_of_a_pair_counts():
    model, tokenizer, texts = tiny(QQP, toy_splits(pair=True))
    same = teacher.predict_logits(model, tokenizer, texts, token_budget=512, progress=False)
    swapped = teacher.predict_logits(model, tokenizer, texts[::-1], token_budget=512, progress=False)
    assert np.abs(same - swapped).max() > 1e-4


def test_separate_features_are_those_of_each_sentence_alone():
    """The layer over [f(a); f(b)], with f the pooled output of BERT on one sentence, computed here one pair at a time."""
    model, tokenizer, texts = tiny(QQP, toy_splits(pair=True), "separate")
    logits = teacher.predict_logits(model, tokenizer, texts, token_budget=512, progress=False)
    for row in (0, 1, 50):
        features = [model.encoder(**tokenizer(column[row], return_tensors="pt")).pooler_output[0] for column in texts]
        expected = model.classifier.weight @ torch.cat(features) + model.classifier.bias
        np.testing.assert_allclose(logits[row], expected.detach().numpy(), atol=1e-5)


def test_a_separate_teacher_learns_saves_and_reloads(tmp_path):
    splits = toy_splits(pair=True)
    splits = DatasetDict(
        {name: split.map(lambda row: {"sentence2": row["sentence1"]}) for name, split in splits.items()}
    )
    config = dataclasses.replace(CONFIG, pair_input="separate", learning_rates=[5.0e-3], epochs=6)
    history = teacher.fine_tune(splits, QQP, config, seed=0, folder=tmp_path / "best")
    model, tokenizer = pretrained.load(tmp_path / "best", 2, pair_input="separate")
    texts = pretrained.sentences(splits["dev"], QQP)
    logits = teacher.predict_logits(model, tokenizer, texts, token_budget=512, progress=False)
    accuracy = (logits.argmax(axis=1) == splits["dev"]["label"]).mean()
    assert accuracy == pytest.approx(max(entry["dev_accuracy"] for entry in history)) and accuracy > 0.9
    assert set(pretrained.weights(tmp_path / "best")) == {"model.safetensors", "classifier.safetensors"}


def test_weights_that_are_not_those_on_record_are_refused(tmp_path):
    model, tokenizer, _ = tiny(SST2, toy_splits())
    pretrained.save(model, tokenizer, tmp_path / "best")
    sealed.seal(tmp_path / "best")
    on_record = pretrained.weights(tmp_path / "best")
    pretrained.check_weights(tmp_path / "best", on_record)
    path = tmp_path / "best" / "model.safetensors"
    raw = bytearray(path.read_bytes())
    raw[-5] ^= 1
    path.write_bytes(raw)
    with pytest.raises(pretrained.ModelError, match=r"model\.safetensors not as on record"):
        pretrained.check_weights(tmp_path / "best", on_record)
    with pytest.raises(pretrained.ModelError, match=r"model\.safetensors.* not as on record"):
        pretrained.check_weights(tmp_path / "gone", on_record)


def test_no_model_is_one_clear_error(tmp_path):
    (tmp_path / "empty").mkdir()
    with pytest.raises(pretrained.ModelError, match="a folder with config"):
        pretrained.load(tmp_path / "empty", 2)


def test_a_mask_is_one_token():
    _, tokenizer, _ = tiny(SST2, toy_splits())
    ids = tokenizer(to_text(["a", MASK, "film"], tokenizer.mask_token))["input_ids"]
    assert len(ids) == 5 and ids[2] == tokenizer.mask_token_id


def test_training_learns_saves_and_reloads(tmp_path):
    splits, folder = toy_splits(), tmp_path / "best"
    config = dataclasses.replace(CONFIG, learning_rates=[5.0e-3], epochs=6)
    history = teacher.fine_tune(splits, SST2, config, seed=0, folder=folder)
    assert len(history) == 6 and not list(tmp_path.glob("best-lr*"))
    model, tokenizer = pretrained.load(folder, 2)
    texts = pretrained.sentences(splits["dev"], SST2)
    logits = teacher.predict_logits(model, tokenizer, texts, token_budget=512, progress=False)
    accuracy = (logits.argmax(axis=1) == splits["dev"]["label"]).mean()
    assert accuracy == pytest.approx(max(entry["dev_accuracy"] for entry in history)) and accuracy > 0.9


def test_every_learning_rate_is_tried_and_the_best_is_kept(tmp_path):
    splits, folder = toy_splits(), tmp_path / "best"
    config = dataclasses.replace(CONFIG, learning_rates=[1.0e-9, 5.0e-3], epochs=6)
    history = teacher.fine_tune(splits, SST2, config, seed=0, folder=folder)
    assert {entry["lr"] for entry in history} == {1.0e-9, 5.0e-3}
    logits = teacher.predict_logits(
        *pretrained.load(folder, 2), pretrained.sentences(splits["dev"], SST2), token_budget=512, progress=False
    )
    best = max(history, key=lambda entry: entry["dev_accuracy"])
    assert best["lr"] == 5.0e-3
    assert (logits.argmax(axis=1) == splits["dev"]["label"]).mean() == pytest.approx(best["dev_accuracy"])


def test_a_learning_rate_that_is_done_is_not_trained_again(tmp_path, monkeypatch):
    splits, folder = toy_splits(), tmp_path / "best"
    config = dataclasses.replace(CONFIG, learning_rates=[1.0e-3, 3.0e-3])
    trained, original = [], teacher._trainer

    def dies_at_the_second(splits, spec, config, learning_rate, *rest):
        trained.append(learning_rate)
        if len(trained) == 2:
            raise KeyboardInterrupt
        return original(splits, spec, config, learning_rate, *rest)

    monkeypatch.setattr(teacher, "_trainer", dies_at_the_second)
    with pytest.raises(KeyboardInterrupt):
        teacher.fine_tune(splits, SST2, config, seed=0, folder=folder)
    assert not list(tmp_path.glob("best-lr0.001/checkpoint-*"))
    history = teacher.fine_tune(splits, SST2, config, seed=0, folder=folder)
    assert trained == [1.0e-3, 3.0e-3, 3.0e-3] and [entry["lr"] for entry in history] == [1.0e-3] * 2 + [3.0e-3] * 2
    assert (folder / "model.safetensors").exists() and not list(tmp_path.glob("best-lr*"))


def test_parameters_are_counted_with_and_without_embeddings():
    model, _, _ = tiny(SST2, toy_splits())
    counts = pretrained.num_parameters(model)
    embeddings = model.bert.embeddings
    tables = (embeddings.word_embeddings, embeddings.position_embeddings, embeddings.token_type_embeddings)
    assert counts["total"] == sum(p.numel() for p in model.parameters())
    assert counts["total"] - counts["non_embedding"] == sum(table.weight.numel() for table in tables)


def test_hub_id_and_commit_are_parted():
    commit = "0123456789abcdef" * 2 + "01234567"
    assert pretrained.resolve_model(f"someone/bert@{commit}") == ("someone/bert", commit)
    assert pretrained.resolve_model(str(paths.ARTIFACTS)) == (str(paths.ARTIFACTS), None)


@pytest.mark.parametrize("name", ["someone/bert", "someone/bert@main", "someone/bert@abc", "no/such/folder"])
def test_a_model_of_the_hub_is_pinned(name):
    with pytest.raises(pretrained.ModelError, match="40 digits of a commit"):
        pretrained.resolve_model(name)


def test_bfloat16_cast_keeps_the_answer(monkeypatch):
    model, tokenizer, texts = tiny(SST2, toy_splits())
    exact = teacher.predict_logits(model, tokenizer, texts, token_budget=512, progress=False)
    monkeypatch.setattr(teacher, "bf16_is_faster", lambda device: True)
    cast = teacher.predict_logits(model, tokenizer, texts, token_budget=512, progress=False)
    assert next(model.parameters()).dtype == torch.bfloat16
    np.testing.assert_allclose(exact, cast, atol=0.05)


def put_checkpoint(work, step, best, seal=True):
    folder = work / f"checkpoint-{step}"
    folder.mkdir()
    (folder / "model.safetensors").write_bytes(b"weights")
    (folder / "trainer_state.json").write_text(json.dumps({"best_global_step": best}))
    if seal:
        sealed.seal(folder)


def test_no_run_goes_on_without_the_best_checkpoint_that_it_would_end_with(tmp_path, capsys):
    work = tmp_path / "work"
    teacher._clear(work, "this run")
    for step, best in ((4, 4), (8, 4)):
        put_checkpoint(work, step, best)
    (work / "checkpoint-4" / "model.safetensors").write_bytes(b"wEights")
    teacher._clear(work, "this run")
    assert not list(work.glob("checkpoint-*"))
    assert "checkpoint-8: not used without checkpoint-4" in capsys.readouterr().out


def test_the_checkpoint_before_stays_until_the_next_is_under_its_seal_and_leads_to_the_same_bits(tmp_path, monkeypatch):
    splits, original, calls = toy_splits(), sealed.seal, []

    def dies_at_the_third(folder):
        calls.extend([folder.name] if folder.name.startswith("checkpoint") else [])
        if len(calls) == 3:
            raise KeyboardInterrupt
        original(folder)

    monkeypatch.setattr(sealed, "seal", dies_at_the_third)
    config = dataclasses.replace(CONFIG, learning_rates=[5.0e-3], epochs=4)
    with pytest.raises(KeyboardInterrupt):
        teacher.fine_tune(splits, SST2, config, seed=0, folder=tmp_path / "best")
    whole = [path.name for path in (tmp_path / "best-lr0.005").glob("checkpoint-*") if not sealed.broken(path)]
    assert calls[:2] == ["checkpoint-4", "checkpoint-8"] and "checkpoint-8" in whole
    monkeypatch.setattr(sealed, "seal", original)
    resumed = teacher.fine_tune(splits, SST2, config, seed=0, folder=tmp_path / "best")
    undisturbed = teacher.fine_tune(splits, SST2, config, seed=0, folder=tmp_path / "other")
    assert [entry["dev_accuracy"] for entry in resumed] == [entry["dev_accuracy"] for entry in undisturbed]
    assert pretrained.weights(tmp_path / "best") == pretrained.weights(tmp_path / "other")


def test_labels_are_the_same_to_the_bit_each_time():
    model, tokenizer, texts = tiny(SST2, toy_splits())
    once, again = (teacher.predict_logits(model, tokenizer, texts, token_budget=64, progress=False) for _ in range(2))
    assert once.tobytes() == again.tobytes()


def test_only_a_whole_checkpoint_of_the_same_run_is_resumed(tmp_path, capsys):
    work = tmp_path / "work"
    teacher._clear(work, "this run")
    for step in (4, 8, 12):
        put_checkpoint(work, step, best=4, seal=step != 8)
    (work / "checkpoint-12" / "model.safetensors").write_bytes(b"wEights")
    teacher._clear(work, "this run")
    assert [path.name for path in work.glob("checkpoint-*")] == ["checkpoint-4"]
    assert capsys.readouterr().out == "work/checkpoint-12: model.safetensors damaged; not used\n"
    with pytest.raises(pretrained.ModelError, match="another config, seed, data or version of the code"):
        teacher._clear(work, "another run")
    assert (work / "checkpoint-4" / "model.safetensors").exists()


def test_a_teacher_that_is_done_is_not_tuned_again_unless_it_is_another_or_damaged(tmp_path, monkeypatch):
    splits, folder = toy_splits(), tmp_path / "best"
    history = teacher.fine_tune(splits, SST2, CONFIG, seed=0, folder=folder)
    assert all(entry["seconds"] >= 0 for entry in history)
    first, weights = (folder / "model.safetensors").read_bytes(), folder / "model.safetensors"
    original = teacher._trainer

    def tunes():
        tuned = []
        monkeypatch.setattr(teacher, "_trainer", lambda *args: tuned.append(1) or original(*args))
        return tuned

    tuned = tunes()
    assert teacher.fine_tune(splits, SST2, CONFIG, seed=0, folder=folder) == history and not tuned
    weights.write_bytes(bytes(byte ^ (number == 5000) for number, byte in enumerate(first)))
    teacher.fine_tune(splits, SST2, CONFIG, seed=0, folder=folder)
    assert tuned == [1] and weights.read_bytes() == first
    monkeypatch.setattr(teacher, "code_digest", lambda *modules: "other code")
    teacher.fine_tune(splits, SST2, CONFIG, seed=0, folder=folder)
    assert tuned == [1, 1]
    monkeypatch.setattr(pretrained, "weights", lambda *model: {"model.safetensors": "another base model"})
    teacher.fine_tune(splits, SST2, CONFIG, seed=0, folder=folder)
    assert tuned == [1, 1, 1]
