"""Training: matched losses, the loop that follows them, and the likelihood that judges."""

from privgan.training.amortized import AmortizedLoss
from privgan.training.debiasing import closed_form
from privgan.training.encoders import Encoder, image_encoder, vector_encoder
from privgan.training.fitting import fit
from privgan.training.likelihood import report_log_likelihood, report_nll
from privgan.training.losses import EntropicLoss, LikelihoodLoss, Loss
from privgan.training.scale import ScaleEstimate, estimate_scale, largest_allowed_scale
from privgan.training.state import History

__all__ = [
    "AmortizedLoss",
    "Encoder",
    "EntropicLoss",
    "History",
    "LikelihoodLoss",
    "Loss",
    "ScaleEstimate",
    "closed_form",
    "estimate_scale",
    "fit",
    "image_encoder",
    "largest_allowed_scale",
    "report_log_likelihood",
    "report_nll",
    "vector_encoder",
]
