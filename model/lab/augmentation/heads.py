"""A linear head on frozen features: what a hospital trains on top of an encoder that it has."""

from __future__ import annotations

import warnings
from dataclasses import dataclass, field

import numpy as np
from sklearn.linear_model import LogisticRegression

from model.arrays import Doubles, Features, Groups
from model.lab.augmentation.lessons import Lessons

_STRENGTH = 1.0  # C of scikit-learn; fixed, because choosing it would take labels
_MOST_STEPS = 2000


@dataclass(frozen=True)
class LinearHead:
    """Standardised features @ weights + bias.

    centre, scale float64 [E]; weights float64 [E, k]; bias float64 [k]; classes int64 [k]: those
    that it was shown.
    """

    centre: Doubles = field(repr=False)
    scale: Doubles = field(repr=False)
    weights: Doubles = field(repr=False)
    bias: Doubles = field(repr=False)
    classes: Groups = field(repr=False)

    def predicted(self, features: Features | Doubles) -> Groups:
        """The likeliest class of each row, int64 [n]."""
        logits = (features - self.centre) / self.scale @ self.weights + self.bias
        return np.asarray(self.classes[logits.argmax(axis=1)], np.int64)


def fit_head(lessons: Lessons) -> LinearHead:
    """Multinomial logistic regression, by the lessons' weights; needs two classes or more."""
    shown, weights = lessons.all, lessons.weights()
    features = np.asarray(shown.inputs, np.float64)
    centre = np.average(features, axis=0, weights=weights)
    scale = np.sqrt(np.average((features - centre) ** 2, axis=0, weights=weights)) + 1e-6
    model = LogisticRegression(C=_STRENGTH, max_iter=_MOST_STEPS)
    with (
        warnings.catch_warnings()
    ):  # it warns of few pictures for many classes, as is the case here
        warnings.simplefilter("ignore", UserWarning)
        model.fit((features - centre) / scale, shown.classes, sample_weight=weights)
    found, bias = np.asarray(model.coef_).T, np.asarray(model.intercept_)
    if len(model.classes_) == 2:  # scikit-learn then keeps one row, for the second class
        found, bias = np.column_stack([-found, found]) / 2, np.array([-bias[0], bias[0]]) / 2
    return LinearHead(centre, scale, found, bias, np.asarray(model.classes_, np.int64))
