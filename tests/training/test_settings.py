"""Settings of any library are plain numbers, and a wrong one is refused before anything trains."""

import numpy as np
import pytest
import torch
from trainings import LOSS, MECH, REPORTS, fit, model, weights

import privgan as pg
from privgan.generators.base import structure


def test_settings_of_any_library_agree_with_plain_ones(tmp_path):
    plain = {"steps": 5, "batch_size": 64, "generated": 16, "lr": 0.5, "seed": 7, "holdout": 0.25}
    plain |= {"average": 0.5, "anneal": 2.0, "snapshots": (2, 4), "even": True, "keep_best": False}
    odd = {
        "steps": np.int64(5),
        "batch_size": torch.tensor(64),
        "generated": np.array(16),
        "lr": np.float32(0.5),
        "seed": np.uint32(7),
        "holdout": torch.tensor(0.25),
        "average": np.float16(0.5),
        "anneal": np.int8(2),
        "snapshots": np.array([2, 4]),
        "even": np.True_,
        "keep_best": np.False_,
    }
    first, second = model(), pg.MLP(np.int64(2), torch.tensor(2), hidden=np.array([16]))
    history = fit(second, checkpoint=tmp_path / "run", **odd)
    again = fit(first, checkpoint=tmp_path / "run", **plain)  # it is the same training
    assert again.loss == history.loss
    assert torch.equal(weights(first), weights(second))


@pytest.mark.parametrize(
    ("odd", "plain"),
    [
        (
            lambda: pg.MLP(np.int8(3), np.int64(4), bounds=np.array([0, 1]), seed=np.uint32(3)),
            lambda: pg.MLP(3, 4, bounds=(0.0, 1.0), seed=3),
        ),
        (
            lambda: pg.MLP(3, 4, hidden=[np.int64(5)], categories=[slice(*np.array([1, 3]))]),
            lambda: pg.MLP(3, 4, hidden=(5,), categories=[slice(1, 3)]),
        ),
        (
            lambda: pg.Linear(np.int64(2), np.int64(2), seed=np.int8(1)),
            lambda: pg.Linear(2, 2, seed=1),
        ),
        (
            lambda: pg.ConvDecoder(
                np.int64(3), np.int64(8), channels=np.int64(2), hidden=np.int64(4)
            ),
            lambda: pg.ConvDecoder(3, 8, channels=2, hidden=4),
        ),
        (
            lambda: pg.Labelled(pg.MLP(4, 1), np.int64(2), prior=np.array([0.25, 0.75])),
            lambda: pg.Labelled(pg.MLP(4, 1), 2, prior=[0.25, 0.75]),
        ),
    ],
)
def test_generators_of_odd_numbers_are_those_of_plain_ones(odd, plain, tmp_path):
    assert structure(odd()) == structure(plain())
    odd().save(tmp_path / "a")
    assert torch.equal(pg.load(tmp_path / "a").sample(3, seed=0), plain().sample(3, seed=0))


@pytest.mark.parametrize(
    ("error", "message", "change"),
    [
        (TypeError, "steps must be an integer", {"steps": True}),
        (TypeError, r"snapshots\[1\] must be an integer, got 'x'", {"snapshots": [3, "x"]}),
        (TypeError, "snapshots must be a sequence of integers, got 5", {"snapshots": 5}),
        (ValueError, r"snapshots\[0\] must be at least 1", {"snapshots": (0,)}),
        (TypeError, "even must be True or False, got 'no'", {"even": "no"}),
        (TypeError, "keep_best must be True or False, got 1", {"keep_best": 1}),
        (TypeError, "progress must be True or False", {"progress": "yes"}),
        (TypeError, "seed must be an integer, got None", {"seed": None}),
        (TypeError, "mechanism must be a Mechanism, got a str", {"mechanism": "Gaussian"}),
        (TypeError, "checkpoint must be a path", {"checkpoint": 5}),
        (ValueError, "checkpoint is an empty path", {"checkpoint": ""}),
        (ValueError, "is a folder; name a file in it", {"checkpoint": "."}),
        (ValueError, "device 'nowhere' cannot be used here", {"device": "nowhere"}),
        (ValueError, "device 'meta' cannot be used here", {"device": "meta"}),
        (TypeError, "loss must be a Loss, got a Tensor$", {"loss": REPORTS}),
        (ValueError, "holdout is a fraction", {"holdout": float("nan")}),
    ],
)
def test_a_bad_setting_is_named_before_the_first_step(error, message, change, monkeypatch):
    monkeypatch.setattr(pg.EntropicLoss, "between", None)  # a step would end in another error
    generator = model()
    before = {name: value.clone() for name, value in generator.state_dict().items()}
    with pytest.raises(error, match=message):
        fit(**({"generator": generator} | change))
    assert all(torch.equal(v, before[name]) for name, v in generator.state_dict().items())


def test_a_checkpoint_that_cannot_be_written_is_known_before_the_first_step(tmp_path, monkeypatch):
    monkeypatch.setattr(pg.EntropicLoss, "between", None)
    (tmp_path / "file").write_text("")
    with pytest.raises(OSError, match=r"cannot write checkpoint .*run"):
        fit(model(), checkpoint=tmp_path / "file" / "run")


class Own(pg.generators.Generator):
    def __init__(self, shape=lambda x: x):
        super().__init__()
        self.latent_dim = self.out_dim = 2
        self.net, self.shape, self.calls = torch.nn.Linear(2, 2), shape, 0

    def forward(self, z):
        self.calls += self.training
        return self.shape(self.net(z))


class Weightless(pg.generators.Generator):
    latent_dim = out_dim = 2

    def latent(self, n, generator, *, even=False):
        return torch.randn(n, 2, generator=generator)

    def forward(self, z):
        return z


@pytest.mark.parametrize(
    ("make", "error", "message"),
    [
        (lambda: Own(lambda x: x[:, 0]), ValueError, r"makes \(2,\) of 2 latents"),
        (lambda: Own(lambda x: x[:, :, None]), ValueError, r"makes \(2, 2, 1\) of 2 latents"),
        (lambda: Own(lambda x: x[:1]), ValueError, r"makes \(1, 2\) of 2 latents"),
        (lambda: Own(lambda x: x / 0.0), ValueError, "not finite before it has learned"),
        (lambda: model().requires_grad_(False), ValueError, "all are frozen"),
        (Weightless, ValueError, "no weights to train$"),
        (torch.inference_mode()(lambda: Own()), ValueError, "made under torch.inference_mode"),
        (lambda: pg.MLP(2, 2).bfloat16(), TypeError, "weights has dtype bfloat16"),
    ],
)
def test_a_generator_that_cannot_be_trained_is_told_so(make, error, message):
    with pytest.raises(error, match=message):
        fit(make())


def test_weights_of_two_types_are_refused():
    generator = model()
    generator.net[2].double()
    with pytest.raises(TypeError, match=r"weights are of .*call generator.float\(\)"):
        fit(generator)


def test_a_generator_of_other_columns_than_the_mechanism_is_refused():
    channel = pg.LinearMap(torch.eye(2), pg.Gaussian(1.0, bounds=pg.Box(-9.0, 9.0, dim=2)))
    with pytest.raises(ValueError, match="makes 3 columns and the mechanism's records have 2"):
        fit(pg.MLP(2, 3), loss=pg.EntropicLoss.matched(channel))


def test_frozen_weights_stay_and_the_others_learn(tmp_path):
    generator = model()
    generator.net[0].requires_grad_(False)
    before = {name: value.clone() for name, value in generator.state_dict().items()}
    fit(generator, checkpoint=tmp_path / "run")
    after = generator.state_dict()
    moved = {name for name in before if not torch.equal(before[name], after[name])}
    assert {"net.2.weight", "net.2.bias"} <= moved
    assert not {"net.0.weight", "net.0.bias"} & moved
    assert not generator.net[0].weight.requires_grad
    with pytest.raises(ValueError, match="belongs to another training: its generator"):
        fit(model(), checkpoint=tmp_path / "run")


@pytest.mark.parametrize("lr", [1e2, 1e5, 1e18, 1e30, 1e300])
def test_a_large_lr_is_what_a_divergence_speaks_of(lr):
    with pytest.raises(FloatingPointError, match=r"diverged at step [0-9]: .*\. Lower lr$"):
        fit(model(), lr=lr)


def test_weights_that_only_the_last_step_broke_are_noticed():
    loss = pg.EntropicLoss(LOSS.cost, LOSS.reg)  # and no mechanism, so nothing is held out

    class Last(Own):
        def forward(self, z):
            x = super().forward(z)
            x.register_hook(lambda grad: grad * float("nan")) if x.requires_grad else None
            return x

    with pytest.raises(FloatingPointError, match="diverged at step 0: the generator's weights"):
        fit(Last(), loss=loss, steps=1)


def test_where_a_divergence_comes_from():
    late = Own()
    late.shape = lambda x: x * float("nan") if late.calls > 3 else x
    with pytest.raises(FloatingPointError, match="step 3: the generator's records are not finite"):
        fit(late)
    far = Own()
    far.shape = lambda x: x * 1e9 if far.calls > 3 else x
    with pytest.raises(FloatingPointError, match="step 3: the generator's records have left"):
        fit(far)
    first = Own()
    first.shape = lambda x: x * float("nan") if first.training else x
    with pytest.raises(ValueError, match="step 0: the generator's records are not finite"):
        fit(first)

    def bug(x):
        if mine.calls > 3:
            raise ValueError("a bug of one's own")
        return x

    mine = Own(bug)
    with pytest.raises(ValueError, match=r"^a bug of one's own$"):
        fit(mine)


def test_one_wild_report_does_not_silence_the_others():
    wild = REPORTS.clone()
    wild[5] = 1e18
    history = fit(model(), wild)
    assert all(value > 0.5 for value in history.loss)  # about 1 without it


def test_reports_too_large_for_their_own_type_are_named():
    huge = torch.tensor([[-1.5e308], [1.5e308]]).double().repeat(300, 1)
    loss = pg.EntropicLoss.matched(pg.Laplace(1e307))
    with pytest.raises(ValueError, match="reports"):
        fit(pg.MLP(1, 1).double(), huge, loss)


def test_every_scale_is_checked_before_the_first_training(monkeypatch):
    monkeypatch.setattr(pg.EntropicLoss, "between", None)

    def estimate(scales=(0.2, 0.3), channel=pg.Gaussian, **settings):
        return pg.training.estimate_scale(
            REPORTS, channel, scales, lambda: pg.Linear(2, 2), steps=1, batch_size=8, **settings
        )

    for scales in ((0.2, "x"), (0.2, np.True_), 0.2):
        with pytest.raises(TypeError):
            estimate(scales)
    for bad, message in (((0.3, 0.2), "ascending"), ((0.2, -1.0), r"scales\[1\]")):
        with pytest.raises(ValueError, match=message):
            estimate(bad)
    with pytest.raises(ValueError, match=r"level must lie in \(0, 1\)"):
        estimate(level=5.0)

    def picky(scale):
        if scale > 0.25:
            raise ValueError("no such channel")
        return pg.Gaussian(scale)

    with pytest.raises(ValueError, match="no such channel"):
        estimate(channel=picky)


def test_a_checkpoint_for_every_scale(tmp_path):
    arguments = REPORTS, pg.Gaussian, (0.2, 0.3), lambda: pg.Linear(2, 2)
    settings = {"steps": 2, "batch_size": 8, "checkpoint": tmp_path / "run.pt"}
    first = pg.training.estimate_scale(*arguments, **settings)
    assert {p.name for p in tmp_path.iterdir()} == {"run-0.2.pt", "run-0.3.pt"}
    assert pg.training.estimate_scale(*arguments, **settings) == first


def test_reports_stand_for_their_values_and_know_their_mechanism():
    reports = pg.Reports(REPORTS, MECH, simulation=True)
    x = model().sample(40, seed=0)
    assert pg.report_nll(x, reports) == pg.report_nll(x, REPORTS, MECH)
    for loss in (LOSS, pg.LikelihoodLoss.matched(MECH)):
        assert torch.equal(loss(x, reports), loss(x, REPORTS))
        assert torch.equal(loss(x, REPORTS.numpy()), loss(x, REPORTS))
        for a in (torch.full((39,), 1 / 39), torch.full((40, 1), 1 / 40)):
            with pytest.raises(ValueError, match="a has shape"):
                loss(x, REPORTS, a)
    with pytest.raises(TypeError, match="mechanism is missing"):
        pg.report_nll(x, REPORTS)

    def estimate(given):
        make = lambda: pg.Linear(2, 2)  # noqa: E731
        return pg.training.estimate_scale(
            given, pg.Gaussian, (0.2, 0.3), make, steps=2, batch_size=8
        )

    assert estimate(reports) == estimate(REPORTS)
