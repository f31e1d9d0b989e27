"""Generators of the raw distribution, trained from privatized records only.

Reshetova, Chen, Ozgur, "Training generative models from privatized data", arXiv 2306.09547.
"""

from privgan import audit, generators, mechanisms, reports, sinkhorn, tables, training
from privgan._version import __version__
from privgan.generators import MLP, Atoms, ConvDecoder, Labelled, Linear, load
from privgan.mechanisms import (
    Ball,
    Box,
    EuclideanLaplace,
    Gaussian,
    Laplace,
    LinearMap,
    Piecewise,
    Product,
    RandomizedResponse,
    SquareWave,
    UnaryEncoding,
)
from privgan.reports import Reports, release, simulate
from privgan.tables import Table
from privgan.training import EntropicLoss, LikelihoodLoss, fit, report_nll

__all__ = [
    "MLP",
    "Atoms",
    "Ball",
    "Box",
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
    "Product",
    "RandomizedResponse",
    "Reports",
    "SquareWave",
    "Table",
    "UnaryEncoding",
    "__version__",
    "audit",
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
