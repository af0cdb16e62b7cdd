"""Loads a task from any source in one shape, and prepares the copy that all later steps read.

Sources: ``toy`` (a small set in this repository), ``packages`` (real sets in package files),
``hub`` (GLUE on the Hugging Face hub, pinned by commit), or a folder in GLUE's TSV layout.
"""

import hashlib
import json
import shutil
from pathlib import Path

import pyarrow.parquet as pq
from datasets import ClassLabel, Dataset, DatasetDict, Features, Value, load_dataset

from distil import config, records, standins
from distil.words import tokenize

GLUE_REPOSITORY, GLUE_REVISION = "nyu-mll/glue", "bcdcba79d07bc864c1c254ccfcedcce55bcc9a8c"


class DataError(ValueError):
    """The data are missing or malformed; the message says file, line, column and what to do."""


def load_task(task: str, source: str) -> DatasetDict:
    """Return the splits ``train``, ``dev``, and any other split that the source has with labels.

    Columns: ``sentence1``, ``sentence2`` for pairs, ``label``, ``idx`` (the row in its own split).
    """
    spec = config.task(task)
    if source in ("hub", "packages") and not spec.in_paper:
        raise DataError(f"{source} has no task {task!r}: set GLUE_DIR to a folder with {task}/")
    if source == "hub":
        return load_hub(spec)
    if source == "packages":
        rows = standins.load(task)
    else:
        files = {name: folder(task, source) / split.file for name, split in spec.splits.items()}
        kept = [name for name in files if name in ("train", "dev") or _labelled(spec, files[name])]
        rows = {name: read_tsv(spec, files[name]) for name in kept}
    return DatasetDict({name: _dataset(spec, split) for name, split in rows.items()})


def _labelled(spec: config.Task, path: Path) -> bool:
    """Return whether a file is there and has labels: the test files of GLUE have none."""
    if not path.exists():
        return False
    with path.open(encoding="utf-8-sig", errors="replace") as lines:
        labelled = spec.label in lines.readline().rstrip("\n").split("\t")
    if not labelled:
        print(f"{path.name} of {spec.title} has no column {spec.label!r}, so it is not used")
    return labelled


def folder(task: str, source: str) -> Path:
    """Return the folder of a task's files, where the source is ``toy`` or a folder."""
    return Path(config.TOY if source == "toy" else source).expanduser() / config.task(task).folder


def dataset_name(task: str, source: str, train_rows: int) -> str:
    """Return the data set's own name; ``train_rows`` says whether it is a part of GLUE's set."""
    if source == "packages":
        return standins.NAMES[task]
    if source == "toy" or not config.task(task).in_paper:
        return f"toy/{task}" if source == "toy" else task
    return f"glue{'' if train_rows == config.task(task).glue_train_rows else '-part'}/{task}"


def _dataset(spec: config.Task, rows: standins.Rows) -> Dataset:
    columns = dict(zip((*spec.columns, "label"), map(list, zip(*rows, strict=True)), strict=True))
    features = {name: Value("string") for name in spec.columns}
    features |= {"label": ClassLabel(names=list(spec.labels)), "idx": Value("int32")}
    return Dataset.from_dict(columns | {"idx": range(len(rows))}, features=Features(features))


def read_lines(path: Path) -> list[str]:
    """Return the lines of a UTF-8 file, which end as its first line does: LF, CR LF or CR alone."""
    try:
        text = path.read_bytes().decode("utf-8-sig")
    except OSError as error:
        raise DataError(f"cannot read {path}, which GLUE's layout has: {error.strerror}") from None
    except UnicodeDecodeError as error:
        line = error.object.count(b"\n", 0, error.start) + 1
        raise DataError(f"{path}, line {line}: not UTF-8; save the file as UTF-8") from None
    if "\r" in text.partition("\n")[0].rstrip("\r"):
        return text.split("\r")
    return [line.rstrip("\r") for line in text.split("\n")]  # a CR inside a sentence is text


def read_tsv(spec: config.Task, path: Path) -> standins.Rows:
    """Return the rows of one GLUE file: tab separated, one header row, no quoting."""
    header, *lines = (line.split("\t") for line in read_lines(path))
    wanted, rows, skipped = (*spec.text, spec.label), [], 0
    if missing := [name for name in wanted if name not in header]:
        found = f"{spec.title} needs {wanted}, the header has {str(header)[:200]}"
        raise DataError(f"{path}, line 1: no column {missing[0]!r}; {found}")
    places = [header.index(name) for name in wanted]
    for number, fields in enumerate(lines, start=2):
        blank, short = not "".join(fields).strip(), len(fields) <= max(places)
        if blank or (short and skipped < spec.short_rows):
            skipped += not blank
            continue
        if short or len(fields) > len(header):
            what = f"{len(fields)} columns, the header has {len(header)}; is a tab"
            raise DataError(f"{path}, line {number}: {what} {'missing' if short else 'too many'}?")
        *texts, label = (fields[place] for place in places)
        if label not in spec.labels:
            what = f"column {spec.label!r}: {label[:60]!r} is not one of {str(spec.labels)[:200]}"
            raise DataError(f"{path}, line {number}, {what}")
        rows.append((*texts, spec.labels.index(label)))
    if not rows:
        raise DataError(f"{path}: no rows below the header")
    return rows


def load_hub(spec: config.Task) -> DatasetDict:
    """Return a task of GLUE from the hub, at the pinned commit."""
    where = {"revision": GLUE_REVISION, "cache_dir": str(records.ARTIFACTS / "hub")}
    try:
        raw = load_dataset(GLUE_REPOSITORY, spec.name, **where)
    except Exception as error:  # whatever went wrong, the remedies are the same
        raise DataError(
            f"cannot load {spec.name} of {GLUE_REPOSITORY}: set GLUE_DIR to a folder of GLUE's "
            f"files, or check the network (HF_ENDPOINT for a mirror): {str(error)[:200]!r}"
        ) from error
    names = dict(zip(spec.hub_text, spec.columns, strict=True)) | {"label": "label", "idx": "idx"}
    splits = {name: raw[split.hub] for name, split in spec.splits.items() if split.hub in raw}
    splits = {name: split for name, split in splits.items() if min(split["label"]) >= 0}
    return DatasetDict(splits).select_columns(list(names)).rename_columns(names)


def prepare(
    splits: DatasetDict, spec: config.Task, folder: Path, *, max_train: int, max_dev: int, seed: int
) -> DatasetDict:
    """Write each split, cut and tokenized, to ``folder/<split>.parquet``; the folder appears whole.

    Splits of over ``max_train`` or ``max_dev`` rows are shuffled by ``seed`` and cut; 0 keeps all.
    """
    prepared = DatasetDict()
    shutil.rmtree(folder, ignore_errors=True)  # of an earlier run, whose files may be damaged
    with records.whole_folder(folder) as part:
        for name, split in splits.items():
            limit = max_train if name == "train" else max_dev
            if limit and limit < len(split):
                split = split.shuffle(seed=seed).select(range(limit))
            words = {c: [" ".join(tokenize(text)) for text in split[c]] for c in spec.columns}
            prepared[name] = Dataset.from_dict(split[:] | words, features=split.features)
            prepared[name].to_parquet(part / f"{name}.parquet")
    return prepared


def load_prepared(profile: str, task: str) -> DatasetDict:
    """Return the splits that 01_data prepared; RecordError if it has not run or a file changed."""
    paths = sorted(records.Step("data", profile, task).files().glob("*.parquet"))
    return DatasetDict({path.stem: Dataset(pq.read_table(path)) for path in paths})


def digest(split: Dataset) -> str:
    """Return the sha256 of a split's text and labels, however they are stored."""
    cells = [split[name] for name in ("sentence1", "sentence2", "label") if name in split.features]
    text = "".join(json.dumps(row, ensure_ascii=False) for row in zip(*cells, strict=True))
    return hashlib.sha256(text.encode()).hexdigest()
