"""The doors of the project agree: pins in three files, and what the Makefile says of notebooks, modules and configs."""

import ast
import os
import re
import shutil
import subprocess
import tomllib
from pathlib import Path

import nbformat
import pytest
import yaml
from packaging.requirements import Requirement
from packaging.utils import canonicalize_name

from distil import config, paths, steps
from distil.tasks import PAPER, own_tasks

MAKEFILE = (paths.ROOT / "Makefile").read_text(encoding="utf-8")
PROFILES = ["smoke", "offline", "glue", "paper"]  # those of the repository; a user's own are the user's
USES = dict(re.findall(r"^USES_(\w+) := \$\(call module,(.*)\)$", MAKEFILE, flags=re.M))


def pins(lines: list[str]) -> dict[str, str]:
    """Canonical name -> specifier such as ``==1.0``."""
    requirements = [Requirement(line) for line in lines if line.strip() and not line.startswith(("#", "-"))]
    return {canonicalize_name(r.name): str(r.specifier) for r in requirements}


def project_pins() -> dict[str, str]:
    project = tomllib.loads((paths.ROOT / "pyproject.toml").read_text(encoding="utf-8"))["project"]
    return pins(project["dependencies"] + project["optional-dependencies"]["dev"])


def variable(name: str) -> list[str]:
    return re.search(rf"^{name} := (.*)$", MAKEFILE, flags=re.M)[1].split()


def made(name: str, profile: str) -> list[str]:
    """The value of a variable as Make computes it."""
    command = ["make", "-s", "--eval", f"show: ; @echo $({name})", "show", f"PROFILE={profile}"]
    clean = {key: value for key, value in os.environ.items() if not key.startswith(("MAKE", "MFLAGS", "PROFILE"))}
    return subprocess.run(command, cwd=paths.ROOT, env=clean, capture_output=True, text=True, check=True).stdout.split()


# --- versions ---------------------------------------------------------------------------------------------------------


def test_every_requirement_is_an_exact_pin():
    assert all(re.fullmatch(r"==[\w.]+", pin) for pin in project_pins().values()), project_pins()


def test_environment_yml_has_the_pins_of_pyproject():
    environment = yaml.safe_load((paths.ROOT / "environment.yml").read_text(encoding="utf-8"))
    *conda, pip = environment["dependencies"]
    assert environment["name"] == "distil"
    assert conda == ["python=3.11", "pip"]
    assert pip["pip"][0] == "-c constraints.txt"
    assert pins(pip["pip"]) == project_pins()


def test_constraints_hold_the_pins_of_pyproject():
    constraints = pins((paths.ROOT / "constraints.txt").read_text(encoding="utf-8").splitlines())
    assert {name: constraints.get(name) for name in project_pins()} == project_pins()


# --- the Makefile's lists ---------------------------------------------------------------------------------------------


def imported(source: str) -> set[str]:
    """Names of our modules that a source imports, at its top or inside a function."""
    found = set()
    for node in ast.walk(ast.parse(source)):
        if isinstance(node, ast.ImportFrom) and node.module == "distil":
            found |= {alias.name for alias in node.names}
        elif isinstance(node, ast.ImportFrom) and (node.module or "").startswith("distil."):
            found.add(node.module.split(".")[1])
        elif isinstance(node, ast.Import):
            found |= {alias.name.split(".")[1] for alias in node.names if alias.name.startswith("distil.")}
    return found


def closure(source: str) -> set[str]:
    found, todo = set(), imported(source)
    while todo:
        name = todo.pop()
        found.add(name)
        todo |= imported((paths.ROOT / "distil" / f"{name}.py").read_text(encoding="utf-8")) - found
    return found


def notebook_source(path: Path) -> str:
    return "\n".join(c.source for c in nbformat.read(path, as_version=4).cells if c.cell_type == "code")


@pytest.mark.parametrize("notebook", steps.NOTEBOOKS)
def test_a_notebook_runs_again_when_a_module_it_imports_changes(notebook):
    wanted = closure(notebook_source(paths.NOTEBOOKS / f"{notebook}.ipynb"))
    assert USES[notebook[:2]].split() == sorted(wanted), f"in the Makefile: {' '.join(sorted(wanted))}"


def test_the_readme_table_is_made_again_when_the_report_changes():
    wanted = closure("import distil.readme")
    assert USES["readme"].split() == sorted(wanted), f"in the Makefile: {' '.join(sorted(wanted))}"


def test_make_and_python_read_the_same_tasks(tmp_path):
    assert variable("KNOWN_TASKS") == [*PAPER, "$(OWN_TASKS)"]
    text = (paths.CONFIGS / "tasks.yaml").read_text(encoding="utf-8")
    text = re.sub(r"^# (?=\w+: {)", "", text, flags=re.MULTILINE)  # its examples
    (tmp_path / "configs").mkdir()
    (tmp_path / "configs" / "tasks.yaml").write_text(text, encoding="utf-8")
    command = re.search(r"^OWN_TASKS := \$\(shell (.*)\)$", MAKEFILE, re.MULTILINE)[1]
    names = subprocess.run(
        ["sh", "-c", command], cwd=tmp_path, capture_output=True, text=True, check=True
    ).stdout.split()
    assert names == list(own_tasks(yaml.safe_load(text))) == ["spam", "answers"]


@pytest.mark.skipif(shutil.which("make") is None, reason="make is not installed")
@pytest.mark.parametrize("profile", PROFILES)
def test_make_reads_of_ablation_yaml_what_is_in_it(profile):
    """Make reads that file by sed, line by line; the notebooks read it as YAML."""
    ablation, arms = config.read_yaml(profile, "ablation"), config.arms(profile)
    assert set(ablation) == {"seeds", "quick", "arms"} and set(ablation["quick"]) <= set(arms)
    assert made("ARMS", profile) == [f"{arm.name}:{arm.task}:{arm.stage}" for arm in arms.values()]
    assert made("QUICK", profile) == ablation["quick"]
    assert made("ABLATION_SEEDS", profile) == [str(seed) for seed in ablation["seeds"]]
    assert all(arm.changes for arm in arms.values())


# --- the configs ------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("path", sorted(paths.CONFIGS.glob("*/*.yaml")), ids=lambda p: f"{p.parent.name}-{p.stem}")
def test_every_value_has_a_comment(path):
    for line in path.read_text(encoding="utf-8").splitlines():
        assert "#" in line or line.rstrip().endswith(":"), f"{line!r} says no unit or section of the paper"
