"""A system call filter that names what is allowed, for a process that may turn hostile.

A classic BPF program (seccomp(2)). What it does not name fails with EPERM, or with ENOSYS if the
call is so new that libraries try it first and fall back. Conditions look at numbers among the
arguments; what a pointer points to, no filter can see.
"""

# Why: docs/adr/0032-one-users-airlock.md

from __future__ import annotations

import errno
import platform
import struct
import sys
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from client.confinement.kernel import MACHINES, X32_CALLS, install_filter

FilterStep = tuple[int, int, int, int]  # code, steps to skip if true, if false, operand

_LOAD, _AND, _RETURN = 0x20, 0x54, 0x06
_JUMP_EQUAL, _JUMP_AT_LEAST = 0x15, 0x35
_ALLOW, _ERRNO = 0x7FFF0000, 0x00050000
_NUMBER_AT, _ARCHITECTURE_AT, _ARGUMENTS_AT = 0, 4, 16  # in struct seccomp_data
_NEW_CALLS = 424  # from pidfd_send_signal on, numbers are the same on every kind of machine
_KILL = 0x80000000  # the whole process: a call of another architecture is no accident


@dataclass(frozen=True, slots=True)
class Argument:
    """A condition: argument number `index`, masked, is one of `values` (its lower 32 bits).

    `pointer`: it is 64 bits wide and has to be null.
    """

    index: int
    values: tuple[int, ...] = (0,)
    mask: int = 0xFFFFFFFF
    pointer: bool = False

    def steps(self) -> list[FilterStep]:
        """Go on behind the last step if it holds, else return EPERM."""
        low = _ARGUMENTS_AT + 8 * self.index  # little-endian, as all machines in MACHINES
        if self.pointer:
            return [*_is_zero(low), *_is_zero(low + 4)]
        count = len(self.values)
        tests = [
            (_JUMP_EQUAL, count - place, 0, value & 0xFFFFFFFF)
            for place, value in enumerate(self.values)
        ]
        return [(_LOAD, 0, 0, low), (_AND, 0, 0, self.mask), *tests, _refuse()]


CallRules = Mapping[str, Sequence[Argument]]


def allow_only(rules: CallRules, numbers: Mapping[str, tuple[int | None, int | None]]) -> None:
    """From now on only the calls in `rules`, each under its conditions; in all threads.

    `numbers`: of each call, on x86-64 and on aarch64. Requires `forbid_new_privileges` first;
    raises `OSError` where there is no such filter.
    """
    if sys.platform != "linux" or platform.machine() not in MACHINES:
        raise OSError(errno.ENOSYS, "no system call filter for this machine")
    column = list(MACHINES).index(platform.machine())
    here = {
        number: rules[name]
        for name in rules
        if (number := numbers[name][column]) is not None  # this machine has that call
    }
    architecture = MACHINES[platform.machine()].architecture
    install_filter([struct.pack("=HBBI", *step) for step in _program(here, architecture)])


def _program(rules: Mapping[int, Sequence[Argument]], architecture: int) -> list[FilterStep]:
    steps: list[FilterStep] = [
        (_LOAD, 0, 0, _ARCHITECTURE_AT),
        (_JUMP_EQUAL, 1, 0, architecture),
        (_RETURN, 0, 0, _KILL),
        (_LOAD, 0, 0, _NUMBER_AT),
        (_JUMP_AT_LEAST, 0, 1, X32_CALLS),
        (_RETURN, 0, 0, _KILL),
    ]
    for number, conditions in rules.items():
        block = [step for condition in conditions for step in condition.steps()]
        block.append((_RETURN, 0, 0, _ALLOW))
        steps += [(_JUMP_EQUAL, 0, len(block), number), *block]
    return [
        *steps,
        (_JUMP_AT_LEAST, 0, 1, _NEW_CALLS),
        (_RETURN, 0, 0, _ERRNO | errno.ENOSYS),
        _refuse(),
    ]


def _is_zero(offset: int) -> list[FilterStep]:
    return [(_LOAD, 0, 0, offset), (_JUMP_EQUAL, 1, 0, 0), _refuse()]


def _refuse() -> FilterStep:
    return (_RETURN, 0, 0, _ERRNO | errno.EPERM)
