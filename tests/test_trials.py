"""A log of trials: what a person might hand over, and what comes of it.

A line of a table is one trial: an expression; after ``=`` what it gives, after ``!`` the words that
its error must hold (the argument, the place, the cure); where both stand, either will do.

Every error is the package's own, one line of at most 300 characters, and shows no record. Nothing
is warned of, and nothing printed.
"""

import contextlib
import functools
import inspect
import json
import math
import pickle  # noqa: F401 (in the tables)
import re
import traceback
from pathlib import Path

import numpy as np
import pytest
import torch

import privgan as pg
from privgan.artifact import claims, contrast, data, metrics, npmle, plotting, rates, referee, sweep

ROOMS = pg, pg.sinkhorn, pg.mechanisms, pg.generators, pg.reports, pg.training, pg.audit
ARTIFACT = claims, contrast, data, metrics, npmle, plotting, rates, referee, sweep
KINDS = ValueError, TypeError, KeyError, FloatingPointError, OSError, NotImplementedError
RECORDS = re.compile(r"77\.1|1\.23|12345")  # of 77.125 and 123456.789, however they are rounded
OTHERS = re.compile(r"supported types|Could not infer|np\.ndarray|byte order")

TABLES = {
    "sinkhorn": """
solve(C[::-1], 1).value                                          = TWO
solve(C.astype(">f8"), 1).value                                  = TWO
solve(np.broadcast_to(C, (2, 2)), np.float32(1), max_iter=np.int64(9)).value    = TWO
solve([[0.0, 1.0], [1.0, 0.0]], 1).value                         = TWO
solve([[0, 1], [1, 0]], 1)                                       ! cost int64
solve(C.astype(object), 1).value                                 = TWO
solve(np.ma.array(C, mask=C > 0), 1)                             ! cost mask
solve(torch.tensor(C).to_sparse(), 1)                            ! cost
solve(np.array([[0, np.nan]]), 1)                                ! cost [0, 1]
solve(np.zeros((0, 2)), 1)                                       ! cost (0, 2)
solve(1.0, C)                                                    ! cost
solve(C, X)                                                      ! reg
solve(C, 1, tol=0)                                               ! tol
solve(C * 1e-300, 1e-300).value * 1e300                          = TWO
solve(C + 1e12, 1).value - 1e12                                  = TWO
solve(torch.rand(50, 60, generator=torch.manual_seed(0)), 1e8).value            = 0.497
solve([[0.0, 1], [1, 0], [9, 9]], 1, [0.5, 0.5, 0.0]).value      = TWO
solve(C, 1, np.array([0.5, 0.5, 0]))                             ! a (3,)
solve(C, 1, np.array([1.5, -0.5]))                               ! a[1]
solve(C, 1, init=solve([[3.0]], 1))                              ! init (1,)
pickle.loads(pickle.dumps(solve(C, 1))).value                    = TWO
(r := solve(X, 1e6), X.zero_(), r.plan().sum())[2]               = 1
solve_samples(X, X[:, :1], SquaredL2(), 1)                       ! x y columns
solve_samples(X, X.float(), SquaredL2(), 1)                      ! x y float32
solve_samples(X[0], X[0], L1(), 1)                               ! x (2,)
solve_samples(X, X, L1, 1)                                       ! cost
solve_samples(X[:1], X[:1], Euclidean(), 1).value                = 0
solve_samples(S + 1e8, S + 1e8 + 1, SquaredL2(), 1).value        = value(S, S + 1)
solve_samples(S * 1e160, -S * 1e160, SquaredL2(), 1)             ! overflow
solve_batch(S, S + 1, SquaredL2(), 1).value                      = value(S, S + 1)
SquaredL2().matrix(X[:, :1], X)                                  ! x y
(value(t, t.detach() - 1).backward(), t.grad)[1]                 = [[2, 2]]
within(torch.inference_mode(), lambda: value(S, S + 1))          = value(S, S + 1)
within(torch.autocast("cpu"), lambda: value(wide, wide + 1))     = value(wide, wide + 1)
""",
    "mechanisms": """
Gaussian(X)                                                      ! sigma
Gaussian(1e200)                                                  ! sigma
Box(V.min(0), V.max(0))                                          ! low public
Box(-1e308, 1e308, dim=1)                                        ! high
Box([0, 0], [1, 1, 1])                                           ! high 3 2
Box(0, 1, dim=2).clip(V)                                         = V.clip(0, 1) ! x
Ball(V.max(), dim=2)                                             ! radius public
Ball(1, dim=2).check(X)                                          ! x row 0
Ball(1, dim=2).clip(torch.tensor([[1e30, 0.0]]))                 = [[1, 0]]
G.privatize(V[::-1], seed=0).dtype.name                          = "float64"
G.privatize(V.astype(">f4"), seed=0).shape                       = (3, 2)
G.privatize(np.broadcast_to(V, (3, 2)), seed=np.int64(0))        = G.privatize(V, seed=0)
G.privatize(frame("pandas", V), seed=0).shape                    = (3, 2) ! x
G.privatize(frame("pandas", V)[0][1:])                           ! x
G.privatize(frame("polars", V), seed=0).shape                    = (3, 2) ! x
G.privatize(np.ma.array(V, mask=V > 1))                          ! x mask
G.privatize([[77.125], [1.0, 2.0]])                              ! x
G.privatize(X.half())                                            ! x float16
G.privatize(X[:0])                                               ! x empty
G.privatize(X.log().log())                                       ! x row 0
G.privatize(X, seed=1.5)                                         ! seed
G.privatize(X, seed=-1).shape                                    = (3, 2)
G.privatize(X, clip=True)                                        ! clip bounds
L.privatize(X)                                                   ! x row 0 clip
L.privatize(X, clip=True, seed=0)                                = L.privatize(X.clip(0, 1), seed=0)
EuclideanLaplace(1e-30).privatize(X, seed=0)                     = X
G.log_density(torch.zeros(1, 1), torch.zeros(1, 1))              = [[-0.9189385]]
Gaussian.calibrate(epsilon=1, delta=0, sensitivity=1)            ! delta
Gaussian.calibrate(epsilon=1, delta=1e-5)                        ! sensitivity bounds
Gaussian.calibrate(epsilon=1, delta=1e-5, sensitivity=V.max())   ! sensitivity
G.epsilon(0, sensitivity=1)                                      ! delta
Laplace.calibrate(epsilon=1e-9, sensitivity=1).scale             = 1e9
gaussian_delta(0, 1)                                             = 0.3829249
gaussian_mu(1e-9, 1e-5)                                          = 2.5066e-5
gaussian_epsilon(1, 1)                                           ! delta
sum([Budget(1.0, 3.0), Budget(1.0, 4.0)]) == Budget(2.0, 5.0)    = True
RandomizedResponse(3, 1.0)                                       ! keep
RandomizedResponse.calibrate(epsilon=1e3, k=3).epsilon() <= 1e3  = True
RandomizedResponse(2, 0.9).privatize(X)                          ! x row 0
UnaryEncoding.calibrate(epsilon=1e3, k=3).epsilon() <= 1e3       = True ! epsilon
one_hot(np.array([1, 0])[::-1], 2)                               = [[1, 0], [0, 1]]
one_hot(["a", "b"], 3)                                           ! labels
one_hot([0, 123456], 3)                                          ! labels[1] k
low_frequencies(4, 8)                                            ! keep
LinearMap(np.eye(2), G)                                          ! bounds
LinearMap(G, np.eye(2))                                          ! matrix
Product((slice(0, 2), L), (slice(1, 3), G))                      ! column 1
Product.calibrate((slice(0, 2), G), epsilon=1)                   ! calibrate
Piecewise(1500, bounds=box)                                      ! epsilon
SquareWave(1, bounds=box).epsilon()                              = 2
within(float64(), lambda: L.privatize(S.float()).dtype)          = torch.float32
""",
    "generators": """
MLP(2, np.int64(2), hidden=np.array([8, 8])).sample(3).shape     = (3, 2)
MLP(2, 2, bounds=(0, math.inf))                                  ! bounds
MLP(2, 4, categories=[slice(0, 2), slice(1, 4)])                 ! categories
MLP(2, 4, basis=np.eye(4)).sample(3).shape                       = (3, 4) ! basis
Linear(2, 1, seed=2**64).sample(3).shape                         = (3, 1)
mlp.sample(2**62)                                                ! n memory
mlp.sample(10**13)                                               ! n memory
mlp.sample(3, device="gpu")                                      ! device gpu
Generator().sample(3)                                            ! latent_dim
MLP(2, 4, categories=3)                                          ! categories
MLP(2, 10**13)                                                   ! out_dim memory
Labelled(MLP(5, 2), 2).decode(torch.zeros(3, 2))                 ! z 2 5
Labelled(MLP(5, 2), 2).sample_class(2, 3)                        ! label
Atoms([[0, 1], [1, 0]])                                          ! points int64
Atoms(np.eye(3)).weights                                         = np.full(3, 1 / 3)
ConvDecoder(8, side=27)                                          ! side
load("nothing")                                                  ! nothing mnist_gaussian_1
load(".")                                                        ! generator
load(saved(mlp), device="gpu")                                   ! device gpu
load(cut(saved(mlp)))                                            ! saved damaged
load(saved(mlp, "~/own/mlp")).sample(3, seed=0)                  = mlp.sample(3, seed=0)
mlp.save("/proc/nowhere/mlp")                                    ! generator /proc/nowhere/mlp
mlp.save("m", about={"sigma": torch.ones(1)})                    = None
mlp.save("m", about="mine")                                      ! about
mlp.save("m", about={"by": G})                                   ! about Gaussian
""",
    "reports": """
Reports(X, "gaussian", True)                                     ! mechanism
Reports(X[:, :1], L, True)                                       ! values columns
simulate(V, G, seed=0).values                                    = G.privatize(X, seed=0)
len(together([reports, reports]))                                = 400
simulate(G, X)                                                   ! mechanism
release(S, L).epsilon                                            = 2
release(S, Gaussian(1, bounds=box))                              ! delta
release(X, L)                                                    ! x row 0 clip
release(frame("pandas", V), L)                                   ! x row 0
release(X, G)                                                    ! bounds
Reports.load("nothing.npz")                                      ! nothing.npz
Reports(V, G, True, 1.0)                                         ! epsilon bounds
Reports.load(cut(saved(reports)))                                ! saved reports
Reports.load(said(reports, epsilon=-1.0))                        ! epsilon
Reports.load(said(reports, mechanism={"object": "os", "arguments": {}}))        ! os
len(Reports.load(Path(saved(reports, "~/r.npz")).expanduser()))  = 200
""",
    "training": """
fit(mlp, Y, matched, batch_size=1000)                            ! batch_size 190
fit(mlp, Y, matched, lr=1e30, steps=9)                           ! step lr
len(fit(mlp, Y, matched, seed=2**63))                            = 3
fit(mlp, Y, matched, snapshots=2)                                ! snapshots
fit(mlp, Y, matched, snapshots=(99,))                            ! snapshots[0] 99 3
fit(mlp, Y, matched, keep_best=True, holdout=0)                  ! keep_best holdout
fit(mlp, Y, matched, mechanism="gaussian")                       ! mechanism
fit(mlp, Y)                                                      ! loss
fit(X, mlp, matched)                                             ! generator
fit(MLP(2, 3), Y, matched)                                       ! out_dim 3 2
fit(mlp.requires_grad_(False), Y, matched)                       ! generator
fit(mlp, Y[:1], matched, batch_size=1).converged                 = [True] * 3
fit(mlp, torch.full((200, 2), 7.0), matched).converged           = [True] * 3
len(fit(mlp, frame("pandas", Y.numpy()), matched))               = 3 ! reports
len(fit(mlp, Y.clone().requires_grad_().exp(), matched))         = 3
len(fit(mlp, reports))                                           = 3
fit(mlp, Z + 1e9, matched).loss                                  = fit(mlp, Z, matched).loss
len(within(torch.no_grad(), lambda: fit(mlp, Y, matched)))       = 3
fit(mlp, simulate(S, SquareWave(1, bounds=box)))                 ! Atoms
fit(Atoms(S), S + 1e6, EntropicLoss.matched(Piecewise(1, bounds=box)))  ! reports row 0
[fit(mlp, reports, checkpoint="c", seed=seed) for seed in (0, 1)]               ! c seed
fit(mlp, reports, checkpoint="~/c") and (Path.home() / "c").exists()            = True
fit(mlp, reports, checkpoint=".")                                ! checkpoint
fit(mlp, reports, checkpoint=saved(mlp))                         ! checkpoint saved
EntropicLoss(SquaredL2, 1)                                       ! cost
EntropicLoss(SquaredL2(), 1, mechanism="gaussian")               ! mechanism
matched(S[:1], S[:1] + 1)                                        = 2
LikelihoodLoss.matched(G)(X, X, torch.ones(2) / 2)               ! a (2,)
LikelihoodLoss.matched(G)(S, S, S[:, 0] - 0.5)                   ! a[0] negative
LikelihoodLoss.matched(G)(S, S, torch.ones(30).double())         ! a sums
report_nll(X, reports, G)                                        = report_nll(X, Y, G)
report_nll(X, X, Gaussian)                                       ! mechanism
report_log_likelihood(X, X[:, :1], G)                            ! x y columns
largest_allowed_scale([1, 2], np.zeros((2, 9)), level=2)         ! level
estimate_scale(Y, Gaussian, [2.0, 1.0], lambda: mlp)             ! scales
estimate_scale(Y, G, [1.0, 2.0], lambda: mlp)                    ! channel
estimate_scale(Y, Gaussian, [1.0, 2.0], mlp)                     ! make_generator
estimate_scale(Y, Gaussian, 1.0, lambda: mlp)                    ! scales
""",
    "audit": """
audit(Laplace(1), 2)                                             ! bounds
audit(Laplace(1, bounds=Box(0, 1, dim=1)), 0.9, 0.06, reports=99).passed        = True
audit(RandomizedResponse(3, 0.9), 3, reports=99)["luck"]         ! luck
identifiability(L, X)                                            ! points row 0
identifiability(L, S[:, :1])                                     ! points columns
identifiability(L, bins=1)                                       ! points bins
identifiability(Gaussian(1e-3), np.eye(3)).singular_values       = (1, 1, 1)
""",
    "artifact": """
circle(0, seed=0)                                                ! n
normal(9, std=1.0, seed=0)                                       ! std
w2(S + 1.7e9, S + 1.7e9 + 5)                                     = 50**0.5
w2_floor(circle, 9, repeats=0)                                   ! repeats
precision_recall(S, S, k=30)                                     ! k 30
nonparametric_mle(reports, G, axes).weights.sum()                = 1
record("c.json", [], sigma=np.float32(0.5), s=S)                 = None
film("f", [])                                                    ! frames
rate({10: torch.ones(3), 100: torch.ones(3) / 10}).slope         = -1
rate({10: torch.ones(3), 100: torch.zeros(3)})                   ! errors 100
draw_reports(circle, G, 9, seed=-1).shape                        = (9, 2)
fit_all({"a": task, "b": task}, jobs=1)                          ! generator
fit_classifier(S.float()[:, :1], torch.arange(30) + 123456)      ! labels
SinkhornDivergence(SquaredL2(), 1)(S, S)                         = 0
ExactLoss(SquaredL2)                                             ! cost
""",
}


def trials():
    row = re.compile(r"(.+?)\s\s+(?:= (.+?))?\s*(?:! (.+))?")
    for room, table in TABLES.items():
        for line in table.strip().splitlines():
            call, right, words = row.fullmatch(line).groups()
            yield pytest.param(call, right, words, id=f"{room}: {call}")


@pytest.mark.parametrize(("call", "right", "words"), [*trials()])
def test_a_trial(call, right, words, tmp_path, monkeypatch, capsys):
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("HOME", str(tmp_path / "home"))
    try:
        got = eval(call, things())
    except Exception as error:
        if words is None:
            raise
        check_words(error, words.split())
    else:
        assert right is not None, "it was accepted"
        check_value(got, eval(right, things()))
    assert capsys.readouterr() == ("", "")


def test_every_public_function_is_tried():
    tables = "".join(TABLES.values())
    for room in ROOMS:
        functions = [name for name in room.__all__ if inspect.isfunction(getattr(room, name))]
        for name in [*functions, *(n for n in pg.__all__ if inspect.isclass(getattr(pg, n)))]:
            assert re.search(rf"\b{name}[(.]", tables), name


def check_words(error, words):
    """One line of the package's own, which holds the words and no record."""
    said = str(error)
    *_, (frame, _) = traceback.walk_tb(error.__traceback__)
    assert frame.f_globals["__name__"].startswith("privgan"), said
    assert isinstance(error, KINDS), repr(error)
    assert [word for word in words if word not in said] == [], said
    assert len(said.splitlines()) == 1
    assert len(said) <= 300, len(said)
    assert not OTHERS.search(said), said
    while error is not None:
        assert not RECORDS.search(str(error)), "it shows a record"
        error = error.__cause__ or (None if error.__suppress_context__ else error.__context__)


def check_value(got, right):
    if right is None or isinstance(right, bool | str | torch.dtype):
        assert got == right
        return
    got, right = (np.asarray(v.detach() if torch.is_tensor(v) else v) for v in (got, right))
    assert got.shape == right.shape
    np.testing.assert_allclose(got, right, rtol=1e-3, atol=1e-12)


def things():
    """What the expressions speak of, fresh for each."""
    TWO = math.log(2) - math.log1p(math.exp(-1))  # the value of C at reg 1
    C = np.array([[0.0, 1.0], [1.0, 0.0]])
    V = np.array([[77.125, 0.25], [0.5, 123456.789], [0.75, 0.125]])  # three records
    X = torch.tensor(V)
    S = torch.linspace(0, 1, 60, dtype=torch.float64).reshape(30, 2)  # in the unit box
    wide, t = S.repeat(1, 5), torch.zeros(1, 2, dtype=torch.float64, requires_grad=True)
    box = pg.Box(0.0, 1.0, dim=2)
    G, L = pg.Gaussian(1.0), pg.Laplace(1.0, bounds=box)
    Z = (Y := G.privatize(data.checkerboard(200, seed=0), seed=0)).double()
    reports, matched = pg.Reports(Y, G, simulation=True), pg.EntropicLoss.matched(G)
    mlp = pg.MLP(2, 2, hidden=(8,))
    few = {"steps": 3, "batch_size": 20, "progress": False}
    task = few | {"generator": mlp, "reports": Y, "loss": matched}
    fit = functools.partial(pg.fit, **few)
    axes = [torch.linspace(-2, 2, 9, dtype=torch.float64)] * 2
    return globals() | NAMES | locals()


NAMES = {name: thing for module in ARTIFACT for name, thing in vars(module).items()}
NAMES |= {name: getattr(room, name) for room in ROOMS for name in room.__all__}


def value(x, y):
    return pg.sinkhorn.solve_samples(x, y, pg.sinkhorn.SquaredL2(), 1).value


def within(context, call):
    with context:
        return call()


@contextlib.contextmanager
def float64():
    torch.set_default_dtype(torch.float64)
    yield
    torch.set_default_dtype(torch.float32)


def frame(library, values):
    return pytest.importorskip(library).DataFrame(values)


def saved(thing, path="saved"):
    thing.save(path)
    return path


def cut(path):
    whole = Path(path).read_bytes()
    Path(path).write_bytes(whole[: len(whole) // 2])
    return path


def said(reports, **otherwise):
    np.savez("said.npz", values=reports.values, metadata=json.dumps(reports.metadata | otherwise))
    return "said.npz"
