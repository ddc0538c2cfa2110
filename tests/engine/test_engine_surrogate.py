"""The surrogate predicts, the acquisition picks, the prescreen plans: each by itself, then together."""

from __future__ import annotations

import itertools
import json
from types import SimpleNamespace

import moocore
import numpy as np
import pytest
from scipy.spatial.distance import cdist
from scipy.stats import kendalltau
from toy_space import DigitSpace, close, error, evolution, tree

from evodiff.engine import Evolution, SurrogateSearch, prescreen
from evodiff.engine.acquisition import expected_improvements, improvements, pick_batch
from evodiff.engine.forecast import Forecaster
from evodiff.engine.history import GenerationResult, Prediction
from evodiff.engine.prescreen import TELLING, remembered
from evodiff.engine.surrogate import (
    LENGTHS,
    NOISES,
    SHARES,
    Geometry,
    Kernel,
    Surrogate,
    Warp,
    chance,
    geometries,
    rank_correlation,
)

RNG = np.random.default_rng


def one_hot(count: int, layers: int, choices: int, seed: int) -> np.ndarray:
    return np.eye(choices)[RNG(seed).integers(choices, size=(count, layers))].reshape(count, -1)


def modelled(features: np.ndarray, values: np.ndarray) -> tuple[Geometry, Surrogate]:
    """Return a model, and the geometry that it has taken."""
    model = Surrogate(geometries(features), values)
    return model.geometry, model


def dimensions(features: np.ndarray, values: np.ndarray) -> int:
    """Return the number of features that a model has taken."""
    geometry, _ = modelled(features, values)
    return geometry.place(features).rows.shape[1]


def test_the_surrogate_is_the_gaussian_process_of_the_textbook():
    features = one_hot(30, 5, 3, 0)
    values = features @ RNG(1).normal(size=15) + RNG(2).normal(size=30)
    geometry, model = modelled(features, values)
    place = geometry.place(one_hot(7, 5, 3, 3))
    mean, deviation = model.predict(place)

    own = geometry.mix(geometry.own, model.kernel) + model.kernel.noise * np.eye(30)
    cross = geometry.mix(place.near, model.kernel)
    asked = geometry.mix(geometry.parts(place.rows, place.rows), model.kernel)
    centred = model.values - model.values.mean()
    expected = model.values.mean() + cross @ np.linalg.solve(own, centred)
    covariance = model.variance * (asked - cross @ np.linalg.solve(own, cross.T))
    assert np.allclose(mean, expected)
    assert np.allclose(model.covariance(place), covariance)
    assert np.allclose(deviation, np.sqrt(np.diag(covariance)))
    some = np.array([4, 1])
    assert np.allclose(model.covariance(place[some]), covariance[np.ix_(some, some)])


def test_the_kernel_is_the_most_likely_one_of_the_grid_by_eigenvalues():
    features = one_hot(60, 6, 3, 4)
    values = np.exp(features @ RNG(5).normal(size=18) + RNG(6).normal(size=60))
    geometry, model = modelled(features, values)
    assert abs(model.values.mean()) > 0.1

    def evidence(kernel: Kernel) -> float:
        spectrum, vectors = np.linalg.eigh(geometry.mix(geometry.own, kernel))
        squares = (vectors.T @ (model.values - model.values.mean())) ** 2
        noisy = spectrum + kernel.noise
        return -30 * np.log((squares / noisy).mean()) - 0.5 * np.log(noisy).sum()

    grid = [
        Kernel(shares, length, noise)
        for shares in SHARES
        for length in (LENGTHS if shares[2] else LENGTHS[:1])
        for noise in NOISES
    ]
    assert model.kernel == max(grid, key=evidence)


def test_kernels_that_rounding_has_spoilt_are_not_taken():
    rng = RNG(0)
    far = rng.random(120) < 0.1  # beside them all others are as good as equal
    features = np.outer(np.where(far, rng.normal(size=120), 1e-5 * rng.normal(size=120)), rng.normal(size=30))
    _, model = modelled(features, features[:, 0] + 0.1 * rng.normal(size=120))
    assert np.isfinite(model.left_out()).all()


def test_distances_are_scipys_whatever_slices_they_are_made_in():
    rows = RNG(5).normal(size=(2000, 12)).round(2)
    geometry = Geometry(rows[:300])
    whole = geometry.place(rows)
    expected = cdist(whole.rows, whole.rows[:300], "cityblock")
    found = whole.near.distance.astype(float)
    unit = expected.mean() / found.mean()
    assert np.allclose(found * unit, expected, rtol=1e-4, atol=1e-4)
    assert (np.diag(found[:300]) == 0).all()
    parts = [geometry.place(rows[start : start + 7]) for start in range(0, 2000, 7)]
    assert (np.concatenate([part.near.distance for part in parts]) == whole.near.distance).all()

    model = Surrogate([geometry], rows[:300] @ RNG(6).normal(size=12))
    mean, deviation = model.predict(whole)
    alone = [model.predict(part) for part in parts]
    assert np.allclose(mean, np.concatenate([part[0] for part in alone]))
    assert np.allclose(deviation, np.concatenate([part[1] for part in alone]), atol=1e-6)


def test_what_is_left_out_is_predicted_by_the_others():
    features = one_hot(25, 6, 3, 4)
    geometry, model = modelled(features, features @ RNG(5).normal(size=18))
    own = geometry.mix(geometry.own, model.kernel) + model.kernel.noise * np.eye(25)
    centred = model.values - model.values.mean()
    for left in (0, 11, 24):
        others = np.delete(np.arange(25), left)
        weights = np.linalg.solve(own[np.ix_(others, others)], centred[others])
        # the mean is that of all: its own share in it is what equation 5.12 leaves in
        assert model.left_out()[left] == pytest.approx(model.values.mean() + own[left, others] @ weights)


def test_of_what_was_evaluated_is_expected_what_the_posterior_says():
    features = one_hot(30, 5, 3, 0)
    values = features @ RNG(1).normal(size=15) + RNG(2).normal(size=30)
    geometry, model = modelled(features, values)
    mean, _ = model.predict(geometry.place(features))
    assert model.smoothed() == pytest.approx(mean, abs=1e-6)


def test_the_front_to_enlarge_is_not_that_of_the_lucky():
    space = DigitSpace(9)
    search = evolution(space=space, population_size=40)
    rng = RNG(0)
    for trial in search.ask(40):
        search.tell(trial.id, {"error": error(trial.genome) + 4 * rng.normal()})
    candidates = search._history.ids
    forecaster = Forecaster(search._history, space, candidates)
    model = forecaster.models[0]
    lucky = model.values.min()
    best = (forecaster.front * forecaster._span + forecaster._reference)[:, 0].min()
    assert lucky < best == pytest.approx(model.smoothed().min())


def test_it_ranks_what_it_has_not_seen_by_what_genes_add_and_what_pairs_add():
    features = one_hot(160, 6, 3, 6)
    weights, pairs = RNG(7).normal(size=18), RNG(8).normal(size=(18, 18)) / 4
    values = features @ weights + np.einsum("ni,ij,nj->n", features, pairs, features)
    geometry, model = modelled(features[:120], values[:120])
    assert kendalltau(model.predict(geometry.place(features[120:]))[0], values[120:]).statistic > 0.8


def test_noise_alone_is_ranked_no_better_than_chance_in_most_samples():
    lucky = 0
    for seed in range(20):
        features = one_hot(40, 6, 3, seed)
        _, model = modelled(features, RNG(100 + seed).normal(size=40))
        lucky += rank_correlation(model.left_out(), model.values) > chance(40)
    assert lucky <= 4


@pytest.mark.parametrize("values", [[3.0, 3.0, 3.0], [1.0, 2.0, 900.0, -4.0, 2.5]])
def test_a_warp_keeps_the_order_and_is_undone_by_its_inverse(values):
    values = np.array(values)
    warp = Warp(values)
    assert np.allclose(warp.inverse(warp(values)), values)
    assert (np.argsort(warp(values), kind="stable") == np.argsort(values, kind="stable")).all()


def test_features_that_never_vary_leave_a_model_that_knows_nothing():
    geometry, model = modelled(np.ones((9, 3)), np.arange(9.0))
    mean, deviation = model.predict(geometry.place(np.zeros((2, 3))))
    assert np.allclose(mean, model.values.mean(), atol=1e-6)
    assert np.isfinite(deviation).all()


def levels(count: int, genes: int, steps: int, seed: int) -> np.ndarray:
    return RNG(seed).integers(steps, size=(count, genes)) / (steps - 1)


def test_features_count_by_their_weights():
    features = RNG(0).normal(size=(40, 3))
    plain, weighed = Geometry(features), Geometry(features, np.array([1.0, 1.0, 1e-9]))
    without = Geometry(features[:, :2])
    assert weighed.own.linear == pytest.approx(without.own.linear, abs=1e-6)
    assert weighed.own.distance == pytest.approx(without.own.distance, abs=1e-6)
    assert np.abs(plain.own.linear - without.own.linear).max() > 0.1
    assert (Geometry(features, np.ones(3)).own.linear == plain.own.linear).all()


def test_a_gene_in_steps_is_a_choice_where_its_neighbours_are_not_alike(monkeypatch):
    features = levels(220, 4, 21, 0)
    values = ((features * 20).round() % 2).sum(axis=1) + 0.1 * features.sum(axis=1)  # every other step is a hill
    known, unknown = features[:160], features[160:]
    as_choices = modelled(known, values[:160])
    assert dimensions(known, values[:160]) == 4 + 4 * 21
    monkeypatch.setattr("evodiff.engine.surrogate.MOST_LEVELS", 2)
    as_amounts = modelled(known, values[:160])
    assert dimensions(known, values[:160]) == 4
    choices, amounts = (
        kendalltau(model.predict(geometry.place(unknown))[0], values[160:]).statistic
        for geometry, model in (as_choices, as_amounts)
    )
    assert choices > 0.75
    assert choices > amounts + 0.1


def test_a_gene_in_steps_is_an_amount_where_they_are():
    features = levels(60, 4, 9, 3)
    values = (features**2).sum(axis=1)
    geometry, model = modelled(features, values)
    assert dimensions(features, values) == 4
    between = levels(30, 4, 17, 4)  # of which half the values were never seen
    assert kendalltau(model.predict(geometry.place(between))[0], (between**2).sum(axis=1)).statistic > 0.9


@pytest.mark.parametrize("features", [one_hot(60, 4, 3, 0), RNG(0).normal(size=(60, 4)), levels(20, 4, 21, 0)])
def test_one_hot_amounts_and_too_few_evaluations_are_seen_as_they_are(features):
    assert dimensions(features, RNG(1).normal(size=len(features))) == features.shape[1]


def test_tau_is_scipys():
    first, second = RNG(9).integers(6, size=(2, 40)).astype(float)
    assert rank_correlation(first, second) == pytest.approx(kendalltau(first, second).statistic)
    assert rank_correlation(first, np.ones(40)) == 0.0


@pytest.mark.parametrize("objectives", [2, 3, 4])
def test_improvements_are_differences_of_hypervolumes(objectives):
    rng = RNG(objectives)
    front = rng.uniform(-1, 0.2, size=(12, objectives))
    points = rng.uniform(-1.2, 0.2, size=(40, objectives))
    points[:3] = front[:3]
    origin = np.zeros(objectives)

    def volume(rows):
        inside = rows[(rows < 0).all(axis=1)]
        return moocore.hypervolume(inside, ref=origin) if len(inside) else 0.0

    expected = [volume(np.vstack([front, point])) - volume(front) for point in points]
    assert np.allclose(improvements(points, front), expected)
    assert np.allclose(improvements(points, front[:0]), [volume(point[None]) for point in points])


def test_expected_improvements_are_near_those_of_many_draws():
    rng = RNG(10)
    front = np.array([[-0.9, -0.1], [-0.5, -0.5], [-0.1, -0.8]])
    mean = rng.uniform(-0.9, 0.0, size=(30, 2))
    deviations = {0: np.full(30, 0.15)}
    draws = [
        improvements(mean + np.outer(np.full(30, 0.15) * node, [1.0, 0.0]), front) for node in rng.normal(size=4000)
    ]
    found = expected_improvements(mean, deviations, front)
    assert np.corrcoef(found, np.mean(draws, axis=0))[0, 1] > 0.99
    assert np.allclose(expected_improvements(mean, {}, front), np.round(improvements(mean, front), 9))


def test_a_batch_is_the_one_that_looking_at_everybody_each_time_picks():
    rng = RNG(11)
    front = np.array([[-0.6, -0.2], [-0.2, -0.6]])
    mean = rng.uniform(-1.0, 0.1, size=(25, 2))
    root = rng.normal(size=(25, 25)) / 30
    covariance, noise = root @ root.T, 0.001

    picked, known, rest = [], front, covariance.copy()
    for _ in range(6):
        gains = expected_improvements(mean, {0: np.sqrt(np.maximum(np.diag(rest), 0))}, known)
        gains[picked] = -1
        best = int(np.argmax(gains))
        picked.append(best)
        known = np.vstack([known, mean[best]])
        rest = rest - np.outer(rest[:, best], rest[:, best]) / (rest[best, best] + noise)
    before = covariance.copy()
    assert pick_batch(mean, {0: covariance}, {0: noise}, front, 6) == picked
    assert (covariance == before).all()


def test_a_batch_ends_where_nothing_is_gained():
    assert pick_batch(np.array([[0.5, -0.5], [-0.2, -0.2]]), {}, {}, np.zeros((0, 2)), 2) == [1]


def test_those_far_beyond_come_last_where_a_batch_has_looked_at_enough_of_them():
    beyond = np.arange(60) < 50
    ordered = prescreen._few_beyond(np.arange(60), beyond, 4)
    assert sorted(ordered) == list(range(60))
    looked_at = ordered[: prescreen.LOOKED_AT * 1 + 10]
    assert beyond[looked_at].sum() == prescreen.LOOKED_AT
    assert (~beyond[looked_at]).sum() == 10


def test_models_see_features_by_the_weights_of_their_space():
    class Weighed(DigitSpace):
        def feature_weights(self):
            return np.array([1.0, *[1e-9] * 8])

    def linear(space):
        search = close(evolution(space=space, population_size=20))
        return Forecaster(search._history, space, search._history.ids).models[0].geometry.own.linear

    first = linear(Weighed(9))
    assert np.linalg.matrix_rank(first, tol=1e-6) == 1
    assert np.linalg.matrix_rank(linear(DigitSpace(9)), tol=1e-6) > 1


def test_of_those_far_beyond_only_so_many_are_picked():
    mean, covariance = RNG(0).uniform(-1, 0, size=(40, 2)), {0: np.eye(40)}
    best = pick_batch(mean, covariance, {0: 0.1}, np.zeros((0, 2)), 8)
    few = np.zeros(40, dtype=np.bool_)
    few[best] = True
    picked = pick_batch(mean, covariance, {0: 0.1}, np.zeros((0, 2)), 8, limited=few, limit=2)
    assert len(picked) == 8
    assert picked[:2] == best[:2]
    assert few[picked].sum() == 2


def test_a_generation_does_not_follow_the_models_far_beyond_what_was_evaluated():
    """A digit that nobody had yet looks like the best of all, where errors fall with the digits."""

    class Timid(DigitSpace):
        def sample(self, rng):
            return [int(digit) for digit in rng.integers(2, size=self.length)]

    def generation(share, monkeypatch):
        monkeypatch.setattr(prescreen, "BEYOND_RANGE", share)
        search = evolution(space=Timid(9), population_size=20)
        for _ in range(20):
            (trial,) = search.ask(1)
            search.tell(trial.id, {"error": -float(sum(trial.genome))})
        return sum(2 in trial.genome for trial in search.ask(20))

    with pytest.MonkeyPatch.context() as monkeypatch:
        assert generation(1.0, monkeypatch) > 10
        assert generation(0.25, monkeypatch) == 5


def test_alike_candidates_do_not_fill_a_batch():
    mean = np.array([[-0.5, -0.5], [-0.5, -0.5], [-0.45, -0.5]])
    covariance = 0.04 * np.array([[1.0, 1.0, 0.0], [1.0, 1.0, 0.0], [0.0, 0.0, 1.0]])
    assert pick_batch(mean, {0: covariance}, {0: 1e-9}, np.zeros((0, 2)), 2) == [0, 2]


def surrogate(**settings):
    return evolution(strategy="surrogate", population_size=12, space=DigitSpace(8), **settings)


def test_it_is_the_default():
    assert evolution().experiment["strategy"]["name"] == "surrogate"


def test_plans_hold_what_was_predicted_and_results_how_that_agreed():
    search = close(surrogate(), 5)
    predicted = [trial.get("predicted") for trial in search.ledger.plan(3)]
    assert all(values and values.keys() == {"error"} for values in predicted), "cost is known"
    assert all(trial.get("predicted") is None for trial in search.ledger.plan(0))
    told = [search.evaluation(record["id"]).objectives["error"] for record in search.ledger.plan(3)]
    tau = kendalltau([values["error"] for values in predicted], told).statistic
    assert search.results()[3].surrogate == {"error": {"trials": 12, "rank_correlation": pytest.approx(tau)}}
    assert search.results()[0].surrogate is None
    assert "surrogate" not in search.results()[0].to_json()
    stored = json.loads(json.dumps(search.results()[3].to_json()))
    assert GenerationResult.from_json(stored) == search.results()[3]


def test_parents_were_evaluated_before_and_lineage_names_every_operator():
    search = close(surrogate(), 5)
    known: set[str] = set()
    for generation in range(5):
        plan = search.ledger.plan(generation)
        for record in plan:
            assert set(record["parents"]) <= known
            operators = record["operator"].split("+")
            assert record["parents"] or operators[0] == "sample"
            assert set(operators) <= {"sample", "crossover", *DigitSpace.operators}
            assert len(operators) == len(set(operators))
        known |= {record["candidate"] for record in plan}


def test_it_finds_the_front_with_fewer_evaluations_than_nsga2():
    def found(strategy):
        return [
            close(
                Evolution(
                    DigitSpace(10), objectives=["error", "cost"], population_size=12, seed=seed, strategy=strategy
                ),
                5,
            )
            .results()[-1]
            .hypervolume
            for seed in range(4)
        ]

    assert all(ours > theirs for ours, theirs in zip(found("surrogate"), found("nsga2"), strict=True))


def test_objectives_that_nobody_knows_beforehand_are_all_predicted():
    class Unpriced(DigitSpace):
        def costs(self, genome):
            return {}

    search = evolution(space=Unpriced(8), population_size=12, strategy="surrogate")
    for _ in range(3):
        for trial in search.ask(12):
            search.tell(trial.id, {"error": error(trial.genome), "cost": float(sum(trial.genome))})
    assert search.results()[2].surrogate.keys() == {"error", "cost"}


def test_values_that_genes_do_not_explain_let_it_step_aside():
    search = surrogate()
    noise = RNG(12)
    for _ in range(7):
        for trial in search.ask(12):
            search.tell(trial.id, {"error": float(noise.normal())})
    aside = [result.surrogate is None for result in search.results()[2:]]
    assert sum(aside) >= 3


def proved(*generations: list[tuple[int, float, float]]) -> bool:
    """Return whether models are believed whose generations are lists of (rung, predicted, found)."""
    told = [
        [Prediction(rung, {"error": predicted}, {"error": found}) for rung, predicted, found in generation]
        for generation in generations
    ]
    return prescreen._proved(SimpleNamespace(generations=len(told), predictions=told.__getitem__))


def test_small_generations_are_ranked_together_to_prove_the_models():
    pairs = TELLING // 2
    right = [[(0, 2.0 * step, 2.0 * step), (0, 2.0 * step + 1, 2.0 * step + 1)] for step in range(pairs)]
    assert proved(*right)
    inverted = [[first, (0, second[1], first[2] - 0.5)] for first, second in right]
    assert proved(*inverted), "what is wrong within each pair is right between them"
    order = np.random.default_rng(0).permutation(2 * pairs).astype(float)
    scattered = [[(0, float(i), order[i]), (0, i + 1.0, order[i + 1])] for i in range(0, 2 * pairs, 2)]
    assert not proved(*scattered)
    assert proved(*scattered[1:]), "two fewer are too few to tell"
    assert proved(*scattered, *right), "the latest count"
    assert not proved(*right, *scattered)


def test_what_short_trainings_bring_is_not_ranked_among_whole_ones():
    half = TELLING // 2
    low = [(0, float(half - step), 2.0 * half + step) for step in range(half)]
    high = [(1, -step, float(step)) for step in range(half)]
    assert rank_correlation(*np.array([*low, *high]).T[1:]) > 0
    assert not proved(low, high)


def test_a_few_evaluations_are_not_learnt_from():
    search = close(evolution(strategy="surrogate", population_size=5, space=DigitSpace(8)), 9)
    predicted = [result.generation for result in search.results() if result.surrogate is not None]
    assert predicted
    assert min(predicted) >= 4, "16 evaluations are told by the fourth generation"


def test_failures_and_broken_constraints_are_learnt_from():
    search = surrogate()
    for _ in range(6):
        for trial in search.ask(12):
            if trial.genome[0] == 2:
                search.tell_failure(trial.id, "non_finite_loss")
            else:
                violation = 1.0 if trial.genome[1] == 2 else 0.0
                search.tell(trial.id, {"error": error(trial.genome)}, violations={"memory": violation})
    last = [record["genome"]["digits"] for record in search.ledger.plan(5)]
    first = [record["genome"]["digits"] for record in search.ledger.plan(0)]
    assert sum(2 in digits[:2] for digits in last) < sum(2 in digits[:2] for digits in first)


def test_a_run_that_was_reopened_is_the_same_bytes(tmp_path):
    close(surrogate(ledger=tmp_path / "whole"), 5)
    for _ in range(5):
        close(surrogate(ledger=tmp_path / "parts"), 1)
    assert tree(tmp_path / "parts") == tree(tmp_path / "whole")


def test_of_a_long_history_the_best_and_the_latest_are_remembered():
    search = close(surrogate(), 6)
    history = search._history
    kept = remembered(history, 30)
    assert len(kept) == 30
    assert kept == [name for name in history.ids if name in set(kept)], "in the order asked"
    assert set(history.ids[-10:]) <= set(kept)
    assert set(history.front) <= set(kept)
    assert remembered(history, 1000) == history.ids


def test_a_space_that_is_exhausted_ends_the_search():
    search = Evolution(
        DigitSpace(2), objectives=["error", "cost"], population_size=4, strategy=SurrogateSearch(pool=20), seed=1
    )
    asked = set()
    for _ in itertools.repeat(None, 10):
        trials = search.ask(4)
        if not trials:
            break
        for trial in trials:
            assert trial.candidate not in asked
            asked.add(trial.candidate)
            search.tell(trial.id, {"error": error(trial.genome)})
    assert search.exhausted
    assert len(asked) == len({DigitSpace(2).canonical([a, b]) for a in range(3) for b in range(3)})
