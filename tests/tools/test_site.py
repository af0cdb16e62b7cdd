"""The site in a real browser, and its student against Python."""

import functools
import http.server
import importlib.util
import json
import random
import shutil
import subprocess
import sys
import threading
from contextlib import contextmanager
from pathlib import Path
from urllib.parse import unquote, urlsplit

import numpy as np
import pytest
import torch

from distil import config, packages, student
from distil.batching import UNKNOWN, encode
from distil.speed.onnx import to_onnx
from distil.words import tokenize

TOOL = config.ROOT / "tools" / "site.py"
spec = importlib.util.spec_from_file_location("site_tool", TOOL)  # `site` is Python's own module
site_tool = importlib.util.module_from_spec(spec)
spec.loader.exec_module(site_tool)
HARD = """He can't, won't; DON'T! I'd've gone...|"Quoted," she said. 'Single' ones''|Mr. Smith left. Then he came.
The end. "Begin" (again). A.B.C. is U.S. made.|cannot gonna gotta lemme wanna go d'ye more'n gimme 'tis 'Twas it|$3.88, 3,36: 10:30
a--b – c — d|[brackets] {braces} <tags> (x)|``back'' `tick`|« chevrons » “curly” ‘single’ don’t|naïve café's ÉTÉ İstanbul ΣΟΦΟΣ
ecannot écannot|x\x1cy\x85z\xa0w\u2028v|rock 'n' roll the '90s 'em|ends with comma,|colon:\n|#tag @user 50% & *|..|.|  |日本語。 one.\n""".split(
    "|"
)
ABOUT = """() => ({
  wide: document.documentElement.scrollWidth - innerWidth,
  broken: [...document.images].filter(i => !i.complete || !i.naturalWidth).map(i => i.src),
  links: [...document.querySelectorAll("a[href]")].map(a => a.href),
  badMath: document.querySelectorAll("mjx-merror, [data-mjx-error]").length,
  rawMath: [...document.querySelectorAll(".math")].filter(m => !m.querySelector("mjx-container svg")).length,
  undrawn: document.querySelectorAll(".highlight-mermaid, pre.mermaid:not(:has(svg))").length,
  ids: [...document.querySelectorAll("[id]")].map(e => e.id),
})"""
SETTLED = """() => document.readyState == "complete" && (!window.MathJax?.startup || MathJax.startup.promise.then(() => true))
  && !document.querySelector(".highlight-mermaid, pre.mermaid:not([data-processed])")"""


def sentences():
    """Toy sentences, hard cases, and random strings of what the rules look at."""
    toy = [p.read_text("utf-8").splitlines() for p in sorted(config.TOY.rglob("*.tsv"))]
    pick, parts = random.Random(0), [*" aTs.,:'\"`()[]-$", "n't", "'ll", "''", "Mr", "cannot", "é"]
    odd = ["".join(pick.choices(parts, k=pick.randint(1, 25))) for _ in range(2000)]
    return [line for lines in toy for line in lines[:150]] + HARD + odd


def test_the_page_cuts_words_as_python_does(tmp_path):
    if not (node := shutil.which("node")):
        pytest.skip("node is not installed (apt-get install nodejs)")
    (tmp_path / "in.json").write_text(json.dumps([site_tool.rules(), sentences()]))
    module = (site_tool.PARTS / "static/tokenize.mjs").as_uri()
    script = f"""import {{ tokenize }} from "{module}"; import {{ readFileSync }} from "node:fs";
      const [rules, texts] = JSON.parse(readFileSync(process.argv[1]));
      console.log(JSON.stringify(texts.map((text) => tokenize(text, rules))));"""
    command = [node, "--input-type=module", "-e", script, str(tmp_path / "in.json")]
    done = subprocess.run(command, capture_output=True, text=True, check=True)
    for text, found in zip(sentences(), json.loads(done.stdout), strict=True):
        assert found == tokenize(text), repr(text)


@pytest.fixture(scope="module")
def released(tmp_path_factory):
    """A student of realistic size with random weights, as ``make release`` leaves one."""
    quantization = pytest.importorskip("onnxruntime.quantization")
    folder = tmp_path_factory.mktemp("release")
    torch.manual_seed(0)
    known = sorted({w for text in sentences()[:200] for w in tokenize(text)})[::2]
    known = ["<pad>", "<unk>", *known, *(f"word{i}" for i in range(20_000 - len(known)))]
    shape = {"hidden_size": 150, "fc_size": 200, "num_labels": 2, "channels": "multichannel"}
    vectors = torch.randn(len(known), 50)
    net = student.BiLSTMStudent(vectors, **shape, pair=False, pooling="last", dropout=0.0).eval()
    net.output.weight.data *= 10  # so that a word changes the answer
    student.save(folder, net, known, ["negative", "positive"])
    to_onnx(net, folder / "student.onnx")
    quantization.quantize_dynamic(folder / "student.onnx", folder / "student-int8.onnx")
    return folder


@pytest.fixture(scope="module")
def site(released, tmp_path_factory):
    for name in ("sphinx", "myst_nb", "furo"):
        pytest.importorskip(name, reason=f"{name} is not installed (pip install -e '.[site]')")
    for package, _ in (site_tool.MATHJAX, site_tool.MERMAID, site_tool.RUNTIME):
        if not (packages.PACKAGES / f"{package.replace('@', '-')}.tgz").exists():
            pytest.skip(f"{package} is not in artifacts/packages (make site fetches it)")
    folder = tmp_path_factory.mktemp("out") / "site"
    command = [sys.executable, TOOL, "--student", released, "--out", folder]
    done = subprocess.run(command, capture_output=True, text=True, cwd=config.ROOT)
    assert done.returncode == 0 and not done.stderr, done.stderr[-3000:]
    return folder


class Quiet(http.server.SimpleHTTPRequestHandler):
    def log_message(self, *arguments):
        pass


@pytest.fixture(scope="module")
def address(site):
    handler = functools.partial(Quiet, directory=site)
    with http.server.ThreadingHTTPServer(("127.0.0.1", 0), handler) as server:
        threading.Thread(target=server.serve_forever, daemon=True).start()
        yield f"http://127.0.0.1:{server.server_port}"
        server.shutdown()


@pytest.fixture(scope="module")
def browser():
    api = pytest.importorskip("playwright.sync_api", reason="playwright is not installed")
    if not (path := shutil.which("chromium") or shutil.which("google-chrome")):
        pytest.skip("no browser is installed (apt-get install chromium)")
    with api.sync_playwright() as playwright:
        started = playwright.chromium.launch(executable_path=path, args=["--no-sandbox"])
        yield started
        started.close()


@contextmanager
def opened(browser, address, width):
    """A page of that width, and the list of everything that goes wrong on it."""
    page, wrong = browser.new_page(viewport={"width": width, "height": 800}), []
    page.on("console", lambda m: m.type in ("error", "warning") and wrong.append(m.text))
    page.on("pageerror", lambda error: wrong.append(str(error)))
    page.on(
        "request", lambda r: r.url.startswith((address, "data:", "blob:")) or wrong.append(r.url)
    )
    page.on("response", lambda r: r.status < 400 or wrong.append(f"{r.status} {r.url}"))
    page.on("requestfailed", lambda r: wrong.append(f"failed {r.url}"))
    yield page, wrong
    page.close()


@pytest.mark.slow
@pytest.mark.parametrize("width", [375, 1280])
def test_every_page_is_whole_and_asks_nobody_else(site, address, browser, width):
    names = [path.relative_to(site).as_posix() for path in sorted(site.rglob("*.html"))]
    code = [name for name in names if name.startswith(("distil/", "tests/", "tools/", "configs/"))]
    links, anchors, drawn = {}, {}, 0
    with opened(browser, address, width) as (page, wrong):
        for name in sorted({*names} - {*code[3:]}):  # a few pages of code stand for all
            page.goto(f"{address}/{name}")
            page.wait_for_function(SETTLED)
            drawn += page.locator("pre.mermaid svg").count()
            about = page.evaluate(ABOUT)
            assert not wrong, (name, wrong)
            for trouble in ("broken", "badMath", "rawMath", "undrawn"):
                assert not about[trouble], (name, trouble, about[trouble])
            assert about["wide"] <= 0, f"{name} is {about['wide']} px too wide at {width}"
            anchors[name], links[name] = set(about["ids"]), about["links"]
    fences = sum("```mermaid" in p.read_text() for p in (config.ROOT / "notebooks").glob("*.ipynb"))
    assert drawn >= fences > 0
    for name, targets in links.items():
        for target in filter(lambda target: target.startswith(address), targets):
            parts = urlsplit(target)
            path = unquote(parts.path).strip("/") or "index.html"
            assert (site / path).is_file(), (name, target)
            if parts.fragment and path in anchors:
                assert unquote(parts.fragment) in anchors[path], (name, target)


def test_the_sidebar_search_and_folded_cells_are_there(site, address, browser):
    with opened(browser, address, 1280) as (page, wrong):
        page.goto(f"{address}/notebooks/03_transfer_set.html")
        for target in ("02_teacher.html", "04_student.html"):  # previous and next
            assert page.locator(f".related-pages a[href='{target}']").count() == 1
        assert page.locator("details.hide-input, details.hide .cell_input").count() >= 2
        assert page.locator(".sidebar-tree a").count() > 15
        page.goto(f"{address}/search.html?q=bootstrap")
        page.wait_for_selector("ul.search li a")
        assert not wrong


def test_the_student_answers_as_python_does(site, released, address, browser):
    onnxruntime = pytest.importorskip("onnxruntime")
    session = onnxruntime.InferenceSession(released / "student-int8.onnx")
    words = json.loads((released / "vocabulary.json").read_bytes())
    ids = {word: number for number, word in enumerate(words)}

    def answer(row):
        inputs = {"ids": np.array([row]), "lengths": np.array([len(row)])}
        powers = np.exp(session.run(None, inputs)[0][0])
        return powers / powers.sum()

    with opened(browser, address, 375) as (page, wrong):
        page.goto(f"{address}/try.html")
        page.wait_for_selector(".words small")
        spread = []
        for text in [*sentences()[:40:4], *HARD]:
            row = encode(tokenize(text), ids)
            found = page.evaluate(
                "async text => (await import('./_static/try.mjs')).classify(text)", text
            )
            assert found["words"] == tokenize(text)
            np.testing.assert_allclose(found["whole"], answer(row), atol=1e-3)
            for place, masked in enumerate(found["masked"]):
                other = [*row[:place], UNKNOWN, *row[place + 1 :]]
                np.testing.assert_allclose(masked, answer(other), atol=1e-3)
            spread.append(found["whole"][0])
        assert np.ptp(spread) > 0.1  # the answers differ, so that agreement says something
        page.fill("#try textarea", "A dull film.")
        page.wait_for_function("document.querySelectorAll('#try .words > span').length == 4")
        assert page.locator("#try meter").count() == 2
        assert not wrong
    served = [p for p in site.rglob("_static/**/*") if "student" in p.parts or p.suffix == ".mjs"]
    assert 1e6 < sum(p.stat().st_size for p in served if p.is_file()) < 15e6


def test_without_a_student_the_page_says_so(tmp_path, monkeypatch):
    monkeypatch.setattr(site_tool.records, "ARTIFACTS", Path(tmp_path))
    assert site_tool.released() is None and "not built" in site_tool.MISSING
