"""What a step shows when it shares the terminal with others: whole lines, each with the step's name, and bars now and then."""

import re
import time
from collections.abc import Callable
from typing import TextIO

EVERY = 15.0  # seconds between two lines of one bar
COLOUR = re.compile(r"\x1b\[[0-9;]*m")


class Lines:
    """A text stream in front of another: what it gets comes out in whole lines that start with ``name``.

    A bar draws itself over and over on one line, each time after a carriage return; of those one is kept every ``EVERY``
    seconds, and the last. Empty lines are left out.
    """

    def __init__(self, stream: TextIO, name: str, clock: Callable[[], float] = time.monotonic) -> None:
        self.stream, self.name, self.clock = stream, name, clock
        self.rest, self.shown = "", clock()

    def write(self, text: str) -> int:
        """Take some text; the part after its last line break waits for more."""
        *whole, self.rest = re.split(r"(?<=[\r\n])", self.rest + text)
        for line in whole:
            self._show(line)
        return len(text)

    def flush(self) -> None:
        """Nothing waits here but a line that is not whole."""
        self.stream.flush()

    def _show(self, line: str) -> None:
        words = COLOUR.sub("", line).rstrip()
        drawn = line.endswith("\r")
        if not words or (drawn and self.clock() - self.shown < EVERY):
            return
        if drawn:
            self.shown = self.clock()
        self.stream.write(f"{self.name} | {words}\n")
        self.stream.flush()
