"""Writes copies of chapters 01 to 05 with the values of the smoke profile: prepare.py FOLDER."""

import sys
from pathlib import Path

import papermill

from distil import run
from distil.records import Step

for stage in ("data", "teacher", "transfer-set", "student", "speed"):
    place = {"data": ["sst2"], "speed": []}.get(stage, ["sst2", "distilled"])
    step = Step(stage, "smoke", *place)
    copy = Path(sys.argv[1]) / step.notebook.name
    papermill.execute_notebook(step.notebook, copy, run.parameters(step), prepare_only=True)
