"""Writes the files that the GLUE server takes: ``python tools/submission.py --profile glue``.

The server has the test labels. It takes one zip of eleven TSV files: SST-2, QQP and MNLI hold the
predictions of our students, and every other file holds a constant.
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
from distil.data import DataError
from distil.words import tokenize

ROWS = {"CoLA": 1_063, "SST-2": 1_821, "MRPC": 1_725, "STS-B": 1_379, "QQP": 390_965}
ROWS |= {"MNLI-m": 9_796, "MNLI-mm": 9_847, "QNLI": 5_463, "RTE": 3_000, "WNLI": 146, "AX": 1_104}
TESTS = {"SST-2": ("sst2", "test"), "QQP": ("qqp", "test")}  # file -> our task and its split
TESTS |= {"MNLI-m": ("mnli", "test_matched"), "MNLI-mm": ("mnli", "test_mismatched")}
NLI = ("MNLI-m", "MNLI-mm", "QNLI", "RTE", "AX")
CONSTANTS = dict.fromkeys(ROWS, "0") | dict.fromkeys(NLI, "entailment") | {"STS-B": "2.500"}
Texts = list[tuple[str, ...]]  # one or two sentences per example, in the order of the test set


def find_source(profile: str, given: str) -> str:
    """Return ``hub`` or a folder: the one given, else ``GLUE_DIR``, else the profile's source."""
    configured = config.settings(profile, "data").source
    source = given or os.environ.get("GLUE_DIR") or configured
    if configured in ("packages", "toy"):
        raise config.ConfigError(f"the server scores GLUE, but {profile!r} trains on {configured}")
    if source in ("packages", "toy") or (source != "hub" and not Path(source).is_dir()):
        wanted = "wanted 'hub' or a folder with SST-2/, QQP/, MNLI/ as --source or GLUE_DIR"
        raise config.ConfigError(f"{wanted}, got {source!r}")
    return source


def read_test(name: str, source: str) -> Texts:
    """Return the test set of a file; DataError if it is missing, malformed or not GLUE's whole."""
    task, split = TESTS[name]
    spec = config.task(task)
    path = Path(source) / spec.folder / f"{split}.tsv"
    texts = read_hub(spec, split) if source == "hub" else read_tsv(spec, path)
    if len(texts) != ROWS[name]:
        raise DataError(f"{path}: wanted GLUE's {ROWS[name]} rows, got {len(texts)}")
    return texts


def read_tsv(spec: config.Task, path: Path) -> Texts:
    """Return the sentences of an unlabelled file; no row is skipped, since all later would move."""
    header, *rows = (line.split("\t") for line in data.read_lines(path))
    if missing := [name for name in spec.text if name not in header]:
        raise DataError(f"{path}, line 1: no column {missing[0]!r}, got {str(header)[:200]}")
    places, texts = [header.index(name) for name in spec.text], []
    for number, fields in enumerate(rows, start=2):
        if "".join(fields).strip():
            if not max(places) < len(fields) <= len(header):
                found = f"{len(fields)} columns, wanted {len(header)}; check its tabs"
                raise DataError(f"{path}, line {number}: {found}")
            texts.append(tuple(fields[place] for place in places))
    return texts


def read_hub(spec: config.Task, split: str) -> Texts:
    """Return the sentences of a split of GLUE on the hub, at the pinned commit."""
    where = {"revision": data.GLUE_REVISION, "cache_dir": str(records.ARTIFACTS / "hub")}
    try:
        rows = datasets.load_dataset(data.GLUE_REPOSITORY, spec.name, split=split, **where)
    except Exception as error:  # whatever went wrong, the remedies are the same
        reason = f"{' '.join(str(error).split())[:200]}; check the network, or give --source"
        raise DataError(f"hub, {spec.name}/{split}: {reason} a folder") from error
    return list(zip(*(rows[column] for column in spec.hub_text), strict=True))


def predict(spec: config.Task, folder: Path, texts: Texts) -> list[str]:
    """Return the label, as the server spells it, that the student gives to each example."""
    net, ids = student.load(folder)
    words = ([" ".join(tokenize(text)) for text in column] for column in zip(*texts, strict=True))
    columns = tuple(Column.of(student.cut(column), ids) for column in words)
    examples = Examples(columns, np.zeros(len(texts), np.int64))
    return [spec.labels[answer] for answer in train.predict(net, examples).argmax(axis=1)]


def build(profile: str, source: str, arm: str, seed: int, partial: bool) -> dict[str, list[str]]:
    """Return file -> predictions; every input is read before the first file is predicted."""
    ready: dict[str, tuple[Path, Texts]] = {}
    for name, (task, _) in TESTS.items():
        try:
            step = records.Step("student", profile, task, arm, seed)
            ready[name] = step.files(), read_test(name, source)
        except (DataError, records.RecordError) as error:
            if not partial:
                raise DataError(f"{error} (--partial fills {name}.tsv)") from None
            print(f"   {name}.tsv is filled with a constant: {error}", flush=True)
    made = {name: [CONSTANTS[name]] * rows for name, rows in ROWS.items()}
    return made | {name: predict(config.task(TESTS[name][0]), *ready[name]) for name in ready}


def write(predictions: dict[str, list[str]], folder: Path) -> Path:
    """Write every TSV and a zip of them, each whole or not at all; return the path of the zip."""
    folder.mkdir(parents=True, exist_ok=True)
    archive = io.BytesIO()
    with zipfile.ZipFile(archive, "w", zipfile.ZIP_DEFLATED) as pack:
        for name, answers in predictions.items():
            rows = [f"{index}\t{answer}\n" for index, answer in enumerate(answers)]
            text = "".join(["index\tprediction\n", *rows])
            records.write_whole(folder / f"{name}.tsv", text)
            pack.writestr(f"{name}.tsv", text)
    records.write_whole(folder / "submission.zip", archive.getvalue())
    return folder / "submission.zip"


def main(arguments: list[str] | None = None) -> int:
    """Write the submission; return 2 for a wrong setting, a missing student or a wrong test set."""
    parser = argparse.ArgumentParser(prog="tools/submission.py", description=__doc__.split(":")[0])
    parser.add_argument("--profile", required=True)
    parser.add_argument("--source", default="", help="hub, or a folder with SST-2/, QQP/, MNLI/")
    parser.add_argument("--arm", default=config.MAIN, help="whose students predict")
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--partial", action="store_true", help="fill what cannot be predicted")
    options = parser.parse_args(arguments)
    try:
        source, arm = find_source(options.profile, options.source), options.arm
        config.arm(options.profile, arm)
        made = build(options.profile, source, arm, options.seed, options.partial)
        print(records.short(write(made, records.ARTIFACTS / options.profile / "submission")))
    except (config.ConfigError, DataError, records.RecordError) as error:
        print(f"error: {error}", file=sys.stderr)
        return 2
    return 0


if __name__ == "__main__":
    sys.exit(main())
