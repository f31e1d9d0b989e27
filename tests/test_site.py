"""The pages that `make site` built, as far as a quick look goes: links, questions, what moves.

The site has an environment of its own, so without it, without pages or with pages older than what
they show this is skipped, with a line that says why. `make site` looks at every page.
"""

import shutil
import subprocess
import sys
from importlib.util import find_spec
from pathlib import Path

import pytest

ROOT = Path(__file__).parent.parent
# Every link, and the two of a new reader's questions that take two clicks: 14 s of one core.
QUICK = "site/test_links.py", "site/test_journeys.py", "-k", "links or Theorem or fails"
SHOWN = "docs/*.md", "figures/*.*", "site/**/*.*", "privgan/**/*.py", "CITATION.cff"


def python():
    """The interpreter that has Selenium: this one, or that of `make site`."""
    if find_spec("selenium"):
        return sys.executable
    ready = ROOT / ".venv-site" / "ready"
    return ready.parent / "bin" / "python" if ready.exists() else None


def why_not():
    """Why the pages cannot be looked at here; None if they can."""
    front = ROOT / "build" / "site" / "index.html"
    if not front.exists():
        return "no pages in build/site; make site"
    if python() is None:
        return "no Selenium here and no .venv-site; make site"
    if not (shutil.which("chromium") and shutil.which("chromedriver")):
        return "no chromium and chromedriver here"
    newest = max((p for s in SHOWN for p in ROOT.glob(s) if p.is_file()), key=modified)
    if modified(newest) > modified(front):
        return f"the pages are older than {newest.relative_to(ROOT)}; make site"
    return None


def modified(path):
    return path.stat().st_mtime


def test_the_pages_answer_a_new_readers_questions_in_a_browser():
    reason = why_not()
    if reason:
        pytest.skip(f"the site was not looked at: {reason}")
    command = [python(), "-m", "pytest", "-q", "-p", "no:cacheprovider", *QUICK]
    looked = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, check=False)
    assert looked.returncode == 0, looked.stdout[-4000:] + looked.stderr[-1000:]
    assert "skipped" not in looked.stdout, looked.stdout
