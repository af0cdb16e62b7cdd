"""Writes copies of chapters 01 to 05 with the values of the smoke profile: prepare.py FOLDER."""

import sys
from pathlib import Path

import papermill

from distil import run
from distil.records import Step

PLACES = {"data": ["sst2"], **dict.fromkeys(["teacher", "transfer-set"], ["sst2", "distilled"])}
for stage, place in (PLACES | {"student": ["sst2", "distilled"], "speed": []}).items():
    step = Step(stage, "smoke", *place)
    copy = Path(sys.argv[1]) / step.notebook.name
    papermill.execute_notebook(step.notebook, copy, run.parameters(step), prepare_only=True)
