"""A new reader's questions, answered by clicks, and what on a page moves: a browser follows them.

The questions are the table of ARTIFACT-APPENDIX.md: what to click, and what then stands there.
"""

import re
from pathlib import Path

import pytest
from selenium.webdriver.common.by import By
from selenium.webdriver.support.ui import WebDriverWait

ROOT = Path(__file__).parents[1]
QUESTIONS = re.findall(
    r"^\| (.+\?) \| (.+) \| (.+) \|$", (ROOT / "ARTIFACT-APPENDIX.md").read_text(), re.MULTILINE
)
assert len(QUESTIONS) == 9, "the appendix has no table of nine questions"


def click(browser, words):
    """A link or a button of the page, by its words: its text first, then the lists beside it."""
    for where in ("article", "body"):
        for thing in browser.find_element(By.TAG_NAME, where).find_elements(
            By.XPATH, f".//a[normalize-space()='{words}'] | .//button[normalize-space()='{words}']"
        ):
            if thing.is_displayed():
                thing.click()
                return
    raise AssertionError(f"nothing here says {words}")


@pytest.mark.parametrize(("question", "clicks", "answer"), QUESTIONS)
def test_an_answer_is_at_most_three_clicks_away(browser, look, question, clicks, answer):
    steps = clicks.split(", ")
    assert len(steps) <= 3
    look("index.html")
    for words in steps:
        click(browser, words)
    shown = browser.execute_script("return document.querySelector('article').innerText")
    assert answer in " ".join(shown.split())


def test_search_finds_collapse(browser, look):
    look("search.html", "?q=collapse")
    found = WebDriverWait(browser, 20).until(
        lambda b: b.find_elements(By.CSS_SELECTOR, "#search-results li a")
    )
    assert found


@pytest.mark.parametrize("page", ["index.html", "notebooks/01_quickstart.html"])
@pytest.mark.parametrize("slider", ["explorer-reg", "explorer-std"])
def test_sliders_move_points(browser, look, slider, page):
    look(page)
    picture = "return document.getElementById('explorer').toDataURL()"
    before = browser.execute_script(picture)
    move = (
        f"const s = document.getElementById('{slider}');"
        "s.value = s.max; s.dispatchEvent(new Event('input'));"
    )
    browser.execute_script(move)
    assert browser.execute_script(picture) != before


def test_claims_are_filtered(browser, look):
    look("claims.html")
    rows = "return [...document.querySelectorAll('.claims tbody tr')].map((row) => row.innerText)"
    shown = "return [...document.querySelectorAll('.claims tbody tr:not([hidden])')]"
    everything = browser.execute_script(rows)
    click(browser, "FAIL")
    left = browser.execute_script(f"{shown}.filter((r) => r.offsetHeight).map((r) => r.innerText)")
    assert 0 < len(left) < len(everything)
    assert all("FAIL" in row for row in left)
