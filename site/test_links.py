"""The built site's links, read from its files: no browser is needed."""

import html
import re
from html.parser import HTMLParser
from pathlib import Path

SITE = Path(__file__).resolve().parents[1] / "build" / "site"
CELL = re.compile(r'<div class="cell_input .*?<pre>(.*?)</pre>', re.DOTALL)


class Page(HTMLParser):
    """Where a page's links lead, and the places in it that links may name."""

    def __init__(self, path):
        super().__init__()
        self.path, self.places, self.links = path, set(), []
        self.feed(path.read_text(encoding="utf-8"))

    def handle_starttag(self, tag, attrs):
        attrs = dict(attrs)
        self.places |= {attrs[name] for name in ("id", "name") if attrs.get(name)}
        if tag == "a" and attrs.get("href"):
            self.links.append(attrs["href"])

    def within(self):
        """Links to files of the site: the file and the place in it."""
        for link in self.links:
            if not re.match(r"[a-z]+:", link):
                file, _, place = link.partition("#")
                target = (self.path.parent / file).resolve() if file else self.path
                yield target, place


PAGES = {path: Page(path) for path in sorted(SITE.rglob("*.html"))}


def test_links_lead_to_a_page_and_to_a_place_in_it():
    assert PAGES, "no site yet: make site"
    for path, page in PAGES.items():
        for target, place in page.within():
            assert target.exists(), (path.name, target.name)
            assert not place or target not in PAGES or place in PAGES[target].places, (
                path.name,
                target.name,
                place,
            )


def test_every_claim_leads_to_the_cell_that_judged_it():
    """By its words, where these stand in the cell as they are."""
    claims = (SITE / "claims.html").read_text(encoding="utf-8")
    row = re.compile(r'<tr data-kind="[^"]*"><td><a href="(.+?)#(.+?)">.*?</a></td><td>(.*?)</td>')
    rows = row.findall(claims)
    assert len(rows) == claims.count("<tr data-kind=") > 0
    literal = 0
    for page, place, claim in rows:
        source = (SITE / page).read_text(encoding="utf-8")
        cells = [html.unescape(re.sub("<.*?>", "", c)) for c in CELL.findall(source)]
        if any(html.unescape(claim) in cell for cell in cells):
            literal += 1
            after = source.partition(f'id="{place}"')[2]
            cell = html.unescape(re.sub("<.*?>", "", CELL.search(after)[1]))
            assert html.unescape(claim) in cell, (page, claim)
    assert literal > 20
