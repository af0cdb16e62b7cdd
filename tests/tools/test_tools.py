"""Every tool starts, and no page of the project links to something that is not there."""

import json
import re
import subprocess
import sys

import bench
import nbformat
import pytest

from distil import config

PAGES = [config.ROOT / name for name in ("README.md", "CONTRIBUTING.md", "CHANGELOG.md")]
PAGES += [*(config.ROOT / "docs").glob("*.md"), *(config.ROOT / "notebooks").glob("*.ipynb")]


@pytest.mark.parametrize(
    "name", sorted({p.name for p in (config.ROOT / "tools").glob("*.py")} - {"make_toy.py"})
)
def test_a_tool_says_what_it_does(name):
    command = [sys.executable, str(config.ROOT / "tools" / name), "--help"]
    done = subprocess.run(command, capture_output=True, text=True, timeout=120)
    assert done.returncode == 0 and done.stdout.startswith(f"usage: {name}"), done.stderr


@pytest.mark.parametrize("page", PAGES, ids=lambda page: str(page.relative_to(config.ROOT)))
def test_every_relative_link_and_every_name_in_code_exists(page):
    text = page.read_text(encoding="utf-8")
    if page.suffix == ".ipynb":
        cells = nbformat.reads(text, as_version=4).cells
        text = "\n".join(cell.source for cell in cells if cell.cell_type == "markdown")
    for name, target in re.findall(r"\[([^][]*)\]\(([^)#\s]+)[^)]*\)", text):
        if not re.match(r"[a-z]+:", target):
            path = page.parent / target
            assert path.exists(), target
            if path.suffix == ".py" and name.isidentifier() and name != path.stem:
                code = path.read_text(encoding="utf-8")
                assert re.search(rf"^\s*(def|class) {name}\b", code, re.MULTILINE), (name, target)


def test_the_speed_page_shows_the_committed_record():
    found = json.loads((config.ROOT / "results" / "bench.json").read_text(encoding="utf-8"))
    assert bench.tables(found) in bench.PAGE.read_text(encoding="utf-8")
