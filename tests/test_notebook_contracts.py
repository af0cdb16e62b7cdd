"""What all notebooks have in common, checked without running them."""

import ast
import re
from dataclasses import fields

import nbformat
import papermill
import pytest

from distil import config, paths, steps
from distil.tasks import PAPER

NOTEBOOKS = list(steps.NOTEBOOKS)
STORED = list(steps.SHOWN)  # these keep their outputs; the others carry none
TAGS = {"parameters", "raises-exception", "nbval-ignore-output", "nbval-check-output", "nbval-skip"}
RUN_TYPES = dict.fromkeys(("profile", "task", "role", "arm", "teacher_arm", "transfer_arm"), str)
RUN_TYPES |= {"seed": int, "teacher_seed": int}
MAX_CELL_LINES = 25
PROSE = 1.0  # words of prose for each word of code, at least
CELLS = range(25, 41)


@pytest.fixture(params=NOTEBOOKS)
def name(request):
    return request.param


@pytest.fixture
def notebook(name):
    return nbformat.read(paths.NOTEBOOKS / f"{name}.ipynb", as_version=4)


def code(notebook):
    return [cell for cell in notebook.cells if cell.cell_type == "code"]


def parameters(notebook) -> dict[str, object]:
    """Name -> value of the parameters cell, which holds nothing but literals."""
    (cell,) = [cell for cell in code(notebook) if "parameters" in cell.metadata.get("tags", [])]
    values = {}
    for node in ast.parse(cell.source).body:
        assert isinstance(node, ast.Assign) and isinstance(node.targets[0], ast.Name), ast.unparse(node)
        values[node.targets[0].id] = ast.literal_eval(node.value)
    return values


def test_the_seven_notebooks_and_no_other():
    assert sorted(path.stem for path in paths.NOTEBOOKS.glob("*.ipynb")) == NOTEBOOKS


def test_form(notebook):
    nbformat.validate(notebook)
    assert notebook.metadata.kernelspec.name == "python3"
    first = notebook.cells[0]
    assert first.cell_type == "markdown" and re.match(r"# \S", first.source), "the first cell is the title"
    assert len({cell.id for cell in notebook.cells}) == len(notebook.cells)


def test_tags_are_known(notebook):
    for cell in notebook.cells:
        assert set(cell.metadata.get("tags", [])) <= TAGS, f"nbval ignores a misspelt tag: {cell.metadata.tags}"
        assert not re.search(r"^\s*#\s*NBVAL", cell.source, flags=re.M), "use tags, not comments"


def test_a_chapter_has_its_parts(notebook):
    """A question, how to run it, formulas, code, figures, what was learned and what to try; in cells of readable number."""
    text = {
        kind: "\n".join(cell.source for cell in notebook.cells if cell.cell_type == kind)
        for kind in ("markdown", "code")
    }
    assert len(notebook.cells) in CELLS, len(notebook.cells)
    assert re.search(r"^\*\*[^*]+\?\*\*", notebook.cells[0].source, flags=re.M), (
        "the first cell asks the chapter's question"
    )
    for part in ("**How to run it.**", "What we learned, and what to try", "$$", "The code: `distil/"):
        assert part in text["markdown"], part
    assert "plt.show()" in text["code"] or "savefig" in text["code"]


def test_cells_are_short_and_prose_leads(notebook):
    for cell in code(notebook):
        assert len(cell.source.splitlines()) <= MAX_CELL_LINES, cell.source
    words = {"markdown": 0, "code": 0}
    for cell in notebook.cells:
        if "parameters" not in cell.metadata.get("tags", []):
            words[cell.cell_type] += len(cell.source.split())
    assert words["markdown"] >= PROSE * words["code"], words


def test_a_figure_is_drawn_in_one_cell(notebook):
    """The page shows a figure when its cell ends; what a later cell draws into it is on no page."""
    for cell in code(notebook):
        if ".savefig(" in cell.source:
            assert "plt.subplots(" in cell.source or "= figures." in cell.source, cell.source


def test_the_data_figure_has_a_place_for_every_split():
    """`make test` runs the chapter on one task, which has two splits; MNLI has three."""
    cells = code(nbformat.read(paths.NOTEBOOKS / "01_data.ipynb", as_version=4))
    (ordered,) = re.findall(r"sorted\(shares, key=(\[.*?\])\.index\)", "\n".join(cell.source for cell in cells))
    assert set(ast.literal_eval(ordered)) == {"test"}.union(*(task.splits for task in PAPER.values()))


# --- parameters -------------------------------------------------------------------------------------------------------


def test_every_parameter_has_a_comment(notebook):
    (cell,) = [cell for cell in code(notebook) if "parameters" in cell.metadata.get("tags", [])]
    for line in cell.source.splitlines():
        assert re.match(r"\w+ = .+  # \S", line), f"{line!r}: one literal a line, with a comment"
        assert "=" not in line.split("#")[1], f"{line!r}: papermill cannot read a second '='"


def test_papermill_sees_the_same_parameters(name, notebook):
    seen = papermill.inspect_notebook(str(paths.NOTEBOOKS / f"{name}.ipynb"))
    assert {key: ast.literal_eval(value["default"]) for key, value in seen.items()} == parameters(notebook)


def test_parameters_are_those_of_the_step_and_its_config(name, notebook):
    section, run = steps.NOTEBOOKS[name]
    wanted = {key: RUN_TYPES[key] for key in run}
    wanted |= {field.name: field.type for field in fields(config.STEPS[section])} if section else {}
    assert {key: type(value) for key, value in parameters(notebook).items()} == wanted


def test_defaults_are_the_smoke_profile(name, notebook):
    section, run = steps.NOTEBOOKS[name]
    values = parameters(notebook)
    if not section:
        assert values == {"profile": steps.SHOWN_PROFILE}
        return
    smoke = config.load("smoke", section, "sst2", values.get("role", ""))
    assert {key: value for key, value in values.items() if key not in run} == vars(smoke)
    expected = {"profile": "smoke", "task": "sst2"}
    expected |= {"arm": "", "teacher_arm": "", "transfer_arm": "", "seed": 0, "teacher_seed": 0}
    assert {key: values[key] for key in run if key != "role"} == {k: v for k, v in expected.items() if k in run}


# --- outputs ----------------------------------------------------------------------------------------------------------


def test_outputs_only_where_they_belong(name, notebook):
    outputs = [output for cell in code(notebook) for output in cell.outputs]
    if name not in STORED:
        assert not outputs
        assert all(cell.execution_count is None for cell in code(notebook))
        return
    assert outputs, "run 'make reproduce': it writes the outputs of this page"
    assert all(cell.execution_count for cell in code(notebook)), "a cell has not run"
    assert not any(o.output_type == "error" or o.get("name") == "stderr" for o in outputs)


def test_no_path_of_a_machine(notebook):
    text = nbformat.writes(notebook)
    assert not re.search(r"(?<![\w.])/(home|root|Users|tmp|mnt|work)/\w", text)


@pytest.mark.parametrize("path", sorted(paths.NOTEBOOKS.glob("*.ipynb")), ids=lambda path: path.stem)
def test_no_cell_is_empty(path):
    assert all(cell.source.strip() for cell in nbformat.read(path, as_version=4).cells)
