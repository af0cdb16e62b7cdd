"""Execute a notebook with papermill and clean the copy that is kept.

No warnings, no timings and no path of this machine go into a kept copy.
"""

import ast
import errno
import os
import re
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import nbformat
import papermill
from nbformat import NotebookNode

from distil import chapter, paths
from distil.config import ConfigError

BINARY = ("image/png", "image/jpeg", "application/pdf")  # base64 has slashes too: a replacement would break it
DISK_FULL = (
    "Free some space ('make plan' says what a run wants) and run the same command again; finished steps are kept."
)


class ExecutionError(RuntimeError):
    """A notebook stopped before its end; the message is the error's type and text."""


def to_inject(source: Path, values: dict[str, Any]) -> dict[str, Any]:
    """The parameters to inject: none if the notebook's own values are these.

    Raises:
        ConfigError: the notebook does not declare a parameter (papermill would only warn).
    """
    declared = papermill.inspect_notebook(_escape(source))
    if unknown := sorted(set(values) - set(declared)):
        raise ConfigError(f"{source.name} does not declare {unknown} in its parameters cell; it has {sorted(declared)}")
    defaults = {name: ast.literal_eval(str(declared[name]["default"])) for name in values}
    return {} if repr(defaults) == repr(values) else values


def execute(source: Path, target: Path, values: dict[str, Any]) -> NotebookNode:
    """Execute a notebook cell by cell; what the cells print, progress bars too, shows in the terminal as it comes.

    Raises:
        ExecutionError: a cell failed or left with ``sys.exit()``, or the kernel died; ``target`` shows how far it came.
    """
    os.environ.setdefault("JUPYTER_PREFER_ENV_PATH", "1")  # this environment's python3 kernel, not the user's own
    os.environ[chapter.IN_A_RUN] = "1"
    os.environ.setdefault("TRANSFORMERS_VERBOSITY", "error")  # a new output layer is what fine-tuning wants, no warning
    os.environ.setdefault("HF_DATASETS_DISABLE_PROGRESS_BARS", "1")  # for milliseconds of work
    options = {"progress_bar": False, "stdout_file": sys.stdout, "stderr_file": sys.stderr}
    options["extra_arguments"] = ["--log-level=CRITICAL"]  # the kernel's own messages, not those of the cells
    try:
        notebook = papermill.execute_notebook(
            _escape(source), _escape(target), values, kernel_name="python3", cwd=paths.ROOT, **options
        )
    except papermill.PapermillExecutionError as error:
        raise ExecutionError(f"{error.ename}: {error.evalue}") from error
    except RuntimeError as error:  # nbclient's word for a kernel that is gone
        raise ExecutionError(f"{error}{' (out of memory?)' if 'died' in str(error) else ''}") from error
    if any(output.output_type == "error" for cell in notebook.cells for output in cell.get("outputs", [])):
        raise ExecutionError("SystemExit: a cell left the notebook with sys.exit()")  # papermill lets it pass
    return notebook


def keep_failed(source: Path, part: Path, kept: Path, problem: str) -> str:
    """Move the copy of a failed notebook to ``kept`` and say where it broke, why, and where to read on."""
    kept.parent.mkdir(parents=True, exist_ok=True)
    os.replace(part, kept)
    full = (os.strerror(errno.ENOSPC), "PytorchStreamWriter failed")  # torch's writer does not say why
    hint = f"\n  {DISK_FULL}" if any(sign in problem for sign in full) else ""
    return f"{_where(source, kept)}\n  {problem}{hint}\n  The copy with the traceback: {kept}"


def _escape(path: Path) -> str:
    """Papermill fills braces in a path as a template."""
    return str(path).replace("{", "{{").replace("}", "}}")


def _where(source: Path, copy: Path) -> str:
    """The last cell that started: its number in the source notebook, its prompt and its first line."""
    code = [c for c in nbformat.read(copy, as_version=4).cells if c.cell_type == "code" and "papermill" in c.metadata]
    last = next((cell for cell in reversed(code) if cell.metadata.papermill.get("start_time")), None)
    if last is None:
        return "before its first cell"
    ids = [cell.id for cell in nbformat.read(source, as_version=4).cells]
    number = (
        f"cell {ids.index(last.id) + 1} of notebooks/{source.name}" if last.id in ids else "the injected parameters"
    )
    first_line = (last.source.splitlines() or [""])[0]
    return f"in {number}, In [{last.execution_count or ' '}]: {first_line}"


def scrub(notebook: NotebookNode) -> NotebookNode:
    """Clean an executed notebook in place and return it.

    The standard error stream (progress bars, warnings) and the run's own metadata go; paths become ``.``, ``$GLUE_DIR``, ...
    """
    clean = _cleaner()
    for key in ("papermill", "widgets"):  # the state of a library's progress bars
        notebook.metadata.pop(key, None)
    for cell in notebook.cells:
        cell.source = clean(cell.source)
        for key in ("papermill", "execution"):
            cell.metadata.pop(key, None)
        if not cell.metadata.get("tags", True):
            del cell.metadata["tags"]
        if cell.cell_type == "code":
            cell.outputs = [_clean(o, clean) for o in cell.outputs if o.get("name") != "stderr" and not _is_widget(o)]
    return notebook


def _is_widget(output: NotebookNode) -> bool:
    """A library's progress bar as a notebook shows it: nothing to look at once it is over."""
    return any("widget-view" in kind for kind in output.get("data", {}))


def keep_outputs(source: Path, executed: NotebookNode) -> None:
    """Write the outputs into the source notebook and leave its cells and metadata as they are."""
    notebook = nbformat.read(source, as_version=4)
    by_id = {cell.id: cell for cell in executed.cells}
    for cell in notebook.cells:
        if cell.cell_type == "code":
            cell.outputs, cell.execution_count = by_id[cell.id].outputs, by_id[cell.id].execution_count
    if (text := nbformat.writes(notebook) + "\n") != source.read_text(encoding="utf-8"):
        paths.write(source, text)


def _cleaner() -> Callable[[str], str]:
    """A function that puts names in the place of this machine's folders, the longest first."""
    names = {os.environ[key]: f"${key}" for key in ("GLUE_DIR", "DISTIL_PACKAGES") if os.environ.get(key)}
    names = {str(Path(folder).expanduser().resolve()): name for folder, name in names.items()} | names
    names |= {str(paths.ROOT): ".", str(paths.ARTIFACTS): "./artifacts", str(paths.RESULTS): "./results"}
    names |= {sys.prefix: "$PREFIX", str(Path.home()): "~"}
    folders = sorted((f for f in names if len(f) > 1 and os.path.isabs(f)), key=len, reverse=True)
    pattern = re.compile(r"(?<![\w.])(" + "|".join(map(re.escape, folders)) + r")(?![\w-])")
    return lambda text: pattern.sub(lambda match: names[match[1]], text)


def _clean(value: Any, clean: Callable[[str], str]) -> Any:
    if isinstance(value, str):
        return clean(value)
    if isinstance(value, list):
        return [_clean(item, clean) for item in value]
    if isinstance(value, dict):
        return type(value)({key: item if key in BINARY else _clean(item, clean) for key, item in value.items()})
    return value
