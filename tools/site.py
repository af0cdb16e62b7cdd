"""Builds the site: README, docs, executed chapters and code as pages, and a student to try.

Sphinx makes the pages (``tools/site/conf.py``). The scripts that a browser needs for formulas,
drawings and the student come from npm packages and lie beside the pages, so the site works offline.
"""

import argparse
import ast
import gzip
import json
import os
import re
import shutil
import subprocess
import sys
import tarfile
import tempfile
from pathlib import Path

import nbformat
from nltk.tokenize import NLTKWordTokenizer

from distil import config, packages, records, words

PARTS, SITE = Path(__file__).parent / "site", records.ARTIFACTS / "site"
FOLDED = {"parameters", "injected-parameters", "imports", "record"}
# npm package, sha256 of its archive, and the files of it that the site serves
MATHJAX = ("mathjax@3.2.2", "1b9c0a1c44df864e915690558e72adb9cc5203360daefd385084ced3b6c64c09")
MERMAID = ("mermaid@11.17.2", "6ad2f42c3fc26bbf9e45cbb6d11898972573ea52b33a5f4ff51952899f950ffd")
RUNTIME = (
    "onnxruntime-web@1.30.0",
    "d2228df7e4616bc3348bf504ee888f3bec43789a273f0a63f3e68d203ce3bf71",
)
WASM = "ort-wasm-simd-threaded.wasm"
MISSING = """# Try a student

This page was not built, because no released student of single sentences was at hand. Run `make reproduce`,
`make release` and `make site`: then a student answers here, in your browser.
"""


def npm(package: tuple[str, str], member: str) -> bytes:
    """Return a file of a pinned npm package, which is downloaded if it is not there."""
    path = packages.PACKAGES / f"{package[0].replace('@', '-')}.tgz"
    if not path.exists():
        path.parent.mkdir(parents=True, exist_ok=True)
        if not shutil.which("npm"):
            sys.exit(f"error: the site needs npm to fetch {package[0]}: install npm (or Node.js)")
        command = ["npm", "pack", package[0], "--silent", "--pack-destination", path.parent]
        if subprocess.run(command, stdout=subprocess.DEVNULL).returncode:
            sys.exit(f"error: npm could not fetch {package[0]}: check the network, or npm's config")
    if (found := records.sha256(path)) != package[1]:
        sys.exit(f"error: {path} has sha256 {found}, not the pinned one. Delete it; run again")
    with tarfile.open(path) as archive:
        return archive.extractfile(f"package/{member}").read()


def mend(text: str, page: Path) -> str:
    """Point links to a folder at a page in it, and those of executed copies at the chapters' own."""

    def better(link: re.Match) -> str:
        for target in (page.parent / link[1], config.ROOT / "notebooks" / link[1]):
            if target.is_dir():
                found = (
                    p for p in target.rglob("*") if p.suffix in (".md", ".ipynb", ".py", ".yaml")
                )
                target = min(found, key=lambda p: (p.name != "README.md", p), default=target)
            if target.is_file():
                return f"]({os.path.relpath(target, page.parent)}"
        return link[0]

    return re.sub(r"\]\(([^)#\s:]+)", better, text)


def fold(cell: nbformat.NotebookNode) -> None:
    """Tag a code cell that only sets parameters, imports or keeps a record, so that it is folded."""
    tags = set(cell.metadata.get("tags", []))
    try:
        body = ast.parse(cell.source).body
    except SyntaxError:  # a magic command
        body = []
    if tags & FOLDED or (body and all(isinstance(s, ast.Import | ast.ImportFrom) for s in body)):
        cell.metadata["tags"] = sorted(tags | {"hide-input"})


def stage(folder: Path) -> None:
    """Copy the clone's files, with links, folded cells and the table of contents as the site needs."""
    command = ["git", "ls-files", "-z", "-co", "--exclude-standard"]
    listed = subprocess.run(command, cwd=config.ROOT, check=True, capture_output=True, text=True)
    for name in filter(None, listed.stdout.split("\0")):
        source, target = config.ROOT / name, folder / name
        if not source.is_file() or name.startswith("."):
            continue
        target.parent.mkdir(parents=True, exist_ok=True)
        if source.suffix == ".md":
            target.write_text(mend(source.read_text("utf-8"), source), "utf-8")
        elif source.suffix == ".ipynb":
            notebook = nbformat.read(source, as_version=4)
            for cell in notebook.cells:
                if cell.cell_type == "markdown":
                    cell.source = mend(cell.source, source)
                elif cell.cell_type == "code":
                    fold(cell)
            nbformat.write(notebook, target)
        else:
            shutil.copyfile(source, target)
    with (folder / "README.md").open("a", encoding="utf-8") as readme:
        readme.write(contents(folder))


def contents(folder: Path) -> str:
    """Return the sidebar: chapters, documents, then each folder of executed chapters."""
    groups = {"Chapters": sorted(folder.glob("notebooks/*.ipynb")), "Try it": [folder / "try.md"]}
    groups["Documents"] = [*sorted(folder.glob("docs/*.md")), *sorted(folder.glob("C*.md"))]
    for page in sorted(folder.glob("results/executed/**/*.ipynb")):
        name = page.parent.relative_to(folder / "results/executed").as_posix()
        groups.setdefault(f"As they ran: {name}", []).append(page)
    text = ""
    for caption, pages in groups.items():
        names = [page.relative_to(folder).with_suffix("").as_posix() for page in pages]
        if caption.startswith("As"):
            names = [f"{Path(name).name} <{name}>" for name in names]
        text += (
            f"\n\n```{{toctree}}\n:hidden:\n:caption: '{caption}'\n\n" + "\n".join(names) + "\n```"
        )
    return text


def rules() -> list[list[str]]:
    """Return the rules of ``words.tokenize`` for JavaScript: pattern, flags and replacement."""
    treebank, char = NLTKWordTokenizer, r"\p{L}\p{N}_"
    pairs = [(words._INNER_STOP, r"\1 ."), *treebank.STARTING_QUOTES, *treebank.PUNCTUATION]
    pairs += [treebank.PARENS_BRACKETS, treebank.DOUBLE_DASHES]
    pairs += [(re.compile("^"), " "), (re.compile("$"), " "), *treebank.ENDING_QUOTES]
    pairs += [(p, r" \1 \2 ") for p in (*treebank.CONTRACTIONS2, *treebank.CONTRACTIONS3)]
    found = []
    for regexp, replacement in pairs:
        pattern, flags = regexp.pattern.replace("(?#X)", ""), "gu"
        if pattern.startswith("(?i)"):
            pattern, flags = pattern[4:], "giu"
        pattern = re.sub(r"\(\?i:(.*?)\)", lambda m: "(?:" + any_case(m[1]) + ")", pattern)
        pattern = re.sub(r"\\([\"'<> ])", r"\1", pattern).replace("*+", "*")
        pattern = re.sub(r"\$$", r"(?=\\n?$)", pattern)
        pattern = pattern.replace(r"[\w", f"[{char}").replace(r"[^\d]", r"\P{Nd}")
        pattern = pattern.replace(r"\w", f"[{char}]")
        pattern = pattern.replace(r"\b", f"(?:(?<![{char}])(?=[{char}])|(?<=[{char}])(?![{char}]))")
        replacement = re.sub(r"\\(\d)", r"$\1", replacement.replace(r"\g<0>", "$&"))
        found.append([pattern, flags, replacement])
    return found


def any_case(pattern: str) -> str:
    """Return a pattern of lower-case letters that matches both cases: ``mr`` -> ``[mM][rR]``."""
    return re.sub("[a-z]", lambda letter: f"[{letter[0]}{letter[0].upper()}]", pattern)


def released() -> Path | None:
    """Return the newest released student that reads single sentences, if there is one."""
    found = [path.parent for path in records.ARTIFACTS.glob("**/release/**/vocabulary.json")]
    found = [path for path in found if not json.loads((path / "config.json").read_bytes())["pair"]]
    found = [path for path in found if list(path.glob("*.onnx"))]
    return max(found, key=lambda path: path.stat().st_mtime, default=None)


def bring(student: Path, folder: Path) -> None:
    """Write what the page serves: int8 ONNX if released, words, labels, rules and the runtime.

    All but the script are gzipped files, which the page unpacks: the runtime alone has 14 MB.
    """
    folder.mkdir(parents=True)
    onnx = min(student.glob("*.onnx"), key=lambda path: ("int8" not in path.name, path.name))
    facts = {"words": json.loads((student / "vocabulary.json").read_bytes()), "rules": rules()}
    facts |= {"labels": json.loads((student / "labels.json").read_bytes()), "onnx": onnx.name}
    files = {"student.onnx": onnx.read_bytes(), "runtime.wasm": npm(RUNTIME, f"dist/{WASM}")}
    files["student.json"] = json.dumps(facts, ensure_ascii=False).encode()
    for name, content in files.items():
        (folder / f"{name}.gzip").write_bytes(gzip.compress(content, mtime=0))
    (folder / "runtime.mjs").write_bytes(npm(RUNTIME, "dist/ort.wasm.bundle.min.mjs"))


def build(folder: Path, student: Path | None) -> None:
    """Build the site in a folder, which must not be there yet."""
    from sphinx.application import Sphinx

    with tempfile.TemporaryDirectory() as temporary:
        source = Path(temporary) / "source"
        shutil.copytree(PARTS / "static", source / "_static")
        (source / "_static/mathjax.js").write_bytes(npm(MATHJAX, "es5/tex-svg-full.js"))
        (source / "_static/mermaid.js").write_bytes(npm(MERMAID, "dist/mermaid.min.js"))
        if student:
            bring(student, source / "_static/student")
        page = (PARTS / "try.md").read_text("utf-8") if student else MISSING
        (source / "try.md").write_text(page, "utf-8")
        stage(source)
        static = {"html_static_path": [str(source / "_static")]}
        Sphinx(
            source, PARTS, folder, Path(temporary) / "trees", "html", static, status=None
        ).build()
    shutil.copyfile(folder / "README.html", folder / "index.html")


def main() -> None:
    """Write the site whole, and say where it is."""
    parser = argparse.ArgumentParser(description=__doc__.split("\n")[0])
    parser.add_argument("--student", type=Path, help="folder of a released student to try")
    parser.add_argument("--out", type=Path, default=SITE, help="folder to write")
    options = parser.parse_args()
    part = options.out.with_name(f"{options.out.name}.part")
    shutil.rmtree(part, ignore_errors=True)
    build(part, student := options.student or released())
    shutil.rmtree(options.out, ignore_errors=True)
    part.rename(options.out)
    number = len(list(options.out.rglob("*.html")))
    which = records.short(student) if student else "none released, see its page"
    print(f"{number} pages: {records.short(options.out)}/index.html (student to try: {which})")


if __name__ == "__main__":
    main()
