"""Shows the main run in ``notebooks/``: ``python tools/outputs.py`` after ``make reproduce``.

It copies the outputs of offline's executed chapters (SST-2's stand-in, seed 0), cell by cell, and
the commit that they ran at. Sources and prose of the chapters stay as they are.
"""

import argparse
from pathlib import Path

import nbformat

from distil import records


def show(executed: Path, chapter: Path) -> None:
    """Put the outputs of an executed copy into its chapter."""
    ran, page = (nbformat.read(path, as_version=4) for path in (executed, chapter))
    of_cell = {cell.id: cell for cell in ran.cells}
    for cell in (cell for cell in page.cells if cell.cell_type == "code"):
        if cell.id in of_cell:
            cell.outputs = of_cell[cell.id].outputs
            cell.execution_count = of_cell[cell.id].execution_count
    page.metadata["distil"] = ran.metadata["distil"]
    records.write_whole(chapter, nbformat.writes(page) + "\n")


def main() -> None:
    """Update each chapter whose executed copy is here."""
    argparse.ArgumentParser(description=__doc__.split(":")[0]).parse_args()
    home = records.RESULTS / "executed" / "offline"
    for chapter in sorted((records.ROOT / "notebooks").glob("*.ipynb")):
        names = [f"{chapter.stem}.ipynb", f"sst2/{chapter.stem}.ipynb"]
        names.append(f"sst2/{chapter.stem}-distilled.ipynb")
        for name in names:
            if (home / name).exists():
                show(home / name, chapter)
                print(f"{chapter.name}: the outputs of {name}")


if __name__ == "__main__":
    main()
