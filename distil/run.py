"""The graph: says which steps must run and why, and runs each as one chapter under papermill.

Whether a step is done is read from its record. It runs when the record is missing or names other
settings, inputs or code, when its files are gone, or when a step that it reads runs.
"""

import argparse
import functools
import os
import re
import shutil
import subprocess
import sys
import time
from collections.abc import Collection, Mapping
from concurrent.futures import ProcessPoolExecutor
from graphlib import TopologicalSorter
from multiprocessing import get_context
from pathlib import Path
from typing import Any, NoReturn

if __name__ == "__main__" and not (Path(__file__).parents[1] / "Makefile").exists():
    sys.exit("error: run me in a clone: an installed package has no notebooks, configs and records")

from filelock import FileLock

from distil import config, records
from distil.config import MAIN, PLAIN, ConfigError
from distil.records import ARTIFACTS, NOTEBOOKS, PAGES, RESULTS, ROOT, RecordError, Step

NEEDS = ("tagger", "model", "vectors")  # settings of what may have to be downloaded
LOCAL = ("toy", "tiny", "random")  # their values that need no download
LINK = re.compile(r"(?<=\]\()(?!\w+:|#)[^)#\s]+")  # a relative target in Markdown
Graph = dict[Step, set[Step]]  # step -> the steps that must be done before it


class StepError(RuntimeError):
    """A chapter did not get through; the message names the cell and the copy to read."""


def graph(profile: str, tasks: Collection[str], seeds: list[int], ablation: bool) -> Graph:
    """Return the steps of a profile with what each waits for, the most urgent ones first.

    ``seeds`` are those of the plain and the distilled students. With ``ablation`` every arm runs
    with all its own seeds, without it only the quick ones, with the first of ``seeds``.
    """
    options, found = config.profile(profile).ablation, {}
    quick = [] if ablation else [(arm, seeds[0]) for arm in options.quick]
    every = [
        (arm, seed) for arm in config.profile(profile).arms for seed in options.seeds if ablation
    ]
    waiting = [
        Step("student", profile, task, arm, seed)
        for arm, seed in [*((arm, seed) for arm in (MAIN, PLAIN) for seed in seeds), *quick, *every]
        for task in config.arm(profile, arm).tasks or tasks
        if task in tasks
    ]
    while waiting:
        step = waiting.pop(0)
        found[step] = set(step.reads())
        waiting += found[step]
    urgency = {step: (list(NOTEBOOKS).index(step.stage), step.arm != MAIN) for step in found}
    found = {step: found[step] for step in sorted(found, key=urgency.get)}
    if "sst2" in tasks:
        found[Step("speed", profile, seed=seeds[0])] = set(found)
    pages = PAGES if "sst2" in tasks and (ablation or quick) else PAGES[:1]
    return found | {Step(page, profile): set(found) for page in pages}


def settings(step: Step) -> Any:
    """Return the settings of a step; GLUE_DIR takes the place of the hub. Nothing for a report."""
    if step.stage in PAGES:
        return {}
    found = config.settings(step.profile, step.stage, step.task, step.arm or MAIN)
    if getattr(found, "source", "") == "hub" and os.environ.get("GLUE_DIR"):
        folder = Path(os.environ["GLUE_DIR"]).expanduser().resolve()
        if not folder.is_dir():
            raise ConfigError(f"GLUE_DIR={folder}: no such folder; it holds SST-2/, QQP/, MNLI/")
        found = found.model_copy(update={"source": str(folder)})
    return found


def reason(step: Step, rebuilt: Collection[Step] = ()) -> str:
    """Return in words why a step must run after the ``rebuilt`` ones, or nothing if it need not."""
    if not step.path.exists():
        return "no record"
    now, record = settings(step), {"inputs": {}, "code": {}, "outputs": {}} | step.read()
    waits = rebuilt if step.stage in PAGES else step.reads()
    seeds = {"seed": record.get("seed", 0)}, {"seed": step.seed}
    gone = f"its folder {records.short(step.finished())} is not here"
    return (
        _difference(
            "{0} {1} -> {2}", record["config"] | seeds[0], records.as_config(now) | seeds[1]
        )
        or next((f"{before.name} is rebuilt" for before in waits if before in rebuilt), "")
        or _difference("{0} has changed", record["inputs"], step.inputs(now))
        or _difference("code of {0}", record["code"], records.code(step.stage))
        or (gone if record["outputs"] and not step.finished().is_dir() else "")
    )


def _difference(words: str, before: Mapping, after: Mapping) -> str:
    """Return the first three differences in words: ``n_iter 6 -> 7``, ``code of augment``."""
    names = [name for name in {**before, **after} if before.get(name) != after.get(name)]
    found = [words.format(name, before.get(name), after.get(name)) for name in names]
    return ", ".join(found[:3]) + (f" and {len(found) - 3} more" if len(found) > 3 else "")


def plan(steps: Graph) -> dict[Step, str]:
    """Return the steps that must run, each with its reason."""
    found: dict[Step, str] = {}
    for step in TopologicalSorter(steps).static_order():
        if text := reason(step, found):
            found[step] = text
    return found


def run_step(step: Step) -> str:
    """Run a step's chapter if it must run, remove its older folders, and return the reason.

    A step runs once at a time. A StepError says which cell failed, or that none wrote a record.
    """
    with FileLock(_place(step, "locks", ".lock")):
        if text := reason(step):
            _execute(step)
            kept = step.finished()
            for folder in kept.parent.glob(f"{kept.name[:-8]}{'[0-9a-f]' * 8}*"):
                if folder != kept:
                    shutil.rmtree(folder)
        return text


def _place(step: Step, kind: str, suffix: str) -> Path:
    """Return the file of a step among the locks, the logs or the running copies."""
    folder = ARTIFACTS / step.profile / kind
    folder.mkdir(parents=True, exist_ok=True)
    return folder / f"{step.name.replace(' ', '-')}{suffix}"


def parameters(step: Step) -> dict[str, Any]:
    """Return what papermill passes to a step's chapter."""
    names = {key: getattr(step, key) for key in ("profile", "task", "arm") if getattr(step, key)}
    return names if step.stage in PAGES else names | {"seed": step.seed, **dict(settings(step))}


def _execute(step: Step) -> None:
    """Run the chapter in a copy of it, and publish the copy if it has written the record."""
    import papermill

    os.environ |= {"JUPYTER_PREFER_ENV_PATH": "1", "TRANSFORMERS_VERBOSITY": "error"}
    os.environ |= {"HF_DATASETS_DISABLE_PROGRESS_BARS": "1"}
    os.environ.setdefault("HF_DATASETS_CACHE", str(ARTIFACTS / "cache"))
    copy = _place(step, "executed", ".ipynb")
    before = step.path.exists() and step.path.stat().st_ino
    quiet = {"progress_bar": False, "extra_arguments": ["--log-level=CRITICAL"]}
    streams = {"stdout_file": sys.stdout, "stderr_file": sys.stderr}
    run = functools.partial(papermill.execute_notebook, kernel_name="python3", cwd=ROOT)
    try:
        executed = run(step.notebook, copy, parameters(step), **quiet, **streams)
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
    _publish(step, executed)


def _kept(step: Step) -> Path:
    """Return where the executed chapter of a step is kept.

    Copies of seed 0 go to ``results/`` if they show no rows of a user: chapters 05 to 07, and of
    public data also the arms distilled and plain. The rest goes to ``artifacts/``.
    """
    public = config.settings(step.profile, "data", step.task).source in ("toy", "packages")
    ours = step.stage in (*PAGES, "speed") or (public and step.arm in ("", MAIN, PLAIN))
    folder = RESULTS if ours and not step.seed else ARTIFACTS / step.profile
    end = f"-{step.arm}" if step.stage == "student" else ""
    return folder / "executed" / step.profile / step.task / f"{step.notebook.stem}{end}.ipynb"


def _publish(step: Step, executed: Any) -> None:
    """Keep the executed chapter without what belongs to this machine or to this one run."""
    import nbformat

    target, home = _kept(step), step.notebook.parent
    away = target.parent
    for cell in executed.cells:
        cell.metadata = {"tags": cell.metadata["tags"]} if cell.metadata.get("tags") else {}
        if cell.cell_type == "code":
            cell.outputs = [one for one in cell.outputs if one.get("name") != "stderr"]
        else:
            cell.source = LINK.sub(lambda m: os.path.relpath(home / m[0], away), cell.source)
    executed.metadata = {key: executed.metadata[key] for key in ("kernelspec", "language_info")}
    executed.metadata["distil"] = step.read()["git"]
    text = nbformat.writes(executed)
    glue = Path(os.environ.get("GLUE_DIR") or ROOT).expanduser().resolve()
    names = {glue: "$GLUE_DIR", Path.home(): "~", ARTIFACTS: "artifacts", RESULTS: "results"}
    names |= {ROOT: "."}
    for folder in sorted(map(str, names), key=len, reverse=True):
        text = text.replace(folder, names[Path(folder)]) if folder != "/" else text
    away.mkdir(parents=True, exist_ok=True)
    records.write_whole(target, text + "\n")


def reproduce(steps: Graph, jobs: int) -> int:
    """Run what must run, ``jobs`` steps side by side, and return the first status that is not 0.

    After a failure no further step starts, and those that run may end.
    """
    must, failed, told, ready = plan(steps), 0, time.monotonic(), []
    waits = TopologicalSorter({step: steps[step] & set(must) for step in steps if step in must})
    running: dict[int, tuple[Step, subprocess.Popen, float]] = {}  # by slot
    print(f"{len(must)} of {len(steps)} steps must run", flush=True)
    pairs = (pair for step in must for pair in dict(settings(step)).items() if pair[0] in NEEDS)
    needs = {(kind, one) for kind, v in pairs for one in ([v] if isinstance(v, str) else v)}
    if needs := sorted(need for need in needs if need[1].split(":")[0] not in LOCAL):
        with ProcessPoolExecutor(1, get_context("spawn")) as apart:  # no torch in this process
            list(apart.map(_load, *zip(*needs, strict=True)))
    waits.prepare()
    while running or (waits and not failed):
        ready = sorted([*ready, *waits.get_ready()], key=list(steps).index)
        while ready and len(running) < jobs and not failed:
            step, slot = ready.pop(0), min(set(range(jobs)) - set(running))
            print(f"== {step.name}: {must[step]}", flush=True)
            running[slot] = step, _start(step, slot, jobs), time.monotonic()
        time.sleep(0.2)
        for slot, (step, process, since) in list(running.items()):
            if process.poll() is not None:
                del running[slot]
                waits.done(step)
                failed = failed or process.returncode
                if process.returncode:
                    log = records.short(_place(step, "logs", ".log"))
                    print(f"{_last_line(step):.500}\n   its log: {log}", file=sys.stderr)
                else:
                    print(f"   {step.name}: done in {time.monotonic() - since:.0f} s", flush=True)
        if time.monotonic() - told > 30:
            told = time.monotonic()
            for step, *_ in running.values():
                print(f"   {step.name}: {_last_line(step):.110}", flush=True)
    return failed


def _load(kind: str, name: str) -> None:
    """Load a tagger, a model or word vectors, so that what cannot be had is said before long work."""
    from distil import embeddings, words

    try:
        if kind == "tagger":
            words.load_tagger(name)
        else:
            embeddings.frequent_words(f"{records.PIECES if kind == 'model' else ''}{name}", 1)
    except Exception as error:  # a download fails in many ways
        said, remedy = " ".join(str(error).split()), f"check the network, or set {kind}: packages"
        raise StepError(f"{kind} {name!r:.80} cannot be loaded; {remedy}: {said:.300}") from None


def _start(step: Step, slot: int, jobs: int) -> subprocess.Popen:
    """Start a step in a process of its own, with its share of the cores or a GPU of its own."""
    cores = os.cpu_count() or 1
    share = cores if step.stage == "speed" else -(-cores // jobs)
    environment = {"OMP_NUM_THREADS": str(share), "TQDM_MININTERVAL": "5"} | os.environ
    if gpus := _gpus():
        environment["CUDA_VISIBLE_DEVICES"] = gpus[slot % len(gpus)]
    names = {"profile": step.profile, "task": step.task, "arm": step.arm, "seed": step.seed}
    options = [f"--{key}={value}" for key, value in names.items() if value != ""]
    command = [sys.executable, "-m", "distil.run", "step", step.stage, *options]
    with _place(step, "logs", ".log").open("w", encoding="utf-8") as log:
        return subprocess.Popen(command, cwd=ROOT, env=environment, stdout=log, stderr=log)


def _last_line(step: Step) -> str:
    """Return the last line that a step has printed: most often a progress bar."""
    printed = _place(step, "logs", ".log").read_text(encoding="utf-8", errors="replace")
    return ([""] + [line for line in printed.splitlines() if line.strip()])[-1]


def _gpus() -> list[str]:
    """Return the numbers of the GPUs that may be used."""
    if (visible := os.environ.get("CUDA_VISIBLE_DEVICES")) is not None:  # empty: none of them
        return [number for number in visible.split(",") if number]
    return [str(number) for number, _ in enumerate(Path("/dev").glob("nvidia[0-9]*"))]


def main(arguments: list[str] | None = None) -> int:
    """Carry a command out; return 0, 1 for a failed step, 2 for a wrong setting."""
    for stream in (sys.stdout, sys.stderr):
        stream.reconfigure(errors="replace")  # for a terminal that is not UTF-8
    try:
        return _command(_parse(arguments))
    except (ConfigError, RecordError, StepError, OSError) as error:
        print(f"error: {error!s:.490}", file=sys.stderr)
        return 2 if isinstance(error, (ConfigError, RecordError)) else 1
    except KeyboardInterrupt:
        print("error: interrupted; the same command goes on where it stopped", file=sys.stderr)
        return 130


def _command(options: argparse.Namespace) -> int:
    if options.command == "step":
        stage, trained = options.stage, options.stage in config.STAGES
        task = config.task(options.task).name if trained or stage == "data" else ""
        config.arm(options.profile, options.arm, task)  # it checks profile, arm and task
        arm = options.arm if trained else ""
        run_step(Step(stage, options.profile, task, arm, options.seed))
        return 0
    tasks = [config.task(task).name for task in options.tasks]
    if not tasks or not options.seeds or options.jobs < 0:
        raise ConfigError("wanted one task and one seed at least, and --jobs 0 or more")
    steps = graph(options.profile, tasks, options.seeds, options.ablation)
    if options.command == "plan":
        found = plan(steps)
        print("".join(f"{step.name}: {text}\n" for step, text in found.items()), end="")
        print(f"{len(found)} of {len(steps)} steps would run")
        return 0
    jobs = options.jobs or len(_gpus()) or min(2, os.cpu_count() or 1)
    if failed := reproduce(steps, jobs):
        return failed
    page = records.short(_kept(Step("results", options.profile)))
    print(f"Records of '{options.profile}' are complete: see {page}")
    return 0


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
        add = commands.add_parser(name, help=text, description=text).add_argument
        add("--profile", default="offline", help="a YAML file of configs/")
        if name == "step":
            add("stage", choices=NOTEBOOKS, help="the chapter")
            add("--task", default="", help="a task of configs/tasks.yaml")
            add("--arm", default=MAIN, help="an arm of the profile")
            add("--seed", type=int, default=0, help="of weights and batches")
        else:
            add("--tasks", type=str.split, default="sst2 qqp mnli", help="in quotes, by spaces")
            add("--seeds", type=_numbers, default="0", help="of the students, by spaces")
            add("--ablation", action="store_true", help="every arm, all its seeds")
            add("--jobs", type=int, default=0, help="steps side by side")
    return parser.parse_args(arguments)


if __name__ == "__main__":
    sys.exit(main())
