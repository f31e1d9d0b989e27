import functools

import pytest
import torch

import privgan as pg
from privgan.mechanisms import gaussian_epsilon, one_hot

F64 = torch.float64
BOX = pg.Box(0.0, 1.0, dim=2)
LAPLACE = pg.Laplace.calibrate(epsilon=1.0, bounds=BOX)
RESPONSE = pg.RandomizedResponse.calibrate(epsilon=0.5, k=3)
GAUSSIAN = pg.Gaussian.calibrate(epsilon=1.0, delta=1e-5, bounds=pg.Ball(1.0, dim=2))
MIXED = pg.Product((slice(2, 5), RESPONSE), (slice(0, 2), LAPLACE))


def table(n, seed=0):
    g = torch.Generator().manual_seed(seed)
    labels = torch.randint(0, 3, (n,), generator=g)
    numbers = (torch.rand((n, 2), generator=g) + labels[:, None]) / 3
    return torch.cat([numbers, one_hot(labels, 3)], 1)


def test_budgets_add():
    assert MIXED.epsilon() == pytest.approx(1.5)
    with_gaussian = pg.Product((slice(0, 2), GAUSSIAN), (slice(2, 5), RESPONSE))
    assert with_gaussian.epsilon(1e-5) == pytest.approx(1.5)
    with pytest.raises(ValueError, match="no epsilon at delta = 0"):
        with_gaussian.epsilon()


def test_gaussian_blocks_compose_exactly():
    """Two blocks are one Gaussian mechanism at sqrt(2) times the distance, less than the sum."""
    both = pg.Product((slice(0, 2), GAUSSIAN), (slice(2, 4), GAUSSIAN))
    mu = 2.0 / GAUSSIAN.sigma
    assert both.epsilon(1e-5) == pytest.approx(gaussian_epsilon(1e-5, 2**0.5 * mu))
    assert both.epsilon(1e-5) < 2.0


def test_costs_and_log_densities_add():
    x, y = table(6).double(), MIXED.privatize(table(9, 1).double(), seed=0)
    parts = LAPLACE.log_density(x[:, :2], y[:, :2]) + RESPONSE.log_density(x[:, 2:], y[:, 2:])
    assert torch.allclose(MIXED.log_density(x, y), parts)
    assert MIXED.reg == 1.0
    costs = LAPLACE.cost.matrix(x[:, :2], y[:, :2]) / LAPLACE.reg
    costs = costs + RESPONSE.cost.matrix(x[:, 2:], y[:, 2:])
    assert torch.allclose(MIXED.cost.matrix(x, y), costs)


def test_blocks_are_reported_in_column_order_with_noise_of_their_own():
    twice = pg.Product((slice(0, 1), pg.Gaussian(1.0)), (slice(1, 2), pg.Gaussian(1.0)))
    noise = twice.privatize(torch.zeros(20_000, 2), seed=0)
    assert torch.corrcoef(noise.T)[0, 1].abs() < 0.03
    y = MIXED.privatize(table(500), seed=0)
    assert torch.equal(y[:, 2:].sum(1), torch.ones(500))
    assert y[:, :2].abs().max() > 1.0


def test_a_map_inside_narrows_the_reports():
    halves = pg.LinearMap([[0.5, 0.5]], pg.Laplace(0.1, bounds=pg.Box(0.0, 1.0, dim=1)))
    mech = pg.Product((slice(0, 2), halves), (slice(2, 5), RESPONSE))
    x = table(7)
    assert mech.report_dim(5) == 4
    assert torch.allclose(mech.forward(x)[:, 0], x[:, :2].mean(1))
    assert mech.log_density(x, mech.privatize(x, seed=0)).shape == (7, 7)


def test_calibration_splits_the_budget():
    blocks = (
        (slice(0, 2), functools.partial(pg.Laplace.calibrate, bounds=BOX)),
        (slice(2, 5), functools.partial(pg.RandomizedResponse.calibrate, k=3)),
    )
    even = pg.Product.calibrate(*blocks, epsilon=2.0)
    assert [m.epsilon() for _, m in even.blocks] == pytest.approx([1.0, 1.0])
    uneven = pg.Product.calibrate(*blocks, epsilon=2.0, shares=[3, 1])
    assert [m.epsilon() for _, m in uneven.blocks] == pytest.approx([1.5, 0.5])
    for mech in (even, uneven):
        assert mech.epsilon() <= 2.0
    with pytest.raises(ValueError, match="shares has 1 numbers for 2 blocks"):
        pg.Product.calibrate(*blocks, epsilon=2.0, shares=[1.0])


def test_clipping_reaches_the_numbers():
    x = table(3)
    x[1, 0] = 4.0
    with pytest.raises(ValueError, match=r"outside Box.*row 1 \(column 0\)"):
        MIXED.privatize(x)
    assert torch.isfinite(MIXED.privatize(x, clip=True)).all()


def test_a_mixed_table_is_learned_with_its_dependence():
    """Numbers follow their category in the raw table; so do those of the trained generator."""
    raw = table(20_000)
    mech = pg.Product(
        (slice(0, 2), pg.Laplace(0.15, bounds=BOX)),
        (slice(2, 5), pg.RandomizedResponse.calibrate(epsilon=3.0, k=3)),
    )
    generator = pg.MLP(3, 5, hidden=(64, 64), categories=[slice(2, 5)])
    loss = pg.EntropicLoss.matched(mech)
    reports = mech.privatize(raw, seed=0)
    pg.fit(generator, reports, loss, steps=400, batch_size=500, lr=3e-3, progress=False)
    made = generator.sample(20_000, seed=0)
    assert torch.equal(made[:, 2:].sum(1), torch.ones(20_000))

    def means(t):
        return torch.stack([t[t[:, c] == 1][:, :2].mean(0) for c in (2, 3, 4)])

    assert (means(made) - means(raw)).abs().max() < 0.12
    # What the reports themselves say: a lie comes from either of the others, a third away, or two.
    bias = mech.blocks[1][1].rates[1] * torch.tensor([[1.0], [0.0], [-1.0]])
    assert bias.max() > 0.04
    assert torch.allclose(means(reports) - means(raw), bias.expand(3, 2), atol=0.01)


@pytest.mark.parametrize(
    ("blocks", "error", "message"),
    [
        ([(slice(0, 2), LAPLACE), (slice(3, 6), RESPONSE)], ValueError, "column 2 is in no block"),
        ([(slice(1, 3), LAPLACE)], ValueError, "column 0 is in no block"),
        (
            [(slice(0, 2), LAPLACE), (slice(1, 4), RESPONSE)],
            ValueError,
            "column 1 is in two blocks",
        ),
        ([(slice(0, 3), LAPLACE)], ValueError, r"slice\(0, 3, None\) does not fit Laplace.* has 2"),
        ([(slice(None, 2), LAPLACE)], ValueError, "columns must be slice"),
        ([(2, LAPLACE)], TypeError, "columns must be a slice"),
        ([(slice(0, 2), "Laplace")], TypeError, "mechanism must be a Mechanism"),
        ([], ValueError, "at least one block"),
    ],
)
def test_bad_blocks_are_named(blocks, error, message):
    with pytest.raises(error, match=message):
        pg.Product(*blocks)


def test_a_block_without_bounds_has_no_budget():
    mech = pg.Product((slice(0, 2), pg.Laplace(1.0)), (slice(2, 5), RESPONSE))
    with pytest.raises(ValueError, match="unbounded records have no epsilon"):
        mech.epsilon()
    assert "whole record    budget unknown" in mech.describe()
    with pytest.raises(ValueError, match="leave sensitivity out"):
        MIXED.epsilon(sensitivity=1.0)
