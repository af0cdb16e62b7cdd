"""What chapters show: the code as it stands without its documentation, and sliders only where a hand can move them."""

import ast
import inspect
import textwrap

import pytest

from distil import augment, chapter, student, train


def shape(text: str) -> str:
    """A function's syntax tree without its documentation."""
    (function,) = ast.parse(textwrap.dedent(text)).body
    if ast.get_docstring(function):
        function.body = function.body[1:]
    return ast.dump(function)


@pytest.mark.parametrize("function", [augment.augment, train.distillation_loss, student.BiLSTMStudent.encode, shape])
def test_the_code_on_the_page_is_the_code(function):
    text = chapter.source(function).data
    assert text.startswith("```python\n") and text.endswith("\n```")
    assert shape(text.removeprefix("```python\n").removesuffix("\n```")) == shape(inspect.getsource(function))
    assert '"""' not in text


def test_several_functions_stand_one_after_the_other():
    assert chapter.source(augment.augment, augment.unigrams).data.count("```python") == 2


@pytest.fixture
def shown(monkeypatch):
    outputs = []
    monkeypatch.setattr(chapter, "display", lambda output: outputs.append(output.data))
    return outputs


def draw(p: float = 0.1, n: int = 6) -> str:
    return f"p = {p}, n = {n}"


def test_a_step_shows_the_defaults(shown, monkeypatch):
    monkeypatch.setenv(chapter.IN_A_RUN, "1")
    chapter.play(draw, p=(0, 1, 0.05), n=(1, 20, 1))
    assert shown == ["p = 0.1, n = 6"]


def test_a_hand_moves_sliders(shown, monkeypatch):
    ipywidgets = pytest.importorskip("ipywidgets")
    monkeypatch.delenv(chapter.IN_A_RUN, raising=False)
    made = {}

    def interact(function, **sliders):
        made.update(sliders)
        function(**{name: slider.value for name, slider in sliders.items()})
        function(p=0.5, n=2)

    monkeypatch.setattr(ipywidgets, "interact", interact)
    chapter.play(draw, p=(0, 1, 0.05), n=(1, 20, 1))
    assert shown == ["p = 0.1, n = 6", "p = 0.5, n = 2"]
    assert isinstance(made["n"], ipywidgets.IntSlider) and isinstance(made["p"], ipywidgets.FloatSlider)
    assert (made["p"].min, made["p"].max, made["p"].step) == (0, 1, 0.05)
