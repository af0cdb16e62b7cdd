"""The site: README, the chapters as they ran, every other run and the code they link to, as plain HTML (``make site``).

nbconvert renders notebooks and Markdown, Pygments the code, latex2mathml the formulas. The pages need no script and nothing from
elsewhere; links between files of the repository become links between pages, and a link that leads nowhere stops the build.
"""

import argparse
import posixpath
import re
import shutil
import sys
from dataclasses import dataclass
from pathlib import Path
from string import Template

import nbformat
from bs4 import BeautifulSoup, NavigableString, Tag
from latex2mathml.converter import convert
from nbconvert import HTMLExporter
from nbconvert.filters.markdown_mistune import markdown2html_mistune
from pygments import highlight
from pygments.formatters import HtmlFormatter
from pygments.lexers import TextLexer, get_lexer_for_filename
from pygments.util import ClassNotFound

from distil import paths
from distil.readme import SHOWN

PROFILE = "offline"  # whose executed notebooks are the chapters
CHAPTERS = {  # notebook -> the run that is shown in its place
    "01_data": "sst2/01_data",
    "02_teacher": "sst2/02_teacher-seed0",
    "03_transfer_set": "sst2/03_transfer-set-seed0",
    "04_student": "sst2/04_student-distilled-seed0",
    "05_speed": "05_speed",
    "06_results": "06_results",
    "07_ablation": "07_ablation",
}
MARKDOWN = {
    "README.md": "index.html",
    "docs/method.md": "method.html",
    "docs/reliability.md": "reliability.html",
    "docs/speed.md": "speed.html",
    "notebooks/README.md": "chapters/index.html",
    "CONTRIBUTING.md": "contributing.html",
}
RUNS = "runs/index.html"
STYLE = Path(__file__).parent / "website.css"
PAGE = Template("""<!doctype html>
<html lang="en">
<head>
<meta charset="utf-8">
<meta name="viewport" content="width=device-width, initial-scale=1">
<title>$title</title>
<link rel="stylesheet" href="${root}style.css">
</head>
<body>
<header><nav aria-label="pages">$navigation</nav></header>
<main>
$body
</main>
<footer>$footer</footer>
</body>
</html>
""")


class SiteError(RuntimeError):
    """A page cannot be made; the message says which, and why."""


@dataclass(frozen=True)
class Page:
    """A page: its address within the site, the file of the repository that it shows, and the file its links are relative to."""

    address: str
    source: Path
    base: str


def pages() -> dict[str, Page]:
    """The pages that are always there, by the file of the repository that a link names."""
    found = {name: Page(address, paths.ROOT / name, name) for name, address in MARKDOWN.items()}
    executed = paths.RESULTS / "executed"
    for path in sorted(path for profile in SHOWN for path in (executed / profile).rglob("*.ipynb")):
        run = path.relative_to(executed)
        name, notebook = f"results/executed/{run}", next(n for n in CHAPTERS if n[:2] == path.name[:2])
        found[name] = Page(f"runs/{run.with_suffix('.html')}", path, f"notebooks/{notebook}.ipynb")
    for notebook, run in CHAPTERS.items():
        if not (path := executed / PROFILE / f"{run}.ipynb").exists():
            raise SiteError(f"no executed {notebook} of profile {PROFILE}: make reproduce PROFILE={PROFILE}")
        name = f"notebooks/{notebook}.ipynb"
        found[name] = Page(f"chapters/{notebook}.html", path, name)
    return found


class Builder:
    """Writes pages into a folder, and those that they link to."""

    def __init__(self, folder: Path) -> None:
        self.folder, self.known = folder, pages()
        self.code: dict[str, str] = {}  # file of the repository -> address of the page that shows it
        self.exporter = HTMLExporter(
            template_name="basic", exclude_anchor_links=True, exclude_input_prompt=True, exclude_output_prompt=True
        )
        self.exporter.log.setLevel("ERROR")  # it warns of pictures without a text in their place; they get one below

    def build(self) -> int:
        """Write the whole site and return its number of pages.

        Raises:
            SiteError: a link leads nowhere.
        """
        self.folder.mkdir(parents=True)
        light, dark = (HtmlFormatter(style=style).get_style_defs(".highlight") for style in ("default", "github-dark"))
        style = STYLE.read_text(encoding="utf-8")
        dark = f"@media (prefers-color-scheme: dark) {{\n{dark}\n}}\n"
        (self.folder / "style.css").write_text(f"{light}\n{dark}{style}", encoding="utf-8")
        for page in self.known.values():
            self._write(page.address, page.base, self._body(page))
        self._write(RUNS, "README.md", self._runs())
        for name, address in sorted(self.code.items()):
            self._write(address, name, _listing(name))
        return len(self.known) + 1 + len(self.code)

    def _body(self, page: Page) -> BeautifulSoup:
        text = page.source.read_text(encoding="utf-8")
        if page.source.suffix == ".md":
            return BeautifulSoup(markdown2html_mistune(text), "html.parser")
        notebook = nbformat.reads(text, as_version=4)
        return BeautifulSoup(self.exporter.from_notebook_node(notebook)[0], "html.parser")

    def _runs(self) -> BeautifulSoup:
        lines = [
            "<h1>All runs</h1><p>Every notebook as it ran, by profile and task. Each states its config at the top.</p>"
        ]
        by_folder: dict[str, list[Page]] = {}
        for page in self.known.values():
            if page.address.startswith("runs/"):
                by_folder.setdefault(posixpath.dirname(page.address).removeprefix("runs/"), []).append(page)
        for folder, found in sorted(by_folder.items()):
            items = "".join(
                f'<li><a href="#" data-address="{page.address}">{page.source.stem}</a></li>' for page in found
            )
            lines.append(f"<h2>{folder}</h2><ul>{items}</ul>")
        return BeautifulSoup("".join(lines), "html.parser")

    def _write(self, address: str, base: str, body: BeautifulSoup) -> None:
        for link in body.find_all("a", href=True):
            if target := link.attrs.pop("data-address", None):
                link["href"] = _relative(target, address)
            else:
                link["href"] = self._resolve(link["href"], address, base)
        for image in body.find_all("img"):
            self._image(image, address, base)
        for table in body.find_all("table"):
            table.wrap(body.new_tag("div", attrs={"class": "wide"}))
        for node in list(body.find_all(string=re.compile(r"\$"))):
            if not node.find_parent(["code", "pre", "style", "script"]):
                _formulas(node)
        heading = body.find(["h1", "h2"])
        path = self.folder / address
        path.parent.mkdir(parents=True, exist_ok=True)
        root = "../" * address.count("/")
        title = heading.get_text().strip("¶ ") if heading else base
        links = {
            "Home": "index.html",
            **{_short(n): f"chapters/{n}.html" for n in CHAPTERS},
            "Method": "method.html",
            "Runs": RUNS,
        }
        items = (
            f'<a href="{root}{to}"{" aria-current=page" if to == address else ""}>{name}</a>'
            for name, to in links.items()
        )
        text = PAGE.substitute(
            title=title, root=root, navigation=" ".join(items), body=str(body),
            footer=f"Tang et al. 2019, arXiv 1903.12136, replicated. This page shows <code>{base}</code>.",
        )  # fmt: skip
        path.write_text(text, encoding="utf-8")

    def _resolve(self, href: str, address: str, base: str) -> str:
        if re.match(r"[a-z]+:|#", href):
            return href
        target, mark, fragment = href.partition("#")
        name = posixpath.normpath(posixpath.join(posixpath.dirname(base), target)).rstrip("/")
        return _relative(self._address_of(name, base), address) + mark + fragment

    def _address_of(self, name: str, base: str) -> str:
        path = paths.ROOT / name
        if name in self.known:
            return self.known[name].address
        if path.is_dir():
            return RUNS if name.startswith("results") else "index.html"
        if not path.is_file():
            raise SiteError(f"{base} links to {name}, which is not there")
        return self.code.setdefault(name, f"code/{name}.html")

    def _image(self, image: Tag, address: str, base: str) -> None:
        if (alt := image.get("alt", "")) == "" or alt.startswith("No description"):
            heading = image.find_previous(["h1", "h2", "h3"])
            image["alt"] = f"Figure: {heading.get_text().strip('¶ ')}" if heading else "Figure"
        if image["src"].startswith("data:"):
            return
        name = posixpath.normpath(posixpath.join(posixpath.dirname(base), image["src"]))
        if not (paths.ROOT / name).is_file():
            raise SiteError(f"{base} shows {name}, which is not there")
        target = self.folder / "images" / name.replace("/", "-")
        target.parent.mkdir(exist_ok=True)
        shutil.copyfile(paths.ROOT / name, target)
        image["src"] = _relative(f"images/{target.name}", address)


def _relative(target: str, address: str) -> str:
    return posixpath.relpath(target, posixpath.dirname(address) or ".")


def _short(notebook: str) -> str:
    number, _, name = notebook.partition("_")
    return f"{int(number)}&nbsp;{name.replace('_', '&nbsp;').capitalize()}"


def _formulas(node: NavigableString) -> None:
    """Replace ``$...$`` and ``$$...$$`` in a text by MathML, which browsers draw themselves."""
    parts = re.split(r"(\$\$.+?\$\$|\$[^$]+?\$)", str(node), flags=re.DOTALL)
    made = []
    for part in parts:
        if len(part) > 2 and part.startswith("$") and part.endswith("$"):
            display = "block" if part.startswith("$$") else "inline"
            made.append(BeautifulSoup(convert(part.strip("$").strip(), display=display), "html.parser"))
        elif part:
            made.append(NavigableString(part))
    node.replace_with(*made)


def _listing(name: str) -> BeautifulSoup:
    """A file of the repository with numbered lines that links can name."""
    text = (paths.ROOT / name).read_text(encoding="utf-8")
    try:
        lexer = get_lexer_for_filename(name)
    except ClassNotFound:
        lexer = TextLexer()
    html = highlight(text, lexer, HtmlFormatter(linenos="inline", lineanchors="L", wrapcode=True))
    html = html.replace('id="L-', 'id="L')
    return BeautifulSoup(f"<h1>{name}</h1>{html}", "html.parser")


def write(folder: Path) -> int:
    """Write the site to ``folder``, which is replaced whole or not at all; returns its number of pages.

    Raises:
        SiteError: the folder holds something else than an earlier site.
    """
    if folder.exists() and any(folder.iterdir()) and not (folder / "style.css").exists():
        raise SiteError(f"{folder} holds other files: give a new folder, or an earlier site's")
    part = folder.with_name(f"{folder.name}.part")
    shutil.rmtree(part, ignore_errors=True)
    count = Builder(part).build()
    shutil.rmtree(folder, ignore_errors=True)
    part.rename(folder)
    return count


def main(arguments: list[str] | None = None) -> int:
    """The command line; returns the exit status."""
    parser = argparse.ArgumentParser(prog="python -m distil.website", description=__doc__.partition("\n")[0])
    parser.add_argument("--folder", type=Path, default=paths.ROOT / "artifacts" / "site")
    options = parser.parse_args(arguments)
    try:
        count = write(options.folder)
    except SiteError as error:
        print(f"error: {error}", file=sys.stderr)
        return 1
    print(f"{count} pages: open {options.folder / 'index.html'}")
    return 0


if __name__ == "__main__":
    sys.exit(main())
