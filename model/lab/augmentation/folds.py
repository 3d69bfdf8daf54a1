"""Who is tested on whom: folds, and shares of labelled patients, that never split a patient."""

from __future__ import annotations

from collections.abc import Iterator

import numpy as np
from numpy.typing import NDArray
from sklearn.model_selection import StratifiedGroupKFold

from model.arrays import Groups
from privacy.errors import DataError


def patient_folds(
    classes: Groups, patients: Groups, folds: int, seed: int
) -> Iterator[tuple[Groups, Groups]]:
    """(rows to train on, rows to test on) of each fold: nobody is in both.

    Raises `DataError` where a class has fewer patients than there are folds, or where patients of
    several classes leave a fold without anybody of a class to train on: any picture of it would
    win there.
    """
    for label in np.unique(classes):
        own = len(np.unique(patients[classes == label]))
        if own < folds:
            raise DataError(
                f"A class has {own} patients, for {folds} folds.",
                "Ask for fewer folds, or leave that class out.",
            )
    splitter = StratifiedGroupKFold(folds, shuffle=True, random_state=seed)
    for train, test in splitter.split(classes, classes, patients):
        if len(np.unique(classes[train])) < len(np.unique(classes)):
            raise DataError(
                f"With {folds} folds there is one that has nobody of some class to train on.",
                "Ask for other folds (--folds, --seed), or correct patients who stand in several "
                "classes.",
            )
        yield np.asarray(train, np.int64), np.asarray(test, np.int64)


def shared_out(
    classes: Groups, patients: Groups, share: float, rng: np.random.Generator
) -> NDArray[np.bool_]:
    """Which rows are labelled, if a `share` of each class's patients is: one of each at least.

    A patient has the class of the first row, and where that leaves a class without anybody, one who
    has it is added; a smaller share's patients are among a larger one's for the same generator
    state.
    """
    names, first = np.unique(patients, return_index=True)
    of_patient = classes[first]
    chosen: list[int] = []
    for label in np.unique(of_patient):
        own = rng.permutation(names[of_patient == label])
        chosen += own[: max(1, round(share * len(own)))].tolist()
    for label in np.unique(classes):
        own = names[np.isin(names, patients[classes == label])]
        if not np.isin(own, chosen).any():
            chosen.append(int(own[0]))
    return np.isin(patients, chosen)
