"""Local privacy mechanisms: the only part of the package that knows the noise."""

from privgan.mechanisms.additive import EuclideanLaplace, Gaussian, Laplace
from privgan.mechanisms.base import Mechanism
from privgan.mechanisms.categorical import RandomizedResponse, UnaryEncoding
from privgan.mechanisms.interval import Piecewise, SquareWave
from privgan.mechanisms.linear import LinearMap
from privgan.mechanisms.product import Product

__all__ = [
    "EuclideanLaplace",
    "Gaussian",
    "Laplace",
    "LinearMap",
    "Mechanism",
    "Piecewise",
    "Product",
    "RandomizedResponse",
    "SquareWave",
    "UnaryEncoding",
]
