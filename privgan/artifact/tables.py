"""Real tables with their public schemas, and how far a generated table is from a raw one."""

import csv
import gzip
import itertools
import math
import warnings
import zipfile
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

import numpy as np
import pandas as pd
import pooch
import requests
from sklearn.ensemble import HistGradientBoostingClassifier
from sklearn.model_selection import cross_val_predict

from privgan import checks
from privgan.artifact.data import DataUnavailable, data_dir
from privgan.files import reading, write_atomically
from privgan.tables import Category, Integer, Number, Table, YesNo

SOURCES = {  # where from, and SHA-256
    "adult/adult.data": (
        "https://archive.ics.uci.edu/ml/machine-learning-databases/adult/adult.data",
        "5b00264637dbfec36bdeaab5676b0b309ff9eb788d63554ca0a249491c86603d",
    ),
    "randhie/randhie.csv.gz": (
        "https://raw.githubusercontent.com/statsmodels/statsmodels/main/statsmodels/datasets/"
        "randhie/randhie.csv.gz",
        "3fb1c901c3a95d4ca5b252431c9a4bb90f6ccfc796db77e1d533f26a5a6bdbba",
    ),
}
PLACES = "places/world_cities.csv.gz"  # name, lat, lng
GEONAMES = "https://download.geonames.org/export/dump/cities5000.zip"  # made anew every day
NAME, LAT, LNG = 1, 4, 5  # columns of its text, which is separated by tabs and has no header
TIMEOUT = 20.0  # seconds
TESTED = 5  # every so-manieth row, in a fixed random order, is kept to test on


@dataclass(frozen=True)
class Raw:
    """A table of people who report, and of others to test on. target: the column to predict."""

    name: str
    table: Table
    train: Any
    test: Any
    target: str


def fetched(name: str) -> Path:
    """A file of `data_dir`, or else downloaded once and checked by SHA-256.

    Raises ValueError for a file of another hash, and DataUnavailable where there is none.
    """
    address, digest = SOURCES[checks.one_of("name", name, SOURCES)]
    place = data_dir() / name
    if place.exists():
        found = pooch.file_hash(str(place))
        if found != digest:
            raise ValueError(f"{place} has SHA-256 {found}, not {digest}; move it away")
        return place
    return _downloaded(name, address, digest, place)


def _downloaded(name: str, address: str, digest: str | None, place: Path) -> Path:
    """``place``, once what is at ``address`` lies there. name: of the file that was looked for."""
    fetch = pooch.HTTPDownloader(timeout=TIMEOUT)
    try:
        pooch.retrieve(address, digest, fname=place.name, path=place.parent, downloader=fetch)
    except (requests.RequestException, ValueError) as error:
        raise _unavailable(name, address, error) from error
    return place


def _unavailable(name: str, address: str, error: Exception) -> DataUnavailable:
    return DataUnavailable(
        f"{name} is not in {data_dir()} and could not be downloaded from {address} "
        f"({type(error).__name__}); put it there, or point PRIVGAN_DATA_DIR at a folder with it"
    )


WORK = "Federal-gov Local-gov Never-worked Private Self-emp-inc Self-emp-not-inc State-gov"
SCHOOL = "Preschool 1st-4th 5th-6th 7th-8th 9th 10th 11th 12th HS-grad Some-college Assoc-voc "
SCHOOL += "Assoc-acdm Bachelors Masters Prof-school Doctorate"
MARITAL = "Divorced Married-AF-spouse Married-civ-spouse Married-spouse-absent Never-married "
MARITAL += "Separated Widowed"
JOBS = "Adm-clerical Armed-Forces Craft-repair Exec-managerial Farming-fishing Handlers-cleaners "
JOBS += "Machine-op-inspct Other-service Priv-house-serv Prof-specialty Protective-serv Sales "
JOBS += "Tech-support Transport-moving"
KIN = "Husband Not-in-family Other-relative Own-child Unmarried Wife"
RACES = "Amer-Indian-Eskimo Asian-Pac-Islander Black Other White"
LANDS = "Cambodia Canada China Columbia Cuba Dominican-Republic Ecuador El-Salvador England France "
LANDS += "Germany Greece Guatemala Haiti Holand-Netherlands Honduras Hong Hungary India Iran "
LANDS += "Ireland Italy Jamaica Japan Laos Mexico Nicaragua Outlying-US(Guam-USVI-etc) Peru "
LANDS += "Philippines Poland Portugal Puerto-Rico Scotland South Taiwan Thailand Trinadad&Tobago "
LANDS += "United-States Vietnam Yugoslavia"

ADULT = Table(
    Integer("age", 17, 90, cells=(17, 20, 23, 26, 29, 32, 36, 40, 44, 48, 52, 57, 63)),
    Category("workclass", [*WORK.split(), "Without-pay"], missing=("?",)),
    Integer(
        "fnlwgt",
        10_000,
        1_500_000,
        cells=(10_000, 50_000, 100_000, 150_000, 200_000, 250_000, 300_000, 400_000),
    ),
    Category("education", SCHOOL.split(), ordered=True),
    Integer("education-num", 1, 16),
    Category("marital-status", MARITAL.split()),
    Category("occupation", JOBS.split(), missing=("?",)),
    Category("relationship", KIN.split()),
    Category("race", RACES.split()),
    YesNo("sex", yes="Female", no="Male"),
    Integer("capital-gain", 0, 99_999, cells=(0, 1, 3000, 5000, 7500, 10_000, 20_000)),
    Integer("capital-loss", 0, 5000, cells=(0, 1, 1500, 1750, 2000, 2500)),
    Integer("hours-per-week", 1, 99, cells=(1, 15, 25, 33, 38, 40, 41, 45, 50, 55, 60)),
    Category("native-country", LANDS.split(), missing=("?",)),
    YesNo("income", yes=">50K", no="<=50K"),
)
RAND = Table(
    Category("plan", [*range(1, 20)]),
    Category("site", [*range(1, 7)]),
    Category("coins", [0, 25, 50, 95, 100], ordered=True),
    Number("income", 0.0, 30_000.0, cells=11),
    Number("age", 0.0, 65.0, cells=13),
    Number(
        "education", 0.0, 25.0, cells=(0.0, 8.0, 9.5, 11.5, 12.5, 13.5, 15.5, 17.0), missing=True
    ),
    Integer("household", 1, 15, cells=(1, 2, 3, 4, 5, 6, 7, 9)),
    Number("mental health", 0.0, 100.0, cells=(0.0, 50.0, 60.0, 68.0, 74.0, 80.0, 86.0, 92.0)),
    Number("diseases", 0.0, 60.0, cells=(0.0, 4.0, 7.0, 10.0, 13.5, 14.0, 20.0, 30.0)),
    Number("spent", 0.0, 40_000.0, cells=(0.0, 0.01, 25.0, 50.0, 100.0, 200.0, 400.0, 1000.0)),
    YesNo("visited"),
    YesNo("black"),
    YesNo("female"),
    YesNo("limited"),
    YesNo("good health"),
    YesNo("fair or poor health"),
)


def adult() -> Raw:
    """UCI Adult, 32 561 people by 15 columns (Becker and Kohavi 1996, CC BY 4.0)."""
    return _split("Adult", ADULT, adult_people(), "income")


def adult_people() -> pd.DataFrame:
    """All of Adult's people, as the file has them."""
    path = fetched("adult/adult.data")
    return pd.read_csv(path, header=None, names=ADULT.names, skipinitialspace=True)


def rand() -> Raw:
    """The RAND Health Insurance Experiment, the first year of each of 5912 people, 16 columns.

    Answers that were imputed as fractions are rounded.
    """
    years = pd.read_csv(fetched("randhie/randhie.csv.gz")).sort_values(["zper", "year"])
    people = years.drop_duplicates("zper").reset_index(drop=True)
    renamed = {"xage": "age", "educdec": "education", "num": "household", "mhi": "mental health"}
    renamed |= {"disea": "diseases", "meddol": "spent"}
    frame = people.rename(columns=renamed)
    frame["visited"], frame["black"] = people.mdvis > 0, people.black >= 0.5
    frame["female"], frame["limited"] = people.female == 1, people.physlm >= 0.5
    frame["good health"] = people.hlthg == 1
    frame["fair or poor health"] = people.hlthf + people.hlthp > 0
    return _split("RAND", RAND, frame[RAND.names], "visited")


TABLES: dict[str, Callable[[], Raw]] = {"adult": adult, "rand": rand}


def places() -> np.ndarray:
    """Cities of the world (GeoNames, CC BY): longitude and latitude in degrees, (n, 2).

    From `PLACES` in `data_dir`, which is made of GeoNames' dump of the day where it lacks, with a
    warning. Raises ValueError for another kind of file, and DataUnavailable where there is none.
    """
    place = data_dir() / PLACES
    if not place.exists():
        _gather_cities(place)
    with reading(place, f"{place} cannot be read as cities; move it away"):
        return pd.read_csv(place)[["lng", "lat"]].to_numpy(np.float64)


def _gather_cities(place: Path) -> None:
    """Write GeoNames' cities of more than 5000 people as name, lat, lng."""
    with TemporaryDirectory() as folder:
        whole = _downloaded(PLACES, GEONAMES, None, Path(folder) / "cities5000.zip")
        try:
            cities = _cities(whole)
        except (zipfile.BadZipFile, KeyError, ValueError) as error:  # say, a page to log in
            raise _unavailable(PLACES, GEONAMES, error) from error
    packed = gzip.compress(cities.to_csv(index=False).encode(), mtime=0)
    write_atomically(place, packed, "cities")
    warnings.warn(
        f"{len(cities)} cities are GeoNames' of today, a dump that changes every day: numbers may "
        "differ a little from published ones",
        stacklevel=3,
    )


def _cities(dump: Path) -> pd.DataFrame:
    with zipfile.ZipFile(dump) as files, files.open("cities5000.txt") as text:
        plain = {"sep": "\t", "header": None, "quoting": csv.QUOTE_NONE, "na_filter": False}
        columns = pd.read_csv(text, usecols=[NAME, LAT, LNG], **plain)
    return columns.set_axis(["name", "lat", "lng"], axis=1).astype({"lat": float, "lng": float})


def _split(name: str, table: Table, frame: Any, target: str) -> Raw:
    order = np.random.default_rng(0).permutation(len(frame))
    tested = np.arange(len(order)) % TESTED == 0
    train, test = (
        frame.iloc[np.sort(order[part])].reset_index(drop=True) for part in (~tested, tested)
    )
    return Raw(name, table, train, test, target)


# --- How far from raw, by cells (n, columns) -------------------------------------------------


def total_variation(made: np.ndarray, raw: np.ndarray, table: Table) -> tuple[float, float]:
    """Mean total variation of all 1-way and of all 2-way marginals."""
    sizes = [column.k for column in table.columns]

    def law(codes: np.ndarray, *columns: int) -> np.ndarray:
        place = np.zeros(len(codes), np.int64)
        for c in columns:
            place = place * sizes[c] + codes[:, c]
        return np.bincount(place, minlength=math.prod(sizes[c] for c in columns)) / len(codes)

    def mean(way: int) -> float:
        sets = itertools.combinations(range(len(sizes)), way)
        return float(np.mean([np.abs(law(made, *s) - law(raw, *s)).sum() / 2 for s in sets]))

    return mean(1), mean(2)


def classifier_error(made: np.ndarray, raw: np.ndarray, target: int, seed: int = 0) -> float:
    """Of gradient-boosted trees for column ``target``, trained on made rows and tested on raw."""
    others = [c for c in range(made.shape[1]) if c != target]
    if len(np.unique(made[:, target])) < 2:
        return float((raw[:, target] != made[0, target]).mean())
    trees = HistGradientBoostingClassifier(early_stopping=False, random_state=seed)
    trees.fit(made[:, others], made[:, target])
    return float((trees.predict(raw[:, others]) != raw[:, target]).mean())


def pmse(made: np.ndarray, raw: np.ndarray, seed: int = 0) -> float:
    """How well trees tell made rows from raw ones: mean squared distance of their out-of-sample
    probabilities from one half (Snoke et al., "General and specific utility measures for synthetic
    data", 2018). 0 is indistinguishable, 1/4 is plain."""
    n = min(len(made), len(raw))
    x = np.concatenate([made[:n], raw[:n]])
    y = np.repeat([0, 1], n)
    trees = HistGradientBoostingClassifier(max_iter=50, random_state=seed)
    p = cross_val_predict(trees, x, y, cv=2, method="predict_proba")[:, 1]
    return float(((p - 0.5) ** 2).mean())
