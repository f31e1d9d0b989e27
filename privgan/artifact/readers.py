"""Readers of reports: classifiers that no generator trains, beside which a generator's must hold.

With normal classes, `closed_form` is all that Bayes' rule needs: class means alone (``own=0,
floor=1``), linear (``own=0``) and quadratic (``own=1``) discriminants of debiased moments (Fisher
1936; Friedman, "Regularized discriminant analysis", 1989).
"""

from typing import cast

import torch
from torch import Tensor

from privgan import checks
from privgan.generators import Generator, Labelled, Linear


def classify(model: Generator, x: Tensor) -> Tensor:
    """The likeliest class of records ``x`` (n, d), without their class, by Bayes' rule: (n,).

    ``model`` is what `privgan.closed_form` made of labelled reports. Of x, what its linear map
    cannot make is left out.
    """
    checks.instance("model", model, Labelled)
    model = cast(Labelled, model)
    decoder, law = model.decoder, model.law
    if not isinstance(decoder, Linear) or law is None:
        raise ValueError("model has no law of latents, or is not linear; pass a closed_form")
    x = checks.as_records("x", x).to(decoder.offset)
    if x.shape[1] != decoder.out_dim:
        raise ValueError(f"x has {x.shape[1]} columns; the model's records have {decoder.out_dim}")
    with torch.no_grad():
        columns = decoder.matrix[:, : decoder.latent_dim - model.k]
        z = (x - decoder.offset) @ torch.linalg.pinv(columns).T
        scores = [
            law.log_density(z, torch.full((len(z),), c)) + model.log_prior()[c]
            for c in range(model.k)
        ]
    return torch.stack(scores, 1).argmax(1)
