"""The GLUE server's files from trained students: ``python -m distil.submission --profile glue`` (or ``make submission``).

The server has the test labels. It takes one zip of eleven TSV files and refuses one that lacks a file: SST-2, QQP and MNLI are
our students' predictions, every other file holds a constant.
"""

import argparse
import os
import sys
import zipfile
from dataclasses import dataclass
from pathlib import Path

import datasets
import numpy as np

from distil import config, paths, sealed, student, train
from distil.batching import Column, Examples
from distil.data import GLUE_REPOSITORY, GLUE_REVISION, DataError, read_lines
from distil.tasks import TASKS, Task
from distil.vocabulary import Vocabulary
from distil.words import tokenize

Texts = list[
    tuple[str, ...]
]  # (sentence1[, sentence2]) of each example, in the order of the test set


class SubmissionError(ValueError):
    """A file of the server cannot be predicted for want of a student or a test set; ``--partial`` fills it instead."""


@dataclass(frozen=True)
class ServerFile:
    """``<name>.tsv``: official number of rows, what fills it unpredicted, our task and its split (a folder's ``<split>.tsv``)."""

    name: str
    rows: int
    filler: str
    task: str = ""
    split: str = ""


FILES = (
    ServerFile("CoLA", 1_063, "0"),
    ServerFile("SST-2", 1_821, "0", "sst2", "test"),
    ServerFile("MRPC", 1_725, "0"),
    ServerFile("STS-B", 1_379, "2.500"),
    ServerFile("QQP", 390_965, "0", "qqp", "test"),
    ServerFile("MNLI-m", 9_796, "entailment", "mnli", "test_matched"),
    ServerFile("MNLI-mm", 9_847, "entailment", "mnli", "test_mismatched"),
    ServerFile("QNLI", 5_463, "entailment"),
    ServerFile("RTE", 3_000, "entailment"),
    ServerFile("WNLI", 146, "0"),
    ServerFile("AX", 1_104, "entailment"),
)


def find_source(profile: str, given: str) -> str:
    """``hub`` or a folder: the one given, else ``GLUE_DIR``, else the profile's ``source``; any other is a ConfigError."""
    configured = config.load(profile, "data", "sst2").source
    if configured in ("packages", "toy"):
        raise config.ConfigError(
            f"profile {profile!r} trains on other data than GLUE's, which is what the leaderboard scores"
        )
    source = given or os.environ.get("GLUE_DIR") or configured
    if source in ("packages", "toy") or (
        source != "hub" and not Path(source).expanduser().is_dir()
    ):
        raise config.ConfigError(
            f"source {source!r} is neither 'hub' nor a folder, and the leaderboard scores GLUE's own test sets alone: give "
            "'hub' or a folder with SST-2/, QQP/, MNLI/ as --source (or the folder as GLUE_DIR)"
        )
    return source


def read_test(file: ServerFile, source: str) -> Texts:
    """The test set of a file; SubmissionError if there is none or its rows are not the server's, DataError if malformed."""
    spec = TASKS[file.task]
    if source == "hub":
        where, texts = f"{GLUE_REPOSITORY}, {spec.name}/{file.split}", read_hub(spec, file.split)
    else:
        where = Path(source).expanduser() / spec.folder / f"{file.split}.tsv"
        texts = read_tsv(spec, where)
    if len(texts) != file.rows:
        raise SubmissionError(
            f"{where}: wanted GLUE's {file.rows} rows, got {len(texts)}; take GLUE's own file, whole"
        )
    return texts


def read_tsv(spec: Task, path: Path) -> Texts:
    """Sentences of an unlabelled file: UTF-8, tab separated, one header row, no quoting, as for ``data.read_tsv``."""
    if not path.is_file():
        raise SubmissionError(
            f"missing file {path}: take it from GLUE's archive, or give --source hub"
        )
    lines = read_lines(path)
    header = lines[0].rstrip("\r").split("\t")
    where = _find(spec.text, header, f"{path}, line 1")
    texts = []
    for number, line in enumerate(lines[1:], start=2):
        if not line.strip():
            continue
        fields = line.rstrip("\r").split("\t")
        if not max(where) < len(fields) <= len(header):
            what = "missing" if len(fields) < len(header) else "too many"
            raise DataError(
                f"{path}, line {number}: {len(fields)} columns, wanted {len(header)}; is a tab {what}?"
            )
        texts.append(tuple(fields[i] for i in where))
    return texts


def read_hub(
    spec: Task, split: str, repository: str = GLUE_REPOSITORY, revision: str | None = GLUE_REVISION
) -> Texts:
    """Sentences of a split on the hub (or in a local folder in the hub's format, as for ``data.load_hub``)."""
    where = f"{repository}, {spec.name}/{split}"
    try:
        rows = datasets.load_dataset(repository, spec.name, split=split, revision=revision)
    except Exception as error:  # every way a download can fail has the same remedies
        reason = " ".join(str(error).split())  # one line
        raise DataError(
            f"{where}: {reason}; check the network, or give GLUE's folder as --source DIR"
        ) from error
    _find(spec.hub_text, rows.column_names, where)
    return list(zip(*(rows[column] for column in spec.hub_text), strict=True))


def _find(wanted: tuple[str, ...], names: list[str], where: str) -> list[int]:
    if missing := [name for name in wanted if name not in names]:
        raise DataError(
            f"{where}: no column {missing[0]!r}; this test set needs {wanted}, got {names}"
        )
    return [names.index(name) for name in wanted]


def find_student(profile: str, task: str, role: str, seed: int) -> Path:
    """Folder of a finished student: while it trains, the folder has a checkpoint but not what ``student.save`` writes."""
    folder = paths.artifact(profile, task, paths.run_name(role, seed))
    if not (folder / "config.json").is_file():
        again = f"make reproduce PROFILE={profile} TASKS={task} SEEDS={seed}"
        raise SubmissionError(f"no {role} of {task} in {folder}: run '{again}'")
    return folder


def predict(spec: Task, folder: Path, texts: Texts) -> list[str]:
    """The label in words that the student in ``folder`` gives to each example, in the order of the examples."""
    bilstm, words = student.load(folder)
    ids = Vocabulary(tuple(words)).ids
    prepared = (
        [" ".join(tokenize(text)) for text in column] for column in zip(*texts, strict=True)
    )
    examples = Examples(
        tuple(Column.of(column, ids) for column in prepared), np.zeros(len(texts), np.int64)
    )
    return [spec.labels[answer] for answer in train.predict(bilstm, examples).argmax(axis=1)]


def build(profile: str, source: str, role: str, seed: int, partial: bool) -> dict[str, list[str]]:
    """Name of each of the server's files -> its predictions. Every input is read before the first file is predicted.

    Raises:
        SubmissionError: a student or a test set is missing, unless ``partial``; DataError: a test set is malformed.
    """
    ready: dict[str, tuple[Path, Texts]] = {}
    for file in (file for file in FILES if file.task):
        try:
            ready[file.name] = find_student(profile, file.task, role, seed), read_test(file, source)
        except SubmissionError as error:
            if not partial:
                raise SubmissionError(
                    f"{error} (--partial fills {file.name}.tsv with a constant)"
                ) from None
            print(f"   {file.name}.tsv cannot be predicted: {error}", flush=True)
    made = {}
    for file in FILES:
        known = file.name in ready
        made[file.name] = (
            predict(TASKS[file.task], *ready[file.name]) if known else [file.filler] * file.rows
        )
        print(
            f"   {file.name}.tsv  {'predicted' if known else f'filled with {file.filler}'}",
            flush=True,
        )
    return made


def write(predictions: dict[str, list[str]], folder: Path) -> Path:
    """Write every TSV, then ``submission.zip`` of them, each whole or not at all; returns the path of the zip."""
    folder.mkdir(parents=True, exist_ok=True)
    archive, part = folder / "submission.zip", folder / "submission.part"
    with zipfile.ZipFile(part, "w", zipfile.ZIP_DEFLATED) as pack:
        for name, answers in predictions.items():
            rows = "".join(f"{index}\t{answer}\n" for index, answer in enumerate(answers))
            text = f"index\tprediction\n{rows}"
            (folder / f"{name}.part").write_text(text, encoding="utf-8", newline="\n")
            (folder / f"{name}.part").replace(folder / f"{name}.tsv")
            pack.writestr(f"{name}.tsv", text)
    return part.replace(archive)


def main(arguments: list[str] | None = None) -> int:
    """The command line; returns the exit status: 2 for a wrong setting, a missing student or a wrong test set."""
    parser = argparse.ArgumentParser(
        prog="python -m distil.submission", description=__doc__.split(":")[0]
    )
    parser.add_argument("--profile", required=True)
    parser.add_argument(
        "--source", default="", help="hub, or a folder with SST-2/, QQP/, MNLI/; default: GLUE_DIR"
    )
    parser.add_argument("--role", choices=config.ROLES, default="student-distilled")
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument(
        "--partial", action="store_true", help="fill what cannot be predicted with a constant"
    )
    options = parser.parse_args(arguments)
    profile, role, seed = options.profile, options.role, options.seed
    print(f"== submission  {profile}  {role}  seed {seed}", flush=True)
    try:
        predictions = build(
            profile, find_source(profile, options.source), role, seed, options.partial
        )
    except (config.ConfigError, DataError, SubmissionError, sealed.SealError) as error:
        print(f"error: {error}", file=sys.stderr)
        return 2
    print(
        f"   {os.path.relpath(write(predictions, paths.ARTIFACTS / profile / 'submission'))}",
        flush=True,
    )
    return 0


if __name__ == "__main__":
    sys.exit(main())
