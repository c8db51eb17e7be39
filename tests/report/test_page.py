"""The page: it runs nothing foreign and asks for nothing, as HTML and in a real browser.

What needs Chromium and its driver (Debian: chromium, chromium-driver) is skipped without them.
"""

from __future__ import annotations

import hashlib
import json
import shutil
from importlib.resources import files
from typing import TYPE_CHECKING

import numpy as np
import optuna
import pytest
from optuna.distributions import FloatDistribution
from optuna.trial import create_trial

from hpolab import write_report
from hpolab.report.document import document_of

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator
    from pathlib import Path

    from selenium.webdriver import Chrome

CHROMIUM = shutil.which("chromium") or shutil.which("google-chrome")
DRIVER = shutil.which("chromedriver")

WIDTHS = {"phone": 400, "desktop": 1200}
DRAWN = """
return Array.from(document.querySelectorAll('.plot')).map(place => {
  const svg = place.querySelector('svg.main-svg');
  const box = svg ? svg.getBoundingClientRect() : {width: 0, height: 0};
  const marks = place.querySelectorAll('.scatterlayer path, .barlayer path').length;
  return [place.id, box.width, box.height, marks];
});
"""


@pytest.fixture(scope="module")
def browser(
    tmp_path_factory: pytest.TempPathFactory, end_with_tests: Callable[[Path], None]
) -> Iterator[Chrome]:
    """A headless Chromium with a profile of its own; nothing is downloaded for it."""
    if CHROMIUM is None or DRIVER is None:
        pytest.skip("needs Chromium and its driver (apt-get install chromium chromium-driver)")
    from selenium import webdriver
    from selenium.webdriver.chrome.service import Service

    options = webdriver.ChromeOptions()
    options.binary_location = str(CHROMIUM)
    profile = tmp_path_factory.mktemp("profile")
    end_with_tests(profile)
    for argument in (
        "--headless=new",
        "--no-sandbox",  # refused to root otherwise
        "--disable-dev-shm-usage",
        "--disable-gpu",
        "--hide-scrollbars",
        f"--user-data-dir={profile}",
    ):
        options.add_argument(argument)
    options.set_capability("goog:loggingPrefs", {"browser": "ALL", "performance": "ALL"})
    service = Service(executable_path=str(DRIVER), popen_kw={"cwd": profile})
    driver = webdriver.Chrome(options=options, service=service)
    yield driver
    driver.quit()


def show(
    browser: Chrome,
    path: Path,
    *,
    width: int = 1200,
    theme: str = "light",
    is_drawn: bool = True,
) -> None:
    """Open a report on a screen of this width, by a user who prefers this theme.

    Returns once the figures are drawn, unless they cannot be.
    """
    screen = {"width": width, "height": 800, "deviceScaleFactor": 1, "mobile": width < 600}
    browser.execute_cdp_cmd("Emulation.setDeviceMetricsOverride", screen)
    prefers = {"features": [{"name": "prefers-color-scheme", "value": theme}]}
    browser.execute_cdp_cmd("Emulation.setEmulatedMedia", prefers)
    browser.get_log("browser")
    browser.get_log("performance")
    browser.get(path.as_uri())
    if not is_drawn:
        return
    drawn = "return document.documentElement.dataset.drawn !== undefined"
    assert wait_for(browser, lambda: browser.execute_script(drawn))


def requests(browser: Chrome) -> list[str]:
    events = [json.loads(entry["message"])["message"] for entry in browser.get_log("performance")]
    return [
        event["params"]["request"]["url"]
        for event in events
        if event["method"] == "Network.requestWillBeSent"
    ]


@pytest.fixture(scope="module")
def reports(tmp_path_factory, tuned, comparison, confirmation, swept) -> dict[str, Path]:
    """A report of each kind."""
    folder = tmp_path_factory.mktemp("reports")
    sources = {
        "study": tuned,
        "comparison": comparison,
        "confirmation": confirmation,
        "sweep": swept,
    }
    return {name: write_report(each, folder / f"{name}.html") for name, each in sources.items()}


@pytest.mark.parametrize("theme", ["light", "dark"])
@pytest.mark.parametrize("screen", ["phone", "desktop"])
@pytest.mark.parametrize("kind", ["study", "comparison", "confirmation", "sweep"])
def test_page_is_drawn_without_error_and_without_request(browser, reports, kind, screen, theme):
    show(browser, reports[kind], width=WIDTHS[screen], theme=theme)
    assert browser.get_log("browser") == []
    assert requests(browser) == [reports[kind].as_uri()]
    assert browser.execute_script("return performance.getEntriesByType('resource').length") == 0
    drawn = browser.execute_script(DRAWN)
    assert len(drawn) >= 2
    for figure, width, height, marks in drawn:
        assert width > 100, figure
        assert height > 100, figure
        assert marks > 0, figure
    assert browser.execute_script("return document.documentElement.scrollWidth") <= WIDTHS[screen]


def of_many_parameters() -> optuna.Study:
    """A study of forty parameters with names that fill a phone's width."""
    rng = np.random.default_rng(0)
    study = optuna.create_study(study_name="many_" * 12)
    ranges = {f"a_rather_long_{'x' * i}_{i}": FloatDistribution(0.0, 1.0) for i in range(40)}
    for value in range(12):
        params = {name: float(rng.random()) for name in ranges}
        study.add_trial(create_trial(value=float(value), params=params, distributions=ranges))
    return study


def of_two_values() -> optuna.Study:
    study = optuna.create_study(directions=["maximize", "minimize"])
    study.set_metric_names(["accuracy", "milliseconds"])
    for x in (0.1, 0.5, 0.9):
        ranges = {"x": FloatDistribution(0.0, 1.0)}
        study.add_trial(create_trial(values=[x, x], params={"x": x}, distributions=ranges))
    return study


@pytest.mark.filterwarnings("ignore::optuna.exceptions.ExperimentalWarning")
@pytest.mark.parametrize("screen", ["phone", "desktop"])
@pytest.mark.parametrize("make", [optuna.create_study, of_many_parameters, of_two_values])
def test_any_page_keeps_to_the_screen_and_is_without_error(browser, make, screen, tmp_path):
    path = write_report(make(), tmp_path / "report.html")
    show(browser, path, width=WIDTHS[screen])
    assert browser.execute_script("return document.documentElement.scrollWidth") <= WIDTHS[screen]
    assert browser.get_log("browser") == []


FIRST_SCREEN = """
const walker = document.createTreeWalker(document.querySelector('main'), NodeFilter.SHOW_TEXT);
const texts = [];
while (walker.nextNode()) {
  const range = document.createRange();
  range.selectNodeContents(walker.currentNode);
  const box = range.getBoundingClientRect();
  if (box.width > 2 && box.bottom > 0 && box.bottom <= arguments[0]) {
    texts.push(walker.currentNode.textContent);
  }
}
return texts.join(' ').replace(/\\s+/g, ' ');
"""


@pytest.mark.parametrize("screen", ["phone", "desktop"])
@pytest.mark.parametrize(
    ("kind", "says"),
    [
        ("study", "trial"),
        ("comparison", "Not known yet which of"),
        ("confirmation", "trial"),
        ("sweep", "the gain is not confirmed"),
    ],
)
def test_first_screen_is_the_answer_and_names_the_metric(browser, reports, kind, screen, says):
    show(browser, reports[kind], width=WIDTHS[screen])
    shown = browser.execute_script(FIRST_SCREEN, 800)
    headline = browser.execute_script(
        "return document.querySelector('.headline').textContent.trim()"
    )
    assert shown.strip().replace("Result ", "", 1).startswith(headline[:20])
    assert "accuracy" in shown
    assert says in shown


def test_axes_have_the_metrics_and_the_trainers_names(browser, reports):
    show(browser, reports["study"])
    titles = browser.execute_script(
        "return Array.from(document.querySelectorAll('.xtitle, .ytitle')).map(t => t.textContent)"
    )
    assert {"accuracy", "accuracy (maximized)", "reported accuracy", "lr", "beta2"} <= {*titles}
    assert not [title for title in titles if "value" in title or "one_minus" in title]


CONTRAST = """
const channel = c => (c /= 255) <= 0.04045 ? c / 12.92 : ((c + 0.055) / 1.055) ** 2.4;
const parts = color => color.match(/[\\d.]+/g).map(Number);
const light = color => {
  const [r, g, b] = parts(color).map(channel);
  return 0.2126 * r + 0.7152 * g + 0.0722 * b;
};
const ground = place => {
  for (; place; place = place.parentElement) {
    const color = getComputedStyle(place).backgroundColor;
    const found = parts(color);
    if (found.length < 4 || found[3] > 0.5) return color;
  }
};
const place = document.querySelector(arguments[0]);
const style = getComputedStyle(place);
const text = place instanceof SVGElement ? style.fill : style.color;
const [a, b] = [light(text), light(ground(place.closest('.plot') || place))].sort((x, y) => y - x);
return (a + 0.05) / (b + 0.05);
"""


TEXTS = [
    ".headline", ".answer p", "td", "th", "tr.strong td", ".note", ".tile span", "nav a",
    "figcaption", "summary", ".spelling pre", "button", "footer", "dt", ".xtick text", ".ytitle",
    ".legendtext",
]  # fmt: skip


@pytest.mark.parametrize("theme", ["light", "dark"])
def test_text_has_the_contrast_that_reading_takes(browser, reports, theme):
    show(browser, reports["study"], theme=theme)
    found = {selector: browser.execute_script(CONTRAST, selector) for selector in TEXTS}
    assert {selector: ratio for selector, ratio in found.items() if ratio < 4.5} == {}  # WCAG AA


def test_browser_that_cannot_unpack_the_figures_says_so(browser, reports):
    script = {"source": "delete window.DecompressionStream;"}
    added = browser.execute_cdp_cmd("Page.addScriptToEvaluateOnNewDocument", script)
    try:
        show(browser, reports["study"], is_drawn=False)
        shown = browser.execute_script("return document.querySelector('main').innerText")
    finally:
        browser.execute_cdp_cmd("Page.removeScriptToEvaluateOnNewDocument", added)
    assert shown.startswith("This browser is too old to unpack the figures")
    assert "accuracy" in shown


# Of plotly.js-basic-dist-min 4.1.1 on npm. What draws other kinds is not in it.
BASIC = "99784e3abfb07b142a15e521a439e6d9addceadb3f79553fd24c72774f0649ba"
KINDS_IN_BASIC = {"scatter", "bar", "pie"}


def test_figures_are_of_kinds_that_the_bundle_draws(tuned, comparison, confirmation, swept):
    script = files("hpolab.report").joinpath("plotly-basic.min.js").read_bytes()
    assert hashlib.sha256(script).hexdigest() == BASIC
    for source in (tuned, comparison, confirmation, swept, of_two_values()):
        for plot in document_of(source).plots():
            kinds = {trace.get("type", "scatter") for trace in plot.draw()["data"]}
            assert kinds <= KINDS_IN_BASIC, plot.name


def test_report_stays_small_and_equal_studies_are_equal_files(tuned, reports, tmp_path):
    assert reports["study"].stat().st_size < 800_000
    again = write_report(tuned, tmp_path / "again.html")
    assert again.read_bytes() == reports["study"].read_bytes()


def lightness(browser: Chrome, selector: str, style: str) -> float:
    """Return how light a color on the page is, 0 to 255."""
    color = browser.execute_script(
        "return getComputedStyle(document.querySelector(arguments[0]))[arguments[1]]",
        selector,
        style,
    )
    channels = color[color.index("(") + 1 : color.index(")")].split(",")[:3]
    return sum(map(float, channels)) / 3


def test_text_and_figures_follow_the_theme(browser, reports):
    for theme, is_dark in (("light", False), ("dark", True)):
        show(browser, reports["study"], theme=theme)
        ground = lightness(browser, "body", "backgroundColor")
        assert (ground < 80) == is_dark
        for selector, style in (("body", "color"), ("#plot-history .xtick text", "fill")):
            assert abs(lightness(browser, selector, style) - ground) > 100, (theme, selector)


def test_paper_is_light_and_holds_the_figures(browser, reports):
    show(browser, reports["study"], theme="dark")
    browser.execute_script("window.dispatchEvent(new Event('beforeprint'))")
    print_it = {
        "media": "print",
        "features": [{"name": "prefers-color-scheme", "value": "dark"}],
    }
    browser.execute_cdp_cmd("Emulation.setEmulatedMedia", print_it)
    assert lightness(browser, "body", "backgroundColor") > 200
    assert all(width <= 690 for _, width, _, _ in browser.execute_script(DRAWN))
    browser.execute_cdp_cmd("Emulation.setEmulatedMedia", {"media": ""})
    browser.execute_script("window.dispatchEvent(new Event('afterprint'))")
    assert any(width > 690 for _, width, _, _ in browser.execute_script(DRAWN))


@pytest.mark.parametrize("clipboard", [True, False])
def test_copy_button_copies_and_says_so(browser, reports, clipboard):
    show(browser, reports["study"])
    # What is copied is caught where the page hands it over: at its API, or by the copy event.
    browser.execute_script(
        """
        window.copied = [];
        const api = {writeText: text => { window.copied.push(text); return Promise.resolve(); }};
        const refusing = {writeText: () => Promise.reject(new Error('not allowed'))};
        Object.defineProperty(navigator, 'clipboard', {value: arguments[0] ? api : refusing});
        document.addEventListener('copy', event => {
          const area = document.activeElement;
          window.copied.push(area.value.slice(area.selectionStart, area.selectionEnd));
        });
        """,
        clipboard,
    )
    button = browser.find_element("css selector", ".spelling button")
    browser.execute_script("arguments[0].scrollIntoView({block: 'center'})", button)
    button.click()
    assert wait_for(browser, lambda: button.text == "Copied")
    shown = browser.find_element("css selector", ".spelling pre").get_property("textContent")
    assert browser.execute_script("return window.copied") == [shown]
    assert "lr: " in shown


def wait_for(browser: Chrome, condition) -> bool:
    from selenium.webdriver.support.wait import WebDriverWait

    return bool(WebDriverWait(browser, 10, poll_frequency=0.05).until(lambda _: condition()))


def test_nothing_of_a_hostile_study_runs(browser, hostile, tmp_path):
    path = write_report(hostile, tmp_path / "hostile.html")
    show(browser, path)
    assert browser.get_log("browser") == []
    assert requests(browser) == [path.as_uri()]
    assert browser.execute_script("return document.images.length") == 0
    texts = browser.execute_script(
        "return Array.from(document.querySelectorAll('.plot text')).map(t => t.textContent)"
    )
    assert any("</script><img" in text for text in texts)  # as text, in a figure
    assert "onerror" in browser.execute_script("return document.querySelector('h1').textContent")


def test_figures_offer_no_upload(browser, reports):
    show(browser, reports["study"])
    titles = browser.execute_script(
        "return Array.from(document.querySelectorAll('.modebar-btn'))"
        ".map(b => b.dataset.title || b.getAttribute('aria-label') || b.title)"
    )
    assert titles
    assert not [title for title in titles if "share" in title.lower() or "cloud" in title.lower()]


def test_names_and_texts_of_a_study_stay_text(page, hostile, tmp_path):
    shown = page(hostile)
    assert not [tag for tag, _ in shown.tags if tag == "img"]
    assert not [attrs for _, attrs in shown.tags if any(name.startswith("on") for name in attrs)]
    assert sum(tag == "script" for tag, _ in shown.tags) == len(shown.figures) + 2
    assert shown.text.count("{{7*7}}") > 5  # shown as it is, not worked out
    drawn = json.dumps(list(shown.figures.values()))
    assert "<img" not in drawn  # plotly.js reads some HTML in its texts
    assert "%{x}&" not in drawn


def test_page_asks_no_address_for_anything(page, tuned, tmp_path):
    shown = page(tuned)
    policy = next(
        attrs["content"]
        for tag, attrs in shown.tags
        if tag == "meta" and attrs.get("http-equiv") == "Content-Security-Policy"
    )
    assert policy.startswith("default-src 'none'; script-src 'sha256-")
    assert "unsafe-inline" not in policy.partition("style-src")[0]
    for tag, attrs in shown.tags:
        assert "src" not in attrs, tag
        assert (attrs.get("href") or "#").startswith("#")
    assert "://" not in json.dumps(list(shown.figures.values()))
