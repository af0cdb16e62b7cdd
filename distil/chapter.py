"""What the chapters share: the code that a section is about, on the page, and a corner to play in."""

import inspect
import os
import textwrap
from collections.abc import Callable
from typing import Any

from IPython.display import Markdown, display

IN_A_RUN = "DISTIL_STEP"  # set where a notebook runs as a step, and no hand is there to move a slider


def source(*functions: Callable[..., Any]) -> Markdown:
    """The code of some functions as it stands in ``distil/``, without their documentation, for the page."""
    return Markdown("\n\n".join(f"```python\n{_code(function)}\n```" for function in functions))


def _code(function: Callable[..., Any]) -> str:
    text, documentation = textwrap.dedent(inspect.getsource(function)), inspect.getdoc(function)
    if documentation:
        before, quotes, rest = text.partition('"""')
        text = before.rstrip() + "\n" + rest.partition(quotes)[2].lstrip("\n")
    return text.rstrip()


def play(draw: Callable[..., str], **ranges: tuple[float, float, float]) -> None:
    """Show the Markdown of ``draw`` at its own defaults, with a slider for each of ``ranges`` (least, most, step) in JupyterLab.

    Where the notebook runs as a step, or ipywidgets is not there, the page has the defaults alone.
    """
    try:
        import ipywidgets
    except ImportError:
        ipywidgets = None
    if ipywidgets is None or os.environ.get(IN_A_RUN):
        display(Markdown(draw()))
    else:
        ipywidgets.interact(lambda **values: display(Markdown(draw(**values))), **_with_defaults(draw, ranges))


def _with_defaults(draw: Callable[..., str], ranges: dict[str, tuple[float, float, float]]) -> dict[str, Any]:
    import ipywidgets

    sliders = {}
    for name, (least, most, step) in ranges.items():
        value = inspect.signature(draw).parameters[name].default
        kind = ipywidgets.IntSlider if isinstance(value, int) else ipywidgets.FloatSlider
        sliders[name] = kind(value=value, min=least, max=most, step=step, continuous_update=False)
    return sliders
