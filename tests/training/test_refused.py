"""Reports, generators and costs that cannot be trained with are named before the first step."""

import pytest
import torch
from trainings import MECH, REPORTS, fit, model, weights

import privgan as pg
from privgan.sinkhorn import SquaredL2
from privgan.streams import stream


@pytest.mark.parametrize("bad", [float("nan"), float("inf")])
def test_a_bad_report_is_named_before_the_first_step(bad):
    reports, generator = REPORTS.clone(), model()
    reports[17, 1] = bad
    before = weights(generator)
    with pytest.raises(ValueError, match=r"reports has 1 non-finite row, .* at row 17 \(col"):
        fit(generator, reports)
    assert torch.equal(before, weights(generator))


@pytest.mark.parametrize(
    ("error", "message", "change"),
    [
        (ValueError, r"batch_size is 600 but only 570 reports", {"batch_size": 600}),
        (ValueError, "reports is empty", {"reports": REPORTS[:0]}),
        (ValueError, r"reports has shape \(600,\)", {"reports": REPORTS[:, 0]}),
        (TypeError, "reports has dtype int64", {"reports": REPORTS.long()}),
        (TypeError, "reports must be a numeric", {"reports": "circle.csv"}),
        (ValueError, "3 columns and reports has 2", {"generator": pg.MLP(2, 3)}),
        (ValueError, "steps must be at least 1", {"steps": 0}),
        (TypeError, "batch_size must be an integer", {"batch_size": 64.0}),
        (ValueError, "lr must be positive", {"lr": -1e-3}),
        (ValueError, "holdout is a fraction", {"holdout": 1.0}),
        (TypeError, "holdout must be a number", {"holdout": "0.1"}),
        (TypeError, "seed must be an integer", {"seed": "0"}),
        (TypeError, "loss must be a Loss, got a Gaussian", {"loss": MECH}),
        (TypeError, "generator must be a Generator", {"generator": torch.nn.Linear(2, 2)}),
        (TypeError, "lr must be a number", {"lr": "1e-3"}),
    ],
)
def test_bad_input_is_named(error, message, change):
    with pytest.raises(error, match=message):
        fit(**({"generator": model()} | change))


def test_reports_that_overflow_the_generators_precision_are_named():
    reports = REPORTS.double()
    reports[7, 1] = 1e39
    with pytest.raises(ValueError, match=r"reports has 1 non-finite row, .* at row 7 \(column 1\)"):
        fit(model(), reports)


def test_an_error_of_the_network_is_not_called_divergence():
    with pytest.raises(ValueError, match="Expected more than 1 value per channel"):
        fit(pg.MLP(2, 2, hidden=(4,), norm=True), batch_size=1)


def test_half_precision_is_refused_by_name():
    with pytest.raises(TypeError, match="weights has dtype float16; convert it to float32"):
        fit(model().half())


@pytest.mark.parametrize("reg", [1e-40, 1e-305])
def test_a_vanishing_reg_is_refused_by_name(reg):
    with pytest.raises(ValueError, match="reg is too small"):
        fit(model(), loss=pg.EntropicLoss(SquaredL2(), reg))


SQUARE = pg.Box(0.0, 1.0, dim=2)


@pytest.mark.parametrize(
    "mechanism",
    [
        pg.Piecewise(1.0, bounds=SQUARE),
        pg.SquareWave(1.0, bounds=SQUARE),
        pg.Product(
            (slice(0, 1), pg.Laplace(1.0, bounds=pg.Box(0.0, 1.0, dim=1))),
            (slice(1, 2), pg.Piecewise(1.0, bounds=pg.Box(0.0, 1.0, dim=1))),
        ),
    ],
)
def test_points_under_a_flat_cost_are_refused_and_atoms_are_not(mechanism):
    x = torch.rand((200, 2), generator=stream(0, "flat")).double()
    reports = mechanism.privatize(x, seed=0)
    settings = {"steps": 1, "batch_size": 50, "progress": False}
    generator = pg.MLP(2, 2).double()
    loss = pg.EntropicLoss.matched(mechanism)
    with pytest.raises(ValueError, match=r"no gradient; learn weights on a grid: pg.Atoms"):
        pg.fit(generator, reports, loss, **settings)
    pg.fit(pg.Atoms(x[:20]), reports, loss, **settings)


@pytest.mark.parametrize("channel", [pg.RandomizedResponse, pg.UnaryEncoding])
def test_points_that_are_no_probabilities_are_refused(channel):
    mechanism = channel.calibrate(epsilon=1.0, k=3)
    reports = mechanism.privatize(torch.eye(3).repeat(40, 1), seed=0)
    settings = {"steps": 1, "batch_size": 50, "progress": False}
    loss = pg.EntropicLoss.matched(mechanism)
    with pytest.raises(ValueError, match=r"not probabilities.*categories="):
        pg.fit(pg.MLP(2, 3), reports, loss, **settings)
    categories = pg.MLP(2, 3, categories=[slice(0, 3)])
    pg.fit(categories, reports, loss, **settings)
    with pytest.raises(ValueError, match="the first at row 0"):
        pg.fit(categories, reports + 0.5, loss, **settings)
