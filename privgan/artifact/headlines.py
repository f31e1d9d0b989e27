"""What README and other pages say of the results, written from the JSON files.

`python -m privgan.artifact.headlines` writes it into each of `PAGES`; a test compares.
"""

from pathlib import Path
from typing import Any

from privgan.artifact.claims import found_in_words
from privgan.artifact.publish import read_numbers
from privgan.files import write_atomically

ROOT = Path(__file__).parents[2]
BEGIN, END = "<!-- written by headlines.py -->\n", "<!-- end -->"
# A question, the notebook that answers it, and the claim that says the number.
QUESTIONS = (
    (
        "How likely are new reports by a circle learned from reports: nats lost to the raw one?",
        "01_quickstart",
        "Nats per report lost to the raw law, matched",
    ),
    (
        "How far are learned variances from the theory's, in 10 dimensions (share)?",
        "02_recovery",
        "d = 10, 3 latents: relative error of variances",
    ),
    (
        "How large is the loss's error in 32 dimensions, over Theorem 2's prediction?",
        "03_sample_complexity",
        "d = 32: that error over the predicted one, mean of all n",
    ),
    (
        "How much farther off is it than maximum likelihood, at worst (W2, ratio)?",
        "04_manifolds",
        "W2 matched / NPMLE, worst",
    ),
    (
        "How well do digits learned under noise of std 0.5 a pixel teach (accuracy)?",
        "06_mnist",
        "MNIST, Gaussian 0.5: accuracy of a student of generated records",
    ),
    (
        "How many honest mechanisms do attacks refute?",
        "07_privacy",
        "honest mechanisms refuted, of 35",
    ),
    (
        "And digits, if epsilon is 10 for image and label together (accuracy)?",
        "09_mnist_ldp",
        "MNIST, epsilon 10: accuracy of a student of generated records",
    ),
    (
        "Tables at epsilon 4: pairs of columns, our error over the best rival's (Adult)?",
        "11_tables",
        "Adult, epsilon 4: 2-way TV ours / best rival",
    ),
    (
        "And a classifier's error, the best rival's less ours (RAND)?",
        "11_tables",
        "RAND, epsilon 4: error of best rival - ours",
    ),
)


def headlines(folder: Path) -> str:
    """The table as Markdown, from the JSON files in ``folder``.

    Raises ValueError naming the claim where a notebook no longer makes it.
    """
    lines = [
        "| question | measured | verdict | minutes | notebook |",
        "| --- | --- | --- | --- | --- |",
    ]
    for question, name, text in QUESTIONS:
        content = read_numbers(folder / f"{name}.json")
        found = [claim for claim in content["claims"] if claim["claim"] == text]
        if not found:
            raise ValueError(f"{name}.json has no claim {text!r}; name another in headlines.py")
        number = found_in_words(found[0]["measured"], found[0].get("error", 0.0))
        minutes = f"{content['seconds'] / 60:.0f}" if content["seconds"] > 60 else "1"
        link = f"[{name}](figures/{name}.ipynb)"
        lines.append(f"| {question} | {number} | {found[0]['verdict']} | {minutes} | {link} |")
    return "\n".join(lines) + "\n"


def executed(folder: Path) -> dict[str, dict[str, Any]]:
    """What every notebook's JSON file in ``folder`` says, but for those of stand-in data."""
    paths = sorted(folder.glob("[0-9]*.json"))
    return {path.stem: read_numbers(path) for path in paths if "." not in path.stem}


def experiments(folder: Path) -> str:
    """Every notebook with its minutes and its verdicts, as Markdown."""
    lines = ["| experiment | compute minutes | claims | misses |", "| --- | --- | --- | --- |"]
    for name, content in executed(folder).items():
        verdicts = [claim["verdict"] for claim in content["claims"]]
        link = f"[{name}](figures/{name}.ipynb)"
        minutes = max(1, round(content["seconds"] / 60))
        lines.append(f"| {link} | {minutes} | {len(verdicts)} | {verdicts.count('FAIL')} |")
    return "\n".join(lines) + "\n"


def minutes(folder: Path) -> str:
    """How long every notebook takes at paper scale, and all of them, as a sentence."""
    each = {name: content["seconds"] / 60 for name, content in executed(folder).items()}
    listed = ", ".join(f"{name} {max(1, round(took))}" for name, took in each.items())
    return f"{listed}: {sum(each.values()):.0f} together.\n"


PAGES = {"README.md": headlines, "ARTIFACT-APPENDIX.md": experiments, "docs/commands.md": minutes}


def main() -> None:
    for name, table in PAGES.items():
        page, text = ROOT / name, table(ROOT / "figures")
        start, _, rest = page.read_text().partition(BEGIN)
        write_atomically(page, start + BEGIN + text + END + rest.partition(END)[2])


if __name__ == "__main__":
    main()
