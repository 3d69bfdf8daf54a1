"""System call filters: one that names what is allowed, and one that refuses kinds of sockets.

The first is for a process that may turn hostile: what it does not name fails with EPERM, or with
ENOSYS if the call is so new that libraries try it first and fall back. Conditions look at numbers
among the arguments; what a pointer points to, no filter can see. Both are classic BPF programs
(seccomp(2)), written out here to avoid depending on libseccomp, which is a library of the system,
not a Python package.
"""

# Why: docs/adr/0032-one-users-airlock.md

from __future__ import annotations

import errno
import struct
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from client.confinement.kernel import MACHINES, install_filter, this_machine

FilterStep = tuple[int, int, int, int]  # code, steps to skip if true, if false, operand

_LOAD, _AND, _RETURN = 0x20, 0x54, 0x06
_JUMP_EQUAL, _JUMP_AT_LEAST = 0x15, 0x35
_ALLOW, _ERRNO = 0x7FFF0000, 0x00050000
_NUMBER_AT, _ARCHITECTURE_AT, _ARGUMENTS_AT = 0, 4, 16  # in struct seccomp_data
_NEW_CALLS = 424  # from pidfd_send_signal on, numbers are the same on every kind of machine
_X32_CALLS = 0x40000000  # in a call number: the third ABI of x86-64
_IO_URING_SETUP = 425  # creates sockets without calling socket(2)
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
    machine = this_machine()
    column = list(MACHINES.values()).index(machine)
    here = {
        number: rules[name]
        for name in rules
        if (number := numbers[name][column]) is not None  # this machine has that call
    }
    _install(_program(here, machine.architecture))


def allow_socket_families(families: Sequence[int]) -> None:
    """Refuse sockets of any other family, and io_uring: in all threads and permanently.

    A refused socket fails with EAFNOSUPPORT. Requires `forbid_new_privileges` first.
    """
    machine = this_machine()
    _install(_families_program(machine.architecture, machine.socket_call, families))


def _install(steps: Sequence[FilterStep]) -> None:
    install_filter([struct.pack("=HBBI", *step) for step in steps])


def _program(rules: Mapping[int, Sequence[Argument]], architecture: int) -> list[FilterStep]:
    steps: list[FilterStep] = [
        (_LOAD, 0, 0, _ARCHITECTURE_AT),
        (_JUMP_EQUAL, 1, 0, architecture),
        (_RETURN, 0, 0, _KILL),
        (_LOAD, 0, 0, _NUMBER_AT),
        (_JUMP_AT_LEAST, 0, 1, _X32_CALLS),
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


def _families_program(
    architecture: int, socket_call: int, families: Sequence[int]
) -> list[FilterStep]:
    first = 7  # the step at which the families begin
    other = first + len(families)  # the three returns: another family, allowed, unknown call
    allow, unknown = other + 1, other + 2
    return [
        (_LOAD, 0, 0, _ARCHITECTURE_AT),
        (_JUMP_EQUAL, 0, unknown - 2, architecture),
        (_LOAD, 0, 0, _NUMBER_AT),
        (_JUMP_AT_LEAST, unknown - 4, 0, _X32_CALLS),
        (_JUMP_EQUAL, unknown - 5, 0, _IO_URING_SETUP),
        (_JUMP_EQUAL, 0, allow - 6, socket_call),
        (_LOAD, 0, 0, _ARGUMENTS_AT),
        *((_JUMP_EQUAL, allow - place - 1, 0, f) for place, f in enumerate(families, first)),
        (_RETURN, 0, 0, _ERRNO | errno.EAFNOSUPPORT),
        (_RETURN, 0, 0, _ALLOW),
        (_RETURN, 0, 0, _ERRNO | errno.ENOSYS),
    ]


def _is_zero(offset: int) -> list[FilterStep]:
    return [(_LOAD, 0, 0, offset), (_JUMP_EQUAL, 1, 0, 0), _refuse()]


def _refuse() -> FilterStep:
    return (_RETURN, 0, 0, _ERRNO | errno.EPERM)
