"""The answers to one attempt, added up as they come."""

from __future__ import annotations

from itertools import combinations

import numpy as np

from privacy.identity import verify
from privacy.secagg.advertising import public_key
from privacy.secagg.refusals import Aborted, Refused
from privacy.secagg.roster import Roster
from privacy.secagg.sealed.attempt import (
    NO_NONCE,
    commitment_of,
    ready_entry,
    ready_signed,
    sealed_signed,
)
from privacy.secagg.sealed.label import SealedStudy
from privacy.secagg.sealed.residues import no_residues, packed_residues, reduced, residues_in
from privacy.wire.bodies import Running
from privacy.wire.checks import Check
from privacy.wire.sealed import (
    PROOF_LANES,
    OpenedSum,
    Sealed,
    SealedCollect,
    SealedReady,
    SealedStep,
    StepForm,
)
from privacy.wire.secagg import Lanes


class StepCollector:
    """Who of K has taken up the attempt, committed and sent. The numbers are summed up at once."""

    def __init__(self, step: SealedStep, session: int, study: SealedStudy, roster: Roster) -> None:
        self._step = step
        self._session = session
        self._study = study
        self._roster = roster
        self._sum = no_residues(study.lanes, study.bits)
        self._proof: Lanes = np.zeros(PROOF_LANES, np.uint64)
        self._acknowledged: set[int] = set()
        self._ready: dict[int, SealedReady] = {}
        self._checks: dict[int, tuple[bytes, ...]] = {}
        self._signatures: dict[int, bytes] = {}
        self._gone: set[int] = set()

    @property
    def acknowledged(self) -> frozenset[int]:
        """The members of K that have answered anything but a refusal."""
        return frozenset(self._acknowledged)

    @property
    def is_committed(self) -> bool:
        """Whether all of K have committed to a vector, in the form READY."""
        cohort = self._step.cohort
        return self._step.form is StepForm.READY and set(self._ready) == set(cohort)

    @property
    def commitments(self) -> tuple[tuple[int, bytes], ...]:
        """(site, commitment and signature) for all of K; nothing before all have committed."""
        if not self.is_committed:
            return ()
        return tuple((site, ready_entry(self._ready[site])) for site in self._step.cohort)

    @property
    def is_complete(self) -> bool:
        """Whether all of K have sent their vectors."""
        return set(self._signatures) == set(self._step.cohort)

    @property
    def waiting(self) -> frozenset[int]:
        """Who of K has not answered; nobody once one is gone, because then there is no sum."""
        if self._gone:
            return frozenset()
        committing = self._step.form is StepForm.READY and not self.is_committed
        return frozenset(self._step.cohort) - set(self._ready if committing else self._signatures)

    def drop(self, site: int) -> None:
        """A member of K is gone. One that has sent its vector is in the sum all the same."""
        if site in self._step.cohort and site not in self._signatures:
            self._gone.add(site)

    def collect(self) -> SealedCollect:
        """Everybody's commitments, once they are there."""
        return SealedCollect(self._step.label, self.commitments)

    def receive(self, site: int, body: Running | Sealed | SealedReady) -> None:
        """Take one answer; `Refused`, and no change, if it is not of this attempt."""
        if site not in self._step.cohort or site in self._gone:
            raise Refused(Check.SENDER, site)
        if isinstance(body, SealedReady):
            self._take_ready(site, body)
        elif isinstance(body, Sealed):
            self._take_sealed(site, body)
        self._acknowledged.add(site)

    def result(self) -> OpenedSum:
        """The sum of all of K; `Aborted` where one is gone or the masks do not cancel."""
        step = self._step
        if not self.is_complete:
            missing = self._gone or set(step.cohort) - set(self._signatures)
            raise Aborted("the vectors", Check.TOO_FEW, missing)
        if self._proof[0] != 0 or self.disagreeing():
            names = {site for pair in self.disagreeing() for site in pair}
            raise Aborted("the sum", Check.LABEL, names)
        bits = self._study.bits
        packed = packed_residues(reduced(self._sum.copy(), bits), bits)
        lanes = np.concatenate((packed, self._proof))
        lanes.flags.writeable = False
        return OpenedSum(self._session, step.step, step.attempt, step.label, step.cohort, lanes)

    def disagreeing(self) -> tuple[tuple[int, int], ...]:
        """The pairs of sites that do not have a mask in common, of those who have sent."""
        cohort = self._step.cohort
        shown = {
            (site, peer): check
            for site, checks in self._checks.items()
            for peer, check in zip((one for one in cohort if one != site), checks, strict=True)
        }
        pairs = combinations(sorted(self._checks), 2)
        return tuple((i, j) for i, j in pairs if shown[i, j] != shown[j, i])

    def _take_ready(self, site: int, ready: SealedReady) -> None:
        if self._step.form is not StepForm.READY:
            raise Refused(Check.OUT_OF_ORDER, site)
        if ready.label != self._step.label:
            raise Refused(Check.LABEL, site)
        signed = ready_signed(ready.label, ready.commitment)
        if not verify(public_key(self._roster, site), ready.signature, signed):
            raise Refused(Check.SIGNATURE, site)
        if self._ready.setdefault(site, ready) != ready:
            raise Refused(Check.ANSWERED, site)

    def _take_sealed(self, site: int, sealed: Sealed) -> None:
        if sealed.label != self._step.label:
            raise Refused(Check.LABEL, site)
        if len(sealed.lanes) != self._study.sent:
            raise Refused(Check.INPUT_LENGTH, site)
        if len(sealed.checks) != len(self._step.cohort) - 1:
            raise Refused(Check.SHARE_COUNT, site)
        key = public_key(self._roster, site)
        if not verify(key, sealed.signature, sealed_signed(sealed, key)):
            raise Refused(Check.SIGNATURE, site)
        self._check_commitment(site, sealed)
        if self._signatures.setdefault(site, sealed.signature) != sealed.signature:
            raise Refused(Check.ANSWERED, site)
        if site not in self._checks:
            self._checks[site] = sealed.checks
            # Words wrap around, and what is above b bits is dropped in the end: sums modulo 2^b.
            numbers = residues_in(sealed.lanes[:-PROOF_LANES], self._study.bits)
            np.add(self._sum, numbers, out=self._sum)
            self._proof += sealed.lanes[-PROOF_LANES:]

    def _check_commitment(self, site: int, sealed: Sealed) -> None:
        if self._step.form is StepForm.DIRECT:
            if sealed.nonce != NO_NONCE:
                raise Refused(Check.COMMITMENT, site)
            return
        if not self.is_committed:
            raise Refused(Check.OUT_OF_ORDER, site)
        if commitment_of(sealed.nonce, sealed.lanes) != self._ready[site].commitment:
            raise Refused(Check.COMMITMENT, site)
