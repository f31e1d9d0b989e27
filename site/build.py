"""Puts the site's pages together and builds them: `make site`.

Notebooks are shown as executed, from figures/; docs/ and the claims are its other pages. What a
page links to in the repository, beside these, becomes plain text.
"""

import ast
import html
import re
import shutil
import sys
from importlib.util import find_spec
from pathlib import Path

import nbformat
from sphinx.cmd.build import build_main

import privgan as pg
from privgan.artifact.claims import found_in_words
from privgan.artifact.headlines import headlines
from privgan.artifact.publish import executed

HERE = Path(__file__).parent
ROOT = HERE.parent
SOURCE, SITE = ROOT / "build" / "site-source", ROOT / "build" / "site"
LINK = re.compile(r"(!?)\[((?:[^\[\]]|\[[^\]]*\])*)\]\((?!http|#)([^)\s]+)\)")
DISPLAYED = re.compile(r"\$\$(.+?)\$\$", re.DOTALL)
TEST = re.compile(r"`(test_\w+)`")
# Folders of names that have a page of their own in the reference, after the face.
FOLDERS = ("sinkhorn", "mechanisms", "generators", "reports", "training", "audit", "tables")


def notebooks() -> list[Path]:
    return sorted((ROOT / "figures").glob("[0-9]*.ipynb"))


def moved(text: str, up: str) -> str:
    """``text`` of a page whose links lead to files of the repository, for a page of the site.

    up: the way from the page to the site's root.
    """

    def link(match: re.Match[str]) -> str:
        picture, words, target = match.groups()
        place, _, anchor = target.partition("#")
        name = Path(place).name
        anchor = f"#{anchor}" if anchor else ""
        if (ROOT / "figures" / name).exists() and name.endswith(".ipynb"):
            return f"[{words}]({up}notebooks/{name}{anchor})"
        if picture and (ROOT / "figures" / name).exists():
            return f"![{words}]({up}pictures/{name})"
        if name == "CLAIMS.md":
            return f"[{words}]({up}claims.md)"
        if (ROOT / "docs" / name).exists():
            return f"[{words}]({up}pages/{name}{anchor})"
        return words

    return LINK.sub(link, text)


def write(path: str, text: str) -> None:
    target = SOURCE / path
    target.parent.mkdir(parents=True, exist_ok=True)
    target.write_text(text, encoding="utf-8")


def explorer(up: str) -> str:
    """The figure to play with, for a page whose way to the site's root is ``up``."""
    figure = (HERE / "_parts" / "explorer.html").read_text().replace('src="', f'src="{up}')
    return f"```{{raw}} html\n{figure}```\n"


def wordings(code: str) -> list[str]:
    """Patterns of the strings in a cell; what a string puts together in the run may be anything."""
    found = []
    for node in ast.walk(ast.parse(code)):
        if isinstance(node, ast.JoinedStr):
            said = (p.value if isinstance(p, ast.Constant) else None for p in node.values)
            found.append("".join(".+" if part is None else re.escape(part) for part in said))
        elif isinstance(node, ast.Constant) and isinstance(node.value, str):
            found.append(re.escape(node.value))
    return [pattern for pattern in found if " " in pattern]


def judging_cells(path: Path) -> dict[str, str]:
    """For each claim of an executed notebook, the id of the cell of code that words it.

    Claims that no cell words are left out; of several cells the one that leaves least open counts.
    """
    known = [
        (len(pattern), cell.id, pattern)
        for cell in nbformat.read(path, as_version=4).cells
        if cell.cell_type == "code"
        for pattern in wordings(cell.source)
    ]
    claims = executed(ROOT / "figures")[path.stem]["claims"]
    found = {}
    for text in (claim["claim"] for claim in claims):
        fitting = [(size, cell) for size, cell, pattern in known if re.fullmatch(pattern, text)]
        if fitting:
            found[text] = max(fitting)[1]
    return found


def show_notebooks() -> None:
    """Copies of the executed notebooks: parameters folded away, links for the site.

    Cells that judge a claim can be led to. The first notebook gets the figure to play with, below
    what it claims.
    """
    for path in notebooks():
        notebook = nbformat.read(path, as_version=4)
        for judging in sorted(set(judging_cells(path).values())):
            at = next(k for k, cell in enumerate(notebook.cells) if cell.id == judging)
            place = nbformat.v4.new_markdown_cell(f'<span id="judged-{judging}"></span>')
            place.id = f"judged-{judging}"
            notebook.cells.insert(at, place)
        for cell in notebook.cells:
            tags = cell.metadata.get("tags", [])
            if cell.cell_type == "markdown":
                cell.source = moved(cell.source, "../")
            elif {"parameters", "injected-parameters"} & set(tags):
                cell.metadata["tags"] = [*tags, "hide-input"]
        if path.stem == "01_quickstart":
            notebook.cells.insert(1, nbformat.v4.new_markdown_cell(explorer("../"), id="explorer"))
        target = SOURCE / "notebooks" / path.name
        target.parent.mkdir(parents=True, exist_ok=True)
        nbformat.write(notebook, target)


def show_pages() -> None:
    for path in sorted((ROOT / "docs").glob("*.md")):
        if path.stem != "index":
            write(f"pages/{path.name}", moved(path.read_text(), "../"))
    cite = (ROOT / "CITATION.cff").read_text()
    write("pages/citation.md", f"# How to cite\n\n```yaml\n{cite}```\n")


def show_claims() -> None:
    """Every claim, with buttons that leave those alone which fail or were revised."""
    head = ("notebook", "claim", "predicted", "measured", "tolerance", "verdict")
    rows = []
    for name, content in executed(ROOT / "figures").items():
        judged = judging_cells(ROOT / "figures" / f"{name}.ipynb")
        for claim in content["claims"]:
            revised = " revised" if claim.get("revised") or "revised" in claim["claim"] else ""
            measured = found_in_words(claim["measured"], claim.get("error", 0.0))
            words = [claim["claim"], claim["predicted"], measured, claim["tolerance"] + revised]
            cells = "".join(f"<td>{html.escape(str(word))}</td>" for word in words)
            cell = judged.get(claim["claim"])
            place = f"judged-{cell}" if cell else "verdict"
            link = f'<td><a href="notebooks/{name}.html#{place}">{name}</a></td>'
            verdict = f'<td class="{claim["verdict"]}">{claim["verdict"]}</td>'
            kind = f"{claim['verdict']}{revised}"
            rows.append(f'<tr data-kind="{kind}">{link}{cells}{verdict}</tr>')
    heads = "".join(f'<th scope="col">{word}</th>' for word in head)
    table = f'<table class="claims"><thead><tr>{heads}</tr></thead><tbody>{"".join(rows)}</tbody>'
    buttons = "".join(
        f'<button type="button" data-show="{kind}" aria-pressed="{str(not kind).lower()}">'
        f"{kind or 'all'}</button>"
        for kind in ("", "FAIL", "revised")
    )
    wide = '<div class="wide" tabindex="0" role="region" aria-label="claims">'  # scrolls on a phone
    write(
        "_parts/claims.html",
        f'<div class="claims-filter">{buttons}</div>{wide}{table}</table></div>',
    )
    text = (ROOT / "figures" / "CLAIMS.md").read_text().split("\n\n| notebook", 1)[0]
    raw = "```{raw} html\n:file: _parts/claims.html\n```\n"
    script = '```{raw} html\n<script src="_static/claims.js"></script>\n```\n'
    write("claims.md", f"{text}\n\n{raw}\n{script}")


def show_equations() -> None:
    """Displayed equations of notebooks and pages, with the tests named beside them."""
    rows = []
    for path in notebooks():
        for cell in nbformat.read(path, as_version=4).cells:
            if cell.cell_type != "markdown":
                continue
            tests = ", ".join(dict.fromkeys(f"`{t}`" for t in TEST.findall(cell.source)))
            for equation in DISPLAYED.findall(cell.source):
                one_line = " ".join(equation.replace("\\tag", "\\quad\\text").split())
                place = f"[{path.stem}](notebooks/{path.name})"
                rows.append(
                    f"{place}; {tests or 'no test is named beside it'}\n\n$$\n{one_line}\n$$"
                )
    head = "# Equations, and the tests that hold them\n\n"
    write("equations.md", head + "\n\n".join(rows) + "\n")


def show_reference() -> None:
    """Signatures and docstrings of the face, then of the folders."""
    parts = [
        "# Reference",
        "The names that `import privgan as pg` brings, then those of folders. Examples run after\n"
        "`import torch` and that line; a test runs them all.",
    ]
    taken = set()
    for title, module in [("privgan", pg), *((f, getattr(pg, f)) for f in FOLDERS)]:
        names = [n for n in sorted(module.__all__) if not n.startswith("_") and n not in taken]
        parts.append(f"## {title if module is pg else f'privgan.{title}'}")
        for name in names:
            thing = getattr(module, name)
            if not (callable(thing) and getattr(thing, "__module__", "").startswith("privgan")):
                continue
            taken.add(name)
            kind = "autoclass" if isinstance(thing, type) else "autofunction"
            members = "\n:members:" if kind == "autoclass" else ""
            parts.append(f"```{{eval-rst}}\n.. {kind}:: {module.__name__}.{name}\n")
            parts[-1] += ("   :members:\n" if members else "") + "```"
    write("reference.md", "\n\n".join(parts) + "\n")


def main() -> int:
    shutil.rmtree(SOURCE, ignore_errors=True)
    shutil.copytree(HERE, SOURCE, ignore=shutil.ignore_patterns("build.py", "requirements.txt"))
    mathjax = find_spec("sphinx-mathjax-offline")
    assert mathjax is not None
    assert mathjax.origin is not None
    scripts = Path(mathjax.origin).parent / "static" / "mathjax"
    shutil.copy(scripts / "tex-svg-full.js", SOURCE / "_static")
    explored = (ROOT / "figures" / "explorer.json").read_text().strip()
    write("_static/explorer-data.js", f"const EXPLORED = {explored};\n")
    table = moved(headlines(ROOT / "figures"), "")
    write("headlines.md", table)
    shutil.copytree(
        ROOT / "figures",
        SOURCE / "pictures",
        ignore=lambda _, names: [n for n in names if not n.endswith((".png", ".gif"))],
    )
    for show in (show_notebooks, show_pages, show_claims, show_equations, show_reference):
        show()
    shutil.rmtree(SITE, ignore_errors=True)
    return build_main(["-W", "--keep-going", "-q", "-b", "html", str(SOURCE), str(SITE)])


if __name__ == "__main__":
    sys.exit(main())
