"""Who comes first, and that a place is never lost."""

from __future__ import annotations

import asyncio

from craftsfl.processes.flower.turns import Turns


async def goes(turns: Turns, urgency: int, name: str, done: list[str]) -> None:
    async with turns.turn(urgency):
        done.append(name)
        await asyncio.sleep(0)


def test_the_urgent_come_first_and_equals_in_order() -> None:
    async def run() -> list[str]:
        turns, done = Turns(), list[str]()
        order = [(1, "a"), (2, "b"), (1, "c"), (0, "d"), (1, "e")]
        await asyncio.gather(*(goes(turns, *one, done) for one in order))
        return done

    assert asyncio.run(run()) == ["a", "d", "c", "e", "b"]


def test_no_more_than_the_places_go_at_a_time() -> None:
    async def run() -> int:
        turns, inside, most = Turns(2), 0, 0

        async def one() -> None:
            nonlocal inside, most
            async with turns.turn(0):
                inside += 1
                most = max(most, inside)
                await asyncio.sleep(0)
                inside -= 1

        await asyncio.gather(*(one() for _ in range(9)))
        return most

    assert asyncio.run(run()) == 2


def test_whoever_gives_up_takes_no_place_along() -> None:
    """While waiting, and just as the place was handed over."""

    async def run() -> list[str]:
        turns, done = Turns(), list[str]()
        async with turns.turn(0):
            waiting = [asyncio.create_task(goes(turns, 0, name, done)) for name in "abc"]
            await asyncio.sleep(0)
            waiting[0].cancel()
            await asyncio.sleep(0)
        waiting[1].cancel()
        await asyncio.gather(*waiting, return_exceptions=True)
        await goes(turns, 0, "d", done)
        return done

    assert asyncio.run(run()) == ["c", "d"]


def test_an_error_hands_the_place_over() -> None:
    async def run() -> list[str]:
        turns, done = Turns(), list[str]()
        try:
            async with turns.turn(0):
                raise ValueError
        except ValueError:
            await goes(turns, 0, "a", done)
        return done

    assert asyncio.run(run()) == ["a"]
