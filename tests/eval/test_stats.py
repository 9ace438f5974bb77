"""Intervals and tests against scipy, against constants that statsmodels 0.15 and scikit-learn 1.9 computed, and by hand."""

from __future__ import annotations

import numpy as np
import pytest
from scipy import stats as reference

from llava.eval import stats

# statsmodels.stats.proportion.proportion_confint(hits, n, method="wilson")
WILSON = [
    (0, 1, 0.0, 0.7934506856227627),
    (1, 1, 0.2065493143772374, 1.0),
    (0, 10, 0.0, 0.27753279986288926),
    (10, 10, 0.7224672001371106, 1.0),
    (5, 10, 0.23659309051256394, 0.7634069094874361),
    (1, 44, 0.004023252060053238, 0.1180770969821329),
    (25, 97, 0.1810959160754222, 0.35282593958148023),
    (90, 97, 0.8584683281060499, 0.964605841691335),
    (486, 972, 0.46862899277733316, 0.5313710072226668),
    (841, 972, 0.8423151695834038, 0.8852620342566914),
    (1109, 1110, 0.9949146230928457, 0.9998409511637641),
    (229, 1110, 0.18353365470397678, 0.23110476188870385),
]
# statsmodels.stats.contingency_tables.mcnemar([[7, b], [c, 4]], exact=True)
MCNEMAR = [
    (0, 0, 1.0),
    (0, 1, 1.0),
    (1, 0, 1.0),
    (0, 5, 0.0625),
    (1, 9, 0.021484375),
    (3, 3, 1.0),
    (2, 12, 0.012939453125),
    (5, 80, 1.8057729139211306e-18),
    (10, 13, 0.6776394844055176),
    (0, 65, 5.421010862427522e-20),
]
# statsmodels.stats.multitest.multipletests(ps, method="holm")
HOLM = [
    ([], []),
    ([0.01], [0.01]),
    ([0.01, 0.04, 0.03, 0.005], [0.03, 0.06, 0.06, 0.02]),
    ([0.04, 0.04, 0.04], [0.12, 0.12, 0.12]),
    ([0.9, 0.001, 0.5, 0.02, 0.02], [1.0, 0.005, 1.0, 0.08, 0.08]),
    ([1.0, 1.0], [1.0, 1.0]),
    ([0.2, 0.0001, 0.6, 0.03, 0.012, 0.0005, 0.99, 0.049], [0.6, 0.0008, 1.0, 0.15, 0.072, 0.0035, 1.0, 0.196]),
]


@pytest.mark.parametrize(("hits", "n", "low", "high"), WILSON)
def test_wilson_intervals_are_those_of_statsmodels(hits: int, n: int, low: float, high: float) -> None:
    assert stats.wilson(hits, n) == pytest.approx((low, high), abs=1e-12)


@pytest.mark.parametrize(("only_a", "only_b", "p"), MCNEMAR)
def test_the_exact_mcnemar_test_is_that_of_statsmodels(only_a: int, only_b: int, p: float) -> None:
    assert stats.mcnemar(only_a, only_b) == pytest.approx(p, rel=1e-9)
    assert stats.mcnemar(only_b, only_a) == pytest.approx(p, rel=1e-9)


def test_mcnemar_by_hand() -> None:
    """Of ten pairs that differ one favours the first: 2 x (1 + 10) / 2^10."""
    assert stats.mcnemar(1, 9) == pytest.approx(2 * 11 / 1024)


@pytest.mark.parametrize(("ps", "corrected"), HOLM)
def test_holms_correction_is_that_of_statsmodels(ps: list[float], corrected: list[float]) -> None:
    assert stats.holm(ps) == pytest.approx(corrected)


@pytest.mark.parametrize("seed", range(5))
def test_a_cluster_bootstrap_agrees_with_scipys_bootstrap_of_the_same_ratio(seed: int) -> None:
    draw = np.random.default_rng(seed)
    groups = [f"{place}" for place in range(60) for _ in range(int(draw.integers(1, 5)))]
    values = [float(draw.random() < 0.4 + 0.4 * (int(group) % 2)) for group in groups]
    sums, counts = stats.clusters(values, groups)

    def ratio(some: np.ndarray, of: np.ndarray, axis: int) -> np.ndarray:
        return np.asarray(some.sum(axis=axis) / of.sum(axis=axis))

    theirs = reference.bootstrap((sums, counts), ratio, paired=True, method="percentile", n_resamples=20_000, rng=draw)
    (low, high), name = stats.share_interval(values, groups)
    assert name == "cluster bootstrap 95 %"
    assert (low, high) == pytest.approx(tuple(theirs.confidence_interval), abs=0.015)


def test_samples_that_share_a_picture_make_a_wider_interval_than_as_many_independent_ones() -> None:
    values = [1.0, 1.0, 1.0, 1.0, 0.0, 0.0, 0.0, 0.0] * 10
    apart, _ = stats.share_interval(values, [f"{place}" for place in range(80)])
    shared, _ = stats.share_interval(values, [f"{place // 4}" for place in range(80)])
    assert shared[1] - shared[0] == pytest.approx(2 * (apart[1] - apart[0]), rel=0.15)  # a fourth of the information


def test_intervals_cover_the_truth_about_as_often_as_they_say() -> None:
    """Clusters of three with a common share: 95 % of the intervals should hold 0.6; the bootstrap of 40 clusters does a little less."""
    draw, held = np.random.default_rng(1), 0
    groups = [f"{place // 3}" for place in range(120)]
    for _ in range(200):
        shares = np.repeat(draw.beta(3, 2, size=40), 3)
        (low, high), _ = stats.share_interval((draw.random(120) < shares).astype(float).tolist(), groups)
        held += low <= 0.6 <= high
    assert 0.88 <= held / 200 <= 0.99


@pytest.mark.parametrize("value", [0.0, 1.0])
def test_where_every_cluster_says_the_same_the_interval_is_wilsons_over_clusters(value: float) -> None:
    interval, name = stats.share_interval([value] * 8, list("aabbccdd"))
    assert name == "Wilson 95 %, by group"
    assert interval == pytest.approx(stats.wilson(round(4 * value), 4))


def test_grades_have_a_bootstrap_interval_about_their_mean() -> None:
    grades = [0.1, 0.5, 0.9, 0.4, 0.7, 0.2, 0.8, 0.6, 0.3, 0.5]
    (low, high), name = stats.share_interval(grades, list("abcdefghij"))
    error = float(np.std(grades)) / 10**0.5  # of the mean, as a bootstrap sees it
    assert name == "bootstrap 95 %"
    assert (low, high) == pytest.approx((0.5 - 1.96 * error, 0.5 + 1.96 * error), abs=0.02)


def test_the_same_numbers_always_give_the_same_interval() -> None:
    values, groups = [0.0, 1.0, 1.0, 0.0, 1.0, 1.0], list("aabbcc")
    assert stats.share_interval(values, groups) == stats.share_interval(values, groups)


def test_two_measures_of_the_same_groups_are_redrawn_together_and_those_of_others_apart() -> None:
    values, groups = [0.0, 1.0, 1.0, 0.0, 1.0, 0.0, 1.0, 1.0], list("abcdefgh")
    mirrored = [1.0 - value for value in values]
    together = stats.replicates(values, groups, "count") + stats.replicates(mirrored, groups, "count")
    apart = stats.replicates(values, groups, "count") + stats.replicates(mirrored, groups, "scene")
    assert together == pytest.approx(np.ones(stats.RESAMPLES))
    assert np.ptp(apart) > 0.1


def test_replicates_of_many_groups_are_drawn_in_blocks(monkeypatch: pytest.MonkeyPatch) -> None:
    values, groups = [float(place % 3 == 0) for place in range(50)], [f"{place}" for place in range(50)]
    monkeypatch.setattr(stats, "_CELLS", 50 * 7)
    assert stats.replicates(values, groups).mean() == pytest.approx(17 / 50, abs=0.01)


def test_a_difference_without_any_pair_that_differs_reaches_as_far_as_wilson_says() -> None:
    assert stats.difference_interval([0.0] * 10, list("abcdefghij")) == pytest.approx((-0.27753279986288926, 0.27753279986288926))


@pytest.mark.parametrize("sign", [1.0, -1.0])
@pytest.mark.parametrize(("differing", "certain"), [(1, False), (4, False), (5, False), (6, True)])
def test_a_side_that_no_pair_favours_is_not_shut_out_by_few_pairs_that_differ(differing: int, certain: bool, sign: float) -> None:
    """Exact McNemar: 5 to 0 is p = 0.06, 6 to 0 p = 0.03. The interval says the same of a difference of 0."""
    differences = [sign] * differing + [0.0] * (100 - differing)
    bounds = [sign * bound for bound in stats.difference_interval(differences, [f"{place}" for place in range(100)])]
    low, high = min(bounds), max(bounds)
    assert (low > 0.0) is certain is (stats.mcnemar(0, differing) < 0.05)
    assert low < differing / 100 < high


def test_groups_that_all_differ_alike_leave_open_that_some_would_not() -> None:
    assert stats.difference_interval([1.0] * 10, list("abcdefghij")) == pytest.approx((1 - 0.27753279986288926, 1.0))
    even = stats.difference_interval([1.0, -1.0] * 10, list("aabbccddeeffgghhiijj"))  # in each group one for and one against
    assert even == pytest.approx((-0.27753279986288926, 0.27753279986288926))


def test_the_interval_of_a_difference_holds_it() -> None:
    differences = [1.0] * 30 + [0.0] * 60 + [-1.0] * 10
    low, high = stats.difference_interval(differences, [f"{place}" for place in range(100)])
    error = float(np.std(differences)) / 10
    assert (low, high) == pytest.approx((0.2 - 1.96 * error, 0.2 + 1.96 * error), abs=0.02)


def test_sign_flips_of_whole_hits_are_the_exact_mcnemar_test() -> None:
    """Flipping the signs of 1 against 9 equal differences counts the same cases as McNemar's binomial."""
    assert stats.sign_flips([1.0] * 9 + [-1.0] + [0.0] * 5) == pytest.approx(stats.mcnemar(1, 9))


def test_sign_flips_by_hand() -> None:
    """0.1 + 0.2 + 0.4 = 0.7 is the largest sum of the eight; it and its opposite: 2 of 8."""
    assert stats.sign_flips([0.1, 0.2, 0.4]) == pytest.approx(2 / 8)
    assert stats.sign_flips([0.0, 0.0]) == 1.0
    assert stats.sign_flips([]) == 1.0
    assert stats.sign_flips([0.4]) == 1.0  # it and its opposite: 2 of 2


def test_sign_flips_of_many_pairs_come_near_the_t_test() -> None:
    draw = np.random.default_rng(3)
    differences = draw.normal(0.25, 1.0, size=80)
    assert stats.sign_flips(differences.tolist()) == pytest.approx(float(reference.ttest_1samp(differences, 0.0).pvalue), abs=0.01)


def test_the_area_under_the_curve_is_that_of_scikit_learn_ties_counted_half() -> None:
    area, _ = stats.auc([0.9, 0.8, 0.4, 0.4, 0.7], [0.1, 0.4, 0.3, 0.8, 0.2, 0.05])
    assert area == pytest.approx(0.85)
    assert stats.auc([0.5] * 3, [0.5] * 3)[0] == 0.5


def test_the_area_is_mann_whitneys_and_its_error_delongs_by_hand() -> None:
    """Positives 3, 5; negatives 1, 4: wins 1/2 and 1, losses of the negatives 1 and 1/2; area 3/4; variance 0.125 / 2 + 0.125 / 2."""
    area, interval = stats.auc([3.0, 5.0], [1.0, 4.0])
    assert area == 0.75
    assert interval is not None
    reach = 1.959963984540054 * 0.125**0.5 / (0.75 * 0.25)
    logit = np.log(3.0)
    assert interval == pytest.approx((1 / (1 + np.exp(-(logit - reach))), 1 / (1 + np.exp(-(logit + reach)))))
    draw = np.random.default_rng(0)
    above, below = draw.normal(1, 1, 40), draw.normal(0, 1, 60)
    u = float(reference.mannwhitneyu(above, below).statistic)
    assert stats.auc(above.tolist(), below.tolist())[0] == pytest.approx(u / 2400)


def test_an_area_over_members_that_stand_three_times_is_as_sure_as_over_each_once() -> None:
    positive, negative = [0.9, 0.7, 0.4, 0.6], [0.8, 0.3, 0.1]
    once = stats.auc(positive, negative)
    groups = [f"{place // 3}" for place in range(3 * 7)]
    area, interval = stats.auc(np.repeat(positive, 3).tolist(), np.repeat(negative, 3).tolist(), groups)
    assert area == pytest.approx(once[0])
    assert interval == pytest.approx(once[1])
    taken_for_others = stats.auc(np.repeat(positive, 3).tolist(), np.repeat(negative, 3).tolist())[1]
    assert once[1] is not None
    assert taken_for_others is not None
    assert taken_for_others[1] - taken_for_others[0] < 0.7 * (once[1][1] - once[1][0])


def test_the_interval_of_an_area_over_groups_of_both_kinds_is_that_of_redrawn_groups() -> None:
    """Each group has one harmful and one or two harmless members, all shifted alike."""
    draw = np.random.default_rng(7)
    shifts = draw.normal(0, 1, 80)
    above = shifts + draw.normal(1.2, 1, 80)
    members = [group for group in range(80) for _ in range(1 + group % 2)]
    below = shifts[members] + draw.normal(0, 1, len(members))
    _, interval = stats.auc(above.tolist(), below.tolist(), [f"{group}" for group in [*range(80), *members]])
    areas = []
    for _ in range(400):
        drawn = draw.integers(0, 80, 80)
        ours, theirs = above[drawn], np.concatenate([below[np.asarray(members) == group] for group in drawn])
        areas.append(float((ours[:, None] > theirs[None, :]).mean()))
    assert interval is not None
    assert interval == pytest.approx(tuple(np.quantile(areas, [0.025, 0.975])), abs=0.02)


@pytest.mark.parametrize(
    ("positive", "negative"), [([0.5, 0.5], [0.5, 0.5]), ([0.9, 0.8], [0.1, 0.2]), ([0.9], [0.1, 0.95]), ([0.1, 0.2], [0.9, 0.8])]
)
def test_an_area_without_a_spread_has_no_interval(positive: list[float], negative: list[float]) -> None:
    assert stats.auc(positive, negative)[1] is None
