import numpy as np
import pytest

from privgan.artifact import growing, oracles


def test_components_are_uncorrelated_and_ordered():
    rows = growing.drawn(1500, name="digits", dim=6, seed=0)
    assert rows.shape == (1500, 6)
    spread = growing.variances("digits", 6)
    assert (np.diff(spread) <= 0).all()
    correlation = np.corrcoef(growing.components("digits")[:, :6].double().T.numpy())
    assert abs(correlation - np.eye(6)).max() < 1e-4


def test_the_noise_tells_what_was_asked_for():
    sigma = growing.noise_for(3.0, np.ones(8))
    assert oracles.gaussian_information(1.0, sigma, 8) == pytest.approx(3.0)


def test_more_components_than_there_are_are_refused():
    with pytest.raises(ValueError, match="digits has 64 components"):
        growing.drawn(3, name="digits", dim=65, seed=0)
