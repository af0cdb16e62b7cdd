"""The house stays small, imports go one way, and chapters are readable."""

import ast
import re
import statistics

import nbformat
import pytest

from distil import config, records

ORDER = ["config", "records", "packages", "words", "standins", "data", "augment", "transfer"]
ORDER += ["batching", "metrics", "speed.fastbert", "teacher", "student", "embeddings", "train"]
ORDER += ["speed.fast", "speed.onnx", "speed.elmo", "report", "figures", "run"]
MODULES = {
    ".".join(path.relative_to(config.ROOT / "distil").with_suffix("").parts): path
    for path in (config.ROOT / "distil").rglob("*.py")
}
CHAPTERS = sorted((config.ROOT / "notebooks").glob("0*.ipynb"))
LATE = {
    "records": {"metrics"},
    "embeddings": set(),
}  # imported inside a function, for a light start


def test_every_module_has_a_place_and_imports_only_those_before_it():
    assert sorted(MODULES) == sorted([*ORDER, "__init__"])
    for name in ORDER:
        used = records._imports(ast.parse(MODULES[name].read_text(encoding="utf-8"))) & set(ORDER)
        used -= LATE.get(name, set())
        assert not [other for other in used if ORDER.index(other) >= ORDER.index(name)], name


def test_functions_are_short_and_everything_public_is_explained():
    lengths = []
    for name, path in MODULES.items():
        tree = ast.parse(path.read_text(encoding="utf-8"))
        assert ast.get_docstring(tree), name
        for node in ast.walk(tree):
            if isinstance(node, ast.FunctionDef):
                lengths.append(node.end_lineno - node.lineno + 1)
                assert lengths[-1] <= 50, f"{name}.{node.name}"
            if isinstance(node, ast.ClassDef) and not node.name.startswith("_"):
                assert ast.get_docstring(node), f"{name}.{node.name}"
    assert statistics.median(lengths) <= 15


def test_the_house_is_no_larger_than_it_is():
    """The target is 2,300 lines for distil/ (see CONTRIBUTING.md); this keeps it from growing."""

    def lines(paths):
        return sum(len(path.read_text(encoding="utf-8").splitlines()) for path in paths)

    tests = (config.ROOT / "tests").rglob("*.py")
    speed = [path for path in MODULES.values() if path.parent.name == "speed"]
    rooms = [path for path in MODULES.values() if path not in speed]
    assert len(speed) <= 4 and lines(speed) <= 400
    assert len(rooms) <= 18 and lines(rooms) <= 3620
    assert lines([config.ROOT / "Makefile"]) <= 110
    assert lines(tests) <= 3800


@pytest.mark.parametrize("path", CHAPTERS, ids=lambda path: path.stem)
def test_a_chapter_is_short_cells_and_its_parameters_are_its_settings(path):
    notebook = nbformat.read(path, as_version=4)
    nbformat.validate(notebook)
    code = [cell for cell in notebook.cells if cell.cell_type == "code"]
    (parameters,) = [cell for cell in code if "parameters" in cell.metadata.get("tags", [])]
    assert all(len(cell.source.splitlines()) <= 30 for cell in code)
    stage = next(stage for stage, name in records.NOTEBOOKS.items() if name == path.stem)
    own: dict = {}
    exec(parameters.source, own)
    del own["__builtins__"]
    for name in ("task", "arm", "seed"):
        own.pop(name, None)
    profile = own.pop("profile")
    if stage in ("results", "ablation"):
        assert (profile, own) == ("offline", {})
        return
    assert not any(cell.outputs for cell in code)
    assert profile == "smoke" and own == config.settings("smoke", stage, "sst2").model_dump()
    commented = [line for line in parameters.source.splitlines() if not re.search(r"  # \S", line)]
    assert not commented
