"""What comes from the hub is read in the hub's own formats, without a network: models and vectors at a commit, GLUE's tasks."""

import json
import os
import subprocess
import sys

import datasets
import pytest
import torch
import transformers
from datasets import ClassLabel, Dataset, Features, Value
from safetensors.torch import load_file, save_file
from test_word2vec import COMMIT as VECTORS_COMMIT
from test_word2vec import REPOSITORY, VECTORS, WORDS, hub_cache, save_gensim

from distil import data, paths
from distil.packages import sha256
from distil.tasks import PAPER

COMMIT = "0123456789abcdef0123456789abcdef01234567"
VOCABULARY = ["[PAD]", "[UNK]", "[CLS]", "[SEP]", "[MASK]", "a", "good", "film"]

# --- models and vectors -----------------------------------------------------------------------------------------------

# The hub's client reads its settings from the environment when it is imported, so all of this runs in one process of its own.
SCRIPT = """
import json, sys
from pathlib import Path
from safetensors.torch import save_file
from distil import embeddings, pretrained, vocabulary

out, model_commit, vectors_id = Path(sys.argv[1]), sys.argv[2], sys.argv[3]
answers = {}
for name in ("tiny-bert", "tiny-google-bert"):
    folder, revision = pretrained.resolve_model(f"someone/{name}@{model_commit}")
    model, tokenizer = pretrained.load(folder, 3, revision)
    save_file(model.state_dict(), out / f"{name}.safetensors")
    answers[name] = {
        "tokens": tokenizer("A good [MASK] movie")["input_ids"],
        "labels": model.config.num_labels,
        "dtype": str(next(model.parameters()).dtype),
        "files": pretrained.weights(folder, revision),
    }
for name in (f"someone/tiny-bert@{model_commit[::-1]}", f"someone/never-seen@{model_commit}"):
    try:
        folder, revision = pretrained.resolve_model(name)
        pretrained.load(folder, 3, revision)
        answers[name] = "loaded"
    except pretrained.ModelError as error:
        answers[name] = str(error)
words = vocabulary.build_vocabulary([["film", "unknown"]])
answers["vectors"] = embeddings.load_vectors(vectors_id, words, seed=0)[0][words.ids["film"]].tolist()
(out / "answers.json").write_text(json.dumps(answers))
"""


def bert_config():
    torch.manual_seed(1)
    return transformers.BertConfig(
        vocab_size=len(VOCABULARY),
        hidden_size=32,
        num_hidden_layers=2,
        num_attention_heads=2,
        intermediate_size=48,
        max_position_embeddings=16,
    )


def write_tokenizer(folder):
    folder.mkdir()
    (folder / "vocab.txt").write_text("\n".join(VOCABULARY) + "\n", encoding="utf-8")
    return transformers.BertTokenizer(vocab=str(folder / "vocab.txt"), do_lower_case=True)


def tiny_bert(folder):
    """A ``save_pretrained`` folder of today's transformers."""
    write_tokenizer(folder).save_pretrained(folder)
    model = transformers.BertModel(bert_config())
    model.save_pretrained(folder)
    return {f"bert.{name}": tensor for name, tensor in model.state_dict().items()}


def google_bert(folder):
    """The files of google-bert/bert-large-uncased, of 2018: a pretraining model whose layer norms have gamma and beta."""
    write_tokenizer(folder).backend_tokenizer.save(str(folder / "tokenizer.json"))
    model = transformers.BertForPreTraining(bert_config())
    weights = {name: tensor.clone() for name, tensor in model.state_dict().items() if "decoder" not in name}
    old = {"LayerNorm.weight": "LayerNorm.gamma", "LayerNorm.bias": "LayerNorm.beta"}
    for name in [name for name in weights if "LayerNorm" in name]:
        weights[name] += torch.rand_like(weights[name])  # no longer what a new layer has
    renamed = {
        next((name.replace(new, gone) for new, gone in old.items() if new in name), name): tensor
        for name, tensor in weights.items()
    }
    assert sum("gamma" in name for name in renamed) == sum("beta" in name for name in renamed) == 6
    save_file(renamed, folder / "model.safetensors", metadata={"format": "pt"})
    config = bert_config().to_diff_dict() | {"architectures": ["BertForMaskedLM"], "gradient_checkpointing": False}
    (folder / "config.json").write_text(
        json.dumps(config | {"model_type": "bert", "position_embedding_type": "absolute"})
    )
    (folder / "tokenizer_config.json").write_text('{"do_lower_case": true, "model_max_length": 512}')
    return {name: tensor for name, tensor in weights.items() if name.startswith("bert.")}


@pytest.fixture(scope="module")
def loaded(tmp_path_factory):
    """Weights that were put into a cache of the hub, the folder of what another process loaded, and what it said."""
    home = tmp_path_factory.mktemp("hub")
    cache, out = home / "home" / "hub", home / "out"
    out.mkdir()
    weights, digests = {}, {}
    for name, write in {"tiny-bert": tiny_bert, "tiny-google-bert": google_bert}.items():
        weights[name] = write(home / name)
        digests[name] = {"model.safetensors": sha256(home / name / "model.safetensors")}
        hub_cache(cache, sorted((home / name).iterdir()), f"someone/{name}", COMMIT)
    vectors = save_gensim(home / "word2vec-google-news-300.model")
    hub_cache(cache, [home / "word2vec-google-news-300.model", vectors])
    environment = {name: value for name, value in os.environ.items() if not name.startswith(("HF_", "TRANSFORMERS_"))}
    done = subprocess.run(
        [sys.executable, "-c", SCRIPT, str(out), COMMIT, f"{REPOSITORY}@{VECTORS_COMMIT}"],
        env=environment | {"HF_HOME": str(home / "home"), "HF_HUB_OFFLINE": "1"},
        cwd=paths.ROOT,
        capture_output=True,
        text=True,
    )
    assert done.returncode == 0, done.stderr
    answers = json.loads((out / "answers.json").read_text())
    assert {name: answers[name].pop("files") for name in digests} == digests
    return weights, out, answers


@pytest.mark.parametrize("name", ["tiny-bert", "tiny-google-bert"])
def test_a_model_of_the_hub_is_loaded_at_its_commit(loaded, name):
    weights, out, answers = loaded
    found = load_file(out / f"{name}.safetensors")
    wanted = {key: tensor for key, tensor in weights[name].items() if "position_ids" not in key}
    assert len(wanted) > 30 and set(found) == {*wanted, "classifier.weight", "classifier.bias"}
    for key, tensor in wanted.items():
        assert torch.equal(found[key], tensor), key
    ids = [VOCABULARY.index(word) for word in ("[CLS]", "a", "good", "[MASK]", "[UNK]", "[SEP]")]
    assert answers[name] == {"tokens": ids, "labels": 3, "dtype": "torch.float32"}


@pytest.mark.parametrize("name", [f"tiny-bert@{COMMIT[::-1]}", f"never-seen@{COMMIT}"])
def test_another_commit_or_model_is_an_error_that_names_it(loaded, name):
    _, _, answers = loaded
    assert answers[f"someone/{name}"].startswith(f"no usable model at someone/{name}:")


def test_vectors_of_the_hub_are_loaded_at_their_commit(loaded):
    _, _, answers = loaded
    assert answers["vectors"] == VECTORS[WORDS.index("film")].tolist()


# --- GLUE -------------------------------------------------------------------------------------------------------------

# Config -> columns, names of the labels in their order, splits: as nyu-mll/glue has them. Labels of test splits are -1.
GLUE = {
    "mnli": (
        ("premise", "hypothesis"),
        ("entailment", "neutral", "contradiction"),
        ("train", "validation_matched", "validation_mismatched", "test_matched", "test_mismatched"),
    ),
    "qqp": (("question1", "question2"), ("not_duplicate", "duplicate"), ("train", "validation", "test")),
    "sst2": (("sentence",), ("negative", "positive"), ("train", "validation", "test")),
}


def label(name, row, names):
    """Label of a row; test splits have none that is public, and the hub writes -1."""
    return -1 if name.startswith("test") else (row + len(name)) % len(names)


def write_glue(folder):
    """A repository in the shape of nyu-mll/glue: a README that names configs, features and files, and parquet files."""
    head = {"dataset_info": [], "configs": []}
    for config, (columns, names, splits) in GLUE.items():
        features = Features({name: Value("string") for name in columns})
        features |= {"label": ClassLabel(names=list(names)), "idx": Value("int32")}
        (folder / config).mkdir()
        for split in splits:
            rows = {column: [f"{split} {column} {row}" for row in range(5)] for column in columns}
            rows |= {"label": [label(split, row, names) for row in range(5)], "idx": list(range(5))}
            made = Dataset.from_dict(rows, features=Features(features))
            made.to_parquet(str(folder / config / f"{split}-00000-of-00001.parquet"))
        files = [{"split": split, "path": f"{config}/{split}-*"} for split in splits]
        head["configs"].append({"config_name": config, "data_files": files})
        head["dataset_info"].append(
            {
                "config_name": config,
                "features": [{"name": name, "dtype": "string"} for name in columns]
                + [{"name": "label", "dtype": {"class_label": {"names": {str(i): n for i, n in enumerate(names)}}}}]
                + [{"name": "idx", "dtype": "int32"}],
                "splits": [{"name": split, "num_bytes": 1, "num_examples": 5} for split in splits],
            }
        )
    (folder / "README.md").write_text(f"---\n{json.dumps(head)}\n---\n# GLUE\n", encoding="utf-8")  # JSON is YAML too
    return str(folder)


@pytest.mark.parametrize("task", PAPER)
def test_glue_is_read_as_the_hub_has_it(tmp_path, monkeypatch, task):
    monkeypatch.setattr(datasets.config, "HF_DATASETS_CACHE", str(tmp_path / "cache"))
    (tmp_path / "glue").mkdir()
    spec = PAPER[task]
    splits = data.load_hub(spec, repository=write_glue(tmp_path / "glue"), revision=None)
    wanted = {"train": "train", "dev": "validation"}
    if task == "mnli":
        wanted |= {"dev": "validation_matched", "dev_mismatched": "validation_mismatched"}
    assert set(splits) == set(wanted)  # no test split: the hub has no labels for it
    columns, names, _ = GLUE[task]
    for ours, theirs in wanted.items():
        rows = splits[ours]
        assert rows.column_names == [*spec.columns, "label", "idx"]
        for column, original in zip(spec.columns, columns, strict=True):
            assert rows[column][:] == [f"{theirs} {original} {row}" for row in range(5)]
        assert rows["label"][:] == [label(theirs, row, names) for row in range(5)] and rows["idx"][:] == [*range(5)]
        assert rows.features["label"].names == list(names)
    if task == "mnli":  # so a label means the same from the hub and from GLUE's own files, which name it
        assert names == spec.labels
