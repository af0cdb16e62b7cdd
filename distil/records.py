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

from distil import config, metrics
from distil.config import MAIN, PLAIN, ROOT, Checked

RESULTS = Path(os.environ.get("DISTIL_RESULTS") or ROOT / "results").expanduser().resolve()
ARTIFACTS = Path(os.environ.get("DISTIL_ARTIFACTS") or ROOT / "artifacts").expanduser().resolve()
CHAPTERS = "01_data 02_teacher 03_transfer_set 04_student 05_speed 06_results 07_ablation"
NOTEBOOKS = {name[3:].replace("_", "-"): name for name in CHAPTERS.split()}  # stage -> chapter
PAGES = ("results", "ablation")  # chapters that only read records
PIECES = "pieces:"  # before a model whose word pieces are the vectors
CARRIERS = ("config", "records")  # a change to these two modules makes no step run again
Files = Mapping[str, str]  # name -> sha256
Settings = Checked | Mapping[str, Any]
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
            folder = RESULTS / "runs" / self.profile / self.task / self.arm
            return folder / f"{self.stage}-seed{self.seed}.json"
        kind = "report" if self.stage in PAGES else self.stage
        end = "-ablation" if self.stage == "ablation" else ""
        return RESULTS / kind / f"{Path(self.profile, self.task)}{end}.json"

    @property
    def spec(self) -> config.Task:
        """The step's task, with the labels that 01_data found if the task names none."""
        task = config.task(self.task)
        if task.labels:
            return task
        return task.known([*self.sibling("data").read()["labels"]["train"]])

    def sibling(self, stage: str) -> "Step":
        """Return the step whose ``stage`` this one uses: its arm's own, or the main arm's."""
        task = self.task or "sst2"  # chapter 05 has no task and times SST-2's student
        if stage == "data":
            return Step("data", self.profile, task)
        arm = config.made_by(self.profile, self.arm or MAIN, stage)
        return Step(stage, self.profile, task, arm, self.seed if stage == "student" else 0)

    def reads(self) -> list["Step"]:
        """Return the steps whose files this one reads."""
        before = {"teacher": ["data"], "transfer-set": ["data", "teacher"], "speed": ["student"]}
        before["student"] = ["data"] if self.arm == PLAIN else ["data", "transfer-set"]
        return [self.sibling(stage) for stage in before.get(self.stage, [])]

    def inputs(self, settings: Settings) -> dict[str, str]:
        """Return name -> sha256 of all that the step reads: other steps' files and the user's.

        What is no local path (``packages``, a hub id with its commit) is pinned by its name.
        """
        if self.stage in PAGES:
            return evidence(self.profile)
        values, found = dict(settings), {}
        for step in self.reads():
            made = step.read()["digests" if step.stage == "data" else "outputs"]
            found |= {f"{step.stage}/{name}": digest for name, digest in made.items()}
        task = config.task(self.task) if self.task else None
        for kind in {"source", "model", "vectors"} & set(values):
            given = values[kind] if isinstance(values[kind], list) else [values[kind]]
            for number, one in enumerate(given):
                path = Path(one.removeprefix(PIECES)).expanduser()
                if kind == "source" and not task.data:
                    path = (config.TOY if one == "toy" else path) / task.folder
                files = sorted(path.rglob("*")) if path.is_dir() else [path]
                home, name = (path if path.is_dir() else path.parent), f"{kind}{number or ''}"
                for file in filter(Path.is_file, files):
                    found[f"{name}/{file.relative_to(home).as_posix()}"] = sha256(file)
        if task and not task.in_paper:  # the user may choose other columns
            known = task if self.stage == "data" else self.spec
            text = known.model_dump_json(exclude={"data", "title", "folder"})
            found["task"] = hashlib.sha256(text.encode()).hexdigest()
        return found

    def folder(
        self, settings: Settings, inputs: Files, precision: str = "", code_: Files | None = None
    ) -> Path:
        """Return the working folder, named by settings, inputs, code and number format."""
        parts = [as_config(settings), dict(inputs), code_ or code(self.stage), precision]
        digits = hashlib.sha256(json.dumps(parts, sort_keys=True).encode()).hexdigest()[:8]
        seed = f"-seed{self.seed}" if self.arm else ""
        return ARTIFACTS / self.profile / self.task / self.arm / f"{self.stage}{seed}-{digits}"

    def finished(self) -> Path:
        """Return the folder that the step's record speaks of, whether it is there or not."""
        made = {"inputs": {}, "code": {}, "precision": ""} | self.read()
        return self.folder(made["config"], made["inputs"], made["precision"], made["code"])

    def files(self) -> Path:
        """Return the finished folder; a RecordError if a file is missing, truncated or altered."""
        folder = self.finished()
        for name, digest in self.read()["outputs"].items():
            if not (folder / name).is_file() or sha256(folder / name) != digest:
                problem = f"{short(folder / name)} is missing or not as its step wrote it"
                remedy = f"run 'make reproduce PROFILE={self.profile}' again"
                raise RecordError(f"{problem}: delete the folder {short(folder)} and {remedy}")
        return folder

    def read(self) -> dict[str, Any]:
        """Return the step's record; a RecordError if there is none or it cannot be read."""
        with _readable(self.path):
            return json.loads(self.path.read_text(encoding="utf-8"))

    def predictions(self) -> dict[str, tuple[np.ndarray, np.ndarray]]:
        """Return split -> (logits [N, labels], labels [N]) of the step's record."""
        path = self.path.with_suffix(".npz")
        with _readable(path), np.load(path, allow_pickle=False) as arrays:
            splits = [name.removesuffix("_logits") for name in arrays if name.endswith("_logits")]
            labels = {split: arrays[f"{split}_labels"].astype(np.int64) for split in splits}
            return {split: (arrays[f"{split}_logits"], labels[split]) for split in splits}

    def write(
        self,
        settings: Settings,
        inputs: Files,
        outputs: Files,
        predictions: Predictions | None = None,
        **facts: Any,
    ) -> dict[str, Any]:
        """Write predictions and record, each whole or not at all, and return the record.

        ``inputs`` and ``outputs`` are file name -> sha256. The record gets the metrics of the
        predictions and further ``facts``, such as ``seconds``, ``device`` and ``history``.
        """
        record = {"profile": self.profile, "task": self.task}
        if self.arm:
            data = self.sibling("data").read()
            kind = "baseline" if self.arm == PLAIN else "distilled"
            role = f"student-{kind}" if self.stage == "student" else self.stage
            record |= {"dataset": data["dataset"], "role": role, "rows": data["rows"]}
            own = config.arm(self.profile, self.arm).changes.get(self.stage.replace("-", "_"), {})
            record |= {"changes": as_config(own)}
        record |= {"seed": self.seed, "config": as_config(settings)}
        self.path.parent.mkdir(parents=True, exist_ok=True)
        if predictions:
            positive, arrays = self.spec.positive, {}
            record["metrics"] = {}
            for split, (logits, labels) in predictions.items():
                record["metrics"][split] = metrics.evaluate(logits, labels, positive)
                arrays[f"{split}_logits"] = np.asarray(logits, np.float32)
                arrays[f"{split}_labels"] = np.asarray(labels, np.int16)
            np.savez_compressed(packed := io.BytesIO(), **arrays)
            write_whole(self.path.with_suffix(".npz"), packed.getvalue())
        if "seconds" in facts:
            facts["seconds"] = round(facts["seconds"], 1)
        record |= {"inputs": dict(inputs), "outputs": dict(outputs)} | facts
        record |= {"arm": self.arm, "code": code(self.stage)} | provenance()
        write_whole(self.path, json.dumps(record, indent=1, ensure_ascii=False) + "\n")
        return record


def as_config(settings: Settings) -> dict[str, Any]:
    """Return settings as a record keeps them: a folder by its last part, so no path is published."""
    return {key: _named(value) for key, value in dict(settings).items()}


def _named(value: Any) -> Any:
    """Return a setting without the path of this machine: a folder by its last part."""
    if isinstance(value, list):  # sources of vectors
        return [_named(one) for one in value]
    path = str(value).removeprefix(PIECES)
    local = isinstance(value, str) and path.startswith(("/", "~", "."))
    return value.replace(path, Path(path).expanduser().resolve().name) if local else value


def provenance() -> dict[str, Any]:
    """Return the versions and the commit behind a record; ``dirty`` if code differs from the commit."""
    packages = ("torch", "transformers", "datasets", "nltk", "numpy")
    return {
        "versions": {"python": platform.python_version()} | {p: version(p) for p in packages},
        "git": {"commit": _git("rev-parse", "HEAD") or "unknown", "dirty": _dirty()},
    }


def _dirty() -> bool:
    changed = _git("status", "--porcelain", "--", "distil", "configs", "notebooks/0[1-5]*")
    for path in (ROOT / line.split()[-1] for line in changed.splitlines()):
        chapter = path.suffix == ".ipynb" and path.exists()
        committed = chapter and _git("show", f"HEAD:./notebooks/{path.name}")
        if not committed or _cells(committed) != _cells(path.read_text(encoding="utf-8")):
            return True
    return False  # outputs of a chapter are no code


def _git(*words: str) -> str:
    """Return what git prints: nothing where git or its repository is missing."""
    if not shutil.which("git"):
        return ""
    done = subprocess.run(["git", *words], cwd=ROOT, capture_output=True, text=True)
    return done.stdout.strip() if done.returncode == 0 else ""


@functools.cache
def code(stage: str) -> dict[str, str]:
    """Return the digest of each piece of code behind a step: its chapter and the modules it imports.

    Code is read as syntax trees without docstrings, so that prose and comments change nothing.
    """
    chapter = Step(stage, "").notebook
    found, waiting = {}, {chapter.stem: _cells(chapter.read_text(encoding="utf-8"))}
    while waiting:
        name, text = waiting.popitem()
        try:
            tree = ast.parse(text)
        except SyntaxError as error:  # such as a magic of IPython
            raise RecordError(f"{name}: {error}: wanted plain Python in every cell") from None
        found[name] = _tree_digest(tree)
        for other in _imports(tree) - set(found) - set(CARRIERS):
            path = ROOT / "distil" / f"{other.replace('.', '/')}.py"
            if path.exists():
                waiting[other] = path.read_text(encoding="utf-8")
    return dict(sorted(found.items()))


def _cells(notebook: str) -> str:
    """Return the code of a notebook, without the cell of parameters."""
    cells = [cell for cell in json.loads(notebook)["cells"] if cell["cell_type"] == "code"]
    own = [cell for cell in cells if "parameters" not in cell["metadata"].get("tags", [])]
    return "\n".join("".join(cell["source"]) for cell in own)


def _imports(tree: ast.Module) -> set[str]:
    """Return the modules of ``distil`` that a tree imports, also inside functions: ``speed.fast``."""
    names = set()
    for node in ast.walk(tree):
        if isinstance(node, ast.ImportFrom) and (node.module or "").split(".")[0] == "distil":
            parts = node.module.split(".")[1:]
            names |= {".".join(parts)} | {".".join([*parts, alias.name]) for alias in node.names}
    return names - {""}


def _tree_digest(tree: ast.Module) -> str:
    kinds = (ast.Module, ast.ClassDef, ast.FunctionDef)
    for node in ast.walk(tree):
        if isinstance(node, kinds) and ast.get_docstring(node):
            node.body = node.body[1:]
    return hashlib.sha256(repr(_bare(tree)).encode()).hexdigest()[:8]


def _bare(node: Any) -> Any:
    """Return a syntax tree as nested lists, which are the same in every version of Python."""
    if isinstance(node, list):
        return [_bare(one) for one in node]
    if not isinstance(node, ast.AST):
        return node
    fields = [(name, _bare(value)) for name, value in ast.iter_fields(node)]
    return [type(node).__name__, *(pair for pair in fields if pair[1] not in (None, []))]


def evidence(profile: str) -> dict[str, str]:
    """Return the sha256 of every record of a profile, and of the paper's numbers, by path."""
    patterns = (f"data/{profile}/*.json", f"runs/{profile}/**/*.json", f"speed/{profile}.json")
    paths = {path for pattern in patterns for path in RESULTS.glob(pattern)}
    found = {path.relative_to(RESULTS).as_posix(): sha256(path) for path in sorted(paths)}
    return found | {"paper.json": sha256(ROOT / "results" / "paper.json")}


def sha256(path: Path) -> str:
    """Return the sha256 of a file in hexadecimal digits."""
    with path.open("rb") as stream:
        return hashlib.file_digest(stream, "sha256").hexdigest()


def write_whole(path: Path, content: str | bytes) -> None:
    """Write a file whole or not at all: a killed process or a full disk leaves the old one."""
    part = path.with_name(f"{path.name}.part")
    part.write_bytes(content.encode() if isinstance(content, str) else content)
    os.replace(part, path)


@contextlib.contextmanager
def _readable(path: Path) -> Iterator[None]:
    """Raise a RecordError if the block cannot read the file; damaged archives fail in many ways."""
    try:
        yield
    except Exception as error:
        gone = isinstance(error, FileNotFoundError)
        problem = "no record" if gone else f"damaged record ({' '.join(str(error).split()):.80})"
        remedy = "delete what is left of it and run 'make reproduce', or restore it from git"
        raise RecordError(f"{problem} {short(path)}: {remedy}") from None


@contextlib.contextmanager
def whole_folder(folder: Path) -> Iterator[Path]:
    """Yield ``<folder>.part``, which may be half made already, and rename it when the block ends.

    If the finished folder is there, its record is not. It is renamed back, and work goes on in it.
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
