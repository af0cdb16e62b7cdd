"""The lines of a step that shares the terminal, against what a bar and a print write."""

import io

from tqdm import tqdm

from distil import terminal
from distil.terminal import Lines


class Clock:
    """A clock that is moved by hand."""

    now = 0.0

    def __call__(self) -> float:
        return self.now


def test_every_line_is_whole_and_starts_with_the_name():
    out = io.StringIO()
    lines = Lines(out, "sst2 02")
    for piece in ("one li", "ne\nand ano", "ther\n", "\n", "not yet whole"):
        lines.write(piece)
    assert out.getvalue() == "sst2 02 | one line\nsst2 02 | and another\n"


def test_of_a_bar_come_a_line_now_and_then_and_the_last():
    out, clock = io.StringIO(), Clock()
    bar = tqdm(total=100, desc="labelling", file=Lines(out, "x", clock), mininterval=0, ascii=True)
    for _ in range(100):
        clock.now += 1
        bar.update()
    bar.close()
    shown = out.getvalue().splitlines()
    assert len(shown) == 100 // terminal.EVERY + 1
    assert all(line.startswith("x | labelling: ") and "\r" not in line for line in shown)
    assert "100/100" in shown[-1]


def test_two_steps_never_share_a_line():
    out = io.StringIO()
    first, second = Lines(out, "a"), Lines(out, "b")
    first.write("be")
    second.write("other\n")
    first.write("gun\n")
    assert out.getvalue() == "b | other\na | begun\n"
