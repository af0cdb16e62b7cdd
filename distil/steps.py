"""Run one notebook as one step of the graph: ``python -m distil.steps 04_student --profile offline --task sst2 --role ...``.

The executed copy grows under ``artifacts/<profile>/executed``. On success it is cleaned and moved to ``results/executed``; on
failure it is kept under ``artifacts/<profile>/failed`` and the message says which cell broke.
"""

import argparse
import contextlib
import errno
import fcntl
import os
import shutil
import sys
import tempfile
import time
from collections.abc import Iterator
from dataclasses import dataclass, fields, replace
from pathlib import Path
from typing import Any

import nbformat
from nbformat import NotebookNode

from distil import config, paths, ranks
from distil.config import ConfigError
from distil.execution import DISK_FULL, ExecutionError, execute, keep_failed, keep_outputs, scrub, to_inject
from distil.tasks import TASKS
from distil.terminal import Lines

# Notebook -> its config section and the parameters that say which run it is.
NOTEBOOKS: dict[str, tuple[str, tuple[str, ...]]] = {
    "01_data": ("data", ("profile", "task", "seed")),
    "02_teacher": ("teacher", ("profile", "task", "arm", "seed")),
    "03_transfer_set": ("transfer_set", ("profile", "task", "arm", "teacher_arm", "seed")),
    "04_student": ("student", ("profile", "task", "role", "arm", "transfer_arm", "seed", "teacher_seed")),
    "05_speed": ("speed", ("profile", "seed")),
    "06_results": ("", ("profile",)),
    "07_ablation": ("", ("profile",)),
}
SHOWN = ("06_results", "07_ablation")  # they keep the outputs of this profile in notebooks/
SHOWN_PROFILE = "offline"
ROLE = {"02_teacher": "teacher", "03_transfer_set": "transfer-set"}  # of the notebooks that have but one
SHARED = ("02_teacher", "03_transfer_set")  # what several processes can do together (``ranks``)
NEEDED_BYTES = 2 * 10**9
LARGE_BYTES = 20 * 10**9  # fine-tuning BERT_LARGE: see `make plan PROFILE=paper`


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
        role = ROLE.get(self.notebook, self.role)
        return f"{self.notebook[:2]}_{paths.run_name(role, self.seed, self.arm)}" if role else self.notebook

    @property
    def title(self) -> str:
        """The step in words, for the terminal."""
        what = [self.arm or self.role, f"seed {self.seed}" if "seed" in NOTEBOOKS[self.notebook][1] else ""]
        return f"{self.notebook}  {self.profile}{self.task and '/'}{self.task}  {' '.join(filter(None, what))}".rstrip()

    @property
    def record(self) -> Path | None:
        """The record that the notebook must have written when it ends; the report pages write none."""
        if self.notebook == "01_data":
            return paths.data_record(self.profile, self.task)
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
    arm = _arm(step)
    upstream = {  # whose teacher, whose transfer set: the arm's own, or the main run's
        "teacher_arm": step.arm if arm and arm.remakes("teacher") else "",
        "transfer_arm": step.arm if arm and arm.remakes("transfer_set") else "",
    }
    values = {name: upstream[name] if name in upstream else getattr(step, name) for name in names}
    if "task" in names and step.task not in TASKS:
        raise ConfigError(f"{step.notebook} needs --task: one of {', '.join(TASKS)}; got {step.task!r}")
    if "role" in names and step.role not in config.ROLES:
        raise ConfigError(f"{step.notebook} needs --role: one of {', '.join(config.ROLES)}; got {step.role!r}")
    if not section:
        config.read_yaml(step.profile, "data")  # for its error on an unknown profile
        return values
    changes = arm.changes_of(section) if arm else {}
    loaded = config.load(step.profile, section, step.task or "sst2", step.role, changes)
    values |= {field.name: getattr(loaded, field.name) for field in fields(loaded)}
    if values.get("source") == "hub" and os.environ.get("GLUE_DIR"):
        values["source"] = str(_glue_dir())
    return values


def _arm(step: Step) -> config.Arm | None:
    if not step.arm:
        return None
    arms = config.arms(step.profile)
    if step.arm not in arms:
        raise ConfigError(f"unknown arm {step.arm!r}: configs/{step.profile}/ablation.yaml has {', '.join(arms)}")
    if step.task != arms[step.arm].task:
        raise ConfigError(f"arm {step.arm!r} is for task {arms[step.arm].task}, got {step.task!r}")
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
        StepError: the notebook failed or wrote no record, or another process runs this step.
        OSError: the disk is full, or nearly so.
    """
    started, source = time.time(), paths.NOTEBOOKS / f"{step.notebook}.ipynb"
    values = to_inject(source, parameters(step))
    if ranks.world_size() > 1 and step.notebook not in SHARED:
        raise StepError(f"{step.title} is for one process; {' and '.join(SHARED)} can share their work among several")
    if ranks.rank():
        return _follow(source, values)
    part = paths.ARTIFACTS / step.profile / "executed" / f"{step.task or 'all'}-{step.name}.part.ipynb"
    part.parent.mkdir(parents=True, exist_ok=True)
    needed = LARGE_BYTES if "@" in values.get("model", "") else NEEDED_BYTES
    if (free := shutil.disk_usage(part.parent).free) < needed:
        raise OSError(errno.ENOSPC, f"only {free / 1e9:.1f} GB free, wanted {needed / 1e9:.0f}")
    with _alone(step, part.with_suffix(".lock")):
        try:
            executed = execute(source, part, values)
            if step.record and not (step.record.exists() and step.record.stat().st_mtime >= started - 1):
                raise ExecutionError(f"every cell ran, but no record was written to {step.record}")
            if any(path.stat().st_mtime > started for path in _made_from(step, source)):
                os.utime(step.record, (started, started))  # Make must see what was edited meanwhile as younger
        except ExecutionError as error:
            kept = part.parents[1] / "failed" / part.name.replace(".part", "")
            raise StepError(f"{step.title} failed {keep_failed(source, part, kept, str(error))}") from None
        published = _publish(step, source, scrub(executed))
        part.unlink()
        return published


def _made_from(step: Step, notebook: Path) -> Iterator[Path]:
    """The files that a step's record depends on: code, settings, and the records of the steps before it."""
    if step.record:
        yield from (notebook, *(paths.ROOT / "distil").glob("*.py"), *(paths.CONFIGS / step.profile).glob("*.yaml"))
        before = [paths.data_record(step.profile, step.task), paths.CONFIGS / "tasks.yaml"]
        for role in ("teacher", "transfer-set"):
            before += [
                paths.run_record(step.profile, step.task, role, step.teacher_seed, arm) for arm in ("", step.arm)
            ]
        yield from (path for path in before if path.exists() and path != step.record)


def _follow(source: Path, values: dict[str, Any]) -> Path:
    """What a process after the first does: the same notebook; its copy, record and figures go to a folder that is thrown away."""
    with tempfile.TemporaryDirectory() as folder:
        for part in ("data", "runs", "ablation"):
            if (paths.RESULTS / part).is_dir():
                shutil.copytree(paths.RESULTS / part, Path(folder) / part)
        os.environ["DISTIL_RESULTS"] = folder
        try:
            execute(source, Path(folder) / source.name, values)
        except ExecutionError as error:
            raise StepError(f"process {ranks.rank()} failed: {error}") from None
    return source


@contextlib.contextmanager
def _alone(step: Step, path: Path) -> Iterator[None]:
    """Hold a lock on the step, which the system takes back from a process that dies; a StepError if another holds it."""
    with path.open("a+", encoding="utf-8") as lock:
        try:
            fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            lock.seek(0)
            raise StepError(
                f"{step.title} is being run by process {lock.read() or 'unknown'} in this folder: wait for it, or stop it"
            ) from None
        lock.truncate(0)
        lock.write(str(os.getpid()))
        lock.flush()
        yield


def _publish(step: Step, source: Path, executed: NotebookNode) -> Path:
    target = _home(step) / "executed" / step.profile / step.task / f"{step.name}.ipynb"
    target.parent.mkdir(parents=True, exist_ok=True)
    if step.notebook in SHOWN and step.profile == SHOWN_PROFILE and paths.RESULTS == paths.ROOT / "results":
        keep_outputs(source, executed)
    part = target.with_suffix(".part")
    nbformat.write(executed, part)  # after the source notebook, so that Make sees the copy as the newer
    os.replace(part, target)
    return target


def _home(step: Step) -> Path:
    """``results/`` for the chapters as they are to be read, of the main runs of seed 0; ``artifacts/`` for all others.

    Those are an arm's and another seed's copies, of which the record says all that counts, and notebooks that show rows of data
    that we may not pass on: GLUE's, or a user's.
    """
    if step.arm or step.seed:
        return paths.ARTIFACTS / step.profile
    shows_rows = step.notebook not in SHOWN and step.notebook != "05_speed"
    if shows_rows and config.load(step.profile, "data", step.task or "sst2").source not in ("toy", "packages"):
        return paths.ARTIFACTS / step.profile
    return paths.RESULTS


def main(arguments: list[str] | None = None) -> int:
    """The command line; returns the exit status: 1 for a failed notebook, 2 for a wrong setting, 130 when interrupted."""
    step = _parse(arguments)
    with _terminal(step):
        return _execute(step)


@contextlib.contextmanager
def _terminal(step: Step) -> Iterator[None]:
    """Whole lines that name the step if Make runs others beside it; else what it prints goes out as it comes."""
    if not os.environ.get("DISTIL_LINES") and ranks.world_size() == 1:
        yield
        return
    name = " ".join(filter(None, [step.task, step.name, f"process {ranks.rank()}" if ranks.world_size() > 1 else ""]))
    with contextlib.redirect_stdout(Lines(sys.stdout, name)), contextlib.redirect_stderr(Lines(sys.stderr, name)):
        yield


def _execute(step: Step) -> int:
    started = time.monotonic()
    print(f"== {step.title}", flush=True)
    try:
        copy = run(step)
    except ConfigError as error:
        return _complain(error, 2)
    except StepError as error:
        return _complain(error, 1)
    except OSError as error:
        return _complain(f"{error.strerror}. {DISK_FULL}" if error.errno == errno.ENOSPC else error, 1)
    except KeyboardInterrupt:
        return _complain("interrupted; run the same command again, finished steps are kept", 130)
    print(f"   {time.monotonic() - started:.0f} s, {os.path.relpath(copy)}", flush=True)
    return 0


def _complain(problem: object, status: int) -> int:
    print(f"error: {problem}", file=sys.stderr)
    return status


def _parse(arguments: list[str] | None) -> Step:
    parser = argparse.ArgumentParser(prog="python -m distil.steps", description=__doc__.split("\n")[0].split(":")[0])
    parser.add_argument("notebook", choices=NOTEBOOKS)
    parser.add_argument("--profile", required=True)
    parser.add_argument("--task", default="")
    parser.add_argument("--role", default="", help=" or ".join(config.ROLES))
    parser.add_argument("--arm", default="", help="an arm of ablation.yaml")
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--teacher-seed", type=int, default=0)
    step = Step(**vars(parser.parse_args(arguments)))
    task = step.task if "task" in NOTEBOOKS[step.notebook][1] else ""
    return replace(
        step, task=task, role="student-distilled" if step.arm and step.notebook == "04_student" else step.role
    )


if __name__ == "__main__":
    sys.exit(main())
