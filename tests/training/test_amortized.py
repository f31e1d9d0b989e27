"""The plan as a network: what is known in closed form, and what must never be exceeded."""

import math

import pytest
import torch
from torch import nn

import privgan as pg
from privgan.generators import Generator
from privgan.training import Encoder, amortized, image_encoder, vector_encoder

MECH = pg.Gaussian(0.7)


def gaussian_reports(n=20_000, d=10):
    spread = torch.linspace(0.3, 2.0, d)
    x = spread * torch.randn(n, d, generator=torch.Generator().manual_seed(0))
    return MECH.privatize(x, seed=1)


class Table(Generator):
    """The k-th record for the k-th class; its one normal latent does nothing."""

    def __init__(self, records):
        super().__init__()
        self.records = nn.Parameter(records)
        self.latent_dim, self.out_dim = 1 + len(records), records.shape[1]

    def forward(self, z):
        return z[:, 1:] @ self.records


class Oracle(Encoder):
    """The true posterior of a table's classes."""

    def __init__(self, model, mechanism):
        super().__init__(nn.Identity(), model.out_dim, model.out_dim, 1, model.classes)
        self.known = [model, mechanism]  # in a list: they are not parts of this module
        self.code.weight.data.zero_()
        self.code.bias.data.zero_()

    def log_classes(self, features, evidence):
        model, mechanism = self.known
        records = torch.cat([model.decoder.records, torch.eye(model.classes)], 1)
        joint = mechanism.log_density(records, features).T + model.log_prior()
        return joint.log_softmax(1)


def table():
    records = torch.tensor([[0.0, 0.0], [1.0, 0.5], [-1.0, 2.0], [0.3, -1.0]])
    model = pg.Labelled(Table(records), 4, prior=[0.4, 0.3, 0.2, 0.1])
    answer = pg.RandomizedResponse.calibrate(epsilon=1.0, k=4)
    mechanism = pg.Product((slice(0, 2), pg.Laplace(0.5)), (slice(2, 6), answer))
    return model, mechanism, mechanism.privatize(model.sample(400, seed=0), seed=1)


def exact_log_likelihood(model, mechanism, y):
    records = torch.cat([model.decoder.records, torch.eye(4)], 1)
    return (mechanism.log_density(records, y) + model.log_prior()[:, None]).logsumexp(0)


def test_with_the_posterior_the_bound_is_the_likelihood_of_a_finite_law():
    model, mechanism, y = table()
    loss = pg.AmortizedLoss(mechanism, encoder=Oracle(model, mechanism))
    exact = exact_log_likelihood(model, mechanism, y)
    assert torch.allclose(loss.log_likelihood(model, y, draws=1), exact, atol=1e-5)
    likelihood = pg.LikelihoodLoss.matched(mechanism)
    records = torch.cat([model.decoder.records, torch.eye(4)], 1)
    expected = likelihood(records, y, model.prior)
    values = torch.stack([loss.solve(model, y, seed=s).value for s in range(60)]).detach()
    assert abs(values.mean() - expected) < 4 * values.std() / 60**0.5 + 1e-5


def test_any_other_encoder_lies_above_by_its_divergence_from_the_posterior():
    model, mechanism, y = table()
    exact = exact_log_likelihood(model, mechanism, y).mean()
    loss = pg.AmortizedLoss(mechanism)
    loss.solve(model, y, seed=0)
    bounds = [loss.log_likelihood(model, y, draws=k).mean() for k in (1, 8, 64, 512)]
    assert bounds[0] < bounds[1] < bounds[2] < exact + 0.01
    assert abs(bounds[3] - exact) < 0.02


def test_the_gradient_is_that_of_the_sum_over_all_classes():
    """Most classes are not visited in a step: on average it makes no difference."""
    model, mechanism, y = table()
    y = y[:40]
    loss = pg.AmortizedLoss(mechanism)
    loss.solve(model, y, seed=0)
    weights = [model.decoder.records, *loss.encoder.odds.parameters()]

    encoder = loss.encoder.eval()
    log_q = encoder.log_classes(encoder.features(y), loss._evidence(model, y))
    records = torch.cat([model.decoder.records, torch.eye(4)], 1)
    cost = mechanism.cost.matrix(records, y).T
    whole = (log_q.exp() * (cost + log_q - model.log_prior())).sum(1).mean()
    expected = torch.autograd.grad(whole, weights)

    draws = []
    for seed in range(300):
        value = loss.solve(model, y, seed=seed).value
        grads = torch.autograd.grad(value, weights)
        draws.append(torch.cat([g.flatten() for g in grads]))
    draws, expected = torch.stack(draws), torch.cat([g.flatten() for g in expected])
    error = (draws.mean(0) - expected).abs()
    assert (error < 4.5 * draws.std(0) / 300**0.5 + 1e-4).all()
    assert error.max() < 0.1 * expected.abs().max()


def test_a_class_that_is_sure_to_the_last_digit_leaves_the_gradient_finite(monkeypatch):
    """The likeliest class rounds to 1, and another of 1e-8 is visited now and then."""
    monkeypatch.setattr(amortized, "DOUBT", 1e-12)  # here always
    model, mechanism, y = table()
    loss = pg.AmortizedLoss(mechanism)
    loss.solve(model, y, seed=0)
    loss.encoder.odds.weight.data.zero_()
    loss.encoder.odds.bias.data = torch.tensor([0.0, -18.0, -19.0, -20.0])
    monkeypatch.setattr(pg.AmortizedLoss, "_evidence", lambda self, g, y: torch.zeros(len(y), 4))
    value = loss.solve(model, y, seed=0).value
    grads = torch.autograd.grad(value, [model.decoder.records, *loss.encoder.odds.parameters()])
    assert value.isfinite()
    assert all(g.isfinite().all() for g in grads)


@pytest.mark.parametrize("times", [0.5, 1.0, 2.0])
def test_a_linear_generator_reaches_the_closed_form_at_every_reg(times):
    """Ten latents in ten dimensions at half the matched reg: batches fail there by 12%."""
    y = gaussian_reports()
    used = pg.Gaussian(MECH.sigma * times**0.5)  # reg in proportion to times
    encoder = vector_encoder(10, 10, hidden=())
    loss = pg.AmortizedLoss.matched(used, encoder=encoder, anneal=1.0, draws=4, components=0)
    model = pg.Linear(10, 10)
    settings = {"steps": 3000 if times < 1 else 2000, "batch_size": 500, "lr": 6e-2, "holdout": 0.0}
    pg.fit(model, y, loss, progress=False, **settings)
    variances = torch.linalg.eigvalsh(torch.cov(y.T.double()))
    expected = (variances - used.reg / 2).clamp_min(0.0)
    made = model.matrix.detach().double()
    found = torch.linalg.eigvalsh(made @ made.T)
    assert (found - expected).abs().sum() / expected.sum() < 0.01


def test_it_carries_more_nats_than_any_batch_and_the_history_says_so():
    y = gaussian_reports(d=10)
    loss = pg.AmortizedLoss.matched(pg.Gaussian(0.1), anneal=1.0)
    history = pg.fit(pg.MLP(10, 10), y, loss, steps=300, batch_size=100, progress=False)
    assert history.information[-1][1] > math.log(100) + 1
    assert all(math.isnan(error) for error in history.error)
    assert all(history.converged)
    assert not history.saturated


def test_latents_are_drawn_where_reports_put_them():
    y = gaussian_reports(2000, d=2)
    model = pg.MLP(2, 2, hidden=(16,))
    loss = pg.AmortizedLoss.matched(MECH, components=3)
    pg.fit(model, y, loss, steps=100, batch_size=200, progress=False)
    assert model.law.weights.shape == (1, 3)
    u, label, score = loss._scored(model, y, 64, torch.Generator().manual_seed(5))
    share = (score + model.law.log_density(u, label)).view(-1, 64).softmax(1).detach()
    put = (share[..., None] * u.view(-1, 64, 2)).sum(1).mean(0).detach()
    assert torch.allclose(model.latent(4000, torch.Generator()).mean(0), put, atol=0.15)
    fresh = gaussian_reports(3000, d=2)[2000:]
    learned = loss.log_likelihood(model, fresh).mean()
    model.law = None
    assert learned > loss.log_likelihood(model, fresh).mean() + 0.005


def test_a_law_of_latents_is_weighed_by_what_the_channel_says(monkeypatch):
    seen = []
    monkeypatch.setattr(amortized, "fit_mixtures", lambda *given: seen.append(given) or [None])
    _, mechanism, y = table()
    labelled = pg.Labelled(pg.MLP(6, 2, hidden=(8,)), 4)
    loss = pg.AmortizedLoss.matched(mechanism, components=2)
    pg.fit(labelled, y, loss, steps=20, batch_size=50, holdout=0.1, progress=False)
    u, label, score, classes, sizes, _ = seen[0]
    assert (classes, sizes) == (4, [1, 2])
    assert u.shape == (*label.shape, 2)
    assert score.shape == label.shape
    # With the density of the normal law from which the generator draws, it is the bound's estimate.
    normal = -0.5 * (u.square() + math.log(2 * math.pi)).sum(2)
    found = (score + normal).logsumexp(1) - math.log(score.shape[1])
    expected = loss.log_likelihood(labelled, y, draws=score.shape[1], seed=1)
    assert found.mean().item() == pytest.approx(expected.mean().item(), rel=0.02)


def test_a_law_of_latents_is_saved_with_its_generator(tmp_path):
    model, mechanism, y = table()
    model.decoder.records.requires_grad_(False)
    pg.fit(
        labelled := pg.Labelled(pg.MLP(6, 2, hidden=(8,)), 4),
        y,
        pg.AmortizedLoss.matched(mechanism, components=2),
        steps=20,
        batch_size=50,
        progress=False,
    )
    labelled.save(tmp_path / "model.safetensors")
    loaded = pg.load(tmp_path / "model.safetensors")
    assert torch.equal(loaded.sample(50, seed=0), labelled.sample(50, seed=0))
    assert torch.equal(loaded.sample_class(2, 5, seed=0), labelled.sample_class(2, 5, seed=0))
    assert loaded.law is not None


def test_a_training_resumes_with_its_encoder(tmp_path):
    _, mechanism, y = table()

    def train(steps, path=None):
        model = pg.Labelled(pg.MLP(6, 2, hidden=(8,)), 4)
        loss = pg.AmortizedLoss.matched(mechanism, components=0)
        settings = {"batch_size": 50, "progress": False, "checkpoint": path}
        history = pg.fit(model, y, loss, steps=steps, **settings)
        return model, loss, history

    path = tmp_path / "training"
    train(6, path)
    went_on, partner, history = train(12, path)
    again, other, repeated = train(12, path)  # finished: taken from the file
    assert history.loss == repeated.loss
    for a, b in ((went_on, again), (partner, other)):
        assert all(torch.equal(v, w) for v, w in zip(a.parameters(), b.parameters(), strict=True))


def test_images_get_an_encoder_of_convolutions():
    model = pg.Labelled(pg.ConvDecoder(14, 8, channels=4, hidden=16), 10)
    answer = pg.RandomizedResponse.calibrate(epsilon=2.0, k=10)
    mechanism = pg.Product((slice(0, 64), pg.Gaussian(1.0)), (slice(64, 74), answer))
    y = mechanism.privatize(model.sample(30, seed=0), seed=1)
    loss = pg.AmortizedLoss(mechanism)
    solved = loss.solve(model, y, seed=0)
    assert any(isinstance(part, nn.Conv2d) for part in loss.encoder.modules())
    assert math.isfinite(solved.value.item())
    assert solved.information() >= 0.0
    assert isinstance(image_encoder(8, 74, 4, 10), Encoder)


def test_points_are_refused_with_the_way_out():
    loss = pg.AmortizedLoss.matched(MECH)
    with pytest.raises(TypeError, match=r"solve\(generator, y\)"):
        loss.solve(torch.zeros(3, 2), torch.zeros(3, 2))
    with pytest.raises(TypeError, match=r"solve\(generator, y\)"):
        loss.between(torch.zeros(3, 2), torch.zeros(3, 2))


@pytest.mark.parametrize(
    ("settings", "message"),
    [({"anneal": 1.5}, "anneal"), ({"draws": 0}, "draws"), ({"components": -1}, "components")],
)
def test_settings_are_checked(settings, message):
    with pytest.raises(ValueError, match=message):
        pg.AmortizedLoss.matched(MECH, **settings)


def test_networks_may_train_in_bfloat16_while_costs_do_not():
    """Its rounding is one part in 256: held-out reports hardly tell, and no weight is narrowed."""
    reports, told = gaussian_reports(4000, 4), gaussian_reports(9000, 4)[5000:]
    found = {}
    for narrow in (False, True):
        model = pg.MLP(4, 4, hidden=(32,))
        loss = pg.training.AmortizedLoss.matched(MECH, components=0, autocast=narrow)
        history = pg.fit(model, reports, loss, steps=300, batch_size=250, lr=5e-3, progress=False)
        found[narrow] = -loss.log_likelihood(model, told).mean().item()
        assert {w.dtype for w in [*model.parameters(), *loss.parameters()]} == {torch.float32}
        found[narrow, "first"] = history.loss[0]
    assert found[True] == pytest.approx(found[False], abs=0.03)
    assert found[True, "first"] != found[False, "first"]


def test_a_heated_loss_softens_numbers_and_never_the_class():
    """With the draws held, the value is a line in 1 / times, and its intercept has all of the
    class's cost: at a point that is free of image cost, heating changes nothing."""
    model, mechanism, y = table()
    loss = pg.training.AmortizedLoss.matched(mechanism, encoder=Oracle(model, mechanism))
    values = [loss.heated(t).solve(model, y, seed=0).value.item() for t in (1.0, 2.0, 4.0)]
    slopes = (values[0] - values[1]) / 0.5, (values[1] - values[2]) / 0.25
    assert slopes[0] == pytest.approx(slopes[1], rel=1e-4)
    assert slopes[0] > 0.1
    only_class = pg.RandomizedResponse.calibrate(epsilon=1.0, k=4)
    assert only_class.heated(4.0) == (only_class.cost, only_class.reg)
    model = pg.MLP(2, 6, hidden=(8,), categories=[slice(2, 6)])
    loss = loss.matched(mechanism)
    history = pg.fit(model, y, loss, steps=4, anneal=4.0, batch_size=50, progress=False)
    assert len(history) == 4
