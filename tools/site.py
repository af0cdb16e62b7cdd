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
from IPython.core.inputtransformer2 import TransformerManager
from nltk.tokenize import NLTKWordTokenizer

from distil import config, packages, records, words

PARTS, SITE = Path(__file__).parent / "site", records.ARTIFACTS / "site"
FOLDED = {"parameters", "injected-parameters", "imports", "record"}
NPM = {  # package: sha256 of its archive
    "mathjax@3.2.2": "1b9c0a1c44df864e915690558e72adb9cc5203360daefd385084ced3b6c64c09",
    "mermaid@11.17.2": "6ad2f42c3fc26bbf9e45cbb6d11898972573ea52b33a5f4ff51952899f950ffd",
    "onnxruntime-web@1.30.0": "d2228df7e4616bc3348bf504ee888f3bec43789a273f0a63f3e68d203ce3bf71",
}
MATHJAX, MERMAID, RUNTIME = NPM
MISSING = """# Try a student

This page was not built, because no released student of single sentences was at hand. Run `make reproduce`,
`make release` and `make site`: then a student answers here, in your browser.
"""


def npm(package: str, member: str) -> bytes:
    """Return a file of a pinned npm package, which is downloaded if it is not there."""
    path = packages.PACKAGES / f"{package.replace('@', '-')}.tgz"
    if not path.exists():
        path.parent.mkdir(parents=True, exist_ok=True)
        command = ["npm", "pack", package, "--silent", "--pack-destination", path.parent]
        if not shutil.which("npm") or subprocess.run(command, stdout=subprocess.DEVNULL).returncode:
            sys.exit(f"error: cannot fetch {package}: install npm, or check the network")
    if (found := records.sha256(path)) != NPM[package]:
        sys.exit(f"error: {path} has sha256 {found}, not the pinned one. Delete it; run again")
    with tarfile.open(path) as archive:
        return archive.extractfile(f"package/{member}").read()


def mend(text: str, page: Path) -> str:
    """Point links to a folder at a page in it, and those of executed copies at the chapters' own.

    A link to what the site does not have, such as ``.github``, becomes its text.
    """

    def better(link: re.Match) -> str:
        for target in (page.parent / link[2], config.ROOT / "notebooks" / link[2]):
            if target.is_dir():
                found = [
                    p for ext in ("md", "ipynb", "py") for p in sorted(target.rglob(f"*.{ext}"))
                ]
                target = found[0] if found else target
            place = os.path.relpath(target, config.ROOT)
            if target.is_dir() or (target.exists() and place.startswith(".")):
                return link[1]
            if target.is_file():
                return f"[{link[1]}]({os.path.relpath(target, page.parent)}{link[3]})"
        return link[0]

    text = re.sub(r'href="([^":#]+)\.(?:md|ipynb)\b', r'href="\1.html', text)
    return re.sub(r"\[([^][]*)\]\(([^)#\s:]+)([^)]*)\)", better, text)


def adapt(notebook: nbformat.NotebookNode, page: Path) -> nbformat.NotebookNode:
    """Mend a notebook's links, and fold its cells that set parameters, import or keep a record."""
    for cell in notebook.cells:
        if cell.cell_type == "markdown":
            cell.source = mend(cell.source, page)
        elif cell.cell_type == "code":
            tags = set(cell.metadata.get("tags", []))
            body = ast.parse(TransformerManager().transform_cell(cell.source)).body
            if tags & FOLDED or all(isinstance(line, ast.Import | ast.ImportFrom) for line in body):
                cell.metadata["tags"] = sorted(tags | {"hide-input"})
    return notebook


def stage(folder: Path) -> None:
    """Copy the clone's files, with links, folded cells and the table of contents as the site needs."""
    command = ["git", "ls-files", "-z", "-co", "--exclude-standard"]
    listed = subprocess.run(command, cwd=config.ROOT, check=True, capture_output=True, text=True)
    for name in re.findall(r"[^.\0][^\0]*", listed.stdout):
        source, target = config.ROOT / name, folder / name
        if source.is_file():
            target.parent.mkdir(parents=True, exist_ok=True)
            if source.suffix == ".md":
                target.write_text(mend(source.read_text("utf-8"), source), "utf-8")
            elif source.suffix == ".ipynb":
                nbformat.write(adapt(nbformat.read(source, as_version=4), source), target)
            else:
                shutil.copyfile(source, target)
    with (folder / "README.md").open("a", encoding="utf-8") as readme:
        readme.write(contents(folder))


def contents(folder: Path) -> str:
    """Return the sidebar: chapters, documents, then each folder of executed chapters."""
    groups = {"Chapters": sorted(folder.glob("notebooks/*.ipynb")), "Try it": [folder / "try.md"]}
    groups["Documents"] = [*sorted(folder.glob("docs/*.md")), *sorted(folder.glob("C*.md"))]
    executed, text = folder / "results/executed", ""
    for page in sorted(executed.rglob("*.ipynb")):
        name = page.parent.relative_to(executed).as_posix()
        groups.setdefault(f"As they ran: {name}", []).append(page)
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
    treebank, char, found = NLTKWordTokenizer, r"\p{L}\p{N}_", []
    pairs = [(words._INNER_STOP, r"\1 ."), *treebank.STARTING_QUOTES, *treebank.PUNCTUATION]
    pairs += [treebank.PARENS_BRACKETS, treebank.DOUBLE_DASHES]
    pairs += [(re.compile("^"), " "), (re.compile("$"), " "), *treebank.ENDING_QUOTES]
    pairs += [(p, r" \1 \2 ") for p in (*treebank.CONTRACTIONS2, *treebank.CONTRACTIONS3)]
    # JavaScript has no comments, inner flags, possessive repeats or needless escapes in a pattern, its
    # letters are ASCII ones, and its end of text does not allow a line break after it.
    edge = f"(?:(?<![{char}])(?=[{char}])|(?<=[{char}])(?![{char}]))"
    changes = {"(?#X)": "", "*+": "*", r"[^\d]": r"\P{Nd}", r"[\w": f"[{char}", r"\w": f"[{char}]"}
    changes |= {r"\b": edge, **{f"\\{sign}": sign for sign in "\"'<> "}}
    for regexp, replacement in pairs:
        flags = "giu" if regexp.pattern.startswith("(?i)") else "gu"
        pattern = re.sub(r"\$$", r"(?=\\n?$)", regexp.pattern.removeprefix("(?i)"))
        pattern = re.sub(r"\(\?i:(.*?)\)", lambda names: f"(?:{any_case(names[1])})", pattern)
        for old, new in changes.items():
            pattern = pattern.replace(old, new)
        replacement = re.sub(r"\\(\d)", r"$\1", replacement.replace(r"\g<0>", "$&"))
        found.append([pattern, flags, replacement])
    return found


def any_case(pattern: str) -> str:
    """Return a pattern of lower-case letters that matches both cases: ``mr`` -> ``[mM][rR]``."""
    return re.sub("[a-z]", lambda letter: f"[{letter[0]}{letter[0].upper()}]", pattern)


def released() -> Path | None:
    """Return the newest released student that reads single sentences, if there is one."""
    found = {path.parent for path in records.ARTIFACTS.glob("**/release/**/*.onnx")}
    found = [path for path in found if not json.loads((path / "config.json").read_bytes())["pair"]]
    return max(found, key=lambda path: path.stat().st_mtime, default=None)


def bring(student: Path, folder: Path) -> None:
    """Write what the page serves: int8 ONNX if released, words, labels, rules and the runtime.

    All but the script are gzipped files, which the page unpacks: the runtime alone has 14 MB.
    """
    folder.mkdir()
    onnx = min(student.glob("*.onnx"), key=lambda path: ("int8" not in path.name, path.name))
    facts = {"name": records.short(onnx), "rules": rules()}
    facts |= {"ids": json.loads((student / "vocabulary.json").read_bytes())}
    facts |= {"labels": json.loads((student / "labels.json").read_bytes())}
    files = {"student.onnx": onnx.read_bytes(), "student.json": json.dumps(facts).encode()}
    files["runtime.wasm"] = npm(RUNTIME, "dist/ort-wasm-simd-threaded.wasm")
    for name, content in files.items():
        (folder / f"{name}.gzip").write_bytes(gzip.compress(content, mtime=0))
    (folder / "runtime.mjs").write_bytes(npm(RUNTIME, "dist/ort.wasm.bundle.min.mjs"))


def build(folder: Path, student: Path | None) -> None:
    """Build the site in a folder, which must not be there yet."""
    from sphinx.application import Sphinx

    with tempfile.TemporaryDirectory() as temporary:
        source, trees = Path(temporary, "source"), Path(temporary, "trees")
        static = shutil.copytree(PARTS / "static", source / "_static")
        (static / "mathjax.js").write_bytes(npm(MATHJAX, "es5/tex-svg-full.js"))
        (static / "mermaid.js").write_bytes(npm(MERMAID, "dist/mermaid.min.js"))
        if student:
            bring(student, static / "student")
        page = (PARTS / "try.md").read_text("utf-8") if student else MISSING
        (source / "try.md").write_text(page, "utf-8")
        stage(source)
        own = {"html_static_path": [str(static)]}
        Sphinx(source, PARTS, folder, trees, "html", own, status=None).build()
    shutil.copytree(config.ROOT / "results/figures", folder / "results/figures")  # for <picture>
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
    which = records.short(student) if student else "none is released"
    print(f"{records.short(options.out)}/index.html; the student to try: {which}")


if __name__ == "__main__":
    main()
