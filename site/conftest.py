"""A browser that reads the built site from file://. Without one, what asks for it is skipped."""

import shutil
from pathlib import Path

import pytest

SITE = Path(__file__).parents[1] / "build" / "site"


@pytest.fixture(scope="session")
def browser():
    found, driver = shutil.which("chromium"), shutil.which("chromedriver")
    if not (found and driver):
        pytest.skip("no chromium and chromedriver here: the site was not looked at")
    from selenium import webdriver

    options = webdriver.ChromeOptions()
    options.binary_location = found
    for argument in ("--headless=new", "--no-sandbox", "--allow-file-access-from-files"):
        options.add_argument(argument)
    options.set_capability("goog:loggingPrefs", {"browser": "ALL", "performance": "ALL"})
    opened = webdriver.Chrome(options, webdriver.ChromeService(driver))
    opened.set_window_size(1400, 900)
    opened.set_script_timeout(60)
    yield opened
    opened.quit()


@pytest.fixture
def look(browser):
    """Opens a page of the site; what the console said before is forgotten."""

    def look(page, query=""):
        browser.get_log("browser")
        browser.get_log("performance")
        browser.get((SITE / page).as_uri() + query)

    return look
