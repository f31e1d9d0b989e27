"""Two processes find what one finds on all of a batch."""

import math

import pytest
import torch
from processes import together
from trainings import LOSS, REPORTS, fit

import privgan as pg
from privgan.sinkhorn import solve_across, solve_samples
from privgan.streams import stream
from privgan.training import losses
from privgan.training.blocks import matched
from privgan.training.ranks import several

PRODUCT = pg.Product(
    (slice(0, 2), pg.Gaussian(0.5)),
    (slice(2, 5), pg.RandomizedResponse.calibrate(epsilon=1.0, k=3)),
)


def numbers(n, d, name):
    return torch.randn((n, d), generator=stream(0, name))


def problems():
    """Points of a generator, reports, and the loss between them."""
    gauss, laplace = (
        pg.EntropicLoss.matched(pg.Gaussian(0.5)),
        pg.EntropicLoss.matched(pg.Laplace(1.0)),
    )
    wide = pg.EntropicLoss.matched(pg.Gaussian(2.0), tol=1e-4)
    precise = pg.EntropicLoss.matched(pg.Gaussian(0.5), tol=1e-6, max_iter=5000)
    x, y = numbers(51, 2, "x"), numbers(90, 2, "y")
    records = torch.cat([numbers(40, 2, "r"), numbers(40, 3, "c").softmax(1)], 1)
    one_hot = torch.eye(3)[torch.arange(80) % 3]
    reports = PRODUCT.privatize(torch.cat([numbers(80, 2, "raw"), one_hot], 1), seed=0)
    levels = pg.mechanisms.Blocks(pg.Gaussian(0.5), pg.Laplace(0.6), pg.Gaussian(1.2), dim=2)
    return {
        "several mechanisms": (x, levels.privatize(y, seed=0), matched(levels)),
        "gaussian": (x, y, gauss),
        "laplace": (x, y, laplace),
        "wide": (numbers(50, 20, "x"), numbers(70, 20, "y"), wide),
        "far apart": (x, y * 30, precise),
        "flat": (x, y, pg.EntropicLoss.matched(pg.Gaussian(1e4))),
        "likelihood": (x, y, pg.LikelihoodLoss.matched(pg.Gaussian(0.5))),
        "product": (records, PRODUCT.forward(reports), pg.EntropicLoss.matched(PRODUCT)),
        "product likelihood": (records, reports, pg.LikelihoodLoss.matched(PRODUCT)),
    }


def found(name, weighted):
    """Value, gradients in points and weights, and their error: of the part that is here."""
    x, y, loss = problems()[name]
    a = torch.rand(len(x), generator=stream(0, "a")) if weighted else None
    ranks = several()
    own = ranks.share(len(x)) if ranks else slice(None)
    x = x[own].requires_grad_()
    made = loss.forward(x)
    if a is not None:
        a = (a / a.sum())[own].requires_grad_()
    solved = loss.across(ranks, made, y, a) if ranks else loss.between(made, y, a)
    solved.value.backward()
    about = solved.error, solved.n_iter, solved.information()
    return solved.value.detach(), x.grad, None if a is None else a.grad, *about


def solutions():
    return {(name, w): found(name, w) for name in problems() for w in (False, True)}


def test_values_and_gradients_are_those_of_one_process(both):
    first, second = (part["solutions"] for part in both)
    for (name, weighted), (value, gradient, pull, error, n_iter, nats) in solutions().items():
        one, two = first[name, weighted], second[name, weighted]
        assert one[0] == two[0], name
        assert one[0] == pytest.approx(value.item(), rel=1e-5, abs=1e-6), name
        joined = torch.cat([one[1], two[1]])
        assert torch.allclose(joined, gradient, atol=1e-5 * gradient.abs().max()), name
        assert (one[3], one[4]) == (two[3], two[4])
        assert one[3] == pytest.approx(error, rel=0.1, abs=1e-4)
        assert one[5] == pytest.approx(nats, rel=1e-5, abs=1e-6, nan_ok=True), name
        assert one[5] == two[5] or math.isnan(nats)
        assert one[4] == n_iter or name == "far apart", name
        if weighted:
            pulls = torch.cat([one[2], two[2]])
            gap = (pulls - pull) - (pulls - pull).mean()  # potentials are known up to a constant
            assert gap.abs().max() < 2e-5 * pull.abs().max(), name


def streamed():
    """Of each cost, what is found without a stored matrix: of the part that is here."""
    kept = problems()
    x, y = numbers(401, 2, "x"), numbers(802, 2, "y")
    cases = {"L2": (x, y, kept["gaussian"][2]), "L1": (x, y, kept["laplace"][2])}
    cases["product"] = kept["product"]
    ranks, settings, solutions = several(), {"tol": 1e-4, "backend": "streaming"}, {}
    for name, (x, y, loss) in cases.items():
        own = ranks.share(len(x)) if ranks else slice(None)
        x = x[own].requires_grad_()
        made = loss.forward(x)
        if ranks:
            solved = solve_across(made, y, loss.cost, loss.reg, across=ranks, **settings)
        else:
            solved = solve_samples(made, y, loss.cost, loss.reg, **settings)
        solved.value.backward()
        solutions[name] = solved.value.detach(), x.grad, solved.error
    return solutions


@pytest.mark.parametrize("name", ["L2", "L1", "product"])
def test_so_they_are_without_a_stored_matrix(both, name):
    one, two = (part["streamed"][name] for part in both)
    value, gradient, _ = streamed()[name]
    assert one[0] == two[0]
    assert one[0] == pytest.approx(value.item(), rel=1e-5)
    joined = torch.cat([one[1], two[1]])
    assert torch.allclose(joined, gradient, atol=1e-5 * gradient.abs().max())
    assert one[2] == two[2] <= 1e-4


KINDS = ["entropic", "moments", "norm", "likelihood", "atoms", "blocks", "network"]


def trained(kind, checkpoint=None, steps=12):
    generator = pg.MLP(2, 2, hidden=(16,), norm=kind == "norm")
    loss, reports = LOSS, REPORTS
    if kind == "likelihood":
        loss = pg.LikelihoodLoss.matched(LOSS.mechanism)
    if kind == "atoms":
        generator = pg.Atoms(numbers(31, 2, "atoms"))
    if kind == "network":
        loss = pg.AmortizedLoss.matched(LOSS.mechanism, components=0)
    if kind == "blocks":
        parts = [pg.simulate(REPORTS[:300], pg.Gaussian(s), seed=1) for s in (0.3, 0.6)]
        reports, loss = parts, None
    settings = {"steps": steps, "batch_size": 65, "checkpoint": checkpoint}
    if kind == "moments":
        settings["start"] = "moments"
    history = fit(generator, reports, loss, **settings)
    told = [nats for _, nats in history.information]
    return history.loss, history.nll, generator.state_dict(), generator.sample(50, seed=0), told


def all_kinds():
    return {kind: trained(kind) for kind in KINDS}


def test_trainings_go_the_same_way(both):
    first, second = (part["trained"] for part in both)
    alone = all_kinds()
    for kind in KINDS:
        one, two, expected = first[kind], second[kind], alone[kind]
        assert one[:2] == two[:2], kind
        assert one[4] == two[4], kind
        assert len(one[4]) == (0 if kind in ("likelihood", "blocks") else len(one[1])), kind
        assert all(torch.equal(value, two[2][key]) for key, value in one[2].items()), kind
        if kind == "network":  # draws of its own for every process
            assert one[0] == pytest.approx(expected[0], rel=0.5)
            continue
        assert one[0] == pytest.approx(expected[0], rel=1e-5, abs=1e-6), kind
        assert one[4] == pytest.approx(expected[4], rel=1e-5), kind
        # A bias before batch norm changes nothing, so that its gradient is rounding, of which Adam
        # makes steps of full size; the mean that the norm keeps follows a little behind.
        gap = 5e-3 if kind == "norm" else 1e-5
        assert torch.allclose(one[3], expected[3], atol=gap), kind


def taken_up(path):
    return trained("norm", path, steps=20)


def test_another_number_of_processes_takes_a_training_up(both, path):
    one, two = (part["taken up"] for part in both)
    loss = trained("norm")[0]
    assert one[0] == two[0]
    assert len(one[0]) == 20
    assert one[0][:12] == loss
    again = taken_up(path)
    assert again[0] == one[0]


def other_reports():
    reports = REPORTS + (several().rank if several() else 0)
    try:
        fit(pg.MLP(2, 2), reports)
    except ValueError as error:
        return str(error)


def test_processes_that_were_given_other_reports_are_told(both):
    for said in (part["other reports"] for part in both):
        assert said.startswith("process 1 of this training has another reports than process 0")


def unsupported():
    class Own(losses.EntropicLoss):
        def between(self, x, y, a=None):
            return super().between(x, y, a)

    try:
        fit(pg.MLP(2, 2), loss=Own.matched(LOSS.mechanism))
    except TypeError as error:
        return str(error)


def test_a_loss_of_ones_own_is_refused(both):
    for said in (part["own loss"] for part in both):
        assert "cannot be trained by several processes" in said


def everything(path):
    return {
        "solutions": solutions(),
        "streamed": streamed(),
        "trained": all_kinds(),
        "taken up": taken_up(path),
        "other reports": other_reports(),
        "own loss": unsupported(),
    }


@pytest.fixture(scope="module")
def path(tmp_path_factory):
    return str(tmp_path_factory.mktemp("ranks") / "run.ckpt")


@pytest.fixture(scope="module")
def both(path):
    """What each of two processes finds; the checkpoint that they take up is one process's."""
    trained("norm", path)
    return together(everything, path)


def test_one_process_is_no_company():
    assert several() is None
