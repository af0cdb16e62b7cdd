"""A trained student as a small folder to give away: ``make release``.

The folder has the weights in half precision, the vocabulary, the settings, a model card, and the same student as an ONNX file
for other runtimes. Three lines use it::

    from distil import release
    classify = release.load("artifacts/glue/release/sst2")
    print(classify("A warm and funny film."))
"""

import argparse
import json
import shutil
import sys
from collections.abc import Callable
from pathlib import Path

import numpy as np
import torch
from safetensors.torch import load_file, save_file

from distil import (
    config,
    data,
    export,
    metrics,
    packages,
    paths,
    records,
    report,
    sealed,
    student,
    train,
)
from distil.batching import Column, Examples
from distil.tasks import TASKS
from distil.vocabulary import encode
from distil.words import tokenize

CARD = """# A BiLSTM that learned {title} from BERT

One layer, {non_embedding:,} parameters without word vectors ({total:,} with them), taught by the logits of {teacher} on a
transfer set, as Tang et al. 2019 (arXiv 1903.12136) describe.

- **Input**: English, {columns}; cut into lower-case Treebank words by `distil.words.tokenize`.
- **Output**: probabilities of {meanings}.
- **Data**: {dataset}, {rows:,} training examples{synthetic}. {licence}
- **Score**: {accuracy:.1%} accuracy on its dev split ({dev_rows:,} examples), measured on this very file. Dev chose the epoch
  and this seed ({seed}, the best of {seeds}), so expect a little less on new text.
- **Meant for**: learning, comparison with the paper, and fast classification of text like that it was trained on.
- **Limits**: it knows {words:,} words and reads all others as one; it has no notion of irony, of who speaks or of text that
  is not English; its scores are not calibrated for decisions about people.
- **Made by**: commit {commit}, torch {torch}.
"""
LICENCES = {
    "vader-movie": "MIT (VADER's ground truth).",
    "snli-100k": "CC BY-SA 4.0 (SNLI).",
    "caption-pairs": "CC BY-SA 4.0 (derived from SNLI).",
}


def best_run(profile: str, task: str) -> tuple[report.Run, int]:
    """The distilled student of the best dev seed among those trained on this machine, and of how many it is the best.

    Raises:
        RecordError: there is none.
    """
    runs = report.load_students(profile, task, "student-distilled")
    here = [run for run in runs if (_folder(run) / "config.json").exists()]
    if not here:
        problem = f"no weights of a distilled student of {task} are here{', only records' if runs else ''}"
        again = "make clean, then " if runs else ""
        raise records.RecordError(
            f"{problem}: {again}make reproduce PROFILE={profile} TASKS={task}"
        )
    return max(here, key=lambda run: run.record["metrics"]["dev"]["accuracy"]), len(here)


def _folder(run: report.Run) -> Path:
    """Where the weights of a student stand."""
    record = run.record
    return paths.artifact(
        record["profile"], record["task"], paths.run_name("student-distilled", record["seed"])
    )


def write(profile: str, task: str, folder: Path) -> float:
    """Write the release, which replaces an earlier one when it is whole, and return its dev accuracy.

    Raises:
        RecordError: no trained student is on this machine, or the best is not the one on record.
        SealError: the trained student is damaged.
    """
    run, seeds = best_run(profile, task)
    source = _folder(run)
    student.load(source)  # a SealError if it is damaged
    if packages.sha256(source / "model.safetensors") != run.record["outputs"]["model.safetensors"]:
        raise records.RecordError(
            f"{source.parent.name}/{source.name} is not the student of its record: delete the record and run again"
        )
    part = folder.with_name(f"{folder.name}.part")
    shutil.rmtree(part, ignore_errors=True)
    part.mkdir(parents=True)
    for name in ("vocabulary.txt", "config.json"):
        (part / name).write_bytes((source / name).read_bytes())
    (part / "labels.json").write_text(json.dumps(TASKS[task].meanings), encoding="utf-8")
    halves = {
        name: tensor.half() for name, tensor in load_file(source / "model.safetensors").items()
    }
    save_file(halves, part / "model.safetensors")
    sealed.seal(part)
    accuracy, dev_rows = evaluate(profile, task, part)
    (part / "README.md").write_text(
        _card(profile, task, run, seeds, accuracy, dev_rows, part), encoding="utf-8"
    )
    model, _ = student.load(part)
    if model.attention is None:
        export.to_onnx(model, part / "student.onnx")
    shutil.rmtree(folder, ignore_errors=True)
    part.rename(folder)
    return accuracy


def evaluate(profile: str, task: str, folder: Path) -> tuple[float, int]:
    """Dev accuracy of the student in ``folder``, and the number of dev examples."""
    model, words = student.load(folder)
    split, ids = (
        data.load_prepared(profile, task)["dev"],
        {word: number for number, word in enumerate(words)},
    )
    labels = np.array(split["label"][:])
    examples = Examples(
        tuple(Column.of(split[column], ids) for column in TASKS[task].columns), labels
    )
    return metrics.evaluate(train.predict(model, examples), labels)["accuracy"], len(labels)


def _card(
    profile: str,
    task: str,
    run: report.Run,
    seeds: int,
    accuracy: float,
    dev_rows: int,
    folder: Path,
) -> str:
    record, spec = run.record, TASKS[task]
    settings = json.loads((folder / "config.json").read_text(encoding="utf-8"))
    synthetic, real = (
        record["synthetic_examples"],
        record["training_examples"] - record["synthetic_examples"],
    )
    return CARD.format(
        title=f"{spec.title}'s task",
        **record["n_params"],
        teacher=report.teacher_name(report.load_runs(profile, task, "teacher")[0]),
        columns="two sentences" if settings["pair"] else "one sentence",
        meanings=", ".join(spec.meanings),
        dataset=record["dataset"],
        rows=real,
        synthetic=f" and {synthetic:,} synthetic ones" if synthetic > 0 else "",
        licence=LICENCES.get(
            record["dataset"],
            "See GLUE for its terms." if spec.in_paper else "Its terms are its owner's.",
        ),
        accuracy=accuracy,
        dev_rows=dev_rows,
        seed=record["seed"],
        seeds=seeds,
        words=record["vocabulary"]["words"],
        commit=record["git"]["commit"][:12],
        torch=record["versions"]["torch"],
    )


def load(folder: str | Path) -> Callable[..., dict[str, float]]:
    """A function from one sentence (or two, for a task of pairs) to the probability of each class, by its meaning."""
    model, words = student.load(Path(folder))
    ids = {word: number for number, word in enumerate(words)}
    meanings = json.loads((Path(folder) / "labels.json").read_text(encoding="utf-8"))

    def classify(*sentences: str) -> dict[str, float]:
        inputs = []
        for sentence in sentences:
            encoded = encode(tokenize(sentence), ids)
            inputs += [torch.tensor([encoded]), torch.tensor([len(encoded)])]
        with torch.inference_mode():
            probabilities = model(*inputs).softmax(dim=1)[0].tolist()
        return {
            meaning: round(value, 4) for meaning, value in zip(meanings, probabilities, strict=True)
        }

    return classify


def main(arguments: list[str] | None = None) -> int:
    """The command line; returns the exit status."""
    parser = argparse.ArgumentParser(
        prog="python -m distil.release", description=__doc__.partition(":")[0]
    )
    parser.add_argument("--profile", required=True)
    parser.add_argument("--task", default="sst2", choices=TASKS)
    options = parser.parse_args(arguments)
    folder = paths.ARTIFACTS / options.profile / "release" / options.task
    try:
        config.read_yaml(options.profile, "data")
        accuracy = write(options.profile, options.task, folder)
    except (config.ConfigError, records.RecordError, data.DataError, sealed.SealError) as error:
        print(f"error: {error}", file=sys.stderr)
        return 2
    size = sum(path.stat().st_size for path in folder.iterdir())
    print(
        f"dev accuracy {accuracy:.4f}, {size / 1e6:.1f} MB: artifacts/{options.profile}/release/{options.task}"
    )
    return 0


if __name__ == "__main__":
    sys.exit(main())
