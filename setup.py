"""What pyproject.toml cannot say: a description for package indexes, which hold no pictures."""

import re
from pathlib import Path

from setuptools import setup

README = (Path(__file__).parent / "README.md").read_text(encoding="utf-8")


def without_files(markdown: str) -> str:
    """``markdown`` less its pictures, its links to files of the repository becoming plain text."""
    markdown = re.sub(r"!\[[^\]]*\]\((?!http)[^)]*\)\n*", "", markdown)
    return re.sub(r"\[([^\]]*)\]\((?!http|#)[^)]*\)", r"\1", markdown)


setup(
    long_description=without_files(README),
    long_description_content_type="text/markdown",
)
