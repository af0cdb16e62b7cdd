"""Measures each stage against a plain way of doing it, in one run: ``python tools/bench.py``.

The plain ways are what one would write first: labelling unsorted, in float32 and batches of 32;
training through packed ``nn.LSTM`` and dense AdaDelta; inference by the same network. Then
``bench_scale.py`` makes transfer sets up to MNLI's size, each in a process of its own. Writes
``results/bench.json`` and the tables of ``docs/speed.md``.
"""

import argparse
import json
import os
import statistics
import subprocess
import sys
import time
from collections.abc import Callable
from functools import partial
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn
from torch.nn import functional as F
from torch.nn.utils.rnn import pack_padded_sequence
from tqdm import tqdm

from distil import (
    augment,
    batching,
    config,
    data,
    embeddings,
    records,
    student,
    train,
    words,
)
from distil import teacher as bert
from distil.batching import Column, Examples
from distil.speed.fast import FORMS, FastStudent

DISTIL_BILSTM = 435  # source sentences per second of that public replication, measured once
MNLI_PAIRS = 392_702
RATES = {"p_mask": 0.1, "p_pos": 0.1, "p_ng": 0.25}
KIND = {"hidden_size": 150, "fc_size": 200, "num_labels": 2, "dropout": 0.1}
KIND |= {"pair": False, "channels": "multichannel", "pooling": "last"}
PAGE = config.ROOT / "docs" / "speed.md"
BEGIN, END = "<!-- results:begin -->", "<!-- results:end -->"
Rates = dict[str, float]


def median_seconds(repeats: int, *runs: Callable[[], object]) -> list[float]:
    """Return the median time of each run; the runs take turns, and the first turn is not counted."""
    seconds: list[list[float]] = [[] for _ in runs]
    for _ in range(1 + repeats):
        for run, found in zip(runs, seconds, strict=True):
            start = time.perf_counter()
            run()
            found.append(time.perf_counter() - start)
    return [statistics.median(found[1:]) for found in seconds]


# --- the plain ways -------------------------------------------------------------------------------


class PlainStudent(nn.Module):
    """The student over packed sequences, as it is usually written."""

    def __init__(self, vectors: Tensor) -> None:
        super().__init__()
        self.frozen, self.tuned = (
            nn.Embedding.from_pretrained(vectors.clone(), freeze=freeze) for freeze in (True, False)
        )
        self.lstm = nn.LSTM(2 * vectors.shape[1], 150, bidirectional=True, batch_first=True)
        self.fc, self.dropout, self.output = nn.Linear(300, 200), nn.Dropout(0.1), nn.Linear(200, 2)

    def forward(self, ids: Tensor, lengths: Tensor) -> Tensor:
        """Return logits [B, 2]."""
        embedded = torch.cat([self.frozen(ids), self.tuned(ids)], dim=2)
        packed = pack_padded_sequence(embedded, lengths, batch_first=True, enforce_sorted=False)
        _, (hidden, _) = self.lstm(packed)
        features = self.fc(torch.cat([hidden[0], hidden[1]], dim=1))
        return self.output(self.dropout(torch.relu(features)))


def plain_labelling(model: bert.Model, tokenizer: bert.Tokenizer, texts: list[str]) -> None:
    """Label in batches of 32 in the order of the texts."""
    options = {"padding": True, "truncation": True, "return_tensors": "pt"}
    with torch.inference_mode():
        for start in range(0, len(texts), 32):
            model(**tokenizer(texts[start : start + 32], **options))


def plain_epoch(model: PlainStudent, examples: Examples, batch_size: int) -> None:
    """Train for one epoch of dense AdaDelta over shuffled batches of mixed lengths."""
    tuned = [parameter for parameter in model.parameters() if parameter.requires_grad]
    optimizer = torch.optim.Adadelta(tuned, lr=1.0, rho=0.95)
    logits = torch.from_numpy(examples.teacher_logits)
    order = np.random.default_rng(0).permutation(len(examples))
    for start in range(0, len(order), batch_size):
        rows = order[start : start + batch_size]
        optimizer.zero_grad()
        F.mse_loss(model(*examples.columns[0].batch(rows)), logits[rows]).backward()
        optimizer.step()


# --- the stages -----------------------------------------------------------------------------------


def augmentation(sentences: list[list[str]], repeats: int) -> Rates:
    """Time tagging and drawing with the paper's 20 samples per sentence."""
    tagger = words.load_tagger("packages")
    tags = tagger(sentences)
    draws = partial(augment.transfer_set, [sentences], [tags], n_iter=20, seed=0, **RATES)
    parts = median_seconds(repeats, partial(tagger, sentences), lambda: list(draws()))
    found = {"sentences": len(sentences), "samples": sum(1 for _ in draws()), "seconds": sum(parts)}
    return found | {"ratio": len(sentences) / sum(parts) / DISTIL_BILSTM}


def labelling(texts: list[str], repeats: int) -> Rates:
    """Return sentences per second, and the bound that a large matrix product (2048^3) sets.

    The plain way labels the first 1,500 only: it is slow, and its speed does not depend on more.
    """
    folder, _ = bert.resolve("packages")
    (plain, _), (model, tokenizer) = (bert.load(folder, 2) for _ in range(2))
    few, budget = texts[:1500], config.settings("offline", "transfer-set", "sst2").token_budget
    ours = partial(bert.predict_logits, model, tokenizer, [texts], token_budget=budget)
    a, b = torch.randn(2, 2048, 2048).to(getattr(torch, bert.number_format("auto")))
    slow, fast, product = median_seconds(
        repeats,
        partial(plain_labelling, plain.eval(), tokenizer, few),
        partial(ours, progress=False),
        lambda: a @ b,
    )
    pieces = sum(map(len, tokenizer(texts)["input_ids"]))
    operations = 2 * bert.num_parameters(model)["non_embedding"] * pieces / len(texts)
    found = {"plain": len(few) / slow, "ours": len(texts) / fast}
    found |= {"ratio": found["ours"] / found["plain"], "bound": 2 * 2048**3 / product / operations}
    return found | {"share_of_bound": found["ours"] / found["bound"]}


def training(examples: Examples, vectors: Tensor, repeats: int) -> Rates:
    """Return examples per second of one epoch."""
    settings = config.settings("offline", "student", "sst2")
    plain, model = PlainStudent(vectors), student.BiLSTMStudent(vectors, **KIND)

    def epoch() -> None:
        optimizer = train.LazyAdadelta(model.parameters(), lr=settings.lr, rho=settings.rho)
        train._epoch(model, examples, optimizer, settings, [0, 0], tqdm(disable=True))

    plainly = partial(plain_epoch, plain, examples, settings.batch_size)
    slow, fast = median_seconds(repeats, plainly, epoch)
    return {"plain": len(examples) / slow, "ours": len(examples) / fast, "ratio": slow / fast}


def inference(column: Column, vocabulary_size: int, repeats: int) -> Rates:
    """Return sentences per second at batch 512; all but the plain way sort them by length."""
    vectors, count = torch.randn(vocabulary_size, 300), len(column.lengths)
    orders = np.arange(count), np.argsort(column.lengths, kind="stable")
    parts = max(1, count // 512)
    mixed, sorted_ = (list(map(column.batch, np.array_split(one, parts))) for one in orders)
    model = student.BiLSTMStudent(vectors, **KIND).eval()
    models = {"plain": PlainStudent(vectors).eval(), "eager": model}
    models |= {form: FastStudent(model, form) for form in FORMS}

    def run(name: str) -> None:
        with torch.inference_mode():
            for batch in mixed if name == "plain" else sorted_:
                models[name](*batch)

    seconds = median_seconds(repeats, *(partial(run, name) for name in models))
    rates = {name: count / found for name, found in zip(models, seconds, strict=True)}
    return rates | {"ratio": rates["float32"] / rates["plain"]}


def scale(pairs: int) -> list[dict[str, float]]:
    """Return what an eighth, a quarter, a half and all of the pairs cost."""
    program = [sys.executable, str(config.ROOT / "tools" / "bench_scale.py"), "--pairs"]
    rows = []
    for part in (8, 4, 2, 1):
        done = subprocess.run([*program, str(pairs // part)], stdout=subprocess.PIPE, check=True)
        rows.append(json.loads(done.stdout.splitlines()[-1]))
    return rows


def slope(rows: list[dict[str, float]], key: str) -> float:
    """Return the exponent of growth: 1 where twice the pairs cost twice as much."""
    pairs, values = (np.log([row[name] for row in rows]) for name in ("pairs", key))
    return round(float(np.polyfit(pairs, values, 1)[0]), 2)


# --- what is shown --------------------------------------------------------------------------------


def tables(found: dict[str, Any]) -> str:
    """Return the tables of ``docs/speed.md``."""
    label, drawn, used = found["labelling"], found["augmentation"], found["student inference"]
    rate = drawn["sentences"] / drawn["seconds"]
    notes = (
        f"{label['share_of_bound']:.0%} of the {label['bound']:,.0f}/s that a matrix product allows"
    )
    forms = f"bfloat16 {used['bfloat16']:,.0f}/s, int8 {used['int8']:,.0f}/s"
    many = f"{drawn['sentences']:,} sentences, 20 draws each, in {drawn['seconds']:.1f} s"
    rows = [("labelling, sentences/s", label["plain"], label["ours"], notes)]
    trained = found["student training"]
    rows.append(("student training, examples/s", trained["plain"], trained["ours"], ""))
    rows.append(("student inference, sentences/s", used["plain"], used["float32"], forms))
    rows.append(("augmentation, source sentences/s", rate / drawn["ratio"], rate, many))
    lines = ["| stage | plain | ours | times as fast | |", "|---|---|---|---|---|"]
    lines += [f"| {n} | {a:,.0f} | {b:,.0f} | {b / a:.1f} | {note} |" for n, a, b, note in rows]
    lines += ["", "| source pairs | samples | seconds | peak memory (MB) |", "|---|---|---|---|"]
    keys = ("pairs", "samples", "seconds", "memory_mb")
    lines += [f"| {' | '.join(f'{row[k]:,.0f}' for k in keys)} |" for row in found["scale"]]
    time_, memory = found["growth"]["seconds"], found["growth"]["memory_mb"]
    lines += ["", f"Exponent of growth (1: twice the pairs cost twice as much): {time_} of time,"]
    where = f"{found['dataset']}, {found['device']}, commit {found['git']['commit'][:12]}"
    return "\n".join([*lines, f"{memory} of memory. Measured on {where}."])


def main() -> None:
    """Measure everything and write it down."""
    parser = argparse.ArgumentParser(description=__doc__.split(":")[0])
    parser.add_argument("--rows", type=int, default=8000, help="sentences; augmentation takes all")
    parser.add_argument("--pairs", type=int, default=MNLI_PAIRS, help="of the largest set of pairs")
    parser.add_argument("--repeats", type=int, default=5)
    options, source = parser.parse_args(), os.environ.get("GLUE_DIR") or "packages"
    split = data.load_task("sst2", source)["train"].shuffle(seed=0)
    everything = [words.tokenize(text) for text in split["sentence1"]]
    sentences, repeats = everything[: options.rows], options.repeats
    texts, targets = [" ".join(one) for one in sentences], np.zeros(len(sentences), np.int64)
    extra = embeddings.frequent_words("packages", 10_000)
    vocabulary = embeddings.build_vocabulary(sentences, extra)
    column = Column.of(texts, vocabulary)
    logits = np.random.default_rng(0).normal(size=(len(texts), 2)).astype(np.float32)
    vectors, _ = embeddings.load_vectors("packages", vocabulary, seed=0)
    found: dict[str, Any] = {"dataset": data.dataset_name("sst2", source, len(split))}
    found |= {"rows": len(texts), "device": batching.device_name(), "repeats": repeats}
    stages = {
        "augmentation": lambda: augmentation(everything, repeats),
        "labelling": lambda: labelling(texts, repeats),
        "student training": lambda: training(
            Examples((column,), targets, logits), vectors, repeats
        ),
        "student inference": lambda: inference(column, len(vocabulary), repeats),
    }
    for name, stage in stages.items():
        found[name] = {key: round(value, 4) for key, value in stage().items()}
        print(name, found[name], flush=True)
    found["scale"] = scale(options.pairs)
    found["growth"] = {key: slope(found["scale"], key) for key in ("seconds", "memory_mb")}
    found |= records.provenance()
    records.write_whole(records.RESULTS / "bench.json", json.dumps(found, indent=1) + "\n")
    head, _, rest = PAGE.read_text(encoding="utf-8").partition(BEGIN)
    records.write_whole(PAGE, f"{head}{BEGIN}\n{tables(found)}\n{END}{rest.partition(END)[2]}")


if __name__ == "__main__":
    main()
