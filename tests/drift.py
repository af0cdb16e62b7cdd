"""``make drift``: do the tests pass with the newest versions, and if not, which package broke what?

The pins of pyproject.toml name the versions that made the records. Here an environment of its own gets, of every direct
dependency, the newest release of the same major version (torch stays: another build of it is gigabytes) and what these pull in.
If tests fail, each package that moved is put back alone, and the failing tests run again: one that then pass name the culprit.
Writes ``artifacts/drift/report.json``.
"""

import json
import re
import subprocess
import sys
import tomllib
import venv
from collections.abc import Callable, Mapping
from pathlib import Path

ROOT = Path(__file__).resolve().parents[1]
HOME = ROOT / "artifacts" / "drift"
FIXED = ("torch",)
Versions = Mapping[str, str]


def pins(project: str) -> dict[str, str]:
    """Direct dependency -> pinned version, of the text of a pyproject.toml."""
    declared = tomllib.loads(project)["project"]
    lines = declared["dependencies"] + declared["optional-dependencies"]["dev"]
    return dict(line.split("==") for line in lines)


def bounds(pinned: Versions) -> list[str]:
    """What pip may choose from: from the pin up to the next major version."""
    return [
        f"{name}=={version}" if name in FIXED else f"{name}>={version},<{int(version.partition('.')[0]) + 1}"
        for name, version in pinned.items()
    ]


def installed(freeze: str) -> dict[str, str]:
    """Package -> version, of the lines of ``pip freeze`` or of constraints.txt; a build's own mark (``+cpu``) left out."""
    return {normal(name): version for name, version in re.findall(r"^([\w.-]+)==([^\s+]+)", freeze, re.MULTILINE)}


def normal(name: str) -> str:
    """A package's name as the index has it."""
    return re.sub(r"[-_.]+", "-", name).lower()


def moved(before: Versions, after: Versions) -> dict[str, tuple[str, str]]:
    """Packages whose version changed: name -> (old, new); those that came or went too, with ``-`` on the other side."""
    names = sorted({*before, *after})
    pairs = {name: (before.get(name, "-"), after.get(name, "-")) for name in names}
    return {name: pair for name, pair in pairs.items() if pair[0] != pair[1]}


def culprits(
    changes: Mapping[str, tuple[str, str]], failing: list[str], still_failing: Callable[[str, str], list[str]]
) -> dict:
    """Package -> the failing tests that pass once it alone is back at its old version."""
    found = {}
    for name, (old, new) in changes.items():
        if failing and "-" not in (old, new):
            left = still_failing(name, old)
            if cured := sorted(set(failing) - set(left)):
                found[name] = cured
    return found


# --- with real environments -------------------------------------------------------------------------------------------


def run(*command: str, python: str = str(HOME / "venv" / "bin" / "python")) -> str:
    """The output of a command of the drift environment; its errors are shown, and pip's are fatal."""
    done = subprocess.run([python, "-m", *command], cwd=ROOT, capture_output=True, text=True)
    if done.returncode and command[0] == "pip":
        raise SystemExit(f"error: pip {' '.join(command[1:3])} failed:\n{done.stdout[-2000:]}{done.stderr[-2000:]}")
    return done.stdout


def failing_tests(*tests: str, **environment: str) -> list[str]:
    """Names of the tests that fail or cannot be collected, of all or of some."""
    output = run("pytest", "-q", "-p", "no:cacheprovider", "-rfE", "--tb=no", *(tests or ["tests"]), **environment)
    return re.findall(r"^(?:FAILED|ERROR) (\S+)", output, re.MULTILINE)


def main() -> int:
    """Make the environment, run the tests, name what broke them; the exit status is 1 if any fails."""
    pinned = pins((ROOT / "pyproject.toml").read_text(encoding="utf-8"))
    venv.create(HOME / "venv", with_pip=True, clear=True)
    run("pip", "install", "--quiet", *bounds(pinned))
    run("pip", "install", "--quiet", "--no-deps", "-e", ".")
    changes = moved(
        installed((ROOT / "constraints.txt").read_text(encoding="utf-8")),
        installed(run("pip", "freeze", "--exclude-editable")),
    )
    print(
        f"{len(changes)} packages moved:", ", ".join(f"{name} {old} -> {new}" for name, (old, new) in changes.items())
    )
    failing = failing_tests()
    if failing and (before := failing_tests(*failing, python=sys.executable)):
        print(f"fails with the pinned versions too, and is no drift: {', '.join(before)}")
        failing = sorted(set(failing) - set(before))

    def still_failing(name: str, old: str) -> list[str]:
        new = changes[name][1]
        run("pip", "install", "--quiet", "--no-deps", f"{name}=={old}")
        left = failing_tests(*failing)
        run("pip", "install", "--quiet", "--no-deps", f"{name}=={new}")
        return left

    broke = culprits(changes, failing, still_failing)
    report = {"moved": changes, "failing": failing, "broken_by": broke}
    (HOME / "report.json").write_text(json.dumps(report, indent=1) + "\n", encoding="utf-8")
    for name, tests in broke.items():
        print(f"{name} {' -> '.join(changes[name])} breaks {', '.join(tests)}")
    if unexplained := sorted(set(failing) - {test for tests in broke.values() for test in tests}):
        print(f"no single package explains: {', '.join(unexplained)}")
    print("all tests pass" if not failing else f"{len(failing)} tests fail", "- artifacts/drift/report.json")
    return int(bool(failing))


if __name__ == "__main__":
    sys.exit(main())
