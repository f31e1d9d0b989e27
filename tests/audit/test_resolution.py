import pytest
import torch

import privgan as pg
from privgan.audit import identifiability

UNIT = pg.Box(0.0, 1.0, dim=1)


def eighth(mech):
    return identifiability(mech).singular_values[7]


def test_what_64_bins_at_epsilon_1_can_tell():
    assert eighth(pg.SquareWave.calibrate(epsilon=1.0, bounds=UNIT)) == pytest.approx(
        0.05, abs=0.01
    )
    assert eighth(pg.Piecewise.calibrate(epsilon=1.0, bounds=UNIT)) == pytest.approx(0.05, abs=0.01)
    assert eighth(pg.Laplace.calibrate(epsilon=1.0, bounds=UNIT)) == pytest.approx(4e-3, rel=0.2)
    assert eighth(pg.Gaussian.calibrate(epsilon=1.0, delta=1e-5, bounds=UNIT)) < 1e-9


def test_randomized_response_has_the_closed_form():
    """On the uniform law every direction shrinks by keep - other."""
    mech = pg.RandomizedResponse(6, 0.5)
    found = identifiability(mech).singular_values
    assert len(found) == 6
    assert found[0] == 1.0
    assert found[1:] == pytest.approx([0.4] * 5, rel=0.05)


def test_singular_values_predict_the_error_of_an_estimate():
    """Two places, Laplace noise: the Fisher information of the mixing weight, by quadrature."""
    mech = pg.Laplace(0.7)
    points = torch.tensor([[0.0], [1.0]], dtype=torch.float64)
    y = torch.linspace(-20, 21, 400_001, dtype=torch.float64)[:, None]
    first, second = mech.log_density(points, y).exp()
    mean = (first + second) / 2
    information = torch.trapezoid(((first - second) / 2) ** 2 / mean, y[:, 0]).item()
    found = identifiability(mech, points).singular_values[1]
    assert found**2 == pytest.approx(information, rel=0.03)


def test_more_reports_resolve_more_and_the_verdict_says_so():
    found = identifiability(pg.Laplace.calibrate(epsilon=1.0, bounds=UNIT))
    assert found.singular_values[0] == 1.0
    assert 0 < found.resolved(1000) < found.resolved(1_000_000) < 63
    assert f"1000000 reports resolve {found.resolved(10**6)} of 63" in str(found)
    assert "resolve nothing" in found.verdict(2)
    assert "resolve all 63" in found.verdict(10**13)


@pytest.mark.parametrize(
    ("call", "error", "message"),
    [
        (
            lambda: identifiability(pg.Gaussian(1.0)),
            ValueError,
            "no bounds to lay a grid over",
        ),
        (
            lambda: identifiability(pg.Gaussian(1.0), torch.ones(1, 1)),
            ValueError,
            "one row",
        ),
        (lambda: identifiability("noise"), TypeError, "mechanism must be a Mechanism"),
        (
            lambda: identifiability(pg.Gaussian(1.0), torch.ones(2, 1)).resolved(0),
            ValueError,
            "n must",
        ),
    ],
)
def test_bad_input_is_named(call, error, message):
    with pytest.raises(error, match=message):
        call()


def test_a_hidden_direction_is_resolved_by_no_number_of_reports():
    bit = pg.RandomizedResponse.calibrate(epsilon=1.0, k=2)
    asked = pg.mechanisms.Sampled((slice(0, 2), bit), (slice(2, 4), bit), choose=1)
    both = torch.tensor([[1, 0, 1, 0], [1, 0, 0, 1], [0, 1, 1, 0], [0, 1, 0, 1.0]])
    found = pg.audit.identifiability(asked, both)
    assert found.singular_values[-1] == 0.0  # not the rounding of one
    assert found.verdict(10**6).endswith("the next one no number resolves")
