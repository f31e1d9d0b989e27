"""Generators of the raw distribution, trained from privatized records only.

Reshetova, Chen, Ozgur, "Training generative models from privatized data", arXiv 2306.09547.
"""

from privgan import audit, generators, mechanisms, reports, sinkhorn, tables, training
from privgan._version import __version__
from privgan.generators import MLP, Atoms, Classified, ConvDecoder, Labelled, Linear, load
from privgan.mechanisms import (
    Ball,
    Box,
    EuclideanLaplace,
    Gaussian,
    Laplace,
    LinearMap,
    Piecewise,
    PrivUnit,
    Product,
    RandomizedResponse,
    Sphere,
    SquareWave,
    UnaryEncoding,
)
from privgan.reports import Reports, release, simulate
from privgan.tables import Table
from privgan.training import (
    AmortizedLoss,
    EntropicLoss,
    LikelihoodLoss,
    closed_form,
    fit,
    report_nll,
)

__all__ = [
    "MLP",
    "AmortizedLoss",
    "Atoms",
    "Ball",
    "Box",
    "Classified",
    "ConvDecoder",
    "EntropicLoss",
    "EuclideanLaplace",
    "Gaussian",
    "Labelled",
    "Laplace",
    "LikelihoodLoss",
    "Linear",
    "LinearMap",
    "Piecewise",
    "PrivUnit",
    "Product",
    "RandomizedResponse",
    "Reports",
    "Sphere",
    "SquareWave",
    "Table",
    "UnaryEncoding",
    "__version__",
    "audit",
    "closed_form",
    "fit",
    "generators",
    "load",
    "mechanisms",
    "release",
    "report_nll",
    "reports",
    "simulate",
    "sinkhorn",
    "tables",
    "training",
]
