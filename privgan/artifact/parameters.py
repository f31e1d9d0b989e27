"""Parameters of a notebook: what its template declares, and whether what is given fits."""

from pathlib import Path
from typing import Any

import nbformat
import yaml


def mapping(text: str, source: str) -> dict[str, Any]:
    """A YAML mapping; ValueError naming ``source`` for anything else."""
    try:
        content = yaml.safe_load(text)
    except yaml.YAMLError as error:
        raise ValueError(f"{source} is not YAML: {' '.join(str(error).split())}") from None
    if not isinstance(content, dict):
        raise ValueError(f"{source} must be a mapping such as {{sigma: 0.5}}, got {text!r}")
    return content


def template_parameters(template: Path) -> dict[str, Any]:
    """The defaults in a template's ``parameters`` cell."""
    cells = nbformat.read(template, as_version=4).cells
    found = [c for c in cells if "parameters" in c.metadata.get("tags", [])]
    if len(found) != 1:
        raise ValueError(f"{template.name} has {len(found)} cells tagged parameters; it needs one")
    namespace: dict[str, Any] = {}
    exec(found[0].source, namespace)  # our own template, about to be executed anyway
    namespace.pop("__builtins__")
    return namespace


def check_parameters(given: dict[str, Any], defaults: dict[str, Any], source: str) -> None:
    """Every given parameter must exist in the template and have its type.

    YAML 1.1 reads ``1e-3`` as a string; papermill would inject that string and only warn
    about a name that the template does not know.
    """
    for name, value in given.items():
        if name not in defaults:
            raise ValueError(
                f"{source}: unknown parameter {name!r}; the template has {', '.join(defaults)}"
            )
        _check_kind(name, value, [defaults[name]], source)


def _check_kind(name: str, value: Any, examples: list[Any], source: str) -> None:
    """``value`` is of a kind with one of ``examples``, entry by entry in lists and mappings."""
    kinds = {type(example) for example in examples}
    fits = type(value) in kinds or (type(value) is int and float in kinds)
    number = isinstance(value, str) and _reads_as_number(value)
    # An empty list in the template leaves open what its entries are, but not that.
    if number if not examples else not fits:
        found = [f"'{name}' is {value!r}, a {type(value).__name__}"]
        found += [f"the template's is {e!r}, a {type(e).__name__}" for e in examples[:1]]
        hint = " (in YAML write 1.0e-3, not 1e-3)" if number else ""
        raise TypeError(f"{source}: parameter {'; '.join(found)}{hint}")
    if isinstance(value, list):
        inside = [entry for example in examples if type(example) is list for entry in example]
        for place, entry in enumerate(value):
            _check_kind(f"{name}[{place}]", entry, inside, source)
    elif isinstance(value, dict):
        alike = [example for example in examples if type(example) is dict]
        for key, entry in value.items():
            _check_kind(f"a key of {name}", key, [k for e in alike for k in e], source)
            _check_kind(f"{name}[{key}]", entry, [v for e in alike for v in e.values()], source)


def _reads_as_number(text: str) -> bool:
    try:
        float(text)
    except ValueError:
        return False
    return True
