"""A site's patients as lines: who is known, who withdrew, which ids are one person.

Neither a patient's id nor a file's bytes are kept: only their HMAC-SHA256 under a key of this site,
which no one outside can invert or compare with another site's.
"""

from __future__ import annotations

from client.patients.key import PatientKey, load_or_make_patient_key
from client.patients.lines import Patients, open_patients
from client.patients.register import Decision, Register, Stay
from client.patients.sharing import Shared, shared_by, sharing_with

__all__ = [
    "Decision",
    "PatientKey",
    "Patients",
    "Register",
    "Shared",
    "Stay",
    "load_or_make_patient_key",
    "open_patients",
    "shared_by",
    "sharing_with",
]
