"""The site in a real browser, at phone and desktop width, and its student against Python."""

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
spec.loader.exec_module(site_tool := importlib.util.module_from_spec(spec))
HARD = """He can't, won't; DON'T! I'd've gone... it isn't.
"Quoted," she said. 'Single' ones'' «chevrons» “curly” ‘single’ don’t ``back'' `tick`
Mr. Smith left. Then MRS. Jones came. The end. "Begin" (again). A.B.C. is U.S. made. Good.
Cannot gonna gotta lemme wanna go d'ye more'n gimme 'tis 'Twas it rock 'n' roll the '90s 'em
$3.88, 3,36: 10:30 a--b – c — d [brackets] {braces} <tags> (x) #tag @user 50% & *,
naïve café's ÉTÉ İstanbul ΣΟΦΟΣ écannot 日本語。 one. d–e 5*4  """.splitlines()
HARD += ["", " ", ".", "..", "colon:\n", "stop.\n", "x\x1cy\x85z\xa0w\u2028v"]
PARTS = [*" aTs.,:'\"`()[]-$", "n't", "'ll", "''", "Mr", "cannot", "é"]
SEEN = """() => {
  const all = chosen => [...document.querySelectorAll(chosen)];
  const scrolls = e => e.tagName != "ARTICLE"
    && (/auto|scroll/.test(getComputedStyle(e).overflowX) || scrolls(e.parentElement));
  return {
  tooWide: all("article *:not(mjx-container *)").filter(e => e instanceof HTMLElement
    && e.getBoundingClientRect().right > innerWidth + 1 && !scrolls(e)).map(e => e.outerHTML.slice(0, 80)),
  noPicture: [...document.images].filter(i => !i.complete || !i.naturalWidth).map(i => i.src),
  badFormula: all("mjx-merror, .math:not(:has(mjx-container svg))").length,
  undrawn: all(".highlight-mermaid, pre.mermaid:not(:has(svg))").length,
  links: [...document.links].map(a => a.href), ids: all("[id]").map(e => e.id) }}"""
SETTLED = """() => document.readyState == "complete"
  && !document.querySelector(".highlight-mermaid, pre.mermaid:not([data-processed])")
  && (!window.MathJax || MathJax.startup.promise.then(() => true))"""


@pytest.fixture(scope="module")
def released(tmp_path_factory):
    """A student of realistic size with random weights, as ``make release`` leaves one."""
    quantization = pytest.importorskip("onnxruntime.quantization")
    folder = tmp_path_factory.mktemp("release")
    torch.manual_seed(0)
    known = sorted({word for text in HARD for word in tokenize(text)})[::2]
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
    for name in ("sphinx", "myst_nb", "furo", "playwright"):
        pytest.importorskip(name, reason=f"{name} is missing: pip install -e '.[site]'")
    files = {name: packages.PACKAGES / f"{name.replace('@', '-')}.tgz" for name in site_tool.NPM}
    if missing := [name for name, path in files.items() if not path.exists()]:
        pytest.skip(f"make site has not fetched {missing} yet")
    folder = tmp_path_factory.mktemp("out") / "site"
    command = [sys.executable, TOOL, "--student", released, "--out", folder]
    done = subprocess.run(command, capture_output=True, text=True)
    assert done.returncode == 0 and not done.stderr, done.stderr[-3000:]  # no warning either
    return folder


@pytest.fixture(scope="module")
def open_page(site):
    """A function that opens pages of a width; leaving it asserts that nothing went wrong there."""
    from playwright.sync_api import sync_playwright

    if not (path := shutil.which("chromium") or shutil.which("google-chrome")):
        pytest.skip("no browser is here: apt-get install chromium")
    handler = functools.partial(http.server.SimpleHTTPRequestHandler, directory=site)
    serving = http.server.ThreadingHTTPServer(("127.0.0.1", 0), handler)
    with serving as server, sync_playwright() as playwright:
        threading.Thread(target=server.serve_forever, daemon=True).start()
        address = f"http://127.0.0.1:{server.server_port}"
        browser = playwright.chromium.launch(executable_path=path, args=["--no-sandbox"])

        @contextmanager
        def opened(width):
            page = browser.new_page(viewport={"width": width, "height": 800}, base_url=address)
            wrong, ours = [], (address, "data:", "blob:")
            page.on("console", lambda m: m.type in ("error", "warning") and wrong.append(m.text))
            page.on("pageerror", lambda error: wrong.append(str(error)))
            page.on("request", lambda r: r.url.startswith(ours) or wrong.append(r.url))
            page.on("response", lambda r: r.status < 400 or wrong.append(f"{r.status} {r.url}"))
            yield page
            page.close()
            assert not wrong

        yield opened
        browser.close()
        server.shutdown()


@pytest.mark.slow
@pytest.mark.parametrize("width", [375, 1280])
def test_every_page_is_whole_and_every_link_leads_somewhere(site, open_page, width):
    pages = [path.relative_to(site).as_posix() for path in sorted(site.rglob("*.html"))]
    code = [name for name in pages if name.startswith(("distil/", "tests/", "tools/", "configs/"))]
    seen, drawn = {}, 0
    with open_page(width) as page:
        for name in sorted({*pages} - {*code[3:]}):  # three pages of code stand for all
            page.goto(f"/{name}")
            page.wait_for_function(SETTLED)
            drawn += page.locator("pre.mermaid svg").count()
            seen[name] = page.evaluate(SEEN)
            trouble = {key: seen[name][key] for key in list(seen[name])[:4] if seen[name][key]}
            assert not trouble, (name, trouble)
        home = page.url.removesuffix(name)
    texts = [path.read_text("utf-8") for path in (config.ROOT / "notebooks").glob("*.ipynb")]
    assert drawn >= sum(text.count("```mermaid") for text in texts) > 0
    for name in seen:
        for link in filter(lambda link: link.startswith(home), seen[name]["links"]):
            path, anchor = unquote(urlsplit(link).path[1:]) or "index.html", urlsplit(link).fragment
            assert (site / path).is_file(), (name, link)
            ids = seen[path]["ids"] if anchor and path in seen else [unquote(anchor)]
            assert unquote(anchor) in ids, (name, link)
    with open_page(1280) as page:  # sidebar, folded cells and search work
        page.goto("/notebooks/03_transfer_set.html")
        for neighbour in ("02_teacher.html", "04_student.html"):
            assert page.locator(f".related-pages a[href='{neighbour}']").count() == 1
        assert page.locator("details.hide").count() >= 1
        assert page.locator(".sidebar-tree a").count() > 15
        page.goto("/search.html?q=bootstrap")
        page.wait_for_selector("ul.search li a")


def test_the_student_answers_as_python_does(site, released, open_page):
    session = pytest.importorskip("onnxruntime").InferenceSession(released / "student-int8.onnx")
    words = json.loads((released / "vocabulary.json").read_bytes())
    ids = {word: number for number, word in enumerate(words)}

    def answer(row):
        inputs = {"ids": np.array([row]), "lengths": np.array([len(row)])}
        powers = np.exp(session.run(None, inputs)[0][0])
        return powers / powers.sum()

    pick = random.Random(0)
    texts = HARD + ["".join(pick.choices(PARTS, k=pick.randint(1, 25))) for _ in range(2000)]
    for path in sorted(config.TOY.rglob("*.tsv")):
        texts += path.read_text("utf-8").splitlines()[:150]
    with open_page(375) as page:
        page.goto("/try.html")
        page.wait_for_selector(".words small")
        cut = """async texts => { const { tokenize } = await import("/_static/tokenize.mjs");
          const { rules } = await (await import("/_static/try.mjs")).student;
          return texts.map(text => tokenize(text, rules)); }"""
        for text, found in zip(texts, page.evaluate(cut, texts), strict=True):
            assert found == tokenize(text), repr(text)
        asked = [*HARD, *texts[-3:]]
        ask = "async text => (await import('/_static/try.mjs')).classify(text)"
        answers = [page.evaluate(ask, text) for text in asked]
        page.fill("#try textarea", "A dull film.")
        page.wait_for_function("document.querySelectorAll('#try .words > span').length == 4")
    for text, found in zip(asked, answers, strict=True):
        row = encode(tokenize(text), ids)
        np.testing.assert_allclose(found["whole"], answer(row), atol=1e-3)
        for place, masked in enumerate(found["masked"]):
            other = [*row[:place], UNKNOWN, *row[place + 1 :]]
            np.testing.assert_allclose(masked, answer(other), atol=1e-3)
    assert np.ptp([found["whole"][0] for found in answers]) > 0.1  # agreement means something
    assert 1e6 < sum(p.stat().st_size for p in site.glob("_static/student/*")) < 15e6
