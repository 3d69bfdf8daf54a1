"""What the answers show: accuracies, qualities and preferences with intervals, and agreement.

A reader's own accuracy has an exact interval. Figures over all readers have one by the bootstrap of
readers and items at once (Owen 2007, "pigeonhole"): it asks what other readers would say of other
pictures. With two or three readers it is wide, and rough.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Final

import numpy as np
import numpy.typing as npt

from model.lab.readers.agreement import Answers, fleiss_kappa, weighted_kappa
from model.lab.readers.items import REAL, SYNTHETIC, ReadingItem, ReadingTask
from model.lab.readers.power import share_interval

_RESAMPLES: Final = 2000
_KEY: Final = 0x52454144
Given = Mapping[str, str]  # item's id -> answer, of one reader
_Doubles = npt.NDArray[np.float64]


@dataclass(frozen=True, slots=True)
class ReadersFigure:
    """`value` with its 95 % interval, of `reader` ("all" together), from `count` judgements.

    None where it is not defined.
    """

    task: str
    figure: str
    reader: str
    value: float | None
    low: float | None
    high: float | None
    count: int


def score_readers(
    items: Sequence[ReadingItem], answers: Mapping[str, Given]
) -> list[ReadersFigure]:
    """All figures; `answers` by reader, who may have left some questions out."""
    figures = []
    for task in ReadingTask:
        own = [item for item in items if item.task is task]
        if not own:
            continue
        table = _table(own, answers)
        if task in (ReadingTask.ORIGIN, ReadingTask.CAPTION):
            figures += _accuracies(task, own, table, answers)
        if task is ReadingTask.QUALITY:
            figures += _qualities(own, table)
        if task is ReadingTask.PAIR:
            figures += _preferences(own, table)
        figures.append(_agreement(task, table))
    return figures


def _table(items: Sequence[ReadingItem], answers: Mapping[str, Given]) -> _Doubles:
    """[items, readers]: the answer's place among the possible ones, NaN where it is missing."""
    places = {text: float(n) for n, text in enumerate(items[0].task.answers)}
    rows = [[places.get(given.get(i.id, ""), np.nan) for given in answers.values()] for i in items]
    return np.asarray(rows, dtype=np.float64).reshape(len(items), len(answers))


def _accuracies(
    task: ReadingTask, items: Sequence[ReadingItem], table: _Doubles, answers: Mapping[str, Given]
) -> list[ReadersFigure]:
    truth = np.array([task.answers.index(item.truth) for item in items], dtype=np.float64)
    right = np.where(np.isnan(table), np.nan, table == truth[:, None])
    found = []
    for column, reader in enumerate(answers):
        own = right[:, column][~np.isnan(right[:, column])]
        low, high = share_interval(int(own.sum()), len(own))
        value = float(own.mean()) if len(own) else None
        found.append(ReadersFigure(task, "accuracy", reader, value, low, high, len(own)))
    found.append(_over_all(task, "accuracy", right))
    if task is ReadingTask.CAPTION:
        for origin in (REAL, SYNTHETIC):
            found.append(_over_all(task, f"accuracy, {origin}", right[_of(items, origin)]))
        found.append(_difference(task, "synthetic - real", right, items))
    if task is ReadingTask.ORIGIN:
        called = np.where(np.isnan(table), np.nan, table == task.answers.index(REAL))
        synthetic = called[_of(items, SYNTHETIC)]
        found.append(_over_all(task, "synthetic ones taken for real", synthetic))
    return found


def _qualities(items: Sequence[ReadingItem], table: _Doubles) -> list[ReadersFigure]:
    points = table + 1
    found = [
        _over_all(ReadingTask.QUALITY, f"points, {origin}", points[_of(items, origin)])
        for origin in (REAL, SYNTHETIC)
    ]
    return [*found, _difference(ReadingTask.QUALITY, "synthetic - real", points, items)]


def _preferences(items: Sequence[ReadingItem], table: _Doubles) -> list[ReadersFigure]:
    """1 for the picture from after training, 0 for the one from before, 1/2 for neither."""
    after = np.array([float(item.truth) for item in items])
    likes = np.where(table == 2, 0.5, (table == after[:, None]).astype(np.float64))
    likes[np.isnan(table)] = np.nan
    return [_over_all(ReadingTask.PAIR, "preferred the one from after training", likes)]


def _agreement(task: ReadingTask, table: _Doubles) -> ReadersFigure:
    """Kappa over the items that all readers have answered; its interval over items."""
    whole = table[~np.isnan(table).any(axis=1)].astype(np.int64)
    measure: Callable[[Answers, int], float | None]
    measure = weighted_kappa if task is ReadingTask.QUALITY else fleiss_kappa
    many = len(task.answers)
    name = "kappa, quadratic weights" if task is ReadingTask.QUALITY else "kappa (Fleiss)"
    value = measure(whole, many) if len(whole) and whole.shape[1] > 1 else None
    if value is None:
        return ReadersFigure(task, name, "all", None, None, None, whole.size)
    rng = np.random.default_rng([_KEY, len(whole)])
    draws = (measure(whole[rng.integers(len(whole), size=len(whole))], many) for _ in range(500))
    known = [draw for draw in draws if draw is not None]
    low, high = np.percentile(known, (2.5, 97.5)) if known else (np.nan, np.nan)
    return ReadersFigure(task, name, "all", value, float(low), float(high), whole.size)


def _of(items: Sequence[ReadingItem], origin: str) -> npt.NDArray[np.bool_]:
    return np.array([item.origin == origin for item in items], dtype=np.bool_)


def _over_all(task: ReadingTask, name: str, values: _Doubles) -> ReadersFigure:
    """The mean over readers and items, with its interval."""
    count = int((~np.isnan(values)).sum())
    if not count:
        return ReadersFigure(task, name, "all", None, None, None, 0)
    low, high = _interval(_means(values))
    return ReadersFigure(task, name, "all", float(np.nanmean(values)), low, high, count)


def _difference(
    task: ReadingTask, name: str, values: _Doubles, items: Sequence[ReadingItem]
) -> ReadersFigure:
    parts = [values[_of(items, origin)] for origin in (SYNTHETIC, REAL)]
    counts = [int((~np.isnan(part)).sum()) for part in parts]
    if not all(counts):
        return ReadersFigure(task, name, "all", None, None, None, sum(counts))
    # The same readers in both: their weights have to be the same.
    readers = _weights(values.shape[1], key=1)
    low, high = _interval(_means(parts[0], readers, 2) - _means(parts[1], readers, 3))
    value = float(np.nanmean(parts[0]) - np.nanmean(parts[1]))
    return ReadersFigure(task, name, "all", value, low, high, sum(counts))


def _means(values: _Doubles, readers: _Doubles | None = None, key: int = 0) -> _Doubles:
    """[_RESAMPLES] means under multiplicities of items and readers; NaN where none is left."""
    here = ~np.isnan(values)
    items = _weights(values.shape[0], key=10 + key)
    people = _weights(values.shape[1], key=1) if readers is None else readers
    total = np.einsum("ri,ij,rj->r", items, np.where(here, values, 0.0), people, optimize=True)
    weight = np.einsum("ri,ij,rj->r", items, here.astype(np.float64), people, optimize=True)
    means: _Doubles = np.full(_RESAMPLES, np.nan)
    np.divide(total, weight, out=means, where=weight > 0)
    return means


def _weights(count: int, *, key: int) -> _Doubles:
    """How often each of `count` is in each bootstrap sample: [_RESAMPLES, count]."""
    rng = np.random.default_rng([_KEY, count, key])
    return rng.multinomial(count, np.full(count, 1 / count), size=_RESAMPLES).astype(np.float64)


def _interval(draws: _Doubles) -> tuple[float, float]:
    low, high = np.nanpercentile(draws, (2.5, 97.5))
    return float(low), float(high)
