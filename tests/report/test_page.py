"""The page: it runs nothing foreign and asks for nothing, as HTML and in a real browser.

What needs Chromium and its driver (Debian: chromium, chromium-driver) is skipped without them.
"""

from __future__ import annotations

import json
import shutil
from typing import TYPE_CHECKING

import pytest

from hpolab import write_report

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


def show(browser: Chrome, path: Path, *, width: int = 1200, theme: str = "light") -> None:
    """Open a report on a screen of this width, by a user who prefers this theme."""
    screen = {"width": width, "height": 800, "deviceScaleFactor": 1, "mobile": width < 600}
    browser.execute_cdp_cmd("Emulation.setDeviceMetricsOverride", screen)
    prefers = {"features": [{"name": "prefers-color-scheme", "value": theme}]}
    browser.execute_cdp_cmd("Emulation.setEmulatedMedia", prefers)
    browser.get_log("browser")
    browser.get_log("performance")
    browser.get(path.as_uri())


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
