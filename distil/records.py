"""Records: the small JSON file that a step writes last, and the predictions beside it. The only source of every number shown.

A run record has the keys of ``KEYS``; metrics are fractions; ``inputs`` names every input with its sha256.
"""

import hashlib
import io
import json
import platform
import subprocess
from collections.abc import Mapping
from dataclasses import asdict
from importlib.metadata import version
from pathlib import Path
from typing import Any

import numpy as np

from distil import metrics, paths
from distil.config import Config
from distil.tasks import TASKS

KEYS = (
    "profile",
    "task",
    "dataset",
    "role",
    "seed",
    "config",
    "metrics",
    "n_params",
    "seconds",
    "device",
    "versions",
    "git",
    "inputs",
    "outputs",
)
MAX_BYTES = 65_536  # a record is read in a glance, not a place for data; those in git stay under 8 KB
SEAL, PREDICTIONS = "sha256", "predictions_sha256"  # keys of a record's own digest and of its predictions'
_PAGES = (":(exclude)notebooks/06_results.ipynb", ":(exclude)notebooks/07_ablation.ipynb")  # a run renders them anew
Predictions = Mapping[str, tuple[np.ndarray, np.ndarray]]  # split -> (logits [N, labels], labels [N])


class RecordError(ValueError):
    """A record is missing, incomplete or too large; the message says which and what to do."""


def provenance() -> dict[str, Any]:
    """The versions and the commit that produce a record. ``dirty``: code, configs or notebooks 01-05 differ from it, new files
    among them."""
    packages = ("torch", "transformers", "datasets", "nltk", "numpy")
    return {
        "versions": {"python": platform.python_version()} | {name: version(name) for name in packages},
        "git": {
            "commit": _git("rev-parse", "HEAD") or "unknown",
            "dirty": bool(_git("status", "--porcelain", "--", "distil", "notebooks", "configs", *_PAGES)),
        },
    }


def _git(*words: str) -> str:
    try:
        done = subprocess.run(["git", *words], cwd=paths.ROOT, capture_output=True, text=True, timeout=20, check=False)
    except (OSError, subprocess.TimeoutExpired):  # no git on this machine: the record says "unknown"
        return ""
    return done.stdout.strip() if done.returncode == 0 else ""


def config_of(config: Config) -> dict[str, Any]:
    """The config as a record keeps it."""
    return nameless(asdict(config))


def nameless(values: Mapping[str, Any]) -> dict[str, Any]:
    """Settings of which a folder is named by its last part, so that no path of a machine is published."""
    return {
        key: Path(value).expanduser().resolve().name
        if isinstance(value, str) and value.startswith(("/", "~", "."))
        else value
        for key, value in values.items()
    }


def run(
    *,
    profile: str,
    task: str,
    role: str,
    seed: int,
    config: Config,
    predictions: Predictions,
    n_params: Mapping[str, int],
    seconds: float,
    device: str,
    inputs: Mapping[str, str],
    outputs: Mapping[str, str],
    **extra: Any,
) -> dict[str, Any]:
    """The record of one run, its metrics computed from its predictions (split -> logits, labels).

    Args:
        n_params: ``total`` and ``non_embedding``; ``seconds``: of work, that of a run's earlier sittings included if it was
            stopped on the way (two early records, stopped before this was so, have null).
        inputs: name -> sha256 of what the run read; the digests of the prepared data are added.
        outputs: name -> sha256 of what it made: weights, or a transfer set.
        extra: further keys, such as ``history`` or ``arm``.
    """
    data = read(paths.data_record(profile, task))
    return {
        "profile": profile,
        "task": task,
        "dataset": data["dataset"],
        "role": role,
        "seed": seed,
        "config": config_of(config),
        "metrics": {split: metrics.evaluate(*pair, f1=TASKS[task].f1) for split, pair in predictions.items()},
        "n_params": dict(n_params),
        "seconds": round(seconds, 1),
        "device": device,
        **provenance(),
        "inputs": {f"data/{split}": sha for split, sha in data["digests"].items()} | dict(inputs),
        "outputs": dict(outputs),
        "rows": data["rows"],
        **extra,
    }


def check_same_data(profile: str, task: str, record: Mapping[str, Any]) -> None:
    """A RecordError if a run was made from other training data than those prepared now."""
    now = read(paths.data_record(profile, task))["digests"]["train"]
    if record["inputs"].get("data/train") != now:
        raise RecordError(
            f"the {record['role']} of {profile}/{task} was made from other training data than 01_data has prepared since: "
            "'make reproduce', or delete its record"
        )


def write(path: Path, record: Mapping[str, Any], predictions: Predictions | None = None) -> None:
    """Write the predictions, then the record, each whole or not at all.

    Raises:
        RecordError: a run record lacks a key of ``KEYS``, or is not under 64 KB.
    """
    if "role" in record and (missing := [key for key in KEYS if key not in record]):
        raise RecordError(f"{path.name}: a run record needs the keys {missing} as well")
    arrays = _arrays(predictions) if predictions is not None else None
    sealed = dict(record) | ({} if arrays is None else {PREDICTIONS: hashlib.sha256(arrays).hexdigest()})
    text = json.dumps(sealed | {SEAL: _digest(sealed)}, indent=1, ensure_ascii=False) + "\n"
    if len(text.encode()) >= MAX_BYTES:
        raise RecordError(
            f"{path.name}: {len(text.encode())} bytes; a record stays under {MAX_BYTES}: move data out of it"
        )
    path.parent.mkdir(parents=True, exist_ok=True)
    if arrays is not None:
        paths.write(path.with_suffix(".npz"), arrays)
    paths.write(path, text)


def _arrays(predictions: Predictions) -> bytes:
    """The bytes of an ``.npz`` file."""
    arrays: dict[str, np.ndarray] = {}
    for split, (logits, labels) in predictions.items():
        arrays[f"{split}_logits"] = np.asarray(logits, np.float32)
        arrays[f"{split}_labels"] = np.asarray(labels, np.int8 if np.max(labels, initial=0) < 128 else np.int32)
    buffer = io.BytesIO()
    np.savez_compressed(buffer, **arrays)
    return buffer.getvalue()


def read(path: Path) -> dict[str, Any]:
    """One record.

    Raises:
        RecordError: the file is missing, not JSON, or not as it was written.
    """
    try:
        record = json.loads(path.read_text(encoding="utf-8"))
    except FileNotFoundError:
        raise RecordError(
            f"no record {_short(path)}: the step that writes it has not finished; 'make reproduce'"
        ) from None
    except ValueError as error:
        raise RecordError(f"{_short(path)} is damaged ({error}): delete it and run 'make reproduce'") from None
    if not isinstance(record, dict) or record.pop(SEAL, None) != _digest(record):
        raise RecordError(
            f"{_short(path)} is not as it was written: a value has changed. Delete it and run 'make reproduce', or restore it"
        )
    return record


def _digest(record: Mapping[str, Any]) -> str:
    """sha256 of a record, whatever its layout; what JSON cannot tell apart (a tuple, a list) counts as the same."""
    return hashlib.sha256(json.dumps(json.loads(json.dumps(record)), sort_keys=True).encode()).hexdigest()


def read_predictions(path: Path) -> dict[str, tuple[np.ndarray, np.ndarray]]:
    """Split -> (logits [N, labels], labels [N]) of the record at ``path``.

    Raises:
        RecordError: they are missing, cannot be read, or are not those that were written with the record.
    """
    expected = read(path).get(PREDICTIONS)
    try:
        raw = path.with_suffix(".npz").read_bytes()
        if expected not in (None, hashlib.sha256(raw).hexdigest()):
            raise ValueError("not those of its record")
        with np.load(io.BytesIO(raw), allow_pickle=False) as arrays:
            splits = [name.removesuffix("_logits") for name in arrays.files if name.endswith("_logits")]
            return {split: (arrays[f"{split}_logits"], arrays[f"{split}_labels"].astype(np.int64)) for split in splits}
    except Exception as error:  # a damaged file can fail in any way
        raise RecordError(
            f"{_short(path.with_suffix('.npz'))} is missing or damaged ({error}): delete it and its record, and run "
            "'make reproduce'"
        ) from None


def _short(path: Path) -> str:
    return str(path.relative_to(paths.RESULTS.parent)) if path.is_relative_to(paths.RESULTS.parent) else path.name
