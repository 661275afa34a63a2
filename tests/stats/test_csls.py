"""Nearest styles by CSLS against loops, and what it is for: embeddings that are near to everything."""

import numpy as np
import pytest

from expunge.core.errors import CheckBroken
from expunge.stats.csls import corpus_of, gaps, own_scores, style_scores, units_of


def corpus(seed=0, each=8, styles=3, width=6, k=3):
    draw = np.random.default_rng(seed)
    style = np.repeat(np.arange(styles), each)
    values = draw.standard_normal((styles, width))[style] + 0.5 * draw.standard_normal((len(style), width))
    return values, style, corpus_of(values, style, k)


def twin(x, values, style, k, without=None):
    """One picture, one reference at a time."""

    def cosine(a, b):
        return float(a @ b / np.linalg.norm(a) / np.linalg.norm(b))

    def top(items):
        return sum(sorted(items)[-k:]) / k

    places = [n for n in range(len(values)) if n != without]
    near_x = top([cosine(x, values[n]) for n in places])
    near = {m: top([cosine(values[m], values[n]) for n in range(len(values)) if n != m]) for m in places}
    scores = {m: 2 * cosine(x, values[m]) - near_x - near[m] for m in places}
    return [top([scores[m] for m in places if style[m] == number]) for number in range(style.max() + 1)]


def test_scores_equal_loops_for_pictures_and_for_references_left_out():
    values, style, found = corpus()
    queries = np.random.default_rng(9).standard_normal((5, 6))
    expected = [twin(x, values, style, 3) for x in queries]
    np.testing.assert_allclose(style_scores(found, queries), expected, atol=1e-12)
    inside = [twin(values[n], values, style, 3, without=n) for n in range(len(values))]
    np.testing.assert_allclose(own_scores(found), inside, atol=1e-12)
    margins = [row[style[n]] - max(v for s, v in enumerate(row) if s != style[n]) for n, row in enumerate(inside)]
    np.testing.assert_allclose(gaps(found), margins, atol=1e-12)


def test_a_candidate_does_not_move_another():
    _, _, found = corpus()
    queries = np.random.default_rng(9).standard_normal((50, 6))
    np.testing.assert_allclose(style_scores(found, queries[:1]), style_scores(found, queries)[:1], atol=1e-12)


def test_hubs_do_not_swallow_the_others():
    """A dense style that is near to everything wins by cosine; CSLS gives the loose style its own picture back."""
    draw = np.random.default_rng(1)
    hub = np.array([1.0, 0, 0, 0]) + 0.02 * draw.standard_normal((20, 4))
    loose = np.array([0.75, 0.66, 0, 0]) + 0.45 * draw.standard_normal((20, 4))
    found = corpus_of(np.concatenate([hub, loose]), np.repeat([0, 1], 20), 5)
    queries = np.array([0.75, 0.66, 0, 0]) + 0.45 * draw.standard_normal((200, 4))
    cosine = units_of(queries) @ found.units.T
    nearest = np.stack([np.sort(cosine[:, found.style == s])[:, -5:].mean(axis=1) for s in (0, 1)], axis=1)
    right = (style_scores(found, queries).argmax(axis=1) == 1).mean()
    assert right > (nearest.argmax(axis=1) == 1).mean()


def test_without_any_difference_there_is_no_gap():
    values = np.random.default_rng(2).standard_normal((40, 6))
    assert abs(gaps(corpus_of(values, np.arange(40) % 2, 5)).mean()) < 0.1


@pytest.mark.parametrize(
    ("values", "style", "k"),
    [
        (np.ones((6, 2)), [0, 0, 0, 0, 0, 0], 2),
        (np.ones((6, 2)), [0, 0, 0, 1, 1, 1], 3),
        (np.ones((6, 2)), [0, 0, 0, 1, 1, 1], 0),
        (np.ones((6, 2)), [0, 0, 0, 1, 1], 1),
        (np.ones((6, 2)), [-1, 0, 0, 1, 1, 1], 1),
        (np.zeros((6, 2)), [0, 0, 0, 1, 1, 1], 2),
        (np.full((6, 2), np.nan), [0, 0, 0, 1, 1, 1], 2),
    ],
)
def test_other_corpora_are_refused(values, style, k):
    with pytest.raises(CheckBroken):
        corpus_of(values, style, k)
