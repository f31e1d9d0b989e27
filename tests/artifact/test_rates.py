import pickle
from functools import partial

import numpy as np
import pytest
import torch

import privgan as pg
from privgan.artifact import contrast, data, rates
from privgan.sinkhorn import SquaredL2

MECH = pg.Gaussian(1.0)
RAW = partial(data.normal, std=(1.0, 0.5))
REPORTS = partial(rates.draw_reports, RAW, MECH)
LOSS = pg.EntropicLoss.matched(MECH)
REPEATS = {20: 4, 40: 3}


def test_values_do_not_depend_on_jobs_or_folder_and_are_looked_up_again(tmp_path):
    alone = rates.sampled_losses(LOSS, RAW, REPORTS, REPEATS, jobs=1)
    kept = rates.sampled_losses(LOSS, RAW, REPORTS, REPEATS, jobs=2, checkpoint_dir=str(tmp_path))
    files = sorted(tmp_path.glob("*.safetensors"))
    assert len(files) == 7
    dates = [path.stat().st_mtime_ns for path in files]
    more = REPEATS | {40: 5}
    again = rates.sampled_losses(LOSS, RAW, REPORTS, more, jobs=1, checkpoint_dir=str(tmp_path))
    assert [path.stat().st_mtime_ns for path in files] == dates
    assert {n: len(v) for n, v in again.items()} == more
    for n in REPEATS:
        # To rounding: a loop just compiled and the same from the cache differ by a last digit.
        assert torch.allclose(alone[n], kept[n], rtol=1e-6)
        assert torch.equal(kept[n], again[n][: REPEATS[n]])
    assert len(set(torch.cat(list(again.values())).tolist())) == 9


def test_another_loss_meets_the_same_reports_and_is_kept_apart(tmp_path):
    seen = []

    class Spy(contrast.ExactLoss):
        def solve(self, x, y, a=None):
            seen.append(y)
            return super().solve(x, y, a)

    for draw_x in (RAW, REPORTS):
        rates.sampled_losses(Spy(SquaredL2()), draw_x, REPORTS, {10: 2}, jobs=1)
    first, second = seen[:2], seen[2:]
    assert all(torch.equal(a, b) for a, b in zip(first, second, strict=True))
    assert not torch.equal(*first)
    values = [
        rates.sampled_losses(loss, RAW, REPORTS, {10: 2}, jobs=1, checkpoint_dir=str(tmp_path))[10]
        for loss in (LOSS, pg.EntropicLoss(SquaredL2(), 1.0))
    ]
    assert not torch.equal(*values)


def test_every_draw_is_its_own_across_sizes_repetitions_and_sides():
    seen = []

    class Spy(contrast.ExactLoss):
        def solve(self, x, y, a=None):
            seen.extend([x, y])
            return super().solve(x, y, a)

    rates.sampled_losses(Spy(SquaredL2()), RAW, RAW, {10: 2, 20: 2}, jobs=1)
    numbers = torch.cat(seen).flatten()
    assert len(numbers) == len(numbers.unique()) == 2 * 2 * (2 * 10 + 2 * 20)


def test_reports_have_noise_of_their_own():
    x, y = RAW(5000, seed=3), REPORTS(5000, seed=3)
    assert torch.equal(y, REPORTS(5000, seed=3))
    assert y.var(0).tolist() == pytest.approx([2.0, 1.25], rel=0.1)
    assert abs(torch.corrcoef(torch.stack([x[:, 0], y[:, 0]]))[0, 1]) < 0.1


def test_unsolved_repetitions_are_reported():
    hasty = pg.EntropicLoss(SquaredL2(), 0.01, tol=1e-6, max_iter=1)
    with pytest.warns(RuntimeWarning, match="2 of 2 solves"):
        rates.sampled_losses(hasty, RAW, REPORTS, {30: 2}, jobs=1)


def test_rate_of_a_known_power_and_its_interval():
    generator = torch.Generator().manual_seed(0)
    sizes = (100, 300, 1000, 3000)
    inside = 0
    for seed in range(40):
        errors = {n: 3.0 * n**-0.5 * torch.randn(30, generator=generator) for n in sizes}
        found = rates.rate(errors, seed=seed)
        assert found.low < found.slope < found.high
        inside += found.low <= -0.5 <= found.high
    assert 33 <= inside <= 40
    exact = rates.rate({n: torch.full((5,), 2.0 / n) for n in sizes})
    assert [exact.slope, exact.low, exact.high] == pytest.approx([-1.0] * 3)
    assert str(exact) == "-1.00 (-1.00 to -1.00)"
    with pytest.raises(ValueError, match="two"):
        rates.rate({100: torch.ones(3)})


@pytest.mark.parametrize(
    ("errors", "message"),
    [
        ([1.0, 0.0], r"errors\[30\] is 0 at index 1"),
        ([1.0, float("nan")], r"errors\[30\] has 1 non-finite entry, the first at index \[1\]"),
        ([], r"errors\[30\] has shape \(0,\)"),
        ([[1.0]], r"errors\[30\] has shape \(1, 1\)"),
    ],
)
def test_errors_without_a_logarithm_are_named(errors, message):
    with pytest.raises(ValueError, match=message):
        rates.rate({10: torch.ones(3), 30: torch.tensor(errors)})


def test_a_stored_value_under_another_calls_name_is_refused(tmp_path):
    def measured():
        return rates.sampled_losses(
            LOSS, RAW, REPORTS, {5: 2}, jobs=1, checkpoint_dir=str(tmp_path)
        )

    own = measured()
    first, second = sorted(tmp_path.iterdir())
    intact = first.read_bytes()
    first.write_bytes(second.read_bytes())
    with pytest.raises(ValueError, match=rf"^value .*{first.name} is of another loss, .*delete it"):
        measured()
    first.write_bytes(intact)
    assert torch.equal(measured()[5], own[5])


def test_a_stored_value_is_checked_and_never_executed(tmp_path):
    def measured():
        return rates.sampled_losses(
            LOSS, RAW, REPORTS, {5: 1}, jobs=1, checkpoint_dir=str(tmp_path)
        )

    own = measured()
    (path,) = tmp_path.iterdir()
    intact = path.read_bytes()
    rng = np.random.default_rng(0)
    for place, bit in [(-1, 0), (-8, 0), *rng.integers((len(intact), 8), size=(28, 2))]:
        damaged = bytearray(intact)
        damaged[place] ^= 1 << bit
        for content in (damaged, intact[:place]):
            path.write_bytes(content)
            with pytest.raises(ValueError, match=rf"value .*{path.name} cannot be read"):
                measured()

    class Planted:
        def __reduce__(self):
            return print, ("executed",)

    path.write_bytes(pickle.dumps(Planted()))
    with pytest.raises(ValueError, match="is damaged or another file"):
        measured()
    path.write_bytes(intact)
    assert torch.equal(measured()[5], own[5])
