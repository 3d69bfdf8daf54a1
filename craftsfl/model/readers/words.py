"""What the kit tells whoever runs the study: what it can show, ethics, what to do."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator, Sequence
from typing import Final

from model.lab.readers.items import ReadingItem, ReadingTask
from model.lab.readers.power import detectable, needed_to_bound

BOUNDS: Final = (0.6, 0.55)
_README: Final = """\
# A readers' study

Study `{study}` (SHA-256 of key.json).

1. Give each reader their own page, on a computer of the site: **the pages show patients'
   tiles**. Not two readers one page: each has its own order.
2. Readers work alone, with the same kind of screen, and send back `reader-NN-answers.json`.
3. `craftsfl model reader-study score key.json reader-*-answers.json`

**Nobody who judges may see key.json**, nor the folders that the pictures came from. Its SHA-256
above is on every page: write it down where others see it, before the first answer, and nobody
can change the key later.

## What it can show

{power}

Judgements of several readers of one picture are not independent; over all readers, take the
figures as the best case. A test that finds no difference shows nothing: look at the intervals.

Resolution: all pictures have the side of the smallest, scaled alike. If the real ones were
larger, or were JPEG, readers may tell them by sharpness or blocks rather than by what they show:
use tiles of the size that the model draws.

## Ethics

- Tiles of patients are shown to people: ask your ethics board, or the rules that you have for
  secondary use, whether that is covered. Show them only to people who may see such tiles anyway,
  and delete pages and key when the study is over.
- Readers are subjects of research too: they are told what it is for, take part freely, may stop,
  and are named nowhere. How long each answer took is recorded; the first page says so.
- Nothing here is a diagnosis. Do not use pictures of this study for teaching: some of them show
  no patient at all.
- Say beforehand what will count as success, and report every reader, also those who stopped.
"""
_QUESTIONS: Final = {
    ReadingTask.ORIGIN: "real or synthetic",
    ReadingTask.CAPTION: "which of four captions",
    ReadingTask.PAIR: "before or after training",
    ReadingTask.QUALITY: "quality 1 to 5",
}


def study_readme(study: str, items: Sequence[ReadingItem], readers: int) -> str:
    """The README.md of the kit (Markdown)."""
    return _README.format(study=study, power="\n".join(power_words(items, readers)))


def power_words(items: Sequence[ReadingItem], readers: int) -> Iterator[str]:
    """How many questions there are, and what that many judgements tell."""
    counts = Counter(item.task for item in items)
    told = ", ".join(f"{counts[task]} {_QUESTIONS[task]}" for task in ReadingTask if counts[task])
    yield f"- {sum(counts.values())} questions for each of {readers} readers: {told}."
    for task, chance in ((ReadingTask.ORIGIN, 0.5), (ReadingTask.CAPTION, 0.25)):
        if counts[task]:
            yield _detected(task, counts[task], readers, chance)
    for most in BOUNDS:
        count = needed_to_bound(most)
        have = counts[ReadingTask.ORIGIN] * readers
        yield (
            f"- To show that readers who guess are right in less than {most:.0%} takes {count} "
            f"judgements of real or synthetic (power 80 %). This study has {have}: "
            f"{'enough' if have >= count else 'too few'}."
        )


def _detected(task: ReadingTask, count: int, readers: int, chance: float) -> str:
    one, all = detectable(count, chance), detectable(count * readers, chance)
    words = [f"{value:.1%}" if value is not None else "nothing" for value in (one, all)]
    return (
        f"- {_QUESTIONS[task].capitalize()}: by chance {chance:.0%}. One reader's {count} "
        f"judgements tell an accuracy of {words[0]} from that (exact test, 5 %, power 80 %), "
        f"all readers' {count * readers} one of {words[1]}."
    )
