"""Packs a trained student into a small folder to give away: ``python tools/release.py``.

The folder holds the weights in half precision, vocabulary, labels, a model card and, for runtimes
other than PyTorch, an ONNX file. ``distil.student.classify(folder)`` loads it.
"""

import argparse
import shutil
import sys
from pathlib import Path

import numpy as np
from huggingface_hub import EvalResult, ModelCard, ModelCardData
from safetensors.torch import load_file, save_file

from distil import config, data, metrics, records, report, student, train
from distil.batching import Column, Examples
from distil.speed.onnx import to_onnx

TEXT = """
# A BiLSTM that learned {title} from BERT

A one-layer BiLSTM with {n_params[non_embedding]:,} parameters besides its word vectors. It learned
from {teacher}'s logits on a transfer set, as in Tang et al. 2019 (arXiv 1903.12136).

- **Task**: from {columns} (English) to the probabilities of {labels}.
- **Data**: {dataset}, {real:,} training examples and {synthetic_examples:,} synthetic ones.
- **Score**: {accuracy:.1%} accuracy{f1} on {rows[dev]:,} dev examples, measured on this very file. Dev
  chose the epoch and the seed ({seed}, the best of {seeds}): expect a little less on new text.
- **Limits**: it knows {vocabulary[words]:,} words and reads all others as one word.
- **Made by**: commit {git[commit]}, torch {versions[torch]}.
"""
LICENCES = {"vader-movie": "mit", "snli-100k": "cc-by-sa-4.0", "caption-pairs": "cc-by-sa-4.0"}


def best_step(profile: str, task: str) -> tuple[records.Step, int]:
    """Return the distilled student of the best dev seed that is here, and how many are here."""
    runs = report.load(profile).runs.get((task, config.MAIN, "student"), [])
    seeds = {run.record["seed"]: run.record["metrics"]["dev"]["accuracy"] for run in runs}
    steps = [records.Step("student", profile, task, config.MAIN, seed) for seed in seeds]
    here = [step for step in steps if step.finished().is_dir()]
    if not here:
        again = f"make reproduce PROFILE={profile} TASKS={task}"
        raise records.RecordError(f"no distilled student of {task} is here: run '{again}'")
    return max(here, key=lambda step: seeds[step.seed]), len(here)


def score(profile: str, task: str, folder: Path) -> dict[str, float]:
    """Return accuracy, and F1 if the task names a label for it, on dev of the student in ``folder``."""
    net, ids = student.load(folder)
    dev = data.load_prepared(profile, task)["dev"]
    texts = (student.cut(dev[column]) for column in config.task(task).columns)
    examples = Examples(tuple(Column.of(one, ids) for one in texts), np.array(dev["label"][:]))
    positive = records.Step("data", profile, task).spec.positive
    return metrics.evaluate(train.predict(net, examples), examples.targets, positive)


def card(step: records.Step, scores: dict[str, float], seeds: int) -> ModelCard:
    """Return the model card of a student: what it is, what it learned from, and how good it is."""
    record, spec, kind = step.read(), step.spec, "text-classification"
    model = step.sibling("teacher").read()["config"]["model"]
    facts = {"accuracy": scores["accuracy"], "seeds": seeds, "title": spec.title, "f1": ""}
    if spec.f1:
        facts["f1"] = f", F1 {scores['f1']:.1%} of the label {report.as_text(spec.f1)}"
    facts |= {"teacher": report.TEACHERS.get(model, model), "columns": " and ".join(spec.columns)}
    facts |= {"labels": ", ".join(map(report.as_text, spec.meanings))}
    facts |= {"real": record["training_examples"] - record["synthetic_examples"]}
    result = EvalResult(kind, spec.name, record["dataset"], "accuracy", scores["accuracy"])
    about = {"license": LICENCES.get(record["dataset"], "other"), "pipeline_tag": kind}
    about |= {"language": "en", "model_name": spec.name, "eval_results": [result]}
    head = ModelCardData(**about).to_yaml()
    return ModelCard(f"---\n{head}\n---\n{TEXT.format(**record | facts)}")


def write(profile: str, task: str, folder: Path) -> float:
    """Write the release, which replaces an earlier one when it is whole; return its accuracy."""
    step, seeds = best_step(profile, task)
    shutil.rmtree(part := folder.with_name(f"{folder.name}.part"), ignore_errors=True)
    shutil.copytree(step.files(), part)
    halves = {name: tensor.half() for name, tensor in load_file(part / student.FILES[0]).items()}
    save_file(halves, part / student.FILES[0])
    scores = score(profile, task, part)
    card(step, scores, seeds).save(part / "README.md")
    if (net := student.load(part)[0]).attention is None:
        to_onnx(net, part / "student.onnx")
    shutil.rmtree(folder, ignore_errors=True)
    part.rename(folder)
    return scores["accuracy"]


def main(arguments: list[str] | None = None) -> None:
    """Write the release, or exit with a line that says what is wrong."""
    parser = argparse.ArgumentParser(description=__doc__.split(":")[0])
    parser.add_argument("--profile", default="offline")
    parser.add_argument("--task", default="sst2")
    options = parser.parse_args(arguments)
    folder = records.ARTIFACTS / options.profile / "release" / options.task
    try:
        config.task(options.task)  # a ConfigError lists the known ones
        print(f"{records.short(folder)}: {write(options.profile, options.task, folder):.1%} of dev")
    except (config.ConfigError, records.RecordError) as error:
        sys.exit(f"error: {error}")


if __name__ == "__main__":
    main()
