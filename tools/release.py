"""Packs a trained student into a folder to give away: ``python tools/release.py``.

``distil.load(folder)`` reads it. The folder holds the weights in half precision for PyTorch, ONNX
files for ONNX Runtime, vocabulary, labels, the rules that cut texts into words, and a model card.
"""

import argparse
import json
import re
import shutil
import sys
from pathlib import Path

import compare
from compare import INT8
from huggingface_hub import EvalResult, ModelCard, ModelCardData
from onnxruntime.quantization import quant_pre_process, quantize_dynamic
from safetensors.torch import load_file, save_file

import distil
from distil import config, records, report, student, words
from distil.batching import MAX_WORDS
from distil.speed.onnx import to_onnx

EXAMPLES = ("This is better than I expected.", "I expected this to be worse.")
TEXT = """
# A BiLSTM that learned {title} from BERT

A one-layer BiLSTM with {n_params[non_embedding]:,} parameters besides its word vectors. It learned
from {teacher}'s logits on a transfer set, as in Tang et al. 2019 (arXiv 1903.12136).

## Use

`pip install` the project `distil` with `onnxruntime` (or with `torch` and `huggingface_hub`). In the
folder above this one:

```python
import distil

student = distil.load("{folder}")
print(student({example!r}))
```

prints

```
{answer}
```

A list of texts gives a list of answers, and `student.predict_proba(texts)` the probability of every
label. A student of the hub is `distil.load("user/name@commit")`.

## Facts

- **Task**: from {columns} (English) to {labels}.
- **Data**: {dataset} (licence: {license}), {real:,} training examples and {synthetic_examples:,}
  synthetic ones.
- **Limits**: it knows {vocabulary[words]:,} words and reads all others as one word.
- **Made by**: commit {git[commit]}, torch {versions[torch]}.

## Scores
{scores}"""
LICENCES = {"vader-movie": "mit", "snli-100k": "cc-by-sa-4.0", "caption-pairs": "cc-by-sa-4.0"}


def rules() -> list[list[str | None]]:
    """Return ``words.tokenize`` as substitutions; without a replacement, a match is lower-cased.

    They are NLTK's own, in its order. With them, a release needs no NLTK and outlives its changes.
    (Its ``regex`` and our ``re`` differ at control characters, at numbers such as ¼, and at a combining
    accent before '.)
    """
    nltk = words._TREEBANK
    found = [(words._INNER_STOP, r"\1 ."), (re.compile("(?s).+"), None)]
    found += [*nltk.STARTING_QUOTES, *nltk.PUNCTUATION, nltk.PARENS_BRACKETS, nltk.DOUBLE_DASHES]
    found += [(re.compile(r"\A|\Z"), " "), *nltk.ENDING_QUOTES]
    found += [(one, r" \1 \2 ") for one in (*nltk.CONTRACTIONS2, *nltk.CONTRACTIONS3)]
    quotes = "|".join(map(re.escape, words._QUOTES))
    found.append((re.compile(rf"(?<!\S)(?:{quotes})(?!\S)"), '"'))
    return [[pattern.pattern, new] for pattern, new in found]


def fill(folder: Path) -> None:
    """Make a saved student a release: half precision, ONNX files, and the rules for its words."""
    weights = folder / distil.TORCH
    save_file({name: one.half() for name, one in load_file(weights).items()}, weights)
    weights.chmod(0o644)  # the library writes a file that only its owner can read
    if (net := student.load(folder)[0]).attention is None:
        to_onnx(net, folder / distil.ONNX)
        quant_pre_process(folder / distil.ONNX, folder / INT8, skip_symbolic_shape=True)
        # Seven bits: with eight, a processor without VNNI clips sums and answers differently.
        quantize_dynamic(folder / INT8, folder / INT8, reduce_range=True)
    settings = {"rules": rules(), "max_words": MAX_WORDS, "unknown": distil.UNKNOWN}
    (folder / "tokenizer.json").write_text(json.dumps(settings, indent=1), encoding="utf-8")


def card(step: records.Step, folder: Path, measured: dict) -> ModelCard:
    """Return the model card of a student: what it is, what it learned from, and how good it is."""
    record, spec, kind = step.read(), step.spec, "text-classification"
    model = step.sibling("teacher").read()["config"]["model"]
    example = EXAMPLES if spec.pair else EXAMPLES[0]
    facts = {"example": example, "answer": distil.load(folder)(example), "title": spec.title}
    facts |= {"teacher": report.TEACHERS.get(model, model), "columns": " and ".join(spec.columns)}
    facts |= {
        "labels": ", ".join(map(report.as_text, spec.meanings)),
        "scores": compare.TEXT.format(**measured),
    }
    facts |= {"real": record["training_examples"] - record["synthetic_examples"]}
    facts |= {"license": LICENCES.get(record["dataset"], "other")}
    classes = {"f1": f", of {spec.meanings[spec.positive]}"} if spec.f1 else {}
    results = [
        EvalResult(
            kind,
            record["dataset"],
            f"{record['dataset']}, {measured['split']}",
            metric,
            value,
            metric_name=f"{metric}{classes.get(metric, '')} ({name})",
        )
        for name, values in measured["evaluated"].items()
        for metric, value in values.items()
    ]
    about = {"license": facts["license"], "pipeline_tag": kind, "library_name": "distil"}
    about |= {"language": "en", "model_name": spec.name, "eval_results": results}
    about |= {"datasets": [record["dataset"]], "metrics": list(measured["evaluated"][distil.TORCH])}
    about |= {"tags": ["knowledge-distillation", "bilstm", "onnx"]}
    head = ModelCardData(**about).to_yaml()
    return ModelCard(f"---\n{head}\n---\n{TEXT.format(**measured | facts)}")


def write(profile: str, task: str, folder: Path) -> dict:
    """Write the release, which replaces an earlier one when it is whole; return what is measured."""
    step, seeds = compare.best_step(profile, task)
    shutil.rmtree(part := folder.with_name(f"{folder.name}.part"), ignore_errors=True)
    shutil.copytree(step.files(), part)
    fill(part)
    measured = compare.measure(step, seeds, part)
    card(step, part, measured | {"folder": folder.name}).save(part / "README.md")
    shutil.rmtree(folder, ignore_errors=True)
    part.rename(folder)
    return measured


def main(arguments: list[str] | None = None) -> None:
    """Write the release, or exit with a line that says what is wrong."""
    parser = argparse.ArgumentParser(description=__doc__.split(":")[0])
    parser.add_argument("--profile", default="offline")
    parser.add_argument("--task", default="sst2")
    options = parser.parse_args(arguments)
    folder = records.ARTIFACTS / options.profile / "release" / options.task
    try:
        config.task(options.task)  # a ConfigError lists the known ones
        print(compare.shown(write(options.profile, options.task, folder)))
        print(f"\nThe student and its card are in {records.short(folder)}")
    except (config.ConfigError, records.RecordError) as error:
        sys.exit(f"error: {error}")


if __name__ == "__main__":
    main()
