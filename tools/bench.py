"""``make bench``: throughput of each stage against a plain reference, as ratios measured in one run on real sentences.

References are what one would write first: labelling unsorted, float32, batches of 32; training through packed
``nn.LSTM`` and dense AdaDelta in batches as they come; inference by the same network, as they come; drawing as
distil-bilstm does it, of which 435 source sentences a second were measured. Then the transfer set of a task of pairs at
MNLI's size and at parts of it (``bench_scale.py``, each in a process of its own). Writes ``results/bench.json`` and its
figure.
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

import numpy as np
import torch
from matplotlib import pyplot as plt
from torch import nn
from torch.nn import functional as F
from torch.nn.utils.rnn import pack_padded_sequence

from distil import (
    augment,
    batching,
    config,
    data,
    embeddings,
    records,
    student,
    teacher,
    train,
    words,
)
from distil.batching import Column, Examples
from distil.config import StudentSettings
from distil.embeddings import build_vocabulary
from distil.speed.fast import FastStudent

PAPERS_SENTENCES = 67_349  # of SST-2's training set
DISTIL_BILSTM = 435  # source sentences a second that the public replication of that name draws from at n_iter 20
MNLI_PAIRS = 392_702
SETTINGS = {"hidden_size": 150, "fc_size": 200, "num_labels": 2, "pair": False, "dropout": 0.1}


def median_seconds(repeats: int, *runs: Callable[[], object]) -> list[float]:
    """Return the median seconds of each run, after one that does not count; the runs take turns."""
    seconds: list[list[float]] = [[] for _ in runs]
    for _ in range(1 + repeats):
        for run, found in zip(runs, seconds, strict=True):
            start = time.perf_counter()
            run()
            found.append(time.perf_counter() - start)
    return [statistics.median(found[1:]) for found in seconds]


def peak_flops(dtype: torch.dtype, n: int = 2048) -> float:
    """FLOP/s of a large matrix product: what bounds everything else."""
    a, b = torch.randn(n, n).to(dtype), torch.randn(n, n).to(dtype)
    return 2 * n**3 / median_seconds(7, lambda: a @ b)[0]


# --- references -------------------------------------------------------------------------------------------------------


class PlainStudent(nn.Module):
    """The student over packed sequences, as it is usually written."""

    def __init__(self, vectors: torch.Tensor) -> None:
        super().__init__()
        self.frozen, self.tuned = (
            nn.Embedding.from_pretrained(vectors.clone(), freeze=freeze) for freeze in (True, False)
        )
        self.lstm = nn.LSTM(2 * vectors.shape[1], 150, bidirectional=True, batch_first=True)
        self.fc, self.dropout, self.output = nn.Linear(300, 200), nn.Dropout(0.1), nn.Linear(200, 2)

    def forward(self, ids: torch.Tensor, lengths: torch.Tensor) -> torch.Tensor:
        """Logits."""
        embedded = torch.cat([self.frozen(ids), self.tuned(ids)], dim=2)
        packed = pack_padded_sequence(embedded, lengths, batch_first=True, enforce_sorted=False)
        _, (hidden, _) = self.lstm(packed)
        return self.output(
            self.dropout(torch.relu(self.fc(torch.cat([hidden[0], hidden[1]], dim=1))))
        )


def plain_labelling(model: nn.Module, tokenizer: teacher.Tokenizer, texts: list[str]) -> None:
    """Batches of 32 in the order of the texts."""
    model.eval().float()
    with torch.inference_mode():
        for start in range(0, len(texts), 32):
            model(
                **tokenizer(
                    texts[start : start + 32], padding=True, truncation=True, return_tensors="pt"
                )
            )


def plain_epoch(model: PlainStudent, examples: Examples, batch_size: int) -> None:
    """One pass of dense AdaDelta over shuffled batches of mixed lengths."""
    optimizer = torch.optim.Adadelta(
        [p for p in model.parameters() if p.requires_grad], lr=1.0, rho=0.95
    )
    logits, order = (
        torch.from_numpy(examples.teacher_logits),
        np.random.default_rng(0).permutation(len(examples)),
    )
    for start in range(0, len(order), batch_size):
        rows = order[start : start + batch_size]
        optimizer.zero_grad()
        F.mse_loss(model(*examples.columns[0].batch(rows)), logits[rows]).backward()
        optimizer.step()


# --- the stages -------------------------------------------------------------------------------------------------------


def bench_augmentation(sentences: list[list[str]], n_iter: int, repeats: int) -> dict[str, float]:
    """Tagging and drawing, timed apart, in source sentences a second and scaled to the paper's number of sentences."""
    rates = {"p_mask": 0.1, "p_pos": 0.1, "p_ng": 0.25}
    tags = words.load_tagger("packages")(sentences)

    def draw() -> int:
        return sum(
            1 for _ in augment.transfer_set([sentences], [tags], n_iter=n_iter, **rates, seed=0)
        )

    tagging, drawing = median_seconds(
        repeats, lambda: words.load_tagger("packages")(sentences), draw
    )
    seconds = tagging + drawing
    return {
        "sentences": len(sentences),
        "samples": draw(),
        "tagging_sentences_per_second": len(sentences) / tagging,
        "drawing_sentences_per_second": len(sentences) / drawing,
        "seconds": seconds,
        "seconds_at_paper_scale": seconds * PAPERS_SENTENCES / len(sentences),
        "ratio": len(sentences) / seconds / DISTIL_BILSTM,
    }


def bench_labelling(texts: list[str], repeats: int, few: int = 1500) -> dict[str, float]:
    """Return sentences per second, plain (on the first ``few``) and ours, and the bound."""
    folder, _ = teacher.resolve("packages")
    (plain_model, _), (model, tokenizer) = (teacher.load(folder, 2) for _ in range(2))
    budget = config.settings("offline", "transfer-set", "sst2").token_budget
    plain, ours = median_seconds(
        repeats,
        lambda: plain_labelling(plain_model, tokenizer, texts[:few]),
        lambda: teacher.predict_logits(
            model, tokenizer, [texts], token_budget=budget, progress=False
        ),
    )
    plain, ours = len(texts[:few]) / plain, len(texts) / ours
    pieces = sum(len(ids) for ids in tokenizer(texts)["input_ids"]) / len(texts)
    dtype = torch.bfloat16 if teacher.precision("auto") == "bfloat16" else torch.float32
    bound = peak_flops(dtype) / (2 * teacher.num_parameters(model)["non_embedding"] * pieces)
    return {
        "plain": plain,
        "ours": ours,
        "ratio": ours / plain,
        "bound": bound,
        "share_of_bound": ours / bound,
    }


def bench_training(examples: Examples, vectors: torch.Tensor, repeats: int) -> dict[str, float]:
    """Sentences a second of one epoch, plain and ours."""
    torch.manual_seed(0)
    settings = config.settings("offline", "student", "sst2")
    plain_model = PlainStudent(vectors)
    model = student.BiLSTMStudent(vectors, **SETTINGS, channels="multichannel", pooling="last")
    plain, ours = median_seconds(
        repeats,
        lambda: plain_epoch(plain_model, examples, settings.batch_size),
        lambda: one_epoch(model, examples, settings),
    )
    return {"plain": len(examples) / plain, "ours": len(examples) / ours, "ratio": plain / ours}


def one_epoch(model: student.BiLSTMStudent, examples: Examples, settings: StudentSettings) -> None:
    """One pass of our loop."""
    optimizer = train.LazyAdadelta(
        [p for p in model.parameters() if p.requires_grad], lr=settings.lr, rho=settings.rho
    )
    train._epoch(model, examples, optimizer, settings, 0, 0, lambda _: None)


def bench_inference(column: Column, vocabulary_size: int, repeats: int) -> dict[str, float]:
    """Sentences a second of Table 2's student at batch 512: as they come, by length, and so in each fast form."""
    torch.manual_seed(0)
    vectors = torch.randn(vocabulary_size, 300)
    parts = len(column.lengths) // 512
    as_they_come, by_length = (
        np.arange(len(column.lengths)),
        np.argsort(column.lengths, kind="stable"),
    )
    mixed, sorted_ = (
        [column.batch(rows) for rows in np.array_split(order, parts)]
        for order in (as_they_come, by_length)
    )
    model = student.BiLSTMStudent(
        vectors, **SETTINGS, channels="multichannel", pooling="last"
    ).eval()
    forms = {form: FastStudent(model, form) for form in ("float32", "bfloat16", "int8")}
    models = {"plain": PlainStudent(vectors).eval(), "eager": model, **forms}

    def run(name: str) -> None:
        with torch.inference_mode():
            for batch in mixed if name == "plain" else sorted_:
                models[name](*batch)

    seconds = median_seconds(repeats, *(partial(run, name) for name in models))
    rates = {name: len(column.lengths) / found for name, found in zip(models, seconds, strict=True)}
    return rates | {"ratio": rates["float32"] / rates["plain"]}


def bench_scale(share: int) -> list[dict[str, float]]:
    """The transfer set of an eighth, a quarter, a half and all of ``1 / share`` of MNLI, each in a fresh process."""
    program = [sys.executable, str(config.ROOT / "tools" / "bench_scale.py"), "--pairs"]
    rows = []
    for part in (8, 4, 2, 1):
        done = subprocess.run(
            [*program, str(MNLI_PAIRS // share // part)], capture_output=True, text=True, check=True
        )
        rows.append(json.loads(done.stdout.splitlines()[-1]))
        print(rows[-1], flush=True)
    return rows


def slope(rows: list[dict[str, float]], key: str) -> float:
    """Exponent of growth: 1 where twice the pairs take twice as much."""
    return float(
        np.polyfit(np.log([row["pairs"] for row in rows]), np.log([row[key] for row in rows]), 1)[0]
    )


# --- the report -------------------------------------------------------------------------------------------------------


def sentences_for() -> tuple[list[list[str]], str]:
    """Tokenized training sentences: SST-2's where GLUE_DIR is set, else the movie snippets."""
    source = os.environ.get("GLUE_DIR") or "packages"
    split = data.load_task("sst2", source)["train"]
    texts = words.split_all(
        " ".join(words.tokenize(text)) for text in split.shuffle(seed=0)["sentence1"][:]
    )
    return texts, data.dataset_name("sst2", source, len(split))


def figure(results: dict[str, dict[str, float]], scale: list[dict[str, float]]) -> plt.Figure:
    """Ratio of each stage to its plain reference, and how time and memory grow with the pairs."""
    ratios = {name: part["ratio"] for name, part in results.items() if "ratio" in part}
    drawing, (left, right) = plt.subplots(1, 2, figsize=(11, 3), layout="constrained")
    left.barh(list(ratios), list(ratios.values()), color="0.4")
    left.axvline(1, color="0.1", linestyle="--", linewidth=1, label="the plain way")
    left.legend(frameon=False, loc="upper right")
    for y, value in enumerate(ratios.values()):
        left.annotate(f"{value:.1f}x", (value, y), textcoords="offset points", xytext=(4, -4))
    left.set(title="Throughput against the plain way, one run", xlabel="times as fast")
    left.margins(x=0.15)
    pairs = [row["pairs"] for row in scale]
    right.plot(pairs, [row["seconds"] for row in scale], "o-", color="0.15", label="seconds")
    right.plot(
        pairs, [row["memory_mb"] for row in scale], "s--", color="0.5", label="peak memory (MB)"
    )
    right.set(
        xscale="log",
        yscale="log",
        title="Transfer set of pairs, up to MNLI's size",
        xlabel="source pairs",
        ylabel="seconds, or MB",
    )
    right.set_xticks(pairs, [f"{round(number / 1000)}k" for number in pairs])
    right.xaxis.set_minor_locator(plt.NullLocator())
    right.legend(frameon=False)
    for axes in (left, right):
        axes.spines[["top", "right"]].set_visible(False)
    return drawing


def main(arguments: list[str] | None = None) -> None:
    """The command line."""
    parser = argparse.ArgumentParser(
        prog="python tools/bench.py", description=__doc__.partition("\n")[0]
    )
    parser.add_argument(
        "--rows",
        type=int,
        default=8000,
        help="source sentences, but for augmentation, which gets all",
    )
    parser.add_argument(
        "--share", type=int, default=1, help="of how many parts of MNLI's size one is enough"
    )
    parser.add_argument("--repeats", type=int, default=5)
    options = parser.parse_args(arguments)
    everything, dataset = sentences_for()
    sentences = everything[: options.rows]
    texts = [" ".join(sentence) for sentence in sentences]
    vocabulary = build_vocabulary(sentences, embeddings.frequent_words("packages", 10_000))
    column = Column.of(texts, vocabulary.ids)
    logits = np.random.default_rng(0).normal(size=(len(texts), 2)).astype(np.float32)
    examples = Examples((column,), np.zeros(len(texts), np.int64), logits)
    vectors, _ = embeddings.load_vectors("packages", vocabulary, seed=0)
    results = {
        "augmentation": bench_augmentation(everything, 20, options.repeats),
        "labelling": bench_labelling(texts, options.repeats),
        "student training": bench_training(examples, vectors, options.repeats),
        "student inference": bench_inference(column, len(vocabulary), options.repeats),
    }
    for name, part in results.items():
        print(f"{name:18}", {key: round(value, 3) for key, value in part.items()})
    record = {
        "dataset": dataset,
        "rows": len(texts),
        "device": batching.device_name(),
        "repeats": options.repeats,
    }
    record |= {
        name: {key: round(value, 4) for key, value in part.items()}
        for name, part in results.items()
    }
    record["scale"] = bench_scale(options.share)
    for row in record["scale"]:
        row["seconds"] = round(
            sum(value for key, value in row.items() if key.startswith("seconds_")), 1
        )
        row["memory_mb"] = row["peak_mb"]
    record["growth"] = {
        key: round(slope(record["scale"], key), 2) for key in ("seconds", "memory_mb")
    }
    (records.RESULTS / "bench.json").write_text(
        json.dumps(record | records.provenance(), indent=1) + "\n", encoding="utf-8"
    )
    (records.RESULTS / "figures").mkdir(exist_ok=True)
    figure(results, record["scale"]).savefig(records.RESULTS / "figures" / "bench.png", dpi=130)


if __name__ == "__main__":
    main()
