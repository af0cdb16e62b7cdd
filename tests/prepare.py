"""Writes copies of chapters 01 to 05 with the values of the smoke profile: prepare.py FOLDER."""

import sys
from pathlib import Path

import papermill

from distil import run
from distil.records import Step

WORK = ["sst2", "distilled"]
PLACES = {"data": WORK[:1], "teacher": WORK, "transfer-set": WORK, "student": WORK, "speed": []}
for stage, place in PLACES.items():
    step = Step(stage, "smoke", *place)
    copy = Path(sys.argv[1]) / step.notebook.name
    papermill.execute_notebook(step.notebook, copy, run.parameters(step), prepare_only=True)
