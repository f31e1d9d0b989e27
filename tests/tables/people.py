"""A table in which things go together, and people in it."""

import numpy as np
import pandas as pd

from privgan.tables import Category, Integer, Table, YesNo

PEOPLE = Table(
    Integer("age", 0, 99, cells=9),
    YesNo("retired"),
    Category("work", ["office", "farm"], missing=True),
    Category("colour", ["red", "green", "blue"]),
)


def people(n, seed=0):
    """Who is 65 and older is retired and has no work, but one in ten; colours are all alike."""
    rng = np.random.default_rng(seed)
    age = rng.integers(0, 100, n)
    retired = (age >= 65) ^ (rng.random(n) < 0.1)
    work = rng.choice(["office", "farm"], n, p=[0.8, 0.2]).astype(object)
    work[retired] = None
    colour = rng.choice(["red", "green", "blue"], n, p=[0.5, 0.3, 0.2])
    return pd.DataFrame(
        {
            "age": age,
            "retired": retired,
            "work": pd.array(work, "str"),
            "colour": pd.array(colour, "str"),
        }
    )
