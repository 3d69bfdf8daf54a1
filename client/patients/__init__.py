"""A site's patients as lines: who is known, who withdrew, which ids are one person.

Neither a patient's id nor a file's bytes are kept: only HMAC-SHA256 of them under a key of this
site, which no one outside can undo or compare with another site's.
"""

from __future__ import annotations

from client.patients.key import PatientKey, load_or_make_key
from client.patients.lines import Patients, open_patients
from client.patients.register import Register, Stay

__all__ = ["PatientKey", "Patients", "Register", "Stay", "load_or_make_key", "open_patients"]
