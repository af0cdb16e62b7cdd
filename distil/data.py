"""``load_task``: one shape for every task and every source; and the prepared copy that all later steps read.

Sources: ``toy`` (a small set of our own in this repository), ``packages`` (real sets that package files carry), ``hub``
(GLUE on the Hugging Face hub, pinned by commit), or a directory in GLUE's TSV layout.
"""

import hashlib
import json
import shutil
from collections.abc import Iterator
from pathlib import Path

import datasets
from datasets import ClassLabel, Dataset, DatasetDict, Features, Value

from distil import packaged, paths, records
from distil.packaged import Rows
from distil.tasks import TASKS, Task
from distil.words import tokenize

GLUE_REPOSITORY = "nyu-mll/glue"
GLUE_REVISION = "bcdcba79d07bc864c1c254ccfcedcce55bcc9a8c"


class DataError(ValueError):
    """The data are missing or malformed; the message says file, line, column and what to do."""


def load_task(task: str, source: str) -> DatasetDict:
    """Load one task.

    Args:
        task: ``sst2``, ``qqp``, ``mnli`` or a task of configs/tasks.yaml, which only a directory can have.
        source: ``toy``, ``packages``, ``hub`` or a directory that holds ``SST-2/``, ``QQP/`` or ``MNLI/``.

    Returns:
        Splits ``train`` and ``dev``; ``dev_mismatched`` where MNLI has it; ``test`` where the source has public test labels.
        Columns ``sentence1`` (premise), ``sentence2`` for pairs (hypothesis), ``label``, ``idx`` (row in its own split).

    Raises:
        DataError: unknown task or source, or a missing or malformed file.
    """
    if task not in TASKS:
        raise DataError(f"unknown task {task!r}: known are {', '.join(TASKS)}")
    spec = TASKS[task]
    if source in ("hub", "packages") and not spec.in_paper:
        raise DataError(f"{source} has no task {task!r}: set GLUE_DIR to the folder that holds {spec.folder}/train.tsv")
    if source == "hub":
        return load_hub(spec)
    if source == "packages":
        return _dataset_dict(spec, packaged.load(task))
    folder = paths.TOY if source == "toy" else Path(source).expanduser()
    return _dataset_dict(spec, load_directory(spec, folder))


def dataset_name(task: str, source: str, train_rows: int) -> str:
    """What a data set is called in records: by what it is, never by what it stands for. ``train_rows``: that are trained on."""
    if source == "packages":
        return packaged.NAMES[task]
    if source == "toy" or not TASKS[task].in_paper:
        return f"toy/{task}" if source == "toy" else task
    return f"glue/{task}" if train_rows == TASKS[task].glue_train_rows else f"glue-part/{task}"


def _dataset_dict(spec: Task, splits: dict[str, Rows]) -> DatasetDict:
    return DatasetDict({name: _dataset(spec, rows) for name, rows in splits.items()})


def _dataset(spec: Task, rows: Rows) -> Dataset:
    columns = dict(zip(spec.columns, zip(*rows, strict=True), strict=False))
    columns |= {"label": [row[-1] for row in rows], "idx": range(len(rows))}
    features = Features({name: Value("string") for name in spec.columns})
    features |= {"label": ClassLabel(names=list(spec.labels)), "idx": Value("int32")}
    return Dataset.from_dict({name: list(values) for name, values in columns.items()}, features=Features(features))


# --- a directory in GLUE's TSV layout ---------------------------------------------------------------------------------


def load_directory(spec: Task, folder: Path) -> dict[str, Rows]:
    """Read ``folder/<task>/{train,dev,...}.tsv``; only train and dev must be there."""
    home = folder / spec.folder
    if not home.is_dir():
        raise DataError(
            f"no folder {home}: a data directory holds {spec.folder}/train.tsv and {spec.folder}/{spec.splits['dev'].file} "
            "in GLUE's layout (or use the source 'toy', 'packages' or 'hub')"
        )
    splits = {}
    for name, split in spec.splits.items():
        path = home / split.file
        if path.exists() or name in ("train", "dev"):
            splits[name] = read_tsv(spec, path)
    return splits


def read_lines(path: Path) -> list[str]:
    """Lines of a UTF-8 file; a DataError says that it cannot be read, or names the first line that is not UTF-8."""
    try:
        raw = path.read_bytes()
    except OSError as error:
        raise DataError(f"cannot read {path}: {error.strerror}; check its owner and permissions") from None
    try:  # decoded as bytes: a carriage return inside a sentence is text, not a line's end
        return raw.decode("utf-8").removeprefix("\ufeff").split("\n")
    except UnicodeDecodeError as error:
        line = raw[: error.start].count(b"\n") + 1
        raise DataError(f"{path}, line {line}: not UTF-8 ({error.reason}); save the file as UTF-8") from None


def read_tsv(spec: Task, path: Path) -> Rows:
    """Rows of one GLUE file: UTF-8, tab separated, one header row, no quoting.

    Raises:
        DataError: missing file, missing column, short row, empty label or unknown label, not UTF-8, or no row at all.
    """
    if not path.is_file():
        raise DataError(f"missing file {path}: GLUE's layout has it; see 'load_task' in distil/data.py for the sources")
    lines = read_lines(path)
    header = lines[0].rstrip("\r").split("\t")
    wanted = (*spec.text, spec.label)
    if missing := [name for name in wanted if name not in header]:
        raise DataError(
            f"{path}, line 1: no column {missing[0]!r}; {spec.title} needs {wanted}, the header has {header}"
        )
    where = [header.index(name) for name in wanted]
    rows = list(_parse(spec, path, lines[1:], where, len(header)))
    if not rows:
        raise DataError(f"{path}: no rows below the header")
    return rows


def _parse(spec: Task, path: Path, lines: list[str], where: list[int], width: int) -> Iterator[tuple]:
    short = 0
    for number, line in enumerate(lines, start=2):
        if not line.strip():
            continue
        fields = line.rstrip("\r").split("\t")
        if len(fields) <= max(where) and short < spec.short_rows:
            short += 1
            continue
        if len(fields) <= max(where) or len(fields) > width:
            what = "missing" if len(fields) < width else "too many"
            raise DataError(f"{path}, line {number}: {len(fields)} columns, the header has {width}; is a tab {what}?")
        *texts, label = (fields[i] for i in where)
        if label not in spec.labels:
            raise DataError(f"{path}, line {number}, column {spec.label!r}: {label!r} is not one of {spec.labels}")
        yield (*texts, spec.labels.index(label))


# --- the hub ----------------------------------------------------------------------------------------------------------


def load_hub(spec: Task, repository: str = GLUE_REPOSITORY, revision: str | None = GLUE_REVISION) -> DatasetDict:
    """GLUE from the hub (or from a local folder in the hub's format: give it as ``repository``, with no revision).

    Raises:
        DataError: it cannot be had.
    """
    try:
        raw = datasets.load_dataset(repository, spec.name, revision=revision)
    except Exception as error:  # every way a download can fail has the same remedies
        raise DataError(
            f"cannot load {spec.name} of {repository}: put GLUE's TSV files into a folder and set GLUE_DIR to it, or check the "
            f"network (HF_ENDPOINT for a mirror, HF_HOME for a folder with the hub's cache). The hub's client says: {error}"
        ) from error
    renamed = dict(zip(spec.hub_text, spec.columns, strict=True))
    splits = DatasetDict({name: raw[split.hub] for name, split in spec.splits.items() if split.hub in raw})
    return splits.select_columns([*renamed, "label", "idx"]).rename_columns(
        {old: new for old, new in renamed.items() if old != new}
    )


# --- the prepared copy ------------------------------------------------------------------------------------------------


def prepare(splits: DatasetDict, spec: Task, folder: Path, *, max_train: int, max_dev: int, seed: int) -> DatasetDict:
    """Cut, tokenize and write the splits to ``folder/<split>.parquet``; the folder appears whole or not at all.

    The sentences become their words joined by spaces (``words.tokenize``), which is what every later step reads.
    ``max_train`` bounds the training split and ``max_dev`` every other one, after a shuffle by ``seed``; 0 keeps all.
    """
    prepared = {}
    for name, split in splits.items():
        limit = max_train if name == "train" else max_dev
        if limit and limit < len(split):
            split = split.shuffle(seed=seed).select(range(limit))
        tokenized = {column: [" ".join(tokenize(text)) for text in split[column]] for column in spec.columns}
        prepared[name] = Dataset.from_dict(
            tokenized | {"label": split["label"][:], "idx": split["idx"][:]}, features=split.features
        )
    part = folder.with_name(f"{folder.name}.part")
    shutil.rmtree(part, ignore_errors=True)
    part.mkdir(parents=True)
    for name, split in prepared.items():
        split.to_parquet(str(part / f"{name}.parquet"))
    shutil.rmtree(folder, ignore_errors=True)
    part.rename(folder)
    return DatasetDict(prepared)


def load_prepared(profile: str, task: str) -> DatasetDict:
    """The splits that 01_data prepared for this profile and task.

    Raises:
        DataError: 01_data has not run, or the files are not what it wrote.
    """
    folder = paths.artifact(profile, task, "data")
    if not folder.is_dir():
        raise DataError(
            f"no prepared data for profile {profile!r}, task {task!r}: run notebooks/01_data.ipynb for it, or delete "
            f"results/data/{profile}/{task}.json, if it is there, and 'make reproduce PROFILE={profile} TASKS={task}'"
        )
    try:
        splits = DatasetDict({path.stem: Dataset.from_parquet(str(path)) for path in sorted(folder.glob("*.parquet"))})
        found, problem = {name: digest(rows) for name, rows in splits.items()}, "damaged or replaced"
    except Exception as error:  # a damaged Parquet file can fail in any way
        splits, found, problem = DatasetDict(), {}, f"they cannot be read ({' '.join(str(error).split())})"
    record = paths.data_record(profile, task)
    if not splits or (record.exists() and found != records.read(record).get("digests")):
        raise DataError(
            f"the prepared data of {profile}/{task} are not those of their record: {problem}. Delete "
            f"results/data/{profile}/{task}.json and run again"
        )
    return splits


def digest(split: Dataset) -> str:
    """sha256 of a split's text and labels, independent of how they are stored."""
    sha = hashlib.sha256()
    columns = [name for name in ("sentence1", "sentence2") if name in split.column_names]
    for row in split.select_columns([*columns, "label"]):
        sha.update(json.dumps([row[name] for name in (*columns, "label")], ensure_ascii=False).encode())
    return sha.hexdigest()
