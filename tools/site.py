"""Renders README, docs and the executed chapters as pages: ``artifacts/site``."""

import argparse
import html
import shutil
import sys
from pathlib import Path

import nbformat
from nbconvert import HTMLExporter

ROOT = Path(__file__).resolve().parent.parent
SITE = ROOT / "artifacts" / "site"


def notebook_of(path: Path) -> nbformat.NotebookNode:
    """Return an executed chapter, or a Markdown file as a notebook of one cell."""
    if path.suffix == ".ipynb":
        return nbformat.read(path, as_version=4)
    text = path.read_text(encoding="utf-8")
    return nbformat.v4.new_notebook(cells=[nbformat.v4.new_markdown_cell(text)])


def main() -> int:
    """Write the site whole, and say where it is."""
    argparse.ArgumentParser(description=__doc__).parse_args()
    pages = [ROOT / "README.md", *sorted((ROOT / "docs").glob("*.md"))]
    pages += sorted((ROOT / "results" / "executed").rglob("*.ipynb"))
    part = SITE.with_name("site.part")
    shutil.rmtree(part, ignore_errors=True)
    exporter, links = HTMLExporter(embed_images=True), []
    exporter.exclude_input_prompt = exporter.exclude_output_prompt = True
    for page in pages:
        target = (part / page.relative_to(ROOT)).with_suffix(".html")
        target.parent.mkdir(parents=True, exist_ok=True)
        resources = {"metadata": {"name": page.stem, "path": str(page.parent)}}
        body, _ = exporter.from_notebook_node(notebook_of(page), resources)
        target.write_text(body, encoding="utf-8")
        link = target.relative_to(part).as_posix()
        links.append(f'<li><a href="{link}">{html.escape(link.removesuffix(".html"))}</a></li>')
    head = "<!doctype html><meta charset=utf-8><title>distil</title><h1>Distilling BERT</h1>"
    (part / "index.html").write_text(f"{head}<ul>{''.join(links)}</ul>", encoding="utf-8")
    shutil.rmtree(SITE, ignore_errors=True)
    part.rename(SITE)
    print(f"{len(links)} pages: artifacts/site/index.html")
    return 0


if __name__ == "__main__":
    sys.exit(main())
