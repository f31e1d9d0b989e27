"""The built site's links, read from its files: no browser is needed."""

import re
from html.parser import HTMLParser
from pathlib import Path

SITE = Path(__file__).resolve().parents[1] / "build" / "site"
# A new user's questions, and the page that answers each.
ANSWERS = {
    "what is it": "pages/theory.html",
    "does it work on my noise": "pages/channels.html",
    "what epsilon means for a whole record": "notebooks/07_privacy.html",
    "how to choose reg": "pages/parameters.html",
    "where Theorem 2 is checked": "notebooks/03_sample_complexity.html",
    "what fails": "claims.html",
    "how to use my own table": "pages/tables.html",
    "how fast": "pages/speed.html",
    "how to cite": "pages/citation.html",
}


class Page(HTMLParser):
    """Where a page's links lead, and the places in it that links may name."""

    def __init__(self, path):
        super().__init__()
        self.path, self.places, self.links, self.in_article = path, set(), [], 0
        self.feed(path.read_text(encoding="utf-8"))

    def handle_starttag(self, tag, attrs):
        attrs = dict(attrs)
        self.in_article += tag == "article"
        self.places |= {attrs[name] for name in ("id", "name") if attrs.get(name)}
        if tag == "a" and attrs.get("href"):
            self.links.append((attrs["href"], self.in_article > 0))

    def handle_endtag(self, tag):
        self.in_article -= tag == "article"

    def within(self):
        """Links to files of the site: the file, the place in it, and whether text leads there."""
        for link, in_article in self.links:
            if not re.match(r"[a-z]+:", link):
                file, _, place = link.partition("#")
                target = (self.path.parent / file).resolve() if file else self.path
                yield target, place, in_article


PAGES = {path: Page(path) for path in sorted(SITE.rglob("*.html"))}


def test_links_lead_to_a_page_and_to_a_place_in_it():
    assert PAGES, "no site yet: make site"
    for path, page in PAGES.items():
        for target, place, _ in page.within():
            assert target.exists(), (path.name, target.name)
            assert not place or target not in PAGES or place in PAGES[target].places, (
                path.name,
                target.name,
                place,
            )


def test_every_answer_is_one_click_from_the_front_page():
    front = {target for target, _, by_text in PAGES[SITE / "index.html"].within() if by_text}
    for question, answer in ANSWERS.items():
        assert SITE / answer in front, question


def test_every_claim_leads_to_the_cell_that_judged_it():
    places = [place for _, place, _ in PAGES[SITE / "claims.html"].within()]
    rows = (SITE / "claims.html").read_text(encoding="utf-8").count("<tr data-kind=")
    assert places.count("verdict") >= rows > 0
