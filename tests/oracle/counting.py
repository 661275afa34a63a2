"""Slow, obvious twins of the counting recommenders: dictionaries of sets, one pair of items and one user at a time."""

from __future__ import annotations

from decimal import Decimal, getcontext
from fractions import Fraction

getcontext().prec = 80


def baskets(histories):
    """slot -> set of columns, of the users who had anything."""
    found = {slot: set(histories.row(slot)[0].tolist()) for slot in range(len(histories))}
    return {slot: items for slot, items in found.items() if items}


def takers(users, items):
    """column -> set of slots."""
    return {item: {slot for slot, basket in users.items() if item in basket} for item in range(items)}


def top(values, size):
    """[(column, value)], largest value first, then smallest column."""
    return sorted(values.items(), key=lambda pair: (-pair[1], pair[0]))[:size]


def knn_lists(users, items, *, similarity, neighbours, shrink):
    """Every item's list, with similarities that are exact enough to tell equal ones from others."""
    who, lists = takers(users, items), {}
    for i in range(items):
        values = {}
        for j in range(items):
            both = len(who[i] & who[j])
            if i == j or not both:
                continue
            if similarity == "jaccard":
                values[j] = Decimal(both) / Decimal(len(who[i] | who[j]) + shrink)
            elif shrink:
                values[j] = Decimal(both) / (Decimal(len(who[i]) * len(who[j])).sqrt() + shrink)
            else:
                values[j] = (Decimal(both**2) / Decimal(len(who[i]) * len(who[j]))).sqrt()
        lists[i] = top(values, neighbours)
    return lists


def pair_lists(users, items, *, normalisation, length, support):
    """Every item's list of what its users also took."""
    who, lists = takers(users, items), {}
    for i in range(items):
        values = {}
        for j in range(items):
            both = len(who[i] & who[j])
            if i == j or both < support:
                continue
            share = Fraction(both, len(who[i]))
            values[j] = share if normalisation == "conditional" else share / Fraction(len(who[j]), len(users))
        lists[i] = top(values, length)
    return lists


def added_up(lists, basket, items):
    """Scores of a history: the lists of its items, added up."""
    scores = [0.0] * items
    for i in sorted(basket):
        for j, value in lists[i]:
            scores[j] += float(value)
    return scores


def walked(users, items, basket, *, alpha, beta):
    """Three steps from a history: to one of its items, to one of that item's users, to one of that user's items."""
    who = takers(users, items)
    scores = [0.0] * items
    for i in basket:
        for user in who[i]:
            for j in users[user]:
                step = (len(basket) * len(who[i]) * len(users[user])) ** -alpha
                scores[j] += step / len(who[j]) ** beta
    return scores


def popular(histories, *, half_life=None, now=None):
    """How many had it, or what is left of each event after 2^(-age / half-life)."""
    scores = [0.0] * len(histories.items)
    for event in range(histories.events):
        faded = 1.0 if half_life is None else 2.0 ** (-(now - int(histories.times[event])) / half_life)
        scores[int(histories.indices[event])] += faded
    return scores


def share(degree, alpha):
    """floor(2^40 / degree^alpha) with 80 digits."""
    return int(Decimal(2**40) * Decimal(degree) ** (-Decimal(alpha.numerator) / Decimal(alpha.denominator)))


def weight(age, half_life):
    """2^31 2^(-age / half_life) with 80 digits."""
    return Decimal(2) ** (31 - Decimal(age) / Decimal(half_life))
