import numpy as np
import pytest
import torch

import privgan as pg
from privgan.mechanisms import gaussian_epsilon

F64 = torch.float64


def ball(dim, radius=2.0):
    return pg.Gaussian(0.3, bounds=pg.Ball(radius, dim=dim))


def test_low_frequencies_are_orthonormal_and_smooth():
    mech = pg.LinearMap.dct(8, 3, ball(9))
    assert torch.allclose(mech.matrix @ mech.matrix.T, torch.eye(9, dtype=F64), atol=1e-12)
    flat = torch.ones(1, 64, dtype=F64) / 8  # norm 1, all in the lowest frequency
    assert torch.allclose(mech.forward(flat), torch.eye(9, dtype=F64)[:1])
    everything = pg.LinearMap.dct(4, 4, ball(16, 100.0))
    x = torch.rand(3, 16, dtype=F64)
    assert torch.allclose(everything.forward(x).norm(dim=1), x.norm(dim=1))


def test_blocks_are_averaged_as_pooling_does():
    mech = pg.LinearMap.block_average(6, 3, pg.Laplace(0.1, bounds=pg.Box(0.0, 1.0, dim=4)))
    x = torch.rand(5, 36, dtype=F64)
    pooled = torch.nn.functional.avg_pool2d(x.reshape(5, 1, 6, 6), 3).reshape(5, 4)
    assert torch.allclose(mech.forward(x), pooled)


def test_features_are_clipped_and_the_budget_is_the_inner_one():
    mech = pg.LinearMap.dct(4, 2, ball(4, radius=0.5))
    x = torch.rand(50, 16) * 10
    assert (mech.forward(x).norm(dim=1) <= 0.5).all()
    assert mech.epsilon(1e-5) == gaussian_epsilon(1e-5, 1.0 / 0.3)
    assert mech.privatize(x, seed=0).shape == (50, 4)
    assert "of clip(A X) in Ball(0.5, dim=4), not of X" in mech.describe()


def test_forward_is_differentiable_across_the_clip():
    mech = pg.LinearMap.dct(4, 2, ball(4, radius=1.0))
    g = torch.Generator().manual_seed(0)
    x = torch.randn(8, 16, dtype=F64, generator=g).requires_grad_()
    norms = (x @ mech.matrix.T).norm(dim=1)
    assert (norms < 1).any()
    assert (norms > 1).any()
    assert torch.autograd.gradcheck(mech.forward, x)


def test_the_matched_loss_passes_gradients_to_whole_records():
    mech = pg.LinearMap.block_average(4, 2, pg.Gaussian(0.3, bounds=pg.Box(0.0, 1.0, dim=4)))
    x = torch.rand(5, 16, dtype=F64, generator=torch.Generator().manual_seed(1)).requires_grad_()
    y = mech.privatize(torch.rand(6, 16, dtype=F64), seed=0)
    loss = pg.EntropicLoss.matched(mech, tol=1e-12, max_iter=5000)
    assert torch.autograd.gradcheck(lambda x: loss(x, y), x, eps=1e-6, atol=1e-6)


def test_a_generator_learns_records_from_reports_of_their_features():
    raw = torch.rand(4000, 1, generator=torch.Generator().manual_seed(0)) * torch.ones(1, 16)
    mech = pg.LinearMap.block_average(4, 2, pg.Laplace(0.1, bounds=pg.Box(0.0, 1.0, dim=4)))
    generator = pg.MLP(2, 16, hidden=(32,), bounds=(0.0, 1.0))
    loss = pg.EntropicLoss.matched(mech)
    reports = mech.privatize(raw, seed=1)
    history = pg.fit(generator, reports, loss, steps=150, batch_size=256, lr=5e-3, progress=False)
    assert history.nll[-1][1] < history.nll[0][1]
    made = mech.forward(generator.sample(2000, seed=0))
    assert (torch.corrcoef(made.T) > 0.9).all()  # the raw features are all one number
    assert (torch.corrcoef(reports.T)[0, 1:] < 0.9).all()


def test_matrices_are_told_apart_by_name():
    first, second = np.eye(2), np.eye(2)
    second[0, 1] = 1e-9
    assert repr(pg.LinearMap(first, ball(2))) == repr(pg.LinearMap(first.copy(), ball(2)))
    assert repr(pg.LinearMap(first, ball(2))) != repr(pg.LinearMap(second, ball(2)))


@pytest.mark.parametrize(
    ("call", "error", "message"),
    [
        (lambda: pg.LinearMap(np.eye(2), pg.Gaussian(1.0)), ValueError, "no bounds to clip"),
        (
            lambda: pg.LinearMap(np.eye(3), ball(2)),
            ValueError,
            "features A x has 3 columns and Ball",
        ),
        (lambda: pg.LinearMap(np.eye(2) * np.nan, ball(2)), ValueError, "matrix has 2 non-finite"),
        (lambda: pg.LinearMap(np.ones(2), ball(2)), ValueError, r"matrix has shape \(2,\)"),
        (lambda: pg.LinearMap(np.eye(2), None), TypeError, "mechanism must be a Mechanism"),
        (lambda: pg.LinearMap.dct(4, 5, ball(25)), ValueError, "keep is 5, but 4 x 4 images"),
        (lambda: pg.LinearMap.block_average(5, 2, ball(4)), ValueError, "blocks of 2 do not tile"),
        (
            lambda: pg.LinearMap(np.eye(2), ball(2)).privatize(torch.ones(1, 3)),
            ValueError,
            "x has 3 columns and LinearMap.* has 2",
        ),
    ],
)
def test_bad_input_is_named(call, error, message):
    with pytest.raises(error, match=message):
        call()


def test_a_negative_zero_in_the_matrix_makes_no_other_mechanism():
    plain, negative = (pg.LinearMap(torch.tensor([[1.0, zero]]), ball(1)) for zero in (0.0, -0.0))
    assert negative == plain
    assert repr(negative) == repr(plain)
    assert not negative.matrix.signbit().any()
