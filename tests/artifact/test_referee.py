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


def test_the_first_weights_are_the_seeds_and_rows_come_in_random_order(classifier):
    x, labels = DIGITS.pixels[:100], DIGITS.labels[:100]  # one batch: their order does not matter
    first, other = (referee.fit_classifier(x, labels, epochs=1, seed=seed) for seed in (0, 1))
    assert (first.head.weight - other.head.weight).abs().max() > 0.1
    by_class = DIGITS.labels.argsort()
    sorted_rows = referee.fit_classifier(
        DIGITS.pixels[by_class], DIGITS.labels[by_class], epochs=20
    )
    shuffled, own = (
        referee.accuracy(c, UNSEEN.pixels, UNSEEN.labels) for c in (sorted_rows, classifier)
    )
    assert shuffled == pytest.approx(own, abs=0.05)
    assert not classifier.training


def test_features_are_what_the_head_sees(classifier):
    features = classifier.features(UNSEEN.pixels)
    assert features.shape == (len(UNSEEN.pixels), 64)
    assert torch.allclose(classifier.head(features), classifier(UNSEEN.pixels), atol=1e-5)


def test_images_must_be_square_and_labelled():
    with pytest.raises(ValueError, match=r"x has shape \(4, 3\)"):
        referee.fit_classifier(torch.zeros(4, 3), torch.zeros(4).long())
    four = torch.zeros(4, 4)
    with pytest.raises(ValueError, match=r"labels has shape \(3,\) .* each of 4 images"):
        referee.fit_classifier(four, torch.zeros(3).long())
    with pytest.raises(ValueError, match=r"labels .*dtype torch.float32"):
        referee.fit_classifier(four, torch.zeros(4))
    with pytest.raises(ValueError, match="labels row 2 is no class number from 0 to 9"):
        referee.fit_classifier(four, torch.tensor([0, 9, 10, 3]))


def test_what_it_is_asked_about_is_checked(classifier):
    x = UNSEEN.pixels[:50]
    assert torch.equal(classifier.features(x.double().numpy()), classifier.features(x))
    assert torch.equal(classifier.predict(x.double()), classifier.predict(x))
    with pytest.raises(ValueError, match="x has 49 columns; images of side 8"):
        classifier.predict(x[:, :49])
    with pytest.raises(ValueError, match=r"labels has shape \(1,\)"):
        referee.accuracy(classifier, x, UNSEEN.labels[:1])


def test_noise_in_training_helps_to_read_noisy_images(classifier):
    pixels, labels = UNSEEN.pixels.repeat(4, 1), UNSEEN.labels.repeat(4)
    g = torch.Generator().manual_seed(0)
    noisy = pixels + 0.6 * torch.randn(pixels.shape, generator=g)
    taught = referee.fit_classifier(DIGITS.pixels, DIGITS.labels, epochs=20, noise=0.6)
    assert referee.accuracy(taught, noisy, labels) > 0.05 + referee.accuracy(
        classifier, noisy, labels
    )


def test_it_is_the_network_that_it_says():
    """Convolutions of 5 x 5 with stride 2: the side is halved twice, whatever it is."""
    known = referee.Classifier()
    assert (known.side, known.k) == (28, 10)
    for side, left in ((28, 7), (8, 2), (9, 3), (1, 1)):
        classifier = referee.Classifier(side, 3)
        shapes = [tuple(p.shape) for p in classifier.parameters()]
        assert shapes == [
            *((16, 1, 5, 5), (16,), (32, 16, 5, 5), (32,)),
            *((64, 32 * left**2), (64,), (3, 64), (3,)),
        ]
        assert classifier(torch.zeros(2, side**2)).shape == (2, 3)
        assert classifier.net[:4](torch.zeros(1, side**2)).shape == (1, 32, left, left)


def test_settings_left_out_are_those_written_down_and_classes_as_many_as_asked():
    x, labels = DIGITS.pixels[:40], DIGITS.labels[:40] % 3
    plain = referee.fit_classifier(x, labels, k=3)
    spelt = referee.fit_classifier(x, labels, k=3, epochs=3, noise=0.0, seed=0)
    assert plain.head.out_features == plain.k == 3
    assert all(map(torch.equal, plain.parameters(), spelt.parameters()))


@pytest.mark.parametrize(
    ("name", "call"),
    [
        ("side", lambda: referee.Classifier(0)),
        ("k", lambda: referee.Classifier(8, 0)),
        ("epochs", lambda: referee.fit_classifier(DIGITS.pixels, DIGITS.labels, epochs=0)),
        ("noise", lambda: referee.fit_classifier(DIGITS.pixels, DIGITS.labels, noise=-1.0)),
    ],
)
def test_a_bad_setting_is_named(name, call):
    with pytest.raises(ValueError, match=rf"^{name} must be"):
        call()


def test_images_that_are_not_finite_are_named():
    x = torch.full((2, 64), torch.inf)
    for call in (referee.Classifier(8).predict, lambda x: referee.fit_classifier(x, [0, 1])):
        with pytest.raises(ValueError, match=r"^x has 2 non-finite rows"):
            call(x)
