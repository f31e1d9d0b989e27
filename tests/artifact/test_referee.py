import pytest
import torch

from privgan.artifact import data, referee

DIGITS = data.digits("train")
UNSEEN = data.digits("test")


@pytest.fixture(scope="module")
def classifier():
    return referee.fit_classifier(DIGITS.pixels, DIGITS.labels, epochs=20)


def test_it_reads_digits_it_has_not_seen(classifier):
    assert referee.accuracy(classifier, UNSEEN.pixels, UNSEEN.labels) > 0.9
    predicted = classifier.predict(UNSEEN.pixels)
    assert referee.accuracy(classifier, UNSEEN.pixels, predicted) == 1.0


def test_the_seed_decides_everything_and_global_state_is_untouched():
    before = torch.random.get_rng_state()
    first, second, other = (
        referee.fit_classifier(
            DIGITS.pixels[:200], DIGITS.labels[:200], epochs=1, noise=0.3, seed=seed
        )
        for seed in (0, 0, 1)
    )
    assert torch.equal(before, torch.random.get_rng_state())
    x = UNSEEN.pixels
    assert torch.equal(first(x), second(x))
    assert not torch.equal(first(x), other(x))


def test_features_are_what_the_head_sees(classifier):
    features = classifier.features(UNSEEN.pixels)
    assert features.shape == (len(UNSEEN.pixels), 64)
    assert torch.allclose(classifier.head(features), classifier(UNSEEN.pixels), atol=1e-5)


def test_images_must_be_square_and_labelled():
    with pytest.raises(ValueError, match=r"x has shape \(4, 3\)"):
        referee.fit_classifier(torch.zeros(4, 3), torch.zeros(4).long())
    with pytest.raises(ValueError, match=r"labels \(3,\)"):
        referee.fit_classifier(torch.zeros(4, 4), torch.zeros(3).long())
