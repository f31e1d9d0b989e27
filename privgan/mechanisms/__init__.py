"""Local privacy mechanisms, their bounds and budgets: the only part that knows the noise."""

from privgan.mechanisms.additive import EuclideanLaplace, Gaussian, Laplace
from privgan.mechanisms.base import Mechanism
from privgan.mechanisms.blocks import Blocks
from privgan.mechanisms.bounds import Ball, Bounds, Box
from privgan.mechanisms.budget import Budget, gaussian_delta, gaussian_epsilon, gaussian_mu
from privgan.mechanisms.categorical import RandomizedResponse, UnaryEncoding, one_hot
from privgan.mechanisms.direction import PrivUnit, Sphere
from privgan.mechanisms.hashing import LocalHashing
from privgan.mechanisms.interval import Piecewise, SquareWave
from privgan.mechanisms.linear import LinearMap, low_frequencies
from privgan.mechanisms.product import Product
from privgan.mechanisms.sampled import Sampled
from privgan.mechanisms.subsets import SubsetSelection, Window

__all__ = [
    "Ball",
    "Blocks",
    "Bounds",
    "Box",
    "Budget",
    "EuclideanLaplace",
    "Gaussian",
    "Laplace",
    "LinearMap",
    "LocalHashing",
    "Mechanism",
    "Piecewise",
    "PrivUnit",
    "Product",
    "RandomizedResponse",
    "Sampled",
    "Sphere",
    "SquareWave",
    "SubsetSelection",
    "UnaryEncoding",
    "Window",
    "gaussian_delta",
    "gaussian_epsilon",
    "gaussian_mu",
    "low_frequencies",
    "one_hot",
]
