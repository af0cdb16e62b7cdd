"""Measures time and memory of a large task of pairs: ``python tools/bench_scale.py --pairs 392702``.

Prints one line of JSON. The pairs are synthetic: their lengths are those of MNLI, and their words
are as frequent as natural words are. Tagging, drawing, the teacher's tokenizer, batches and shards
are the real ones. Only the teacher is a stub: one layer over the mean of its word pieces' vectors.
"""

import argparse
import json
import resource
import tempfile
import time
from pathlib import Path
from types import SimpleNamespace

import numpy as np
import torch
from torch import Tensor, nn

from distil import augment, embeddings, teacher, transfer, words

RATES = {"p_mask": 0.1, "p_pos": 0.1, "p_ng": 0.25}
# Words of MNLI's premises and hypotheses, at every twentieth of their distribution.
PREMISE = (1, 4, 6, 7, 9, 10, 12, 13, 14, 16, 17, 19, 20, 22, 24, 26, 29, 32, 36, 44, 60)
HYPOTHESIS = (1, 4, 5, 6, 7, 7, 8, 8, 9, 9, 9, 10, 10, 11, 12, 12, 13, 14, 15, 18, 40)


class OneLayer(nn.Module):
    """Takes the place of the teacher: one layer over the mean of the word pieces' vectors."""

    def __init__(self, pieces: int) -> None:
        super().__init__()
        self.embedding, self.layer = nn.Embedding(pieces, 8), nn.Linear(8, 3)
        self.config = SimpleNamespace(num_labels=3)

    def forward(self, input_ids: Tensor, attention_mask: Tensor, **_: Tensor) -> SimpleNamespace:
        """Return an object with ``logits`` [B, 3]."""
        mask = attention_mask[:, :, None]
        mean = (self.embedding(input_ids) * mask).sum(dim=1) / mask.sum(dim=1)
        return SimpleNamespace(logits=self.layer(mean))


def sentences(count: int, quantiles: tuple[int, ...], rng: np.random.Generator) -> list[list[str]]:
    """Return sentences whose words follow Zipf's law and whose lengths follow the quantiles."""
    vocabulary = embeddings.frequent_words("packages", 20_000)
    steps = np.linspace(0, 1, len(quantiles))
    lengths = np.interp(rng.random(count), steps, quantiles).round().astype(int)
    frequency = 1 / (np.arange(len(vocabulary)) + 2.7)
    drawn = rng.choice(len(vocabulary), lengths.sum(), p=frequency / frequency.sum())
    parts = np.split(drawn.astype(np.int32), np.cumsum(lengths)[:-1])
    return [[vocabulary[word] for word in part] for part in parts]


def run(pairs: int, folder: Path) -> dict[str, float]:
    """Tag, draw, label and write; return the samples, the peak memory and the seconds."""
    torch.set_grad_enabled(False)
    rng, tagger = np.random.default_rng(0), words.load_tagger("packages")
    tokenizer = teacher.load(teacher.resolve("packages")[0], 3)[1]
    columns = [sentences(pairs, quantiles, rng) for quantiles in (PREMISE, HYPOTHESIS)]
    stub, labelling, began = OneLayer(len(tokenizer)), 0.0, time.perf_counter()
    tags = [tagger(column) for column in columns]
    tagged = time.perf_counter()

    def predict(shard: list[list[str]]) -> np.ndarray:
        nonlocal labelling
        start = time.perf_counter()
        logits = teacher.predict_logits(stub, tokenizer, shard, token_budget=8192, progress=False)
        labelling += time.perf_counter() - start
        return logits

    samples = augment.transfer_set(columns, tags, n_iter=10, seed=0, **RATES)
    masked = {"mask_token": tokenizer.mask_token, "shard_rows": 50_000}
    total, _ = transfer.write_labelled(samples, predict, folder, **masked)
    writing = time.perf_counter() - tagged - labelling
    parts = {"tagging": tagged - began, "labelling_input": labelling, "drawing": writing}
    peak = round(resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024)  # KiB on Linux
    found = {"pairs": pairs, "samples": total, "memory_mb": peak, "seconds": sum(parts.values())}
    return found | {f"seconds_{name}": seconds for name, seconds in parts.items()}


def main() -> None:
    """Print the line of JSON."""
    parser = argparse.ArgumentParser(description=__doc__.split(":")[0])
    parser.add_argument("--pairs", type=int, default=392_702, help="MNLI has 392,702")
    options = parser.parse_args()
    with tempfile.TemporaryDirectory() as folder:
        found = run(options.pairs, Path(folder) / "set")
    print(json.dumps({name: round(value, 1) for name, value in found.items()}))


if __name__ == "__main__":
    main()
