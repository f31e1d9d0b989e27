"""Sets of categories, hashes and sampled blocks: budgets, recovery, and what is refused."""

import itertools
import math

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

import privgan as pg
from privgan.mechanisms import LocalHashing, Sampled, SubsetSelection, Window, one_hot
from privgan.plain import from_plain, to_plain

F64 = torch.float64
SETS = [SubsetSelection, Window, LocalHashing]


@pytest.mark.parametrize("kind", SETS)
@pytest.mark.parametrize("epsilon", [1e-3, 0.5, 2.0, 8.0, 40.0])
@pytest.mark.parametrize("k", [2, 7, 200])
def test_calibration_spends_what_was_asked_and_no_more(kind, epsilon, k):
    spent = kind.calibrate(epsilon=epsilon, k=k).epsilon()
    assert spent <= epsilon
    assert spent == pytest.approx(epsilon, rel=1e-7) or (epsilon > 36 and spent > 30)


@given(k=st.integers(2, 9), size=st.integers(1, 8), epsilon=st.floats(0.1, 6.0))
@settings(max_examples=50, deadline=None)
def test_a_set_has_two_likelihoods_that_are_epsilon_apart(k, size, epsilon):
    if size >= k:
        return
    mech = SubsetSelection.calibrate(epsilon=epsilon, k=k, size=size)
    sets = torch.zeros((math.comb(k, size), k), dtype=F64)
    for row, chosen in enumerate(itertools.combinations(range(k), size)):
        sets[row, list(chosen)] = 1
    log = mech.log_density(torch.eye(k, dtype=F64), sets)
    assert torch.allclose(log.exp().sum(1), torch.ones(k, dtype=F64))
    assert np.ptp(log.numpy()) == pytest.approx(epsilon, rel=1e-9)


@pytest.mark.parametrize("kind", SETS)
def test_unbiased_rows_average_to_the_frequencies(kind):
    mech = kind.calibrate(epsilon=1.5, k=7)
    raw = torch.tensor([0.4, 0.3, 0.1, 0.1, 0.05, 0.05, 0.0])
    labels = torch.multinomial(raw, 40_000, True, generator=torch.Generator().manual_seed(0))
    found = mech.unbiased(mech.privatize(one_hot(labels, 7), seed=1)).mean(0)
    assert torch.allclose(found, raw, atol=0.03)


def test_the_best_set_beats_randomized_response_and_unary_encoding():
    k, epsilon = 30, 2.0
    best = SubsetSelection.calibrate(epsilon=epsilon, k=k)
    assert 1 < best.size < 6
    for other in (
        pg.RandomizedResponse.calibrate(epsilon=epsilon, k=k),
        pg.UnaryEncoding.calibrate(epsilon=epsilon, k=k),
    ):
        errors = [q * (1 - q) / (p - q) ** 2 for p, q in (best.rates, other.rates)]
        assert errors[0] < errors[1]


def test_a_window_tells_coarse_shapes_apart_with_fewer_reports():
    window, any_ = (kind.calibrate(epsilon=2.0, k=16) for kind in (Window, SubsetSelection))
    first, other = (pg.audit.identifiability(m).singular_values[1] for m in (window, any_))
    assert first > 1.4 * other


def test_a_message_expands_to_the_support_it_was_sent_for():
    mech = LocalHashing(1000, 8, 1 - 1e-12)
    labels = torch.arange(1000)
    messages = mech.messages(labels, generator=torch.Generator().manual_seed(0))
    support = mech.support(messages)
    assert messages.shape == (1000, 2)
    assert messages[:, 1].max() < 8
    assert support[labels, labels].all()  # it all but never lies
    assert support.double().mean() == pytest.approx(1 / 8, rel=0.02)


def test_what_says_nothing_is_refused():
    with pytest.raises(ValueError, match="keep must exceed"):
        SubsetSelection(4, 2, 0.5)
    with pytest.raises(ValueError, match="below k"):
        SubsetSelection(4, 4, 0.9)
    with pytest.raises(ValueError, match="common divisor"):
        Window(8, 2, 0.9)
    with pytest.raises(ValueError, match="buckets must be"):
        LocalHashing(4, 2, 0.5)


# Sampled blocks

RESPONSE = pg.RandomizedResponse.calibrate(epsilon=1.0, k=3)
BITS = pg.UnaryEncoding.calibrate(epsilon=1.0, k=2)
THREE = (slice(0, 3), RESPONSE), (slice(3, 5), BITS), (slice(5, 8), RESPONSE)


def rows(*labels):
    return torch.cat([one_hot(t, k).double() for t, k in zip(labels, (3, 2, 3), strict=True)], 1)


ALL = rows(*torch.tensor(list(itertools.product(range(3), range(2), range(3)))).T)


@pytest.mark.parametrize("choose", [1, 2, 3, 4])
def test_chances_are_sums_over_all_sets(choose):
    blocks = [(slice(3 * b, 3 * b + 3), pg.RandomizedResponse(3, 0.6)) for b in range(4)]
    mech = Sampled(*blocks, choose=choose, weights=(1.0, 2.0, 0.5, 5.0))
    sets = torch.tensor([s for s in itertools.product((False, True), repeat=4) if sum(s) == choose])
    held = sets.double()
    exact = (held.T * mech.log_chance(sets).exp()) @ held
    assert torch.allclose(mech.chances(), exact)
    assert mech.chances().diagonal().sum().item() == pytest.approx(choose)


def test_sets_of_blocks_are_drawn_as_their_weights_say():
    mech = Sampled(*THREE, choose=2, weights=(1.0, 2.0, 5.0))
    sets = mech.draw_sets(40_000, torch.Generator().manual_seed(0))
    assert (sets.sum(1) == 2).all()
    expected = torch.tensor([2.0, 5.0, 10.0], dtype=F64) / 17
    pairs = torch.tensor([[1, 1, 0], [1, 0, 1], [0, 1, 1]]).bool()
    found = torch.stack([(sets == pair).all(1).double().mean() for pair in pairs])
    assert torch.allclose(found, expected, atol=0.012)
    assert torch.allclose(mech.log_chance(pairs).exp(), expected)


def test_a_report_spends_the_budgets_of_the_blocks_that_are_drawn():
    for choose in (1, 2, 3):
        mech = Sampled.calibrate(
            *(
                (s, lambda epsilon, k=m.k: SubsetSelection.calibrate(epsilon=epsilon, k=k))
                for s, m in THREE
            ),
            epsilon=3.0,
            choose=choose,
        )
        assert 3.0 * (1 - 1e-13) <= mech.epsilon() <= 3.0
        assert pg.audit.audit(mech, 3.0, reports=20_000, seed=2).passed


def test_an_audit_refutes_a_budget_that_counts_one_block_of_two():
    mech = Sampled(*THREE, choose=2)
    found = pg.audit.audit(mech, 1.0, reports=20_000, seed=2)
    assert not found["oscillation"].passed


def test_blocks_left_out_cost_nothing_and_the_rest_is_the_product():
    mech, whole = Sampled(*THREE, choose=3), pg.Product(*THREE)
    y = mech.privatize(ALL, seed=0)
    inner = torch.cat([y[:, s.start : s.stop - 1] for s in mech.reports], 1)
    assert torch.allclose(mech.log_density(ALL, y), whole.log_density(ALL, inner))
    two = Sampled(*THREE, choose=2)
    y = two.privatize(ALL, seed=0)
    cost = two.cost.matrix(two.forward(ALL), y)
    for j, drawn in enumerate(two.drawn(y)):
        same = (ALL[:, None] == ALL[None]).reshape(len(ALL), len(ALL), -1)
        parts = [same[..., s].all(2) for s, _ in THREE]
        alike = torch.stack([p for p, d in zip(parts, drawn, strict=True) if d]).all(0)
        assert torch.allclose((cost[:, None, j] - cost[None, :, j])[alike], torch.zeros(1).double())


def test_laws_with_the_same_pairs_give_the_same_reports():
    """Three bits whose parity is even, against fair coins: pairs agree, the triple does not."""
    bit = pg.RandomizedResponse.calibrate(epsilon=1.0, k=2)
    blocks = [(slice(2 * b, 2 * b + 2), bit) for b in range(3)]
    labels = torch.tensor(list(itertools.product(range(2), repeat=3)))
    points = torch.cat([one_hot(column, 2).double() for column in labels.T], 1)
    even = (labels.sum(1) % 2 == 0).double() / 4
    for choose, told in ((2, False), (3, True)):
        mech = Sampled(*blocks, choose=choose)
        y = mech.privatize(points.repeat(200, 1), seed=1)
        log = mech.log_density(points, y)
        apart = (even @ log.exp() - log.exp().mean(0)).abs().max()
        assert (apart > 1e-3) == told
        found = pg.audit.identifiability(mech, points).singular_values
        assert (found[-1] > 1e-2) == told


@pytest.mark.parametrize(
    "mech",
    [
        Window(7, 2, 0.6),
        SubsetSelection(6, 2, 0.8),
        LocalHashing(9, 3, 0.7),
        Sampled(*THREE, choose=2, weights=(1.0, 2.0, 0.5)),
    ],
    ids=lambda m: type(m).__name__,
)
def test_they_are_written_down_and_read_and_released(mech):
    assert from_plain(to_plain(mech), (pg.mechanisms.Mechanism,)) == mech
    x = ALL if mech.dim == 8 else torch.eye(mech.dim).double().repeat(3, 1)
    released = pg.release(x.repeat(30, 1), mech)
    assert mech.epsilon() <= released.epsilon <= mech.epsilon() * (1 + 1e-9)
    assert pg.Reports(released.values, mech, False, released.epsilon) is not None
    with pytest.raises(ValueError, match="cannot have reported"):
        pg.Reports(1 - released.values, mech, False) if mech.dim != 9 else pg.Reports(
            released.values + 1, mech, False
        )


@pytest.mark.parametrize(
    "mech",
    [Window(7, 2, 0.6), SubsetSelection(6, 2, 0.8), LocalHashing(9, 3, 0.7)],
    ids=lambda m: type(m).__name__,
)
def test_exact_and_simulated_reports_have_one_law(mech):
    x = torch.eye(mech.k).double()[2].repeat(4000, 1)
    exact = pg.release(x, mech).values
    assert pg.audit.goodness.count_p_value(mech, x[0], exact) > 1e-6


def test_sampled_refuses_what_does_not_fit():
    with pytest.raises(ValueError, match="choose is 4"):
        Sampled(*THREE, choose=4)
    with pytest.raises(ValueError, match=r"weights has 2"):
        Sampled(*THREE, choose=1, weights=(1.0, 1.0))
    with pytest.raises(ValueError, match="in no block"):
        Sampled(*THREE[1:], choose=1)
