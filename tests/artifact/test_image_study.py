"""Labelled images, from what is sent to how a generator of it is judged."""

import math

import pytest
import torch

import privgan as pg
from privgan.artifact import image_study
from privgan.artifact.data import IMAGES
from privgan.artifact.image_study import Judge, Sent

SENT = Sent("digits", pg.Gaussian(0.25), 4.0, 600)
BATCH = {"latents": 4, "steps": 10, "batch_size": 100, "generated": 100}
NETWORK = {"latents": 4, "steps": 10, "batch_size": 100, "warm_up": 0.5}


@pytest.fixture(scope="module")
def judge():
    return Judge.of("digits", epochs=5)


def test_everyone_sends_a_noised_image_and_an_answer():
    raw, reports = SENT.raw(), SENT.reports()
    assert raw.shape == reports.shape == (600, 74)
    assert (reports - raw)[:, :64].std() == pytest.approx(0.25, rel=0.05)
    truthful = (raw[:, 64:].argmax(1) == reports[:, 64:].argmax(1)).double().mean()
    assert truthful == pytest.approx(math.exp(4) / (9 + math.exp(4)), abs=0.04)
    assert not torch.equal(reports, Sent("digits", pg.Gaussian(0.25), 4.0, 600, seed=1).reports())


@pytest.mark.parametrize("way", image_study.WAYS)
def test_every_way_is_judged_by_reports_that_it_never_saw(way, judge):
    settings = NETWORK if way == "network" else BATCH
    generator, scores = image_study.learn_and_judge(way, SENT, settings, judge, 200, "")
    assert math.isfinite(scores["nll"])
    assert 0.0 <= scores["precision"] <= 1.0
    assert scores["student"] > 0.0
    assert generator.sample(3, seed=0).shape == (3, 74)
    _, again = image_study.learn_and_judge(way, SENT, settings, judge, 200, "")
    assert again["nll"] == scores["nll"]


def test_a_network_may_start_from_the_likelihood(tmp_path):
    settings = NETWORK | {"first": BATCH}
    generator = image_study.network(SENT.side, 0, 4)
    path = str(tmp_path / "network.ckpt")
    _, past = image_study.train(
        generator, "network", SENT.reports(), SENT.mechanism, settings, 0, path
    )
    assert [len(history.loss) for history in past] == [10, 10]
    start = image_study.network(SENT.side, 0, 4)
    image_study.train(start, "likelihood", SENT.reports(), SENT.mechanism, BATCH, 0)
    _, last = image_study.train(start, "network", SENT.reports(), SENT.mechanism, NETWORK, 0)
    assert torch.equal(generator.sample(3, seed=0), start.sample(3, seed=0))
    assert last[0].loss == past[1].loss
    assert {p.name for p in tmp_path.iterdir()} == {"network.ckpt", "network.ckpt.first"}
    took = image_study.learn("network", SENT, settings, path)[1]  # both are taken up where they end
    assert took["seconds"] == sum(history.seconds for history in past)


def test_raw_images_are_as_near_as_can_be(judge):
    train = IMAGES["digits"]("train").pixels
    near, far = judge.likeness(train), judge.likeness(torch.rand_like(train))
    assert near["frechet"] < far["frechet"] / 20
    assert near["recall"] > 0.5 > far["recall"]


def test_readers_know_the_class_from_reports_alone(judge):
    found = image_study.readers(SENT, judge)
    assert min(found["linear"], found["quadratic"]) > 0.75  # chance is 0.1


def test_what_repeats_training_images_is_found_out():
    train, test = (IMAGES["digits"](part).pixels[:300] for part in ("train", "test"))
    assert image_study.nearer_to_training(train[:100], train, test) == 1.0
    other = IMAGES["digits"]("train").pixels[400:700]
    assert image_study.nearer_to_training(other, train, test) == pytest.approx(0.5, abs=0.15)


def test_the_recipe_keeps_the_way_whose_held_out_reports_are_likelier():
    """Of the seed that all ways have."""
    scores = {
        ("a", "batch", 0): {"nll": 3.0},
        ("a", "batch", 1): {"nll": 1.0},
        ("a", "network", 0): {"nll": 2.5},
        ("a", "likelihood", 0): {"nll": 2.75},
        ("b", "batch", 0): {"nll": 2.0},
        "raw": {"nll": 0.0},
    }
    assert image_study.likelier(scores, "a") == "network"
    assert image_study.mean(scores, "a", "batch") == {"nll": 2.0}
    assert image_study.table(scores).loc[("a", "batch"), "nll"] == "2.0 ± 1.0"
