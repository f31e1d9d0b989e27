"""Local privacy mechanisms: the only part of the package that knows the noise."""

from privgan.mechanisms.additive import EuclideanLaplace, Gaussian, Laplace
from privgan.mechanisms.base import Mechanism

__all__ = ["EuclideanLaplace", "Gaussian", "Laplace", "Mechanism"]
