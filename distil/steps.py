"""Run one notebook as one step of the graph: ``python -m distil.steps 04_student --profile offline --task sst2 --role ...``.

The executed copy grows under ``artifacts/<profile>/executed``. On success it is cleaned and moved to ``results/executed``; on
failure it is kept under ``artifacts/<profile>/failed`` and the message says which cell broke.
"""

import argparse
import ast
import errno
import os
import re
import shutil
import sys
import time
from dataclasses import asdict, dataclass, fields
from pathlib import Path
from typing import Any

import nbformat
import papermill
from nbformat import NotebookNode

from distil import config, paths
from distil.config import ConfigError
from distil.tasks import TASKS

# Notebook -> its config section and the parameters that say which run it is.
NOTEBOOKS: dict[str, tuple[str, tuple[str, ...]]] = {
    "01_data": ("data", ("profile", "task", "seed")),
    "02_teacher": ("teacher", ("profile", "task", "seed")),
    "03_transfer_set": ("transfer_set", ("profile", "task", "seed")),
    "04_student": ("student", ("profile", "task", "role", "arm", "seed", "teacher_seed")),
    "05_speed": ("speed", ("profile", "seed")),
    "06_results": ("", ("profile",)),
    "07_ablation": ("", ("profile",)),
}
SHOWN = ("06_results", "07_ablation")  # they keep the outputs of this profile in notebooks/
SHOWN_PROFILE = "offline"
ROLE = {"02_teacher": "teacher", "03_transfer_set": "transfer-set"}
NEEDED_BYTES = 2 * 10**9
DISK_FULL = "No space left on the disk of {}: free 2 GB or more and run the same command again; finished steps are kept."


class StepError(RuntimeError):
    """A notebook did not get through; the message names step, cell, error and the copy to read."""


@dataclass(frozen=True)
class Step:
    """Which notebook runs, and for what."""

    notebook: str
    profile: str
    task: str
    role: str
    arm: str
    seed: int
    teacher_seed: int

    @property
    def name(self) -> str:
        """Name of the executed copy: ``02_teacher-seed0``, ``04_real-only-seed0``, ``01_data``."""
        role = self.arm or ROLE.get(self.notebook, self.role)
        return f"{self.notebook[:2]}_{role}-seed{self.seed}" if role else self.notebook

    @property
    def title(self) -> str:
        """The step in words, for the terminal."""
        role = self.arm or self.role
        return f"{self.notebook}  {self.profile}{self.task and '/'}{self.task}  {role and role + ' '}seed {self.seed}"

    @property
    def record(self) -> Path | None:
        """The record that the notebook must have written when it ends; the report pages write none."""
        if self.notebook == "01_data":
            return paths.RESULTS / "data" / self.profile / f"{self.task}.json"
        if self.notebook == "05_speed":
            return paths.RESULTS / "speed" / f"{self.profile}.json"
        role = ROLE.get(self.notebook, self.role)
        return paths.run_record(self.profile, self.task, role, self.seed, self.arm) if role else None


def parameters(step: Step) -> dict[str, Any]:
    """The values for the notebook's parameters cell: what the run is, then every field of its config.

    Raises:
        ConfigError: unknown profile, task, role or arm, a bad config file, or ``GLUE_DIR`` is no folder.
    """
    section, names = NOTEBOOKS[step.notebook]
    values = {name: getattr(step, name) for name in names}
    if "task" in names and step.task not in TASKS:
        raise ConfigError(f"{step.notebook} needs --task: one of {', '.join(TASKS)}; got {step.task!r}")
    if "role" in names and step.role not in config.ROLES:
        raise ConfigError(f"{step.notebook} needs --role: one of {', '.join(config.ROLES)}; got {step.role!r}")
    if not section:
        config.read_yaml(step.profile, "data")  # for its error on an unknown profile
        return values
    loaded = config.load(step.profile, section, step.task or "sst2", step.role, _arm(step))
    values |= {field.name: getattr(loaded, field.name) for field in fields(loaded)}
    if values.get("source") == "hub" and os.environ.get("GLUE_DIR"):
        values["source"] = str(_glue_dir())
    return values


def _arm(step: Step) -> dict[str, Any]:
    if not step.arm:
        return {}
    arms = config.read_yaml(step.profile, "ablation").get("arms", {})
    if step.arm not in arms:
        raise ConfigError(f"unknown arm {step.arm!r}: configs/{step.profile}/ablation.yaml has {', '.join(arms)}")
    return arms[step.arm]


def _glue_dir() -> Path:
    folder = Path(os.environ["GLUE_DIR"]).expanduser().resolve()
    if not folder.is_dir():
        raise ConfigError(f"GLUE_DIR={os.environ['GLUE_DIR']}: no such folder ({folder}); it holds SST-2/, QQP/, MNLI/")
    return folder


def run(step: Step) -> Path:
    """Execute the step's notebook and return the path of the executed copy.

    Raises:
        ConfigError: a parameter is wrong, or the notebook does not declare it.
        StepError: the notebook failed or wrote no record.
    """
    source = paths.NOTEBOOKS / f"{step.notebook}.ipynb"
    values = _to_inject(source, parameters(step))
    part = paths.ARTIFACTS / step.profile / "executed" / f"{step.task or 'all'}-{step.name}.part.ipynb"
    part.parent.mkdir(parents=True, exist_ok=True)
    if (free := shutil.disk_usage(part.parent).free) < NEEDED_BYTES:
        raise StepError(f"only {free / 1e9:.1f} GB free. " + DISK_FULL.format(paths.ARTIFACTS))
    started = time.time()
    try:
        executed = _execute(source, part, values)
    except papermill.PapermillExecutionError as error:
        raise _failure(step, source, part, f"{error.ename}: {error.evalue}") from error
    except RuntimeError as error:  # the kernel died: nbclient says so, and nothing else does
        raise _failure(step, source, part, f"{error} (out of memory?)") from error
    if any(output.output_type == "error" for cell in executed.cells for output in cell.get("outputs", [])):
        raise _failure(step, source, part, "a cell stopped the notebook with sys.exit()")
    if step.record and not (step.record.exists() and step.record.stat().st_mtime >= started - 1):
        raise _failure(step, source, part, f"every cell ran, but no record was written to {step.record}")
    return _publish(step, source, part, scrub(executed))


def _to_inject(source: Path, values: dict[str, Any]) -> dict[str, Any]:
    """The parameters to inject: none if the notebook's own values are these; papermill only warns of unknown ones."""
    declared = papermill.inspect_notebook(_escape(source))
    if unknown := sorted(set(values) - set(declared)):
        raise ConfigError(f"{source.name} does not declare {unknown} in its parameters cell; it has {sorted(declared)}")
    defaults = {name: ast.literal_eval(str(declared[name]["default"])) for name in values}
    return {} if repr(defaults) == repr(values) else values


def _execute(source: Path, target: Path, values: dict[str, Any]) -> NotebookNode:
    os.environ.setdefault("JUPYTER_PREFER_ENV_PATH", "1")  # this environment's python3 kernel, not the user's own
    return papermill.execute_notebook(
        _escape(source),
        _escape(target),
        values,
        kernel_name="python3",
        progress_bar=False,
        stdout_file=sys.stdout,
        stderr_file=sys.stderr,
        cwd=paths.ROOT,
    )


def _escape(path: Path) -> str:
    """Papermill fills braces in a path as a template."""
    return str(path).replace("{", "{{").replace("}", "}}")


def _failure(step: Step, source: Path, part: Path, problem: str) -> StepError:
    """Keep the copy where it can be read, and say where the notebook broke."""
    kept = paths.ARTIFACTS / step.profile / "failed" / f"{step.task or 'all'}-{step.name}.ipynb"
    kept.parent.mkdir(parents=True, exist_ok=True)
    os.replace(part, kept)
    hint = f"\n  {DISK_FULL.format(paths.ARTIFACTS)}" if "No space left" in problem else ""
    return StepError(
        f"{step.title} failed {_where(source, kept)}\n  {problem}{hint}\n  The copy with the traceback: {kept}"
    )


def _where(source: Path, copy: Path) -> str:
    """The last cell that started: number in the source notebook, prompt and first line of code."""
    code = [c for c in nbformat.read(copy, as_version=4).cells if c.cell_type == "code" and "papermill" in c.metadata]
    last = next((cell for cell in reversed(code) if cell.metadata.papermill.get("start_time")), None)
    if last is None:
        return "before its first cell"
    ids = [cell.id for cell in nbformat.read(source, as_version=4).cells]
    number = f"cell {ids.index(last.id) + 1} of notebooks/{source.name}" if last.id in ids else "the injected parameters"
    first_line = (last.source.splitlines() or [""])[0]
    return f"in {number}, In [{last.execution_count or ' '}]: {first_line}"


def _publish(step: Step, source: Path, part: Path, executed: NotebookNode) -> Path:
    target = paths.RESULTS / "executed" / step.profile / step.task / f"{step.name}.ipynb"
    target.parent.mkdir(parents=True, exist_ok=True)
    if step.notebook in SHOWN and step.profile == SHOWN_PROFILE:
        _keep_outputs(source, executed)
    nbformat.write(executed, part)  # after the source notebook, so that Make sees the copy as the newer
    os.replace(part, target)
    return target


def _keep_outputs(source: Path, executed: NotebookNode) -> None:
    """Write the outputs into the source notebook, its cells and metadata as they are."""
    notebook = nbformat.read(source, as_version=4)
    by_id = {cell.id: cell for cell in executed.cells}
    for cell in notebook.cells:
        if cell.cell_type == "code":
            cell.outputs, cell.execution_count = by_id[cell.id].outputs, by_id[cell.id].execution_count
    if (text := nbformat.writes(notebook) + "\n") != source.read_text(encoding="utf-8"):
        source.write_text(text, encoding="utf-8")
