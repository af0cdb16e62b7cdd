"""Measures a released student beside its floor, the plain student and the teacher: ``tools/compare.py``.

All are scored on the same examples and timed on one CPU thread. ``make release`` writes the tables
into the model card. The five texts on which student and teacher differ most are only printed.
"""

import argparse
import dataclasses
import functools
import json
import os
import pickle
import statistics
import sys
import time
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import onnxruntime
import torch
from datasets import DatasetDict
from scipy.special import softmax
from sklearn.feature_extraction.text import TfidfVectorizer
from sklearn.linear_model import LogisticRegression
from sklearn.metrics import f1_score

import distil
from distil import config, data, metrics, records, report, student, teacher, words
from distil.speed import fast, fastbert

INT8 = "student.int8.onnx"
FORMS = (distil.TORCH, distil.ONNX, INT8)  # the files of weights in a release
FLOOR, PLAIN, TEACHER = "tf-idf + logistic regression", "plain BiLSTM", "teacher"
SHARES = (0.05, 0.1, 0.2, 0.3, 0.5)  # of dev, for which the student may ask its teacher
SECONDS = 3.0  # for which a model is timed
TEXT = """
All rows are of the same {examples:,} {split} examples of {dataset}. Dev ({rows[dev]:,} examples) chose
the epochs and the student's seed ({seed}, the best of {seeds}), so {so}.

{table}

- Scores are in percent. Brackets are 95% intervals over the examples (bootstrap). Macro F1 is the
  mean over the labels that these examples have. "As teacher" is the share of equal answers. ECE is
  the expected calibration error.
- ONNX Runtime runs the `.onnx` files, `int8` with weights in bytes. PyTorch runs the other networks.
  The teacher's answers are those that its training left on record.
- MB are of the weights on disk, and of `fast` forms in memory.
- Times are medians of the CPU time of one thread, from a text to its probabilities. Texts per second
  are in batches of 64.

The student can ask its teacher wherever its `score` is below a threshold. Dev chose the threshold to
take: it is the lowest of these with which the accuracy on dev is the teacher's or better.

{fallback}
"""
Texts = Sequence[tuple[str, ...]]  # each of one sentence or two
Answer = Callable[[Texts], np.ndarray]  # texts -> probabilities [N, labels]
Models = dict[str, tuple[Answer, float]]  # name -> how it answers, and its MB
Rows = list[dict[str, str]]  # of a table: column -> cell


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


def models(step: records.Step, folder: Path, splits: DatasetDict) -> Models:
    """Return the floor, the plain student of the same seed, all forms of the student, the teacher."""
    plain = dataclasses.replace(step, arm=config.PLAIN).files()
    found = {FLOOR: floor(step, splits), PLAIN: _form(plain)}
    found |= {file: _form(folder, file) for file in FORMS if (folder / file).is_file()}
    if distil.ONNX in found:
        found |= {f"distilled, fast {form}": _form(folder, form=form) for form in fast.FORMS}
    return found | {TEACHER: of_teacher(step.sibling("teacher"))}


def floor(step: records.Step, splits: DatasetDict) -> tuple[Answer, float]:
    """Return the floor of chapter 01, fitted by the chapter's own cell."""
    chapter = json.loads(step.sibling("data").notebook.read_bytes())
    (cell,) = (cell for cell in chapter["cells"] if cell["id"] == "floors")
    names = {"splits": splits, "spec": step.spec, "np": np, "metrics": metrics}
    names |= {"TfidfVectorizer": TfidfVectorizer, "LogisticRegression": LogisticRegression}
    exec("".join(cell["source"]), names)
    tfidf, regression = names["tfidf"], names["regression"]

    def answer(texts: Texts) -> np.ndarray:
        columns = map(list, zip(*texts, strict=True))
        bags = names["bags"](dict(zip(step.spec.columns, columns, strict=True)))
        found = np.zeros((len(texts), len(step.spec.labels)))  # a class may lack training rows
        found[:, regression.classes_] = regression.predict_proba(tfidf.transform(bags))
        return found

    return answer, len(pickle.dumps((tfidf, regression))) / 1e6


def _form(folder: Path, file: str = distil.TORCH, form: str = "") -> tuple[Answer, float]:
    """Return a saved student as its file is run, on one thread, or in a form of ``FastStudent``."""
    classify, size = distil.load(folder, file), (folder / file).stat().st_size
    if form:
        net = fast.FastStudent(student.load(folder)[0], form).eval()
        classify._logits = functools.partial(_logits, net)
        size = sum(one.nbytes for one in [*net.parameters(), *net.buffers()])
    elif file != distil.TORCH:
        one_thread = onnxruntime.SessionOptions()
        one_thread.intra_op_num_threads = 1
        classify._logits = distil._onnx(folder / file, one_thread)
    return classify.predict_proba, size / 1e6


@torch.inference_mode()
def _logits(net: torch.nn.Module, arrays: list[np.ndarray]) -> np.ndarray:
    return net(*map(torch.from_numpy, arrays)).numpy()


def of_teacher(step: records.Step) -> tuple[Answer, float]:
    """Return the teacher on a CPU, in the number format in which it labels there."""
    folder, settings = step.files(), step.read()["config"]
    labels, length = len(step.spec.labels), settings["max_length"]
    os.environ["TOKENIZERS_PARALLELISM"] = "false"
    model, tokenizer = teacher.load(folder, labels, max_length=length)
    model.eval().to(getattr(torch, teacher.number_format(settings["precision"])))
    network = fastbert.FastBert(model) if fastbert.fits(model) else model

    @torch.inference_mode()
    def answer(texts: Texts) -> np.ndarray:
        columns = [[words.to_text(one.split()) for one in c] for c in zip(*texts, strict=True)]
        pieces = tokenizer.pad(teacher.encode(tokenizer, columns, length), return_tensors="pt")
        return softmax(network(**pieces).logits.float().numpy(), axis=1)

    return answer, (folder / "model.safetensors").stat().st_size / 1e6


def speed(answer: Answer, texts: Texts) -> tuple[float, float]:
    """Return the median milliseconds for one text, and texts per second in batches of 64."""
    some, medians = [texts[i % len(texts)] for i in range(640)], []
    for size in (1, 64):
        answer(some[:size])  # warms up
        taken: list[float] = []
        for start in range(0, len(some), size):
            if sum(taken) <= SECONDS:
                began = time.process_time()  # on a busy machine, too, as on an idle one
                answer(some[start : start + size])
                taken.append(time.process_time() - began)
        medians.append(statistics.median(taken))
    return 1000 * medians[0], 64 / medians[1]


def scores(found: dict[str, np.ndarray], gold: np.ndarray, spec: config.Task) -> dict[str, dict]:
    """Return model -> cells: accuracy and F1 with intervals, agreement, and calibration error."""
    answers = {name: one.argmax(axis=1) for name, one in found.items()}
    stacked, labels = [one[None] for one in answers.values()], np.unique(gold).tolist()
    draws = {"accuracy": metrics.bootstrap(stacked, gold, "accuracy", 2019)}
    drawn = []
    for label in labels:  # equal seeds: the same examples are drawn for every label
        always = [np.full_like(one, label) for one in stacked]
        there = metrics.bootstrap(always, gold, "accuracy", 2019) > 0
        of_label = metrics.bootstrap(stacked, gold, "f1", 2019, label)
        drawn.append(np.where(there, of_label, np.nan))  # a draw without the label has no such F1
    draws["macro F1"] = np.nanmean(drawn, axis=0)
    if spec.f1:
        name = f"F1 of {report.as_text(spec.meanings[spec.positive])}"
        draws[name] = metrics.bootstrap(stacked, gold, "f1", 2019, spec.positive)
    cells = {}
    for column, (name, one) in enumerate(found.items()):
        options = {"average": "macro", "labels": labels, "zero_division": 0}
        means = [*metrics.evaluate(one, gold, spec.positive).values()]
        means.insert(1, f1_score(gold, answers[name], **options))
        cells[name] = {}
        for (score, draw), mean in zip(draws.items(), means, strict=True):
            low, high = map(_percent, metrics.interval(draw[:, column]))
            cells[name][score] = f"{_percent(mean)} [{low}, {high}]"
        error = metrics.calibration_error(np.log(np.maximum(one, 1e-12)), gold)
        cells[name]["as teacher"] = _percent(np.mean(answers[name] == answers[TEACHER]))
        cells[name]["ECE"] = _percent(error)
    return cells


def _percent(share: float) -> str:
    return f"{100 * share:.1f}"


def fallback(pairs: dict[str, tuple], split: str, ms: tuple[float, float]) -> Rows:
    """Return what a student reaches that asks its teacher where its score is below a threshold.

    ``pairs`` has dev and ``split``: the probabilities of student and teacher, and the labels. The
    thresholds are quantiles of the scores on dev. ``ms`` are the times of student and teacher.
    """

    def asking(name: str, limit: float) -> tuple[float, float]:
        own, other, gold = pairs[name]
        asks = own.max(axis=1) < limit
        answers = np.where(asks, other.argmax(axis=1), own.argmax(axis=1))
        return float(asks.mean()), float(np.mean(answers == gold))

    tops = np.quantile(pairs["dev"][0].max(axis=1), SHARES)
    tops = (np.ceil(1000 * tops) / 1000).tolist()
    limits = {0.0: "never"} | {limit: f"{limit:.3f}" for limit in tops} | {2.0: "always"}
    take = next(one for one in limits if asking("dev", one)[1] >= asking("dev", 2.0)[1])
    rows = []
    for limit, told in limits.items():
        share, accuracy = asking(split, limit)
        row = {"asks below": told, "asks for": f"{share:.1%}", "accuracy": _percent(accuracy)}
        row["mean ms"] = f"{ms[0] + share * ms[1]:.2f}"
        rows.append(row | {"": "take this" * (limit == take)})
    return rows


def apart(spec: config.Task, rows: Any, own: np.ndarray, other: np.ndarray) -> list[str]:
    """Return the five texts on which the probabilities of student and teacher differ most."""
    lines = []
    for i in np.argsort(-np.abs(own - other).sum(axis=1), kind="stable")[:5].tolist():
        text = " | ".join(rows[column][i] for column in spec.columns)
        said = (f"{spec.meanings[p[i].argmax()]} {p[i].max():.2f}" for p in (own, other))
        told = "gold {}, student {}, teacher {}".format(spec.meanings[rows["label"][i]], *said)
        lines.append(f"{told}: {text:.300}")
    return lines


def measure(step: records.Step, seeds: int, folder: Path) -> dict[str, Any]:
    """Measure all models on test, where the data have one with labels, and else on dev.

    Returns the values of ``TEXT``, the ``evaluated`` scores of ``FORMS``, and the texts ``apart``.
    """
    spec, splits, by = (
        step.spec,
        data.load_prepared(step.profile, step.task),
        step.sibling("teacher"),
    )
    split = "test" if "test" in splits else "dev"
    texts, pairs, recorded = {}, {}, by.predictions()
    threads, known = torch.get_num_threads(), models(step, folder, splits)
    torch.set_num_threads(1)
    best = distil.ONNX if distil.ONNX in known else distil.TORCH  # as ``distil.load`` chooses
    for name in ("dev", split):
        columns = (splits[name][column][:] for column in spec.columns)
        texts[name] = list(zip(*columns, strict=True))
        probabilities = known[best][0](texts[name]), softmax(recorded[name][0], axis=1)
        pairs[name] = *probabilities, np.array(splits[name]["label"][:])
    own, other, gold = pairs[split]
    found = {name: one(texts[split]) for name, (one, _) in known.items() if name != TEACHER}
    cells, table = scores(found | {TEACHER: other}, gold, spec), []
    speeds = {name: speed(answer, texts[split]) for name, (answer, _) in known.items()}
    torch.set_num_threads(threads)
    model = by.read()["config"]["model"]
    titles = {TEACHER: f"{TEACHER}, {report.TEACHERS.get(model, model)}"}
    titles |= {file: f"distilled, `{file}`" for file in FORMS}
    for name, (ms, rate) in speeds.items():
        row = {"model": titles.get(name, name)} | cells[name] | {"MB": f"{known[name][1]:.3g}"}
        table.append(row | {"ms for one": f"{ms:.2f}", "per second": f"{rate:,.0f}"})
    asked = fallback(pairs, split, (speeds[best][0], speeds[TEACHER][0]))
    values = {"seeds": seeds, "split": split, "examples": len(gold)}
    values["so"] = "expect a little less on new text" if split == "dev" else "test is new to all"
    values |= {"table": aligned(table), "fallback": aligned(asked)}
    values["folder_of_teacher"] = records.short(by.files())
    files = [file for file in FORMS if file in found]
    values["evaluated"] = {f: metrics.evaluate(found[f], gold, spec.positive) for f in files}
    return step.read() | values | {"apart": apart(spec, splits[split], own, other)}


def aligned(rows: Rows) -> str:
    """Return rows as a table in Markdown with columns of equal width, for a terminal."""
    lines = [{key: key for key in rows[0]}, *rows]
    widths = {key: max(len(line[key]) for line in lines) for key in rows[0]}
    lines.insert(1, {key: "-" * width for key, width in widths.items()})
    cells = ([line[key].ljust(width) for key, width in widths.items()] for line in lines)
    return "\n".join(f"| {' | '.join(line)} |" for line in cells)


def shown(measured: dict[str, Any]) -> str:
    """Return what is printed: the text of the card, and below it texts that no card may have."""
    texts = "\n".join(measured["apart"])
    found = f"The teacher is in {measured['folder_of_teacher']}"
    return f"{TEXT.format(**measured)}\n{found}. The two differ most on these texts:\n{texts}"


def main(arguments: list[str] | None = None) -> None:
    """Measure a released student again, here, or exit with a line that says what is wrong."""
    parser = argparse.ArgumentParser(description=__doc__.split(":")[0])
    parser.add_argument("--profile", default="offline")
    parser.add_argument("--task", default="sst2")
    options = parser.parse_args(arguments)
    try:
        config.task(options.task)  # a ConfigError lists the known ones
        folder = records.ARTIFACTS / options.profile / "release" / options.task
        print(shown(measure(*best_step(options.profile, options.task), folder)))
    except ValueError as error:  # of a setting, a record, or a folder without a student
        sys.exit(f"error: {error}")


if __name__ == "__main__":
    main()
