"""Every way takes every problem, on equal terms."""

import numpy as np
import pytest

import privgan as pg
from privgan.artifact import rival_study
from privgan.artifact.image_study import Judge, Sent
from privgan.artifact.rival_study import OURS, RIVALS, WAYS, Run


@pytest.mark.parametrize("way", WAYS)
def test_every_way_makes_a_generator_of_labelled_images(way):
    judge = Judge.of("digits", epochs=1)
    given = [Sent("digits", pg.Gaussian(0.3), 4.0, 400), 9.0, judge, 100, 4, 100, 0]
    scores, records = rival_study.outcome(rival_study.images, given, way, 2, 0, 7)
    assert records.shape == (7, 74)
    assert np.isfinite(list(scores.values())).all()


def test_the_same_seed_gives_every_way_the_same_reports():
    first, again = (rival_study.shape("moons", 0.3, 200, 50, 3) for _ in range(2))
    assert first.reports.equal(again.reports)
    assert not first.reports.equal(rival_study.shape("moons", 0.3, 200, 50, 4).reports)


def test_comparison_runs_each_case_and_names_the_best():
    steps = {1: dict.fromkeys(WAYS, 2), 2: dict.fromkeys(WAYS, 3)}
    problems = {"moons": (rival_study.shape, ("moons", 0.3, 200, 50))}
    runs = rival_study.compare(problems, steps, [0], shown=5)
    assert len(runs) == 2 * len(WAYS)
    assert {r.way for r in runs} == {*OURS, *RIVALS}
    way, value = rival_study.best(runs, "moons", 2, "w2", RIVALS)
    assert value == min(r.scores["w2"] for r in runs if r.times == 2 and r.way in RIVALS)
    assert f"| moons | 2 | {way} | {value:.4g} |" in rival_study.table(runs, ["w2"]).data


def test_a_way_or_a_length_without_steps_is_named():
    problems = {"moons": (rival_study.shape, ("moons", 0.3, 200, 50))}
    with pytest.raises(ValueError, match="steps at times 4 lack 'unregularised'"):
        rival_study.compare(problems, {4: dict.fromkeys([*WAYS][:-1], 2)}, [0], shown=5)
    with pytest.raises(ValueError, match="no run has times 16"):
        rival_study.drawn([], ["moons"], 16, side=8)


def test_means_and_errors_are_over_the_seeds():
    runs = [Run("a", "AmbientGAN", 1, s, {"w2": w}, None) for s, w in enumerate([1.0, 2.0, 3.0])]
    assert rival_study.by_seed(runs, "a", "AmbientGAN", 1, "w2").tolist() == [1.0, 2.0, 3.0]
    assert "| a | 1 | AmbientGAN | 2.00 ± 0.58 |" in rival_study.table(runs, ["w2"]).data


def test_measurements_are_normal_scores():
    people = rival_study.measurements()
    assert people.shape == (569, 30)
    assert people.std(0).numpy() == pytest.approx(1.0, abs=0.05)
