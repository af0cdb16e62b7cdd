"""The transfer set of a large task of pairs in bounded memory: ``python tools/bench_scale.py --pairs 392702``.

Prints one line of JSON: seconds of each part, peak memory, samples. The pairs are synthetic:
they have as many words as the pairs of MNLI, drawn as often as natural text repeats them. Tagging,
drawing, tokenizer, batches and shards are the real ones; the teacher is a stub of one layer.
"""

import argparse
import json
import os
import resource
import tempfile
import time
from pathlib import Path

import numpy as np
import torch
from torch import Tensor, nn
from transformers.modeling_outputs import SequenceClassifierOutput

from distil import augment, embeddings, teacher, transfer, words
from distil.words import MASK

MNLI_PAIRS, N_ITER = 392_702, 10
# Words of MNLI's premises and hypotheses, at every twentieth of their distribution (46,467 training pairs).
PREMISE = (1, 4, 6, 7, 9, 10, 12, 13, 14, 16, 17, 19, 20, 22, 24, 26, 29, 32, 36, 44, 60)
HYPOTHESIS = (1, 4, 5, 6, 7, 7, 8, 8, 9, 9, 9, 10, 10, 11, 12, 12, 13, 14, 15, 18, 40)


class OneLayer(nn.Module):
    """In the teacher's place: one layer over the mean of the word pieces."""

    def __init__(self, pieces: int, width: int = 8, labels: int = 3) -> None:
        super().__init__()
        self.embedding, self.layer = nn.Embedding(pieces, width), nn.Linear(width, labels)
        self.config = argparse.Namespace(num_labels=labels)

    def forward(
        self, input_ids: Tensor, attention_mask: Tensor, **_: Tensor
    ) -> SequenceClassifierOutput:
        """Logits [B, labels]."""
        mask = attention_mask[:, :, None]
        mean = (self.embedding(input_ids) * mask).sum(dim=1) / mask.sum(dim=1)
        return SequenceClassifierOutput(logits=self.layer(mean))


def sentences(
    count: int, quantiles: tuple[int, ...], vocabulary: list[str], rng: np.random.Generator
) -> list[str]:
    """Sentences of words by Zipf's law, as long as the quantiles say."""
    lengths = (
        np.interp(rng.random(count), np.linspace(0, 1, len(quantiles)), quantiles)
        .round()
        .astype(int)
    )
    frequency = 1 / (np.arange(len(vocabulary)) + 2.7)
    drawn = rng.choice(len(vocabulary), lengths.sum(), p=frequency / frequency.sum()).astype(
        np.int32
    )
    ends = np.cumsum(lengths)
    return [
        " ".join(vocabulary[i] for i in drawn[end - n : end])
        for n, end in zip(lengths, ends, strict=True)
    ]


def peak_megabytes() -> dict[str, float]:
    """Return the largest resident memory so far (``ru_maxrss`` is in KiB on Linux)."""
    return {"peak_mb": round(resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024)}


def run(pairs: int, folder: Path) -> dict[str, float]:
    """Tag, draw, label and write; seconds of tagging and of the rest, samples, memory."""
    rng = np.random.default_rng(0)
    vocabulary = embeddings.frequent_words("packages", 20_000)
    texts = [sentences(pairs, quantiles, vocabulary, rng) for quantiles in (PREMISE, HYPOTHESIS)]
    began = time.perf_counter()
    columns = [words.split_all(column) for column in texts]
    tags = [words.load_tagger("packages")(column) for column in columns]
    tagged = time.perf_counter()
    name, _ = teacher.resolve("packages")
    _, tokenizer = teacher.load(name, 3)
    torch.manual_seed(0)
    stub = OneLayer(len(tokenizer))
    labelling = 0.0

    def predict(shard: list[list[str]]) -> np.ndarray:
        nonlocal labelling
        start = time.perf_counter()
        logits = teacher.predict_logits(stub, tokenizer, shard, token_budget=8192, progress=False)
        labelling += time.perf_counter() - start
        return logits

    rates = {"p_mask": 0.1, "p_pos": 0.1, "p_ng": 0.25}
    samples = augment.transfer_set(columns, tags, n_iter=N_ITER, **rates, seed=0)
    total, _ = transfer.write_labelled(
        samples, predict, folder, mask_token=tokenizer.mask_token or MASK, shard_rows=50_000
    )
    done = time.perf_counter()
    seconds = {
        "tagging": tagged - began,
        "labelling_input": labelling,
        "drawing_and_writing": done - tagged - labelling,
    }
    return {"pairs": pairs, "samples": total, **peak_megabytes()} | {
        f"seconds_{part}": round(value, 1) for part, value in seconds.items()
    }


def main() -> None:
    """The command line."""
    parser = argparse.ArgumentParser(
        prog="python tools/bench_scale.py", description=__doc__.partition("\n")[0]
    )
    parser.add_argument("--pairs", type=int, default=MNLI_PAIRS)
    options = parser.parse_args()
    os.environ.setdefault("TQDM_DISABLE", "1")
    with tempfile.TemporaryDirectory() as folder:
        print(json.dumps(run(options.pairs, Path(folder) / "set")))


if __name__ == "__main__":
    main()
