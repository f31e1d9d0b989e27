"""A training small enough for a test, with what is needed to compare two of them."""

import torch

import privgan as pg
from privgan.artifact import data

MECH = pg.Gaussian(0.3)
LOSS = pg.EntropicLoss.matched(MECH)
REPORTS = MECH.privatize(data.circle(600, seed=0), seed=1)


def model(seed=0):
    return pg.MLP(2, 2, hidden=(16,), seed=seed)


def fit(generator, reports=REPORTS, loss=LOSS, **settings):
    return pg.fit(generator, reports, loss, **({"steps": 12, "batch_size": 64} | settings))


def weights(generator):
    return torch.cat([p.detach().flatten() for p in generator.parameters()])
