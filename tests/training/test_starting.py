"""A training that starts at the debiased moments: before its first step it is the closed form."""

import pytest
import torch
from torch.distributions import MultivariateNormal
from trainings import LOSS, MECH, REPORTS, weights

import privgan as pg
from privgan.artifact import data, metrics
from privgan.training.debiasing import Debiased

ANSWER = pg.RandomizedResponse.calibrate(epsilon=2.0, k=2)
TURN = torch.linalg.qr(torch.randn(3, 3, generator=torch.Generator().manual_seed(1)))[0][:2]
NUMBERS = [
    pg.Gaussian(0.6),
    pg.Laplace(0.5),
    pg.Product((slice(0, 1), pg.Laplace(0.3)), (slice(1, 3), pg.Gaussian(0.6))),
    pg.LinearMap(TURN, pg.Gaussian(0.5, bounds=pg.Box(-99, 99, dim=2))),
]


def records(n=6000):
    """Three numbers, away from the origin, and which of two classes they are."""
    rng = torch.Generator().manual_seed(0)
    label = (torch.rand(n, generator=rng) > 0.7).long()
    mixing = torch.tensor([[1.0, 0.0, 0.0], [0.7, 1.2, 0.0], [-0.4, 0.2, 1.5]])
    x = torch.tensor([[0.0, 0.0, 1.0], [2.0, -1.0, 0.0]])[label]
    x = x + torch.randn(n, 3, generator=rng) @ mixing.T + torch.tensor([5.0, 0.0, -20.0])
    return torch.cat([x, pg.mechanisms.one_hot(label, 2)], 1)


RAW = records()
LABELLED = pg.Product((slice(0, 3), pg.Gaussian(0.6)), (slice(3, 5), ANSWER))


def begun(generator, reports, mechanism, **settings):
    """``generator`` after one step of no length, in evaluation mode."""
    settings = {"steps": 1, "batch_size": 8, "lr": 1e-30, "holdout": 0.0} | settings
    loss = pg.EntropicLoss.matched(mechanism)
    pg.fit(generator, reports, loss, start="moments", progress=False, **settings)
    return generator.requires_grad_(False)


def as_map(generator, latents, fixed=None):
    """Offset and matrix of what is linear in its first ``latents``, the others being ``fixed``."""
    ends = torch.cat([torch.zeros(1, latents), torch.eye(latents)])
    if fixed is not None:
        ends = torch.cat([ends, fixed.expand(len(ends), -1)], 1)
    made = generator(ends).double()
    return made[0], (made[1:] - made[0]).T


@pytest.mark.parametrize("mechanism", NUMBERS, ids=["Gaussian", "Laplace", "product", "linear map"])
@pytest.mark.parametrize(
    "make",
    [
        lambda: pg.Linear(3, 3),
        lambda: pg.MLP(3, 3, hidden=(16, 8)),
        lambda: pg.MLP(4, 3, hidden=(8,)),
        lambda: pg.MLP(3, 3, hidden=(), basis=torch.linalg.inv(RAW[:3, :3])),
    ],
    ids=["linear", "network", "more latents", "basis, no layers"],
)
def test_before_its_first_step_it_is_the_closed_form(make, mechanism):
    reports = mechanism.privatize(RAW[:, :3], seed=1)
    generator = begun(make(), reports, mechanism)
    offset, matrix = as_map(generator, generator.latent_dim)
    expected = pg.closed_form(reports, mechanism)
    columns = (expected.matrix @ expected.law.factors[0, 0]).detach().double()
    assert torch.allclose(offset, expected.offset.detach().double(), atol=1e-3)
    assert torch.allclose(matrix @ matrix.T, columns @ columns.T, atol=5e-3)
    z = generator.latent(50, torch.Generator().manual_seed(0))
    assert torch.allclose(generator(z).double(), offset + z.double() @ matrix.T, atol=1e-3)


def test_few_latents_take_the_directions_of_the_largest_variance():
    reports = MECH.privatize(RAW[:, :3], seed=1)
    whole, part = (begun(pg.Linear(k, 3), reports, MECH) for k in (3, 1))
    left, size, _ = torch.linalg.svd(whole.matrix)
    assert torch.allclose(part.matrix @ part.matrix.T, size[0] ** 2 * left[:, :1] @ left[:, :1].T)


def shared():
    """The closed form of labelled reports with one covariance, beside these reports."""
    reports = LABELLED.privatize(RAW, seed=1)
    return reports, Debiased(reports, LABELLED).regularised(own=0.0), Debiased(reports, LABELLED)


def test_a_class_that_goes_in_moves_the_mean_and_has_its_share():
    reports, found, debiased = shared()
    generator = begun(pg.Labelled(pg.MLP(5, 3, hidden=(16, 16)), 2), reports, LABELLED)
    assert torch.allclose(generator.prior.double(), found.shares, atol=1e-6)
    means = debiased.records(found.means)
    for c, row in enumerate(torch.eye(2)):
        offset, matrix = as_map(generator, 3, row)
        assert offset[3:].tolist() == row.tolist()
        assert torch.allclose(offset[:3], means[c], atol=1e-3)
        assert torch.allclose((matrix @ matrix.T)[:3, :3], found.covariances[c], atol=1e-3)


def test_shares_that_were_given_stay():
    given = pg.Labelled(pg.MLP(5, 3, hidden=(16,)), 2, prior=[0.25, 0.75])
    begun(given, LABELLED.privatize(RAW, seed=1), LABELLED)
    assert given.prior.tolist() == [0.25, 0.75]


def test_a_class_that_comes_out_follows_bayes_rule():
    reports, found, debiased = shared()
    maker = pg.MLP(4, 5, hidden=(16, 16), categories=[slice(3, 5)])
    generator = begun(maker, reports, LABELLED)
    z = generator.latent(20_000, torch.Generator().manual_seed(0), even=True)
    x, p = generator(z).double().split([3, 2], 1)
    means = debiased.records(found.means)
    laws = [MultivariateNormal(mean, found.covariances[0]) for mean in means]
    scores = torch.stack([law.log_prob(x) for law in laws], 1) + found.shares.log()
    assert torch.allclose(p, scores.softmax(1), atol=1e-3)
    away = means - found.shares @ means
    total = found.covariances[0] + (away.T * found.shares) @ away
    assert torch.allclose(torch.cov(x.T), total, atol=0.03)


@pytest.mark.parametrize(
    "make",
    [
        lambda: pg.Labelled(pg.ConvDecoder(6, 4, channels=8, hidden=32), 2),
        lambda: pg.Labelled(pg.MLP(6, 16, hidden=(8,), bounds=(0.0, 1.0)), 2),
        lambda: pg.generators.Classified(pg.MLP(4, 16, hidden=(7,)), 2),
    ],
    ids=["images", "bounded", "narrow"],
)
def test_layers_that_hold_no_linear_map_come_near_it(make):
    rng = torch.Generator().manual_seed(3)
    pattern, label = torch.rand(2, 16, generator=rng), torch.arange(4000) % 2
    x = 0.4 + 0.3 * pattern[label] + 0.08 * torch.randn(4000, 1, generator=rng) * pattern[0]
    mech = pg.Product((slice(0, 16), pg.Gaussian(0.3)), (slice(16, 18), ANSWER))
    raw = torch.cat([x, pg.mechanisms.one_hot(label, 2)], 1)
    reports, generator = mech.privatize(raw, seed=1), make()
    before = generator.sample(4000, seed=0)
    made = begun(generator, reports, mech).sample(4000, seed=0)
    for c in range(2):
        own = [v[v[:, 16 + c] == 1, :16].mean(0) for v in (raw, made, before)]
        assert (own[1] - own[0]).norm() < 0.5 * (own[2] - own[0]).norm()


def test_least_squares_do_not_depend_on_units():
    moved = []
    for centre, unit in ((0.0, 1.0), (1.7e9, 3600.0)):
        mech = pg.Gaussian(0.3 * unit)
        reports = mech.privatize(centre + unit * RAW[:1000, :3].double(), seed=1)
        narrow = begun(pg.MLP(3, 3, hidden=(5,)), reports, mech)
        moved.append((narrow.sample(500, seed=0).double() - centre) / unit)
    assert torch.allclose(moved[0], moved[1], atol=0.05)


def test_from_there_a_ring_is_learned_in_half_the_steps():
    reports = MECH.privatize(data.circle(4000, seed=0), seed=1)
    fresh, apart = data.circle(800, seed=2), {}
    for start, steps in (("spread", 60), ("moments", 30)):
        generator = pg.MLP(2, 2, hidden=(64, 64))
        settings = {"steps": steps, "batch_size": 256, "lr": 5e-3, "start": start}
        pg.fit(generator, reports, LOSS, progress=False, **settings)
        apart[start] = metrics.w2(generator.sample(800, seed=0), fresh)
    assert apart["moments"] < apart["spread"]


def test_a_checkpoint_knows_its_start_and_goes_on_from_it(tmp_path):
    def trained(steps, start="moments"):
        generator = pg.MLP(2, 2, hidden=(16,))
        path = tmp_path / "run.pt"
        settings = {"steps": steps, "batch_size": 64, "checkpoint": path, "start": start}
        pg.fit(generator, REPORTS, LOSS, progress=False, **settings)
        return weights(generator)

    first = trained(4)
    assert torch.equal(trained(4), first)
    with pytest.raises(ValueError, match="belongs to another training: its start"):
        trained(4, "spread")


def frozen():
    generator = pg.MLP(2, 2, hidden=(8,))
    generator.net[0].requires_grad_(False)
    return generator


SQUARE = pg.SquareWave(1.0, bounds=pg.Box(-9, 9, dim=2))


@pytest.mark.parametrize(
    ("make", "settings", "error", "message"),
    [
        (frozen, {}, ValueError, "some of the generator's are frozen"),
        (lambda: pg.closed_form(REPORTS, MECH), {}, ValueError, "a law of latents"),
        (lambda: pg.Atoms(REPORTS[:9]), {}, TypeError, "learns weights"),
        (lambda: pg.Labelled(pg.MLP(3, 1), 1), {}, ValueError, "one of 0 in the last columns"),
        (pg.MLP, {"start": "closed form"}, ValueError, "start must be one of spread, moments"),
        (pg.MLP, {"loss": pg.EntropicLoss(MECH.cost, 1.0)}, TypeError, "needs the mechanism"),
        (pg.MLP, {"mechanism": SQUARE}, TypeError, "has none of these reports: .* no unbiased"),
    ],
)
def test_what_cannot_start_there_is_refused_as_it_was(make, settings, error, message):
    generator = make(2, 2, hidden=(8,)) if make is pg.MLP else make()
    before = [v.clone() for v in generator.state_dict().values()]
    settings = {"loss": LOSS, "start": "moments", "steps": 1, "batch_size": 64} | settings
    with pytest.raises(error, match=message):
        pg.fit(generator, REPORTS, progress=False, **settings)
    after = generator.state_dict().values()
    assert all(torch.equal(a, b) for a, b in zip(after, before, strict=True))
