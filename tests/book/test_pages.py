"""Every page of the built book: valid, light, accessible, readable without script, and no link that leads nowhere."""

import os
import re
from collections import Counter
from html.parser import HTMLParser
from urllib.parse import unquote, urlsplit

import html5lib
import nbformat
import pytest
from axe_playwright_python.sync_playwright import Axe
from conftest import HTML, PAGES, ROOT
from playwright.sync_api import Browser

from raretok.claims.wording import verdicts_in_markdown
from raretok.store import Store
from raretok.sweep.summary import read_summaries

BOOK = Store(os.environ.get("RARETOK_STORE", ROOT / ".raretok"))
"""Where the book keeps its results; tests have stores of their own."""
HEAVIEST = 2_000_000
"""Bytes that a page may ask for, its own and those of its styles and scripts, not compressed."""

pytestmark = pytest.mark.book


class Seen(HTMLParser):
    """Ids and links of a page."""

    def __init__(self, page: str):
        super().__init__()
        self.ids, self.links = Counter(), set()
        self.feed((HTML / page).read_text(encoding="utf-8"))

    def handle_starttag(self, tag, attrs):
        found = dict(attrs)
        if "id" in found:
            self.ids[found["id"]] += 1
        if tag == "a" and "name" in found:
            self.ids[found["name"]] += 0
        for name in ("href", "src"):
            if found.get(name):
                self.links.add(found[name])


@pytest.fixture(scope="module")
def seen():
    return {
        path.relative_to(HTML).as_posix(): Seen(path.relative_to(HTML))
        for path in HTML.rglob("*.html")
        if "_static" not in path.parts
    }


@pytest.mark.parametrize("page", PAGES)
def test_a_page_is_valid_html(page, seen):
    parser = html5lib.HTMLParser()
    parser.parse((HTML / f"{page}.html").read_text(encoding="utf-8"))
    assert [(place, code) for place, code, _ in parser.errors] == []
    assert [name for name, count in seen[f"{page}.html"].ids.items() if count > 1] == []


def test_no_link_inside_the_book_leads_nowhere(seen):
    lost = []
    for page, found in seen.items():
        for link in found.links:
            there = urlsplit(link)
            if there.scheme or there.netloc:
                continue
            target = (HTML / page).parent / unquote(there.path) if there.path else HTML / page
            name = target.resolve().relative_to(HTML.resolve()).as_posix()
            if not target.is_file() or (
                there.fragment and name in seen and unquote(there.fragment) not in seen[name].ids
            ):
                lost.append((page, link))
    assert lost == []


@pytest.mark.parametrize("page", PAGES)
def test_a_page_is_light(browser: Browser, address, page):
    tab, asked = browser.new_page(), set()
    tab.on("request", lambda r: asked.add(urlsplit(r.url)) if r.url.startswith(address) else None)
    tab.goto(f"{address}/{page}.html", wait_until="networkidle")
    files = {u.path: (HTML / unquote(u.path).lstrip("/")).read_bytes() for u in asked}
    assert sum(map(len, files.values())) < HEAVIEST, sorted((-len(f), path) for path, f in files.items())[:5]
    tab.close()


@pytest.mark.parametrize("page", PAGES)
def test_text_and_formulas_are_there_without_script(browser: Browser, address, page):
    context = browser.new_context(java_script_enabled=False)
    tab = context.new_page()
    tab.goto(f"{address}/{page}.html")
    article = tab.locator("article.bd-article")
    assert article.locator("h1").first.is_visible()
    assert len(article.inner_text()) > 300
    for formula in article.locator("math:not(details math)").all()[:5]:
        assert formula.bounding_box()["width"] > 2
    context.close()


@pytest.mark.parametrize(
    ("page", "mode"),
    [(p, "light") for p in PAGES] + [(f"chapters/{p}", "dark") for p in ("index", "neurons", "method", "scorecard")],
)
def test_a_page_is_accessible(browser: Browser, address, page, mode):
    context = browser.new_context(color_scheme=mode, viewport={"width": 1280, "height": 900})
    tab = context.new_page()
    tab.goto(f"{address}/{page}.html")
    charts = tab.locator(".raretok-chart")
    for k in range(charts.count()):
        charts.nth(k).locator("svg").first.wait_for(timeout=120_000)
    found = Axe().run(tab, options={"resultTypes": ["violations"]}).response["violations"]
    serious = {
        v["id"]: (v["help"], [n["html"][:160] for n in v["nodes"][:3]])
        for v in found
        if v["impact"] in ("serious", "critical")
    }
    assert serious == {}
    context.close()


def test_the_sidebar_and_the_first_control_are_reached_by_keyboard(browser: Browser, address):
    tab = browser.new_page(viewport={"width": 1280, "height": 900})
    tab.goto(f"{address}/{PAGES[0]}.html")
    seen = []
    for _ in range(60):
        tab.keyboard.press("Tab")
        seen.append(
            tab.evaluate("(document.activeElement.getAttribute('href') || document.activeElement.className || '') + ''")
        )
    assert "#main-content" in seen[0]
    assert any("scorecard.html" in x for x in seen)
    assert any("theme-switch" in x for x in seen)
    tab.close()


def test_every_page_of_code_can_be_taken_along_as_a_notebook():
    for page in PAGES:
        source = (ROOT / f"{page}.md").read_text(encoding="utf-8")
        notebook = HTML / "_sources" / f"{page}.ipynb"
        assert notebook.is_file() == ("kernelspec:" in source)
        if notebook.is_file():
            nbformat.validate(nbformat.read(notebook, as_version=4))
            assert f'_sources/{page}.ipynb"' in (HTML / f"{page}.html").read_text(encoding="utf-8")


def test_a_link_to_a_page_shows_what_it_is_about():
    for page in PAGES:
        text = (HTML / f"{page}.html").read_text(encoding="utf-8")
        for name in ("og:title", "og:description", "og:image"):
            assert re.search(rf'<meta property="{name}" content="[^"]+" />', text), (page, name)
    assert (HTML / "_static" / "card.png").read_bytes().startswith(b"\x89PNG")


def test_a_table_can_be_saved(browser: Browser, address, tmp_path):
    tab = browser.new_page(accept_downloads=True)
    tab.goto(f"{address}/chapters/scorecard.html")
    with tab.expect_download() as download:
        tab.locator("a.raretok-save").first.click()
    download.value.save_as(tmp_path / "claims.csv")
    lines = (tmp_path / "claims.csv").read_text(encoding="utf-8").splitlines()
    assert lines[0].startswith("id,claim,source,reported")
    assert len(lines) > 20
    tab.close()


def test_the_readme_has_the_verdicts_of_the_book():
    found = read_summaries(BOOK, needed=True).last()
    of_the_book = [("smollm2-135m", "movie-reviews", 256), ("reviews-neox", "movie-reviews-heldout", 128)]
    settings = found.studies[["model", "corpus", "windows"]].itertuples(index=False, name=None)
    names = [name for name, setting in zip(found.studies["study"], settings, strict=True) if setting in of_the_book]
    assert len(names) == len(of_the_book)
    table = verdicts_in_markdown(found.claims[found.claims["study"].isin(names)])
    assert table in (ROOT / "README.md").read_text(encoding="utf-8"), f"put this into the README:\n{table}"
