"""The graph: says which steps must run and why, and runs each as one chapter under papermill.

    python -m distil.run reproduce --profile offline
    python -m distil.run plan --profile offline
    python -m distil.run step teacher --profile offline --task sst2

The record is the state. A step runs when its record is missing or names other settings, inputs or
code, when its files are gone, or when a step that it reads runs.
"""

import argparse
import os
import shutil
import subprocess
import sys
import time
from collections.abc import Iterable
from pathlib import Path
from typing import Any, NoReturn

from filelock import FileLock, Timeout

from distil import config, records
from distil.config import MAIN, PLAIN, ConfigError
from distil.records import ARTIFACTS, NOTEBOOKS, RESULTS, ROOT, RecordError, Step

Graph = dict[Step, set[Step]]  # step -> the steps that must be done before it
PAGES = ("results", "ablation")  # chapters that only read records


class StepError(RuntimeError):
    """A chapter did not get through; the message names the cell and the copy to read."""


# --- which steps there are ------------------------------------------------------------------------


def graph(profile: str, tasks: Iterable[str], seeds: Iterable[int], ablation: bool) -> Graph:
    """Return the steps of a profile with what each waits for, the most urgent ones first.

    Args:
        seeds: seeds of the plain and the distilled students.
        ablation: whether every arm runs with all its seeds, or only the quick ones with the first.
    """
    options, seeds = config.profile(profile)["ablation"], list(seeds)
    wanted = [(arm, seed) for arm in (MAIN, PLAIN) for seed in seeds]
    others = [name for name in config.arms(profile) if name not in (MAIN, PLAIN)]
    if ablation:
        wanted += [(arm, seed) for arm in (MAIN, PLAIN, *others) for seed in options["seeds"]]
    else:
        wanted += [(arm, options["seeds"][0]) for arm in others if arm in options["quick"]]
    found: Graph = {}
    for arm, seed in dict.fromkeys(wanted):
        for task in tasks:
            meant = config.arm(profile, arm).tasks
            if not meant or task in meant:
                _add(found, Step("student", profile, task, arm, seed))
    found = dict(sorted(found.items(), key=lambda item: _urgency(item[0])))
    if "sst2" in tasks:
        found[Step("speed", profile, seed=seeds[0])] = set(found)
    for page in PAGES if "sst2" in tasks and (ablation or options["quick"]) else PAGES[:1]:
        found[Step(page, profile)] = {step for step in found if step.stage not in PAGES}
    return found


def _add(found: Graph, step: Step) -> None:
    found[step] = set(step.reads())
    for before in found[step]:
        _add(found, before)


def _urgency(step: Step) -> tuple[int, int]:
    """Return a key for sorting: the long chains go first, and the rest fills their gaps."""
    stage = list(NOTEBOOKS).index(step.stage)
    return (step.stage == "student") + (step.arm != MAIN and step.stage == "student"), stage


def settings(step: Step) -> Any:
    """Return the settings of a step; GLUE_DIR takes the place of the hub. None for a report."""
    if step.stage in PAGES:
        return {}
    found = config.settings(step.profile, step.stage, step.task, step.arm or MAIN)
    if getattr(found, "source", "") == "hub" and os.environ.get("GLUE_DIR"):
        folder = Path(os.environ["GLUE_DIR"]).expanduser().resolve()
        if not folder.is_dir():
            raise ConfigError(f"GLUE_DIR={folder}: no such folder; it holds SST-2/, QQP/, MNLI/")
        found = found.model_copy(update={"source": str(folder)})
    return found


# --- why a step must run --------------------------------------------------------------------------


def reason(step: Step, rebuilt: Iterable[Step] = ()) -> str:
    """Return in words why a step must run, or nothing if its record says what it would say now.

    Args:
        rebuilt: steps that run before it.
    """
    if not step.path.exists():
        return "no record"
    now, record = settings(step), step.read()
    if text := _changes(record.get("config", {}), records.as_config(now)):
        return text
    waits = step.reads() if step.stage not in PAGES else rebuilt
    if before := next((one for one in waits if one in rebuilt), None):
        return f"{before.name} is rebuilt"
    try:
        inputs = step.inputs(now)
    except RecordError as error:
        return str(error)
    if text := _changes(record.get("inputs", {}), inputs, "read"):
        return text
    if text := _changes(record.get("code", {}), records.code(step.stage), "code"):
        return text
    if record.get("outputs") and not step.finished().is_dir():
        return f"its folder {records.short(step.finished())} is not here"
    return ""


def _changes(before: dict[str, Any], after: dict[str, Any], kind: str = "") -> str:
    """Return the first three differences in words: ``n_iter 6 -> 7``, ``code of augment``."""
    names = [name for name in {**before, **after} if before.get(name) != after.get(name)]
    if kind == "code":
        found = [f"code of {name}" for name in names]
    elif kind:
        found = [f"{name} {'has changed' if name in before else 'is new'}" for name in names]
    else:
        found = [f"{name} {before.get(name)} -> {after.get(name)}" for name in names]
    return ", ".join(found[:3]) + (f" and {len(found) - 3} more" if len(found) > 3 else "")


def plan(steps: Graph) -> dict[Step, str]:
    """Return the steps that must run, each with its reason."""
    found: dict[Step, str] = {}
    waiting = dict(steps)
    while waiting:
        ready = [step for step, before in waiting.items() if not before & set(waiting)]
        for step in ready:
            if text := reason(step, found):
                found[step] = text
            del waiting[step]
    return found


# --- one step -------------------------------------------------------------------------------------


def run_step(step: Step) -> str:
    """Run a step's chapter if it must run, and return the reason; a step runs once at a time.

    Raises:
        StepError: a cell failed, or the chapter wrote no record.
    """
    locks = ARTIFACTS / step.profile / "locks"
    locks.mkdir(parents=True, exist_ok=True)
    with FileLock(locks / f"{step.name.replace(' ', '-')}.lock"):
        if text := reason(step):
            _execute(step)
            _sweep(step)
        return text


def _execute(step: Step) -> None:
    import nbformat
    import papermill

    os.environ |= {"JUPYTER_PREFER_ENV_PATH": "1", "TRANSFORMERS_VERBOSITY": "error"}
    os.environ |= {"HF_DATASETS_DISABLE_PROGRESS_BARS": "1"}
    os.environ.setdefault("HF_DATASETS_CACHE", str(ARTIFACTS / "cache"))
    copy = ARTIFACTS / step.profile / "executed" / f"{step.name.replace(' ', '-')}.ipynb"
    copy.parent.mkdir(parents=True, exist_ok=True)
    before = step.path.stat().st_ino if step.path.exists() else None
    try:
        papermill.execute_notebook(
            str(step.notebook),
            str(copy),
            _parameters(step),
            kernel_name="python3",
            extra_arguments=["--log-level=CRITICAL"],
            cwd=ROOT,
            progress_bar=False,
            stdout_file=sys.stdout,
            stderr_file=sys.stderr,
        )
    except papermill.PapermillExecutionError as error:
        line = (error.source.strip().splitlines() or [""])[0]
        raise StepError(
            f"{step.name}: cell In [{error.exec_count}] ({line:.60}) stopped with {error.ename}: "
            f"{' '.join(error.evalue.split()):.300}. The copy with the traceback: {records.short(copy)}"
        ) from None
    except RuntimeError as error:  # nbclient's word for a kernel that is gone
        raise StepError(f"{step.name}: {error} (out of memory?)") from None
    if not step.path.exists() or step.path.stat().st_ino == before:
        raise StepError(f"{step.name}: every cell ran, but none wrote {records.short(step.path)}")
    _publish(step, nbformat.read(copy, as_version=4))


def _parameters(step: Step) -> dict[str, Any]:
    names = {"profile": step.profile}
    if step.task:
        names |= {"task": step.task}
    if step.arm:
        names |= {"arm": step.arm}
    if step.stage not in PAGES:
        names |= {"seed": step.seed} | settings(step).model_dump()
    return names


def _publish(step: Step, executed: Any) -> None:
    """Keep the executed chapter without what belongs to this machine or to this one run.

    Copies of seed 0 whose data may be passed on go to ``results/``, the others stay in
    ``artifacts/``. The two report chapters keep the outputs of ``offline`` in ``notebooks/``.
    """
    import nbformat

    executed.metadata = {key: executed.metadata[key] for key in ("kernelspec", "language_info")}
    for cell in executed.cells:
        cell.metadata = {"tags": cell.metadata["tags"]} if cell.metadata.get("tags") else {}
        if cell.cell_type == "code":
            cell.outputs = [one for one in cell.outputs if one.get("name") != "stderr"]
    text = nbformat.writes(executed) + "\n"
    names = {str(ARTIFACTS): "artifacts", str(RESULTS): "results", str(ROOT): "."}
    names[str(Path.home())] = "~"
    if glue := os.environ.get("GLUE_DIR"):
        names[glue] = "$GLUE_DIR"
    for folder in sorted(names, key=len, reverse=True):
        text = text.replace(folder, names[folder])
    public = config.settings(step.profile, "data", step.task).source in ("toy", "packages")
    ours = step.stage in (*PAGES, "speed") or (public and step.arm in ("", MAIN, PLAIN))
    home = RESULTS if ours and not step.seed else ARTIFACTS / step.profile
    end = f"-{step.arm}" if step.stage == "student" else ""
    target = home / "executed" / step.profile / step.task / f"{NOTEBOOKS[step.stage]}{end}.ipynb"
    target.parent.mkdir(parents=True, exist_ok=True)
    records.write_whole(target, text)
    if step.stage in PAGES and step.profile == "offline" and ROOT / "results" == RESULTS:
        notebook = nbformat.read(step.notebook, as_version=4)
        found = {cell.id: cell for cell in nbformat.reads(text, as_version=4).cells}
        for cell in (cell for cell in notebook.cells if cell.cell_type == "code"):
            cell.outputs = found[cell.id].outputs
            cell.execution_count = found[cell.id].execution_count
        records.write_whole(step.notebook, nbformat.writes(notebook) + "\n")


def _sweep(step: Step) -> None:
    """Remove the folders that earlier settings or code of this step have left."""
    if not step.read().get("outputs"):
        return
    kept = step.finished()
    for folder in kept.parent.glob(f"{kept.name[:-8]}*"):
        if folder != kept:
            shutil.rmtree(folder)


# --- all steps ------------------------------------------------------------------------------------


def reproduce(steps: Graph, jobs: int) -> int:
    """Run what must run, ``jobs`` steps side by side, and return the exit status.

    After a failure no further step starts, and those that run may end.
    """
    must, failed, told = plan(steps), 0, time.monotonic()
    waiting = {step: before & set(must) for step, before in steps.items() if step in must}
    slots: dict[int, tuple[Step, subprocess.Popen, float]] = {}
    print(f"{len(must)} of {len(steps)} steps must run", flush=True)
    while slots or (waiting and not failed):
        busy = set(waiting) | {step for step, *_ in slots.values()}
        for step in [step for step, before in waiting.items() if not before & busy]:
            if failed or len(slots) == jobs:
                break
            del waiting[step]
            slot = min(set(range(jobs)) - set(slots))
            print(f"== {step.name}: {must[step]}", flush=True)
            slots[slot] = step, _start(step, slot, jobs), time.monotonic()
        time.sleep(0.2)
        if time.monotonic() - told > 30:
            told = time.monotonic()
            for step, *_ in slots.values():
                print(f"   {step.name}: {_last_line(step):.110}", flush=True)
        for slot, (step, process, since) in list(slots.items()):
            if process.poll() is not None:
                del slots[slot]
                failed = failed or process.returncode
                _tell(step, process.returncode, time.monotonic() - since)
    return failed


def _start(step: Step, slot: int, jobs: int) -> subprocess.Popen:
    """Start a step in a process of its own, with its share of the cores or a GPU of its own."""
    cores = os.cpu_count() or 1
    share = cores if step.stage == "speed" else -(-cores // jobs)
    environment = {"OMP_NUM_THREADS": str(share), "TQDM_MININTERVAL": "5"} | os.environ
    if gpus := _gpus():
        environment["CUDA_VISIBLE_DEVICES"] = gpus[slot % len(gpus)]
    words = [step.stage, "--profile", step.profile, "--seed", str(step.seed)]
    words += [
        *(["--task", step.task] if step.task else []),
        *(["--arm", step.arm] if step.arm else []),
    ]
    command = [sys.executable, "-m", "distil.run", "step", *words]
    _log(step).parent.mkdir(parents=True, exist_ok=True)
    with _log(step).open("w", encoding="utf-8") as log:
        return subprocess.Popen(
            command, cwd=ROOT, env=environment, stdout=log, stderr=subprocess.STDOUT
        )


def _log(step: Step) -> Path:
    return ARTIFACTS / step.profile / "logs" / f"{step.name.replace(' ', '-')}.log"


def _last_line(step: Step) -> str:
    """Return the last line that a step has printed: most often a progress bar."""
    printed = _log(step).read_text(encoding="utf-8", errors="replace").replace("\r", "\n")
    return next((line for line in reversed(printed.splitlines()) if line.strip()), "")


def _tell(step: Step, status: int, seconds: float) -> None:
    if status == 0:
        print(f"   {step.name}: done in {seconds:.0f} s", flush=True)
    else:
        print(f"{_last_line(step):.500}\n   its log: {records.short(_log(step))}", file=sys.stderr)


def _gpus() -> list[str]:
    """Return the numbers of the GPUs that may be used."""
    if visible := os.environ.get("CUDA_VISIBLE_DEVICES"):
        return visible.split(",")
    return [path.name.removeprefix("nvidia") for path in sorted(Path("/dev").glob("nvidia[0-9]*"))]


# --- the command line -----------------------------------------------------------------------------


def main(arguments: list[str] | None = None) -> int:
    """Carry a command out; return 0, 1 for a failed step, 2 for a wrong setting."""
    try:
        return _command(_parse(arguments))
    except (ConfigError, RecordError) as error:
        print(f"error: {error}", file=sys.stderr)
        return 2
    except (StepError, OSError, Timeout) as error:
        print(f"error: {error}", file=sys.stderr)
        return 1
    except KeyboardInterrupt:
        print("error: interrupted; the same command goes on where it stopped", file=sys.stderr)
        return 130


def _command(options: argparse.Namespace) -> int:
    if options.command == "step":
        run_step(_step(options))
        return 0
    tasks = [config.task(task).name for task in options.tasks.split()]
    if not tasks or not options.seeds or options.jobs < 0:
        raise ConfigError("wanted one task and one seed at least, and --jobs 0 or more")
    steps = graph(options.profile, tasks, options.seeds, options.ablation)
    if options.command == "plan":
        found = plan(steps)
        print("\n".join(f"{step.name}: {text}" for step, text in found.items()))
        print(f"{len(found)} of {len(steps)} steps would run")
        return 0
    jobs = options.jobs or len(_gpus()) or min(2, os.cpu_count() or 1)
    if failed := reproduce(steps, jobs):
        return failed
    page = RESULTS / "executed" / options.profile / "06_results.ipynb"
    print(f"Records of '{options.profile}' are complete: see {records.short(page)}")
    return 0


def _step(options: argparse.Namespace) -> Step:
    """Return the step that the command names, after a check of its task, arm and settings."""
    stage, task, arm = options.stage, "", ""
    if stage in ("data", *config.STAGES):
        task = config.task(options.task).name
    if stage in config.STAGES:
        arm = config.arm(options.profile, options.arm, task).name
    config.profile(options.profile)
    step = Step(stage, options.profile, task, arm, options.seed)
    settings(step)
    return step


class _Parser(argparse.ArgumentParser):
    """Says in one line what is wrong with an option."""

    def error(self, message: str) -> NoReturn:
        """Raise a ConfigError instead of printing the usage."""
        raise ConfigError(f"{' '.join(message.split())}; try --help")


def _numbers(text: str) -> list[int]:
    """Return whole numbers from a list with spaces."""
    if not all(number.isdecimal() for number in text.split()):
        raise argparse.ArgumentTypeError(f"wanted whole numbers as in '0 1 2', got {text!r}")
    return [int(number) for number in text.split()]


def _parse(arguments: list[str] | None) -> argparse.Namespace:
    parser = _Parser(prog="python -m distil.run", description=__doc__.split("\n")[0])
    commands = parser.add_subparsers(dest="command", required=True)
    for name, text in (
        ("reproduce", "run what is missing or outdated"),
        ("plan", "say which steps would run, and why"),
        ("step", "run one step, if it must run"),
    ):
        command = commands.add_parser(name, help=text, description=text)
        command.add_argument("--profile", default="offline", help="a YAML file of configs/")
        if name == "step":
            command.add_argument("stage", choices=NOTEBOOKS, help="the chapter")
            command.add_argument("--task", default="", help="a task of configs/tasks.yaml")
            command.add_argument("--arm", default=MAIN, help="an arm of the profile")
            command.add_argument("--seed", type=int, default=0, help="of weights and batches")
        else:
            command.add_argument("--tasks", default="sst2 qqp mnli", help="in quotes, by spaces")
            command.add_argument(
                "--seeds", type=_numbers, default="0", help="of the students, by spaces"
            )
            command.add_argument("--ablation", action="store_true", help="every arm, all its seeds")
            command.add_argument("--jobs", type=int, default=0, help="steps side by side")
    return parser.parse_args(arguments)


if __name__ == "__main__":
    sys.exit(main())
