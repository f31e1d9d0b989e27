import copy
import pickle

import pytest
import torch

from privgan.sinkhorn import L1, SquaredL2, solve, solve_samples

F64 = torch.float64


def batch(count=3, n=9, m=7, d=2, dtype=torch.float32):
    g = torch.Generator().manual_seed(0)
    x = torch.rand((count, n, d), generator=g, dtype=dtype)
    return x, torch.rand((count, m, d), generator=g, dtype=dtype) + 0.2


@pytest.mark.parametrize("backend", ["dense", "streaming"])
def test_a_batch_is_its_problems_solved_one_at_a_time(backend):
    x, y = batch()
    x.requires_grad_()
    a = torch.rand((3, 9), generator=torch.Generator().manual_seed(1)) + 0.1
    a[1, 4] = 0.0
    a = (a / a.sum(1, keepdim=True)).requires_grad_()
    b = torch.full((7,), 1 / 7)
    found = solve_samples(x, y, L1(), 0.3, a, b, tol=1e-4, backend=backend)
    assert (found.value.shape, found.f.shape, found.g.shape) == ((3,), (3, 9), (3, 7))
    pull = torch.tensor([1.0, -2.0, 0.5])
    grad_x, grad_a = torch.autograd.grad(found.value @ pull, (x, a))
    for k in range(3):
        one = solve_samples(x[k], y[k], L1(), 0.3, a[k], b, tol=1e-4, backend=backend)
        assert torch.equal(found.value[k], one.value)
        assert torch.equal(found.f[k], one.f)
        assert torch.equal(found.g[k], one.g)
        own_x, own_a = torch.autograd.grad(one.value * pull[k], (x, a))
        assert torch.equal(own_x[k], grad_x[k])
        assert torch.equal(own_a[k], grad_a[k])
        if backend == "dense":
            assert torch.equal(found.plan()[k], one.plan())
        assert one.error <= found.error
        assert one.n_iter <= found.n_iter
    assert found.converged
    again = solve_samples(x, y, L1(), 0.3, a, b, tol=1e-4, backend=backend, init=found)
    assert again.n_iter == 1


def test_a_bad_batch_is_named():
    x, y = batch()
    with pytest.raises(ValueError, match=r"a batch of problems is \(B, n, d\) and \(B, m, d\)"):
        solve_samples(x, y[:2], L1(), 1.0)
    with pytest.raises(ValueError, match=r"a batch of problems is"):
        solve_samples(x, y[0], L1(), 1.0)
    with pytest.raises(ValueError, match="b is for 2 problems, and x has 3"):
        solve_samples(x, y, L1(), 1.0, b=torch.full((2, 7), 1 / 7))
    y[2, 0, 1] = float("nan")
    with pytest.raises(ValueError, match="problem 2 of the batch: y has 1 non-finite row"):
        solve_samples(x, y, L1(), 1.0)


@pytest.mark.parametrize("again", [copy.deepcopy, lambda r: pickle.loads(pickle.dumps(r))])
@pytest.mark.parametrize("kind", ["matrix", "dense", "streaming", "batch"])
def test_a_result_is_copied_and_pickled_without_its_graph(again, kind):
    x, y = batch()
    x.requires_grad_()
    if kind == "matrix":
        result = solve(SquaredL2().matrix(x[0], y[0]), 0.1)
    elif kind == "batch":
        result = solve_samples(x, y, SquaredL2(), 0.1)
    else:
        result = solve_samples(x[0], y[0], SquaredL2(), 0.1, backend=kind)
    other = again(result)
    assert torch.equal(other.value, result.value)
    assert not other.value.requires_grad
    assert torch.equal(other.g, result.g)
    assert (other.error, other.n_iter, other.converged) == (result.error, result.n_iter, True)
    if kind != "streaming":
        assert torch.equal(other.plan(), result.plan())
        assert other.information() == result.information()
    result.value.sum().backward()  # the original keeps its graph
    assert x.grad.abs().sum() > 0


@pytest.mark.parametrize("kind", ["matrix", "dense", "batch"])
@pytest.mark.parametrize("dtype", [torch.float32, F64])
def test_writing_to_the_inputs_later_changes_nothing(kind, dtype):
    x, y = batch(dtype=dtype)
    a, b = (torch.rand(k, dtype=dtype, generator=torch.Generator().manual_seed(k)) for k in (9, 7))
    a, b = a / a.sum(), b / b.sum()
    matrix, init = L1().matrix(x[0], y[0]), torch.zeros(7, dtype=dtype)
    if kind == "matrix":
        result = solve(matrix, 0.1, a, b, init=init)
    elif kind == "dense":
        result = solve_samples(x[0], y[0], L1(), 0.1, a, b, init=init)
    else:
        result = solve_samples(x, y, L1(), 0.1, a, b, init=init)
    named = "value", "f", "g", "error", "n_iter"
    before = [result.plan(), *(copy.copy(getattr(result, name)) for name in named)]
    nats = result.information()
    for tensor in (x, y, a, b, matrix, init):
        tensor.mul_(-3.0)
    assert all(
        torch.equal(torch.as_tensor(late), torch.as_tensor(early))
        for early, late in zip(
            before, [result.plan(), *(getattr(result, n) for n in named)], strict=True
        )
    )
    assert result.information() == nats
