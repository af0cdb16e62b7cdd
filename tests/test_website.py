"""The site: every link and picture leads somewhere, nothing comes from elsewhere, and a real browser shows it whole."""

import functools
import http.server
import json
import queue
import re
import shutil
import subprocess
import threading
from pathlib import Path
from urllib.parse import unquote

import pytest
from bs4 import BeautifulSoup

from distil import website

BROWSER = next(filter(None, map(shutil.which, ("chromium", "chromium-browser", "google-chrome", "chrome"))), None)
# Loads each page in a frame as wide as a phone's or a desktop's window, and says what a reader would complain about.
CHECK = """<!doctype html><title>check</title><body><script>
const complaints = [];
async function look(address, width) {
  const frame = document.createElement("iframe");
  frame.style.cssText = `width: ${width}px; height: 900px`;
  const loaded = new Promise(done => frame.onload = done);
  frame.src = address;
  document.body.append(frame);
  await loaded;
  const page = frame.contentDocument, where = `${address} at ${width}`;
  if (!page.querySelector("h1")) complaints.push(`${where}: no heading`);
  const room = page.documentElement.clientWidth;
  if (page.documentElement.scrollWidth > room) complaints.push(`${where}: ${page.documentElement.scrollWidth} wide`);
  for (const image of page.images) {
    await image.decode().catch(() => complaints.push(`${where}: a picture does not show`));
    if (image.getBoundingClientRect().width > room) complaints.push(`${where}: a picture is too wide`);
  }
  for (const formula of page.querySelectorAll("math"))
    if (formula.getBoundingClientRect().height < 5) complaints.push(`${where}: a formula does not show`);
  if (getComputedStyle(page.body).backgroundColor === "rgba(0, 0, 0, 0)") complaints.push(`${where}: no style`);
  frame.remove();
}
(async () => {
  for (const address of ADDRESSES) for (const width of [375, 1280]) await look(address, width);
  await fetch("/found", {method: "POST", body: JSON.stringify(complaints)});
})();
</script>"""


@pytest.fixture(scope="module")
def site(tmp_path_factory):
    """The site of the committed notebooks, and its pages parsed."""
    folder = tmp_path_factory.mktemp("made") / "site"
    count = website.write(folder)
    pages = {path: BeautifulSoup(path.read_text(encoding="utf-8"), "html.parser") for path in folder.rglob("*.html")}
    assert len(pages) == count > 40
    return folder, pages


def test_every_link_and_every_anchor_leads_somewhere(site):
    folder, pages = site
    broken = []
    for path, page in pages.items():
        for link in page.find_all("a", href=True):
            target, _, anchor = link["href"].partition("#")
            if re.match(r"[a-z]+:", target):
                continue
            there = (path.parent / unquote(target)).resolve() if target else path
            if there not in pages or (anchor and not pages[there].find(id=unquote(anchor))):
                broken.append(f"{path.relative_to(folder)}: {link['href']}")
    assert not broken


def test_nothing_is_loaded_from_elsewhere_and_no_script_runs(site):
    _, pages = site
    for path, page in pages.items():
        loaded = [
            tag.get("src") or tag.get("href") for tag in page.find_all(["img", "link", "script", "iframe", "source"])
        ]
        assert not page.find("script") and not [url for url in loaded if re.match(r"(https?:)?//", url)], path.name
        assert all(url.startswith("data:") or (path.parent / url).is_file() for url in loaded), path.name


def test_a_page_says_what_it_is_to_machines_and_to_those_who_cannot_see(site):
    _, pages = site
    for path, page in pages.items():
        assert page.html["lang"] == "en" and page.title.get_text().strip() and page.find(["h1", "h2"]), path.name
        assert all(image["alt"].strip() and not image["alt"].startswith("No desc") for image in page.find_all("img"))
    titles = [
        page.title.get_text() for path, page in pages.items() if path.parent.name == "chapters" and path.stem != "index"
    ]
    assert len(set(titles)) == len(titles) == 7


def test_formulas_are_drawn_and_none_is_left_as_source(site):
    folder, pages = site
    student = pages[folder / "chapters" / "04_student.html"]
    assert len(student.find_all("math", display="block")) == 3 and len(student.find_all("math")) > 8
    for path, page in pages.items():
        for text in page.find_all(string=re.compile(r"\$.*\$")):
            assert text.find_parent(["code", "pre"]), f"{path.name}: {text}"


def test_a_link_to_a_line_of_code_finds_that_line(site):
    folder, pages = site
    links = [link["href"] for link in pages[folder / "method.html"].find_all("a", href=re.compile(r"\.py\.html#L\d+$"))]
    assert len(links) > 20
    target, _, anchor = links[0].partition("#")
    assert pages[folder / target].find(id=anchor)


def test_a_link_that_leads_nowhere_stops_the_build(tmp_path, monkeypatch):
    page = website.Page("index.html", tmp_path / "page.md", "README.md")
    page.source.write_text("# A page\n\n[gone](distil/nothing.py)\n", encoding="utf-8")
    monkeypatch.setattr(website, "pages", lambda: {"README.md": page})
    with pytest.raises(website.SiteError, match=r"README\.md links to distil/nothing\.py, which is not there"):
        website.write(tmp_path / "site")
    assert not (tmp_path / "site").exists()


class Handler(http.server.SimpleHTTPRequestHandler):
    """Serves the site and, beside it, the page that looks at it and posts what it found."""

    def do_GET(self):
        if self.path != "/check.html":
            return super().do_GET()
        folder = Path(self.directory)
        addresses = sorted(
            f"/{path.relative_to(folder)}" for path in folder.rglob("*.html") if "code" not in path.parts
        )
        self.answer(CHECK.replace("ADDRESSES", json.dumps(addresses)).encode())

    def do_POST(self):
        self.server.found.put(json.loads(self.rfile.read(int(self.headers["Content-Length"]))))
        self.answer(b"")

    def answer(self, body):
        self.send_response(200)
        self.send_header("Content-Type", "text/html; charset=utf-8")
        self.send_header("Content-Length", str(len(body)))
        self.end_headers()
        self.wfile.write(body)

    def log_message(self, *arguments):
        """Say nothing."""


@pytest.mark.skipif(BROWSER is None, reason="no Chromium or Chrome is installed")
def test_a_browser_shows_every_page_whole_on_a_phone_and_on_a_desktop(site, tmp_path):
    folder, _ = site
    server = http.server.ThreadingHTTPServer(("127.0.0.1", 0), functools.partial(Handler, directory=str(folder)))
    server.found = queue.Queue()
    threading.Thread(target=server.serve_forever, daemon=True).start()
    command = [
        BROWSER,
        "--headless",
        "--no-sandbox",
        "--disable-gpu",
        f"--user-data-dir={tmp_path}",
        "--enable-logging=stderr",
    ]
    address = f"http://127.0.0.1:{server.server_port}/check.html"
    with (tmp_path / "log").open("w") as log, subprocess.Popen([*command, address], stdout=log, stderr=log) as browser:
        try:
            complaints = server.found.get(timeout=240)
        finally:
            browser.kill()
            server.shutdown()
    assert complaints == []
    assert "CONSOLE" not in (tmp_path / "log").read_text(encoding="utf-8", errors="replace")
