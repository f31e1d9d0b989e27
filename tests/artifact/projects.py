"""A little project of one notebook, and what its notebook does."""

import nbformat
import yaml
from nbformat.v4 import new_code_cell, new_notebook

from privgan.artifact import run as runner

PARAMETERS = """
rate = 1.0
steps = 10
rates = [0.5]
weights = {"fine": 0.1}
masses = {0.5: 1.0}
corners = [[0, 0], [0, 1.5]]
extra = []
dataset = "mnist"
name = "toy"
out_dir = "../out"
checkpoint_dir = ""
"""
RECORD = """
from pathlib import Path
from privgan.artifact.claims import Claim, record
Path(out_dir, name + ".png").write_bytes(dataset.encode())
record(f"{out_dir}/{name}.json", [Claim("toy", "1", rate, high=2.0)], steps=steps)
"""
# What RECORD does, without the seconds that importing torch takes.
WORK = """
import json
from pathlib import Path
Path(out_dir, name + ".png").write_bytes(dataset.encode())
claim = {"claim": "toy", "predicted": "1", "measured": rate, "tolerance": "<= 2", "verdict": "PASS"}
content = {"claims": [claim], "numbers": {"steps": steps}, "machine": {}}
Path(out_dir, name + ".json").write_text(json.dumps(content))
"""


def plan(project, content):
    (project / "notebooks" / "scales.yaml").write_text(yaml.safe_dump({"toy": content}))


def template(project, *sources):
    notebook = new_notebook(cells=[new_code_cell(s) for s in (PARAMETERS, *sources)])
    notebook.cells[0].metadata["tags"] = ["parameters"]
    notebook.metadata["kernelspec"] = {"name": "python3", "display_name": "p", "language": "python"}
    nbformat.write(notebook, project / "notebooks" / "toy.ipynb")


def run(project, scale="paper", **overrides):
    runner.run("toy", scale, project / "figures", overrides)
    return project / "figures"
