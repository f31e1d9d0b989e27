"""Every page of the built site in a real browser; `make site` runs this."""

from importlib.util import find_spec
from pathlib import Path

import pytest
from selenium.webdriver.common.by import By
from selenium.webdriver.support.ui import WebDriverWait

SITE = Path(__file__).parents[1] / "build" / "site"
PAGES = sorted(p.relative_to(SITE).as_posix() for p in SITE.rglob("*.html"))


@pytest.mark.parametrize("page", PAGES)
def test_a_page_loads_alone_and_in_silence(browser, look, page):
    look(page)
    said = [entry["message"] for entry in browser.get_log("browser")]
    assert not [text for text in said if "SEVERE" in text or "Error" in text], said
    asked = [entry["message"] for entry in browser.get_log("performance")]
    outside = [m for m in asked if "requestWillBeSent" in m and '"url":"http' in m]
    assert not outside, outside[0]


def test_mathematics_is_drawn(browser, look):
    look("pages/theory.html")
    drawn = WebDriverWait(browser, 20).until(
        lambda b: b.find_elements(By.CSS_SELECTOR, "mjx-container svg")
    )
    assert len(drawn) >= 3


@pytest.mark.parametrize("page", ["index.html", "claims.html", "notebooks/01_quickstart.html"])
def test_a_phone_sees_the_page_whole(browser, look, page):
    phone = {"width": 375, "height": 800, "deviceScaleFactor": 2, "mobile": True}
    browser.execute_cdp_cmd("Emulation.setDeviceMetricsOverride", phone)
    look(page)
    wide = browser.execute_script("return document.documentElement.scrollWidth")
    browser.execute_cdp_cmd("Emulation.clearDeviceMetricsOverride", {})
    assert wide <= 375


@pytest.mark.parametrize("theme", ["light", "dark"])
@pytest.mark.parametrize("page", ["index.html", "claims.html", "notebooks/01_quickstart.html"])
def test_axe_finds_no_serious_fault(browser, look, page, theme):
    axe = Path(find_spec("axe_core_python").origin).parent / "axe.min.js"
    look(page)
    still = "document.head.append(Object.assign(document.createElement('style'), {textContent: "
    still += "'* { transition: none !important }'}));"  # no colour is on its way when axe looks
    browser.execute_script(f"{still} document.documentElement.dataset.theme = '{theme}'")
    browser.execute_script(axe.read_text(encoding="utf-8"))
    found = browser.execute_async_script(
        "const done = arguments[arguments.length - 1];"
        "axe.run({resultTypes: ['violations']}).then((all) => done(all.violations"
        ".filter((v) => ['serious', 'critical'].includes(v.impact))"
        ".map((v) => [v.id, v.nodes[0].html.slice(0, 200)])));"
    )
    assert not found


def test_every_picture_has_words(browser, look):
    look("index.html")
    pictures = browser.find_elements(By.CSS_SELECTOR, "img, canvas")
    assert pictures
    assert all(p.get_attribute("alt") or p.get_attribute("aria-label") for p in pictures)


def test_it_is_not_heavy():
    assert sum(p.stat().st_size for p in SITE.rglob("*") if p.is_file()) < 40e6
