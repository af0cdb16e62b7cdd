"""Records: the small JSON file that each step writes last. Every number shown comes from one.

A record names the settings, inputs and code of its step, the digests of the files that it made, and
the metrics of its predictions, which are in an ``.npz`` file beside it. The working folder of a step
is named by what went into it, so a half-made folder can be resumed and a finished one is whole.
"""

import ast
import contextlib
import functools
import hashlib
import io
import json
import os
import platform
import shutil
import subprocess
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from importlib.metadata import version
from pathlib import Path
from typing import Any

import numpy as np

from distil import config
from distil.config import ROOT, Checked

RESULTS = Path(os.environ.get("DISTIL_RESULTS") or ROOT / "results").expanduser().resolve()
ARTIFACTS = Path(os.environ.get("DISTIL_ARTIFACTS") or ROOT / "artifacts").expanduser().resolve()
NOTEBOOKS = {
    "data": "01_data",
    "teacher": "02_teacher",
    "transfer-set": "03_transfer_set",
    "student": "04_student",
    "speed": "05_speed",
    "results": "06_results",
    "ablation": "07_ablation",
}
PIECES = "pieces:"  # before a model whose word pieces are the vectors
CARRIERS = ("config", "records")  # modules that only carry values, which are compared themselves
Predictions = Mapping[str, tuple[np.ndarray, np.ndarray]]  # split -> logits [N, labels], labels [N]


class RecordError(ValueError):
    """A record or a file that it names is missing or damaged; the message says what to do."""


@dataclass(frozen=True)
class Step:
    """One run of one chapter: a stage of one profile, and its task, arm and seed where it has them."""

    stage: str
    profile: str
    task: str = ""
    arm: str = ""
    seed: int = 0

    @property
    def notebook(self) -> Path:
        """The chapter that carries the step out."""
        return ROOT / "notebooks" / f"{NOTEBOOKS[self.stage]}.ipynb"

    @property
    def name(self) -> str:
        """The step in words: ``04_student sst2 distilled seed 0``."""
        seed = f"seed {self.seed}" if self.arm else ""
        return " ".join(filter(None, [NOTEBOOKS[self.stage], self.task, self.arm, seed]))

    @property
    def path(self) -> Path:
        """The file of the step's record."""
        if self.arm:
            name = f"{self.stage}-seed{self.seed}.json"
            return RESULTS / "runs" / self.profile / self.task / self.arm / name
        if self.stage == "data":
            return RESULTS / "data" / self.profile / f"{self.task}.json"
        if self.stage == "speed":
            return RESULTS / "speed" / f"{self.profile}.json"
        end = "-ablation" if self.stage == "ablation" else ""
        return RESULTS / "report" / f"{self.profile}{end}.json"

    def folder(
        self, settings: Checked | Mapping, inputs: Mapping[str, str], precision: str = ""
    ) -> Path:
        """Return the working folder, named by settings, inputs, code and number format."""
        return self._folder(as_config(settings), inputs, code(self.stage), precision)

    def _folder(self, values: Any, inputs: Mapping, code_: Mapping, precision: str) -> Path:
        known = json.dumps([values, dict(inputs), dict(code_), precision], sort_keys=True)
        digits = hashlib.sha256(known.encode()).hexdigest()[:8]
        name = f"{self.stage}-seed{self.seed}-{digits}" if self.arm else f"{self.stage}-{digits}"
        return ARTIFACTS / self.profile / self.task / self.arm / name

    def finished(self) -> Path:
        """Return the folder that the step's record speaks of, whether it is there or not."""
        record = self.read()
        parts = (record["config"], record.get("inputs", {}), record.get("code", {}))
        return self._folder(*parts, record.get("precision", ""))

    def sibling(self, stage: str) -> "Step":
        """Return the step whose ``stage`` this one uses: its arm's own, or the main arm's."""
        if stage == "data":
            return Step("data", self.profile, self.task)
        arm = config.made_by(self.profile, self.arm or config.MAIN, stage)
        return Step(stage, self.profile, self.task, arm, self.seed if stage == "student" else 0)

    def reads(self) -> list["Step"]:
        """Return the steps whose files this one reads."""
        if self.stage == "speed":
            return [Step("student", self.profile, "sst2", config.MAIN, self.seed)]
        if self.stage == "student" and self.arm != config.PLAIN:
            return [self.sibling("data"), self.sibling("transfer-set")]
        before = {"teacher": ["data"], "transfer-set": ["data", "teacher"], "student": ["data"]}
        return [self.sibling(stage) for stage in before.get(self.stage, [])]

    def inputs(self, settings: Checked | Mapping) -> dict[str, str]:
        """Return name -> sha256 of all that the step reads: other steps' files and the user's.

        A source that is no local path (``packages``, a hub id with its commit) is pinned by its
        name in the settings, and a report reads every record of its profile.
        """
        if self.stage in ("results", "ablation"):
            return evidence(self.profile)
        values = settings.model_dump() if isinstance(settings, Checked) else settings
        found = {}
        for step in self.reads():
            record = step.read()
            key = "digests" if step.stage == "data" else "outputs"
            found |= {f"{step.stage}/{name}": sha for name, sha in record[key].items()}
        if self.stage == "data":
            source = config.TOY if values["source"] == "toy" else Path(values["source"])
            return sources("source", source / config.task(self.task).folder)
        for kind in ("model", "vectors"):
            given = values.get(kind, [])
            for i, one in enumerate(given if isinstance(given, list) else [given]):
                found |= sources(f"{kind}{i or ''}", Path(one.removeprefix(PIECES)))
        return found

    def files(self) -> Path:
        """Return the finished folder, after a look at every file that the record names.

        Raises:
            RecordError: a file is missing, truncated or altered.
        """
        folder = self.finished()
        for name, digest in self.read()["outputs"].items():
            if not (folder / name).is_file() or sha256(folder / name) != digest:
                raise RecordError(
                    f"{short(folder / name)} is missing or not as its step wrote it: delete the folder "
                    f"{short(folder)} and run 'make reproduce PROFILE={self.profile}' again"
                )
        return folder

    def read(self) -> dict[str, Any]:
        """Return the step's record; a RecordError if there is none or it cannot be read."""
        return read(self.path)

    def predictions(self) -> dict[str, tuple[np.ndarray, np.ndarray]]:
        """Return split -> (logits [N, labels], labels [N]) of the step's record."""
        return read_predictions(self.path)

    def write(
        self,
        settings: Checked | Mapping,
        inputs: Mapping[str, str],
        outputs: Mapping[str, str],
        predictions: Predictions | None = None,
        **facts: Any,
    ) -> dict[str, Any]:
        """Write predictions and record, each whole or not at all, and return the record.

        Args:
            settings: the step's settings; ``inputs``, ``outputs``: file name -> sha256.
            predictions: split -> (logits, labels); the record gets their metrics.
            facts: further keys, such as ``seconds``, ``device``, ``history``.
        """
        record = {"profile": self.profile, "task": self.task}
        if self.arm:
            data = read(Step("data", self.profile, self.task).path)
            record |= {"dataset": data["dataset"], "role": self._role(), "rows": data["rows"]}
        record |= {"seed": self.seed, "config": as_config(settings)}
        if predictions:
            record["metrics"] = _metrics(self.task, predictions)
        if "seconds" in facts:
            facts["seconds"] = round(facts["seconds"], 1)
        record |= {"inputs": dict(inputs), "outputs": dict(outputs)} | facts
        record |= {"arm": self.arm, "code": code(self.stage)} | provenance()
        self.path.parent.mkdir(parents=True, exist_ok=True)
        if predictions:
            write_whole(self.path.with_suffix(".npz"), _npz(predictions))
        write_whole(self.path, json.dumps(record, indent=1, ensure_ascii=False) + "\n")
        return record

    def _role(self) -> str:
        if self.stage != "student":
            return self.stage
        return "student-baseline" if self.arm == config.PLAIN else "student-distilled"


def _metrics(task: str, predictions: Predictions) -> dict[str, Any]:
    from distil import metrics

    f1 = config.task(task).f1
    return {split: metrics.evaluate(*pair, f1=f1) for split, pair in predictions.items()}


def as_config(settings: Checked | Mapping) -> dict[str, Any]:
    """Return settings as a record keeps them: a folder by its last part, so no path is published."""
    values = settings.model_dump() if isinstance(settings, Checked) else dict(settings)
    return {key: _named(value) for key, value in values.items()}


def _named(value: Any) -> Any:
    if isinstance(value, list):  # of sources of vectors
        return [_named(one) for one in value]
    path = str(value).removeprefix(PIECES)
    local = isinstance(value, str) and path.startswith(("/", "~", "."))
    return value.replace(path, Path(path).expanduser().resolve().name) if local else value


def provenance() -> dict[str, Any]:
    """Return the versions and the commit behind a record; ``dirty`` if code differs from the commit."""
    packages = ("torch", "transformers", "datasets", "nltk", "numpy")
    changed = _git("status", "--porcelain", "--", "distil", "configs", "notebooks/0[1-5]*")
    return {
        "versions": {"python": platform.python_version()} | {p: version(p) for p in packages},
        "git": {"commit": _git("rev-parse", "HEAD") or "unknown", "dirty": bool(changed)},
    }


def _git(*words: str) -> str:
    try:
        done = subprocess.run(["git", *words], cwd=ROOT, capture_output=True, text=True, timeout=20)
    except (OSError, subprocess.TimeoutExpired):  # no git here: the record says "unknown"
        return ""
    return done.stdout.strip() if done.returncode == 0 else ""


# --- what a step depends on -----------------------------------------------------------------------


@functools.cache
def code(stage: str) -> dict[str, str]:
    """Return the digest of each piece of code behind a step: its chapter and the modules it imports.

    Code is read as syntax trees without docstrings, so that prose and comments change nothing.
    """
    notebook = ROOT / "notebooks" / f"{NOTEBOOKS[stage]}.ipynb"
    cells = json.loads(notebook.read_text(encoding="utf-8"))["cells"]
    code_cells = [cell for cell in cells if cell["cell_type"] == "code"]
    own = [c for c in code_cells if "parameters" not in c["metadata"].get("tags", [])]
    tree = ast.parse("\n".join("".join(cell["source"]) for cell in own))
    found, waiting = {notebook.stem: _tree_digest(tree)}, _imports(tree)
    while waiting:
        name = waiting.pop()
        path = ROOT / "distil" / f"{name.replace('.', '/')}.py"
        if name not in found and name not in CARRIERS and path.exists():
            tree = ast.parse(path.read_text(encoding="utf-8"))
            found[name] = _tree_digest(tree)
            waiting |= _imports(tree)
    return dict(sorted(found.items()))


def _imports(tree: ast.Module) -> set[str]:
    """Return the modules of ``distil`` that a tree imports, also inside functions: ``speed.fast``."""
    names = set()
    for node in ast.walk(tree):
        if isinstance(node, ast.ImportFrom) and (node.module or "").split(".")[0] == "distil":
            parts = node.module.split(".")[1:]
            names |= {".".join(parts)} | {".".join([*parts, alias.name]) for alias in node.names}
    return names - {""}


def _tree_digest(tree: ast.Module) -> str:
    for node in ast.walk(tree):
        if isinstance(node, (ast.Module, ast.ClassDef, ast.FunctionDef)) and ast.get_docstring(
            node
        ):
            node.body = node.body[1:]
    return hashlib.sha256(ast.dump(tree).encode()).hexdigest()[:8]


def evidence(profile: str) -> dict[str, str]:
    """Return the sha256 of every record of a profile, and of the paper's numbers, by path."""
    found = [RESULTS / "speed" / f"{profile}.json"]
    for kind in ("data", "runs"):
        found += sorted((RESULTS / kind / profile).rglob("*.json"))
    there = {path.relative_to(RESULTS).as_posix(): path for path in found if path.exists()}
    there["paper.json"] = ROOT / "results" / "paper.json"
    return {name: sha256(path) for name, path in there.items()}


def sources(kind: str, path: Path) -> dict[str, str]:
    """Return ``<kind>/<file>`` -> sha256 of a local file or of all files of a local folder."""
    path = path.expanduser()
    if path.is_file():
        return {f"{kind}/{path.name}": sha256(path)}
    files = sorted(path.rglob("*")) if path.is_dir() else []
    return {f"{kind}/{f.relative_to(path).as_posix()}": sha256(f) for f in files if f.is_file()}


def sha256(path: Path) -> str:
    """Return the sha256 of a file in hexadecimal digits."""
    with path.open("rb") as stream:
        return hashlib.file_digest(stream, "sha256").hexdigest()


# --- files that appear whole ----------------------------------------------------------------------


def write_whole(path: Path, content: str | bytes) -> None:
    """Write a file whole or not at all: a killed process or a full disk leaves the old one."""
    part = path.with_name(f"{path.name}.part")
    part.write_bytes(content.encode() if isinstance(content, str) else content)
    os.replace(part, path)


@contextlib.contextmanager
def whole_folder(folder: Path) -> Iterator[Path]:
    """Yield ``<folder>.part``, which may be half made already, and rename it when the block ends.

    A finished folder whose record was never written, or is gone, becomes the half-made one again.
    """
    part = folder.with_name(f"{folder.name}.part")
    if folder.exists():
        shutil.rmtree(part, ignore_errors=True)
        folder.rename(part)
    part.mkdir(parents=True, exist_ok=True)
    yield part
    part.rename(folder)


def figure(profile: str, name: str) -> Path:
    """Return the path of one figure of a profile, after making its folder."""
    path = RESULTS / "figures" / profile / name
    path.parent.mkdir(parents=True, exist_ok=True)
    return path


def short(path: Path) -> str:
    """Return a path as messages show it: relative to the results, the artifacts or the clone."""
    for name, root in (("results", RESULTS), ("artifacts", ARTIFACTS)):
        if path.is_relative_to(root):
            return str(Path(name) / path.relative_to(root))
    return str(path)


def read(path: Path) -> dict[str, Any]:
    """Return one record; a RecordError if it is missing or not JSON."""
    try:
        return json.loads(path.read_text(encoding="utf-8"))
    except FileNotFoundError:
        problem = "no record"
    except ValueError as error:
        problem = f"damaged record ({str(error)[:80]})"
    raise RecordError(f"{problem} {short(path)}: run 'make reproduce', or restore it from git")


def read_predictions(path: Path) -> dict[str, tuple[np.ndarray, np.ndarray]]:
    """Return split -> (logits [N, labels], labels [N]) of the record at ``path``."""
    try:
        with np.load(path.with_suffix(".npz"), allow_pickle=False) as arrays:
            splits = [name.removesuffix("_logits") for name in arrays if name.endswith("_logits")]
            labels = {split: arrays[f"{split}_labels"].astype(np.int64) for split in splits}
            return {split: (arrays[f"{split}_logits"], labels[split]) for split in splits}
    except Exception as error:  # a damaged archive fails in many ways
        raise RecordError(
            f"{short(path.with_suffix('.npz'))} is missing or damaged ({str(error)[:120]}): delete it "
            "and its record and run 'make reproduce', or restore both from git"
        ) from None


def _npz(predictions: Predictions) -> bytes:
    arrays: dict[str, np.ndarray] = {}
    for split, (logits, labels) in predictions.items():
        small = np.int8 if np.max(labels, initial=0) < 128 else np.int32
        arrays[f"{split}_logits"] = np.asarray(logits, np.float32)
        arrays[f"{split}_labels"] = np.asarray(labels, small)
    buffer = io.BytesIO()
    np.savez_compressed(buffer, **arrays)
    return buffer.getvalue()
