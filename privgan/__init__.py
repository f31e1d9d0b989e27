"""Generators of the raw distribution, trained from privatized records only.

Reshetova, Chen, Ozgur, "Training generative models from privatized data", arXiv 2306.09547.
"""

from privgan import data, plotting
from privgan.audit import Audit, Finding, audit
from privgan.bounds import Ball, Bounds, Box
from privgan.checkpoint import History
from privgan.claims import Claim
from privgan.classifier import Classifier, accuracy, fit_classifier
from privgan.costs import L1, Cost, Euclidean, SquaredL2
from privgan.decoders import ConvDecoder, Labelled
from privgan.deconvolution import nonparametric_mle
from privgan.frequencies import low_frequencies
from privgan.generators import MLP, Atoms, Generator, Linear
from privgan.identifiability import Identifiability, identifiability
from privgan.losses import EntropicLoss, ExactLoss, LikelihoodLoss, SinkhornDivergence
from privgan.mechanisms import (
    EuclideanLaplace,
    Gaussian,
    Laplace,
    LinearMap,
    Mechanism,
    Piecewise,
    Product,
    RandomizedResponse,
    SquareWave,
    UnaryEncoding,
)
from privgan.metrics import (
    frechet,
    precision_recall,
    report_log_likelihood,
    report_nll,
    w2,
    w2_draws,
    w2_floor,
)
from privgan.pretrained import load
from privgan.privacy import Budget, gaussian_delta, gaussian_epsilon, gaussian_mu
from privgan.release import release
from privgan.repetitions import Rate, draw_reports, rate, sampled_losses
from privgan.reports import Reports, simulate
from privgan.scale import ScaleEstimate, estimate_scale, largest_allowed_scale
from privgan.sinkhorn import SinkhornResult, sinkhorn, sinkhorn_samples
from privgan.sweep import fit_all
from privgan.training import fit

__all__ = [
    "L1",
    "MLP",
    "Atoms",
    "Audit",
    "Ball",
    "Bounds",
    "Box",
    "Budget",
    "Claim",
    "Classifier",
    "ConvDecoder",
    "Cost",
    "EntropicLoss",
    "Euclidean",
    "EuclideanLaplace",
    "ExactLoss",
    "Finding",
    "Gaussian",
    "Generator",
    "History",
    "Identifiability",
    "Labelled",
    "Laplace",
    "LikelihoodLoss",
    "Linear",
    "LinearMap",
    "Mechanism",
    "Piecewise",
    "Product",
    "RandomizedResponse",
    "Rate",
    "Reports",
    "ScaleEstimate",
    "SinkhornDivergence",
    "SinkhornResult",
    "SquareWave",
    "SquaredL2",
    "UnaryEncoding",
    "accuracy",
    "audit",
    "data",
    "draw_reports",
    "estimate_scale",
    "fit",
    "fit_all",
    "fit_classifier",
    "frechet",
    "gaussian_delta",
    "gaussian_epsilon",
    "gaussian_mu",
    "identifiability",
    "largest_allowed_scale",
    "load",
    "low_frequencies",
    "nonparametric_mle",
    "plotting",
    "precision_recall",
    "rate",
    "release",
    "report_log_likelihood",
    "report_nll",
    "sampled_losses",
    "simulate",
    "sinkhorn",
    "sinkhorn_samples",
    "w2",
    "w2_draws",
    "w2_floor",
]
__version__ = "0.1.0"
