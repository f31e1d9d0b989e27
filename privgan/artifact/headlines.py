"""What README and other pages say of the results, written from the JSON files.

`python -m privgan.artifact.headlines` writes it into each of `PAGES`; a test compares.
"""

from collections.abc import Mapping
from pathlib import Path
from typing import Any

from privgan.artifact.claims import found_in_words
from privgan.artifact.publish import executed
from privgan.files import write_atomically

ROOT = Path(__file__).parents[2]
BEGIN, END = "<!-- written by headlines.py -->\n", "<!-- end -->"
# A question, the notebook that answers it, and the claim that says the number.
QUESTIONS = (
    (
        "How many nats a report does a circle learned from reports lose to the raw circle?",
        "01_quickstart",
        "Nats per report lost to the raw law, matched",
    ),
    (
        "How large are learned variances in 10 dimensions, over the theory's?",
        "02_recovery",
        "d = 10, 10 latents: trained over predicted variance",
    ),
    (
        "How large is the loss's error in 32 dimensions, over Theorem 2's prediction?",
        "03_sample_complexity",
        "d = 32: that error over the predicted one, mean of all n",
    ),
    (
        "How far (W2) are six shapes under two noises, over maximum likelihood's distance?",
        "04_manifolds",
        "W2 matched over NPMLE, geometric mean of the cases",
    ),
    (
        "How well do digits learned under noise of std 0.5 a pixel (epsilon 1808) teach?",
        "06_mnist",
        "MNIST, Gaussian 0.5: accuracy of a student of generated records",
    ),
    (
        "How many honest mechanisms do attacks refute?",
        "07_privacy",
        "honest mechanisms refuted, of 35",
    ),
    (
        "And digits, if epsilon is 10 for image and label together?",
        "09_mnist_ldp",
        "MNIST, epsilon 10: accuracy of a student of generated records",
    ),
    (
        "Tables at epsilon 4: pairs of columns, our error over the best rival's (Adult)?",
        "11_tables",
        "Adult, epsilon 4: error of pairs of columns, ours over the best rival's",
    ),
    (
        "RAND at epsilon 4: error of a classifier taught by the best rival's rows, less by ours?",
        "11_tables",
        "RAND, epsilon 4: error of a classifier taught by rows, the best rival's less ours",
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
    results = executed(folder)
    for question, name, text in QUESTIONS:
        content = results[name]
        found = [claim for claim in content["claims"] if claim["claim"] == text]
        if not found:
            raise ValueError(f"{name}.json has no claim {text!r}; name another in headlines.py")
        number = found_in_words(found[0]["measured"], found[0].get("error", 0.0))
        verdict, link = found[0]["verdict"], f"[{name}](figures/{name}.ipynb)"
        lines.append(f"| {question} | {number} | {verdict} | {_minutes(content)} | {link} |")
    return "\n".join(lines) + "\n"


def experiments(folder: Path) -> str:
    """Every notebook with its minutes and its verdicts, as Markdown."""
    lines = ["| experiment | compute minutes | claims | misses |", "| --- | --- | --- | --- |"]
    for name, content in executed(folder).items():
        verdicts = [claim["verdict"] for claim in content["claims"]]
        link = f"[{name}](figures/{name}.ipynb)"
        misses = verdicts.count("FAIL")
        lines.append(f"| {link} | {_minutes(content)} | {len(verdicts)} | {misses} |")
    return "\n".join(lines) + "\n"


def minutes(folder: Path) -> str:
    """How long every notebook takes at paper scale, and all of them, as a sentence."""
    results = executed(folder)
    listed = ", ".join(f"{name} {_minutes(content)}" for name, content in results.items())
    together = sum(content["seconds"] for content in results.values()) / 60
    return f"{listed}: {together:.0f} together.\n"


def _minutes(content: Mapping[str, Any]) -> int:
    return max(1, round(content["seconds"] / 60))


PAGES = {"README.md": headlines, "ARTIFACT-APPENDIX.md": experiments, "docs/commands.md": minutes}


def main() -> None:
    for name, table in PAGES.items():
        page, text = ROOT / name, table(ROOT / "figures")
        start, _, rest = page.read_text().partition(BEGIN)
        write_atomically(page, start + BEGIN + text + END + rest.partition(END)[2])


if __name__ == "__main__":
    main()
