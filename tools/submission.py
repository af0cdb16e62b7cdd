"""Writes the files that the GLUE server takes: ``python tools/submission.py --profile glue``.

It takes eleven TSV files in a zip. Our students predict SST-2, QQP and MNLI; the rest is constant.
"""

import argparse
import io
import os
import sys
import zipfile
from pathlib import Path

import datasets
import numpy as np

from distil import config, data, records, student, train
from distil.batching import Column, Examples
from distil.words import tokenize

ROWS = {"CoLA": 1_063, "SST-2": 1_821, "MRPC": 1_725, "STS-B": 1_379, "QQP": 390_965}
ROWS |= {"MNLI-m": 9_796, "MNLI-mm": 9_847, "QNLI": 5_463, "RTE": 3_000, "WNLI": 146, "AX": 1_104}
TESTS = {"SST-2": ("sst2", "test"), "QQP": ("qqp", "test")}  # file -> our task and its split
TESTS |= {"MNLI-m": ("mnli", "test_matched"), "MNLI-mm": ("mnli", "test_mismatched")}
NLI = ("MNLI-m", "MNLI-mm", "QNLI", "RTE", "AX")
CONSTANTS = dict.fromkeys(ROWS, "0") | dict.fromkeys(NLI, "entailment") | {"STS-B": "2.500"}


def find_source(profile: str, given: str) -> str:
    """Return ``hub`` or a folder: the one given, else ``GLUE_DIR``, else the profile's source."""
    configured = config.settings(profile, "data").source
    source = os.path.expanduser(given or os.environ.get("GLUE_DIR") or configured)
    if configured in ("packages", "toy") or (source != "hub" and not Path(source).is_dir()):
        wanted = "wanted a profile that trains on GLUE, and 'hub' or GLUE's folder as --source"
        raise config.ConfigError(f"{wanted} or GLUE_DIR, got {profile!r} and {source!r}")
    return source


def read_test(name: str, source: str) -> list[tuple[str, ...]]:
    """Return one or two sentences per row of a test set; ValueError if it is not GLUE's, whole."""
    spec, split = config.task(TESTS[name][0]), TESTS[name][1]
    path = Path(source, spec.folder, f"{split}.tsv")
    texts = read_hub(spec, split) if source == "hub" else read_tsv(spec, path)
    if len(texts) != ROWS[name]:
        raise ValueError(f"{path}: wanted GLUE's {ROWS[name]} rows, got {len(texts)}")
    return texts


def read_tsv(spec: config.Task, path: Path) -> list[tuple[str, ...]]:
    """Return the sentences of an unlabelled file; no row is skipped, since all later would move."""
    header, *rows = (line.split("\t") for line in data.read_lines(path))
    if missing := [name for name in spec.text if name not in header]:
        raise ValueError(f"{path}, line 1: no column {missing[0]!r}, got {str(header)[:200]}")
    places, texts = [header.index(name) for name in spec.text], []
    for number, fields in enumerate(rows, start=2):
        if "".join(fields).strip():
            if not max(places) < len(fields) <= len(header):
                wanted = f"line {number}: wanted {len(header)} columns, got {len(fields)}"
                raise ValueError(f"{path}, {wanted}: check its tabs")
            texts.append(tuple(fields[place] for place in places))
    return texts


def read_hub(spec: config.Task, split: str) -> list[tuple[str, ...]]:
    """Return the sentences of a split of GLUE on the hub, at the pinned commit."""
    where = {"revision": data.GLUE_REVISION, "cache_dir": str(records.ARTIFACTS / "hub")}
    try:
        rows = datasets.load_dataset(data.GLUE_REPOSITORY, spec.name, split=split, **where)
    except Exception as error:  # whatever went wrong, the remedies are the same
        reason = " ".join(str(error).split())[:200]
        raise ValueError(f"hub, {spec.name}/{split}: {reason}; --source takes a folder") from error
    return list(zip(*(rows[column] for column in spec.hub_text or spec.text), strict=True))


def predict(spec: config.Task, folder: Path, texts: list[tuple[str, ...]]) -> list[str]:
    """Return the label, as the server spells it, that the student gives to each example."""
    net, ids = student.load(folder)
    words = ([" ".join(tokenize(text)) for text in column] for column in zip(*texts, strict=True))
    columns = tuple(Column.of(column, ids) for column in words)
    examples = Examples(columns, np.zeros(len(texts), np.int64))
    return [spec.labels[answer] for answer in train.predict(net, examples).argmax(axis=1)]


def build(options: argparse.Namespace) -> dict[str, list[str]]:
    """Return file -> predictions; every input is read before the first file is predicted."""
    config.arm(options.profile, options.arm)  # a ConfigError if there is no such arm
    source, ready = find_source(options.profile, options.source), {}
    for name, (task, _) in TESTS.items():
        try:
            step = records.Step("student", options.profile, task, options.arm, options.seed)
            ready[name] = config.task(task), step.files(), read_test(name, source)
        except ValueError as error:
            if not options.partial:
                raise ValueError(f"{error} (--partial fills {name}.tsv)") from None
            print(f"   {name}.tsv is filled with a constant: {error}", flush=True)
    made = {name: [CONSTANTS[name]] * rows for name, rows in ROWS.items()}
    return made | {name: predict(*found) for name, found in ready.items()}


def write(predictions: dict[str, list[str]], folder: Path) -> None:
    """Write every TSV and ``submission.zip`` of them, each whole or not at all."""
    folder.mkdir(parents=True, exist_ok=True)
    archive = io.BytesIO()
    with zipfile.ZipFile(archive, "w", zipfile.ZIP_DEFLATED) as pack:
        for name, answers in predictions.items():
            rows = "".join(f"{index}\t{answer}\n" for index, answer in enumerate(answers))
            records.write_whole(folder / f"{name}.tsv", f"index\tprediction\n{rows}")
            pack.write(folder / f"{name}.tsv", f"{name}.tsv")
    records.write_whole(folder / "submission.zip", archive.getvalue())


def main(arguments: list[str] | None = None) -> None:
    """Write the submission, or exit with one line that says what is wrong."""
    parser = argparse.ArgumentParser(description=__doc__.split(":")[0])
    parser.add_argument("--profile", required=True)
    parser.add_argument("--source", default="", help="hub, or a folder with SST-2/, QQP/, MNLI/")
    parser.add_argument("--arm", default=config.MAIN, help="whose students predict")
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--partial", action="store_true", help="fill what cannot be predicted")
    options = parser.parse_args(arguments)
    try:
        folder = records.ARTIFACTS / options.profile / "submission"
        write(build(options), folder)
    except ValueError as error:
        sys.exit(f"error: {error}")
    print(records.short(folder / "submission.zip"))


if __name__ == "__main__":
    main()
