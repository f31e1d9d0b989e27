"""The built site in a real browser, from file://: `make site` runs this where Chromium is.

Without Chromium and its driver every test is skipped, and says so.
"""

import shutil
from importlib.util import find_spec
from pathlib import Path

import pytest

SITE = Path(__file__).parents[1] / "build" / "site"
BROWSER, DRIVER = shutil.which("chromium"), shutil.which("chromedriver")
pytestmark = pytest.mark.skipif(
    not (BROWSER and DRIVER), reason="no chromium and chromedriver here: the site was not looked at"
)
PAGES = sorted(p.relative_to(SITE).as_posix() for p in SITE.rglob("*.html"))


@pytest.fixture(scope="module")
def browser():
    from selenium import webdriver

    options = webdriver.ChromeOptions()
    options.binary_location = BROWSER
    for argument in ("--headless=new", "--no-sandbox", "--allow-file-access-from-files"):
        options.add_argument(argument)
    options.set_capability("goog:loggingPrefs", {"browser": "ALL", "performance": "ALL"})
    driver = webdriver.Chrome(options, webdriver.ChromeService(DRIVER))
    driver.set_script_timeout(60)
    yield driver
    driver.quit()


def look(browser, page, query=""):
    """Open a page of the site; what its console said before is forgotten."""
    browser.get_log("browser")
    browser.get_log("performance")
    browser.get((SITE / page).as_uri() + query)


@pytest.mark.parametrize("page", PAGES)
def test_a_page_loads_alone_and_in_silence(browser, page):
    look(browser, page)
    said = [entry["message"] for entry in browser.get_log("browser")]
    assert not [text for text in said if "SEVERE" in text or "Error" in text], said
    asked = [entry["message"] for entry in browser.get_log("performance")]
    outside = [m for m in asked if "requestWillBeSent" in m and '"url":"http' in m]
    assert not outside, outside[0]


@pytest.mark.parametrize("page", PAGES)
def test_links_within_the_site_resolve(browser, page):
    from selenium.webdriver.common.by import By

    look(browser, page)
    links = {a.get_attribute("href") for a in browser.find_elements(By.CSS_SELECTOR, "a[href]")}
    for link in links:
        if link and link.startswith("file://"):
            target = Path(link.removeprefix("file://").partition("#")[0].partition("?")[0])
            assert target.exists(), link


def test_mathematics_is_drawn(browser):
    from selenium.webdriver.common.by import By
    from selenium.webdriver.support.ui import WebDriverWait

    look(browser, "pages/theory.html")
    drawn = WebDriverWait(browser, 20).until(
        lambda b: b.find_elements(By.CSS_SELECTOR, "mjx-container svg")
    )
    assert len(drawn) >= 3


def test_search_finds_collapse(browser):
    from selenium.webdriver.common.by import By
    from selenium.webdriver.support.ui import WebDriverWait

    look(browser, "search.html", "?q=collapse")
    found = WebDriverWait(browser, 20).until(
        lambda b: b.find_elements(By.CSS_SELECTOR, "#search-results li a")
    )
    assert found


@pytest.mark.parametrize("page", ["index.html", "notebooks/01_quickstart.html"])
@pytest.mark.parametrize("slider", ["explorer-reg", "explorer-std"])
def test_sliders_move_points(browser, slider, page):
    look(browser, page)
    picture = "return document.getElementById('explorer').toDataURL()"
    before = browser.execute_script(picture)
    move = (
        f"const s = document.getElementById('{slider}');"
        "s.value = s.max; s.dispatchEvent(new Event('input'));"
    )
    browser.execute_script(move)
    assert browser.execute_script(picture) != before


def test_claims_are_filtered(browser):
    from selenium.webdriver.common.by import By

    look(browser, "claims.html")
    rows = browser.find_elements(By.CSS_SELECTOR, ".claims tbody tr")
    browser.find_element(By.CSS_SELECTOR, "[data-show=FAIL]").click()
    shown = [row for row in rows if row.is_displayed()]
    assert 0 < len(shown) < len(rows)
    assert all("FAIL" in row.text for row in shown)


@pytest.mark.parametrize("page", ["index.html", "claims.html", "notebooks/01_quickstart.html"])
def test_a_phone_sees_the_page_whole(browser, page):
    phone = {"width": 375, "height": 800, "deviceScaleFactor": 2, "mobile": True}
    browser.execute_cdp_cmd("Emulation.setDeviceMetricsOverride", phone)
    look(browser, page)
    wide = browser.execute_script("return document.documentElement.scrollWidth")
    browser.execute_cdp_cmd("Emulation.clearDeviceMetricsOverride", {})
    assert wide <= 375


@pytest.mark.parametrize("theme", ["light", "dark"])
@pytest.mark.parametrize("page", ["index.html", "claims.html", "notebooks/01_quickstart.html"])
def test_axe_finds_no_serious_fault(browser, page, theme):
    axe = Path(find_spec("axe_core_python").origin).parent / "axe.min.js"
    look(browser, page)
    browser.execute_script(f"document.documentElement.dataset.theme = '{theme}'")
    browser.execute_script(axe.read_text(encoding="utf-8"))
    found = browser.execute_async_script(
        "const done = arguments[arguments.length - 1];"
        "axe.run({resultTypes: ['violations']}).then((all) => done(all.violations"
        ".filter((v) => ['serious', 'critical'].includes(v.impact))"
        ".map((v) => [v.id, v.nodes[0].html.slice(0, 200)])));"
    )
    assert not found


def test_every_picture_has_words(browser):
    from selenium.webdriver.common.by import By

    look(browser, "index.html")
    pictures = browser.find_elements(By.CSS_SELECTOR, "img, canvas")
    assert pictures
    assert all(p.get_attribute("alt") or p.get_attribute("aria-label") for p in pictures)


def test_it_is_not_heavy():
    assert sum(p.stat().st_size for p in SITE.rglob("*") if p.is_file()) < 40e6
