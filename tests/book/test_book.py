"""The built book as a reader meets it: a browser without any network, light and dark, wide and narrow."""

import re
import shutil
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import pytest
from conftest import HTML, PAGES, ROOT
from playwright.sync_api import Browser, Page

SHOTS = ROOT / "_build" / "screenshots"
PATIENCE = 120_000
"""Milliseconds after which something that should show is taken not to come; no test waits for them where it comes."""
PIECE = 8000
"""Pixels of a page's height in one photograph: of a longer page there are several, as one takes ever longer."""
OUTSIDE = re.compile(r"""<(?:script|link|img|iframe)[^>]+(?:src|href)=["'](https?:)?//""")

BLACK = """marks => marks.filter(e => [getComputedStyle(e).fill, getComputedStyle(e).stroke].includes("rgb(0, 0, 0)"))
    .map(e => e.outerHTML.slice(0, 200))"""
"""What of a drawing is black."""

pytestmark = pytest.mark.book


def until(page: Page, condition: Callable[[], bool]) -> None:
    """Look again and again until something is so, however long a busy machine takes for it."""
    for _ in range(PATIENCE // 50):
        if condition():
            return
        page.wait_for_timeout(50)
    pytest.fail("nothing changed")


def photograph(page: Page, name: str, width: int) -> None:
    """Keep a picture of a whole page, in pieces where it is long."""
    SHOTS.mkdir(parents=True, exist_ok=True)
    height = page.evaluate("document.documentElement.scrollHeight")
    for top in range(0, height, PIECE):
        part = {"x": 0, "y": top, "width": width, "height": min(PIECE, height - top)}
        number = f"-{top // PIECE + 1}" if height > PIECE else ""
        page.screenshot(path=SHOTS / f"{name}{number}.png", full_page=True, clip=part, timeout=PATIENCE)


@pytest.mark.parametrize("page_name", PAGES)
@pytest.mark.parametrize(("mode", "width"), [("light", 1280), ("dark", 390)])
def test_every_chart_draws_and_nothing_is_asked_of_outside(browser: Browser, address, page_name, mode, width):
    context = browser.new_context(viewport={"width": width, "height": 900}, color_scheme=mode)
    page = context.new_page()
    troubles, outside = [], []
    page.on("console", lambda m: troubles.append(m.text) if m.type in ("error", "warning") else None)
    page.on("pageerror", lambda e: troubles.append(str(e)))
    page.on("request", lambda r: outside.append(r.url) if not r.url.startswith((address, "data:", "blob:")) else None)
    page.route(lambda url: not url.startswith(address), lambda route: route.abort())
    page.goto(f"{address}/{page_name}.html")
    charts = page.locator(".raretok-chart")
    for k in range(charts.count()):
        chart = charts.nth(k)
        chart.locator("svg").wait_for(timeout=PATIENCE)
        assert (
            chart.locator(
                "svg .mark-symbol path, svg .mark-rect path, svg .mark-line path, svg .mark-rule line"
            ).count()
            >= 3
        )
        assert chart.get_attribute("aria-label")
        plot = chart.locator("svg .mark-group.role-frame .background").first.bounding_box()
        assert plot["width"] < chart.bounding_box()["width"], "a chart is cut off"
    assert page.evaluate("document.documentElement.dataset.theme") == mode
    if mode == "dark":
        assert charts.locator("svg text, svg path, svg line").evaluate_all(BLACK) == [], "black on a dark page"
    assert page.evaluate("document.documentElement.scrollWidth <= window.innerWidth + 1"), "the page scrolls sideways"
    photograph(page, f"{Path(page_name).stem}-{mode}-{width}", width)
    assert troubles == []
    assert outside == []
    context.close()


def brightness(colour: str) -> int:
    """Sum of red, green and blue."""
    return sum(map(int, re.findall(r"\d+", colour)[:3]))


def test_charts_follow_a_change_of_theme(browser: Browser, address):
    page = browser.new_page(color_scheme="light")
    page.goto(f"{address}/chapters/corpus.html")
    title = page.locator(".raretok-chart svg .role-axis-title text").first
    title.wait_for()
    colour = "x => getComputedStyle(x).fill"
    light = title.evaluate(colour)
    page.evaluate("document.documentElement.dataset.theme = 'dark'")
    until(page, lambda: brightness(title.evaluate(colour)) > brightness(light) + 200)
    page.close()


def test_a_click_in_a_legend_fades_the_other_neurons(browser: Browser, address):
    page = browser.new_page()
    page.goto(f"{address}/chapters/identification.html")
    chart = page.locator(".raretok-chart", has_text="How the effect depends on the frequency")
    chart.locator("svg").wait_for()

    def opacities():
        return [float(x.get_attribute("opacity") or 1) for x in chart.locator("svg .mark-line path").all()]

    before = opacities()
    chart.scroll_into_view_if_needed()
    box = chart.locator("svg .role-legend-symbol path").first.bounding_box()
    page.mouse.click(box["x"] + box["width"] / 2, box["y"] + box["height"] / 2)
    assert set(before) == {1.0}
    until(page, lambda: min(opacities()) < 0.2)
    page.close()


def lines(chart):
    return [x.get_attribute("d") for x in chart.locator("svg .mark-line path").all()]


@pytest.mark.parametrize(
    ("page_name", "title", "choose"),
    [
        ("regimes", "what a null looks like in the same axes", {"null": "noise"}),
        ("regimes", "what a null looks like in the same axes", {"targets": "common"}),
        ("regimes", "what a null looks like in the same axes", {"model": "reviews-neox"}),
        ("regimes", "what a null looks like in the same axes", {"statistic": "activity", "form": "published"}),
        ("routing", "All heads of a layer together", {"targets": "common"}),
        ("intervention", "Ablated together, all", {"targets": "common"}),
        ("intervention", "neurons are scaled", {"neurons": "boost"}),
    ],
)
def test_a_choice_below_a_chart_changes_its_lines(browser: Browser, address, page_name, title, choose):
    page = browser.new_page()
    page.goto(f"{address}/chapters/{page_name}.html")
    chart = page.locator(".raretok-chart", has_text=title)
    chart.locator("svg").wait_for()
    for label, option in choose.items():
        before = lines(chart)
        chart.locator("label", has_text=label).locator("select").select_option(option)
        until(page, lambda before=before: lines(chart) != before)
    page.close()


def test_a_link_opens_the_card_of_its_neuron(browser: Browser, address):
    page = browser.new_page()
    page.goto(f"{address}/chapters/identification.html")
    link = page.locator('a[href^="neuron_cards.html#neuron-"]').first
    neuron = link.text_content()
    link.click()
    card = page.locator(f"#neuron-{neuron}")
    card.wait_for(state="visible")
    assert "Effects by target" in card.text_content()
    page.close()


def test_a_card_opens_by_keyboard(browser: Browser, address):
    page = browser.new_page()
    page.goto(f"{address}/chapters/neuron_cards.html")
    summary = page.locator(".raretok-cards summary").first
    body = summary.locator("xpath=following-sibling::div")
    assert not body.is_visible()
    summary.focus()
    page.keyboard.press("Enter")
    body.wait_for(state="visible")
    page.close()


def test_the_slider_moves_through_the_checkpoints(browser: Browser, address):
    page = browser.new_page()
    page.goto(f"{address}/chapters/emergence.html")
    chart = page.locator(".raretok-chart", has_text="The rank curve at each checkpoint")
    chart.locator("svg").wait_for()
    slider, before = chart.locator("input[type=range]"), None
    for place in (1, 5, int(slider.get_attribute("max"))):
        slider.evaluate("(x, v) => { x.value = v; x.dispatchEvent(new Event('input')) }", str(place))
        until(page, lambda before=before: lines(chart) != before)
        before = lines(chart)
        if place == 1:
            until(page, lambda: chart.locator("svg text", has_text="step ").first.text_content() == "step 0")
    page.close()


def test_no_page_names_an_outside_host_for_what_it_needs():
    for page in PAGES:
        text = (HTML / f"{page}.html").read_text(encoding="utf-8")
        assert not OUTSIDE.search(text), OUTSIDE.search(text)
        assert "thebe" not in text.lower()


# Small books of their own, to see builds change and fail

MINI = """---
jupytext: {text_representation: {extension: .md, format_name: myst}}
kernelspec: {name: python3, display_name: Python 3, language: python}
---
# Page

```{code-cell} ipython3
import sys; sys.path.insert(0, "..")
from raretok.number import NUMBER
print("number is", NUMBER)
```
"""


@pytest.fixture
def mini(tmp_path):
    """A book with our settings and extensions, one chapter, and a package of one module."""
    book = tmp_path / "book"
    (book / "chapters").mkdir(parents=True)
    (book / "raretok").mkdir()
    shutil.copytree(ROOT / "_ext", book / "_ext")
    for name in ("_config.yml", "constraints.txt", "references.bib"):
        shutil.copy(ROOT / name, book / name)
    (book / "_toc.yml").write_text("format: jb-book\nroot: chapters/page\n")
    (book / "raretok" / "__init__.py").touch()
    (book / "raretok" / "number.py").write_text("NUMBER = 1\n")
    (book / "chapters" / "page.md").write_text(MINI)
    return book


def build(book: Path) -> subprocess.CompletedProcess:
    command = [str(Path(sys.executable).with_name("jupyter-book")), "build", str(book), "-n", "-W", "--keep-going"]
    return subprocess.run(command, capture_output=True, text=True)


def test_an_edit_of_the_package_changes_the_page(mini):
    def shown():
        done = build(mini)
        assert done.returncode == 0, done.stderr
        return re.search(r"number is (\d+)", (mini / "_build/html/chapters/page.html").read_text()).group(1)

    assert shown() == "1"
    (mini / "raretok" / "number.py").write_text("NUMBER = 23\n")
    assert shown() == "23"


def test_a_failing_chapter_fails_the_build(mini):
    (mini / "raretok" / "number.py").write_text("NUMBER = 1 / 0\n")
    done = build(mini)
    assert done.returncode != 0
    assert "ZeroDivisionError" in done.stderr + done.stdout


def test_a_page_whose_cached_run_is_lost_runs_again(mini):
    assert build(mini).returncode == 0
    [run] = (mini / "_build" / ".jupyter_cache").glob("executed/*/base.ipynb")
    run.write_text("{")  # as a build leaves it that is killed there
    with (mini / "chapters" / "page.md").open("a") as page:
        page.write("\nMore.\n")
    done = build(mini)
    assert done.returncode == 0, done.stderr
    text = (mini / "_build/html/chapters/page.html").read_text()
    assert "number is 1" in text
    assert "More." in text
