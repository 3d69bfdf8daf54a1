"""One form for the ways in which tables write a patient's id, and the forms that name nobody.

An id decides the unit of privacy. Patients who are taken for one are still protected, together; a
patient who is taken for two would be protected half. So what may be two spellings of one id becomes
one, and what has lost its digits is refused. All of it depends on the one id alone.
"""

# Why: docs/adr/0054-tables-as-hospitals-write-them.md, docs/adr/0072-exact-or-not-a-mask.md,
# docs/adr/0077-what-a-cell-means.md

from __future__ import annotations

import re
import unicodedata
from typing import Final

from client.data.letters import keyboard_signs, latin_alike

# What exports write for "no value"; as a patient id it would merge unrelated people into one.
NOTHING: Final = frozenset({"", "nan", "none", "null", "na", "n/a", "<na>"})
_WHOLE_NUMBER: Final = re.compile(r"\+?([0-9]++)(?:[.,]0*+)?")
# 1.234, 1,234,567, 1'234 and 1.234,00: thousands as spreadsheets group them (blanks are gone).
_GROUPED: Final = re.compile(
    r"\+?([1-9][0-9]{0,2}([.,'])[0-9]{3}(?:\2[0-9]{3})*+)(?:(?!\2)[.,]0*+)?"
)
# ="00123" and '00123: how spreadsheets keep leading zeros.
_FORMULA: Final = re.compile(r'=?"++([^"]*+)"++')
_QUOTES: Final = "'\"\u2039\u203a"
# A spreadsheet's way; a plain 12e45 is not one: ids of hexadecimal digits look like that.
# The same as Fortran, SAS and people write it.
_POWER: Final = re.compile(r"[+-]?[0-9]+(?:[.,][0-9]*+)?(?:\u00d710\^?|[x*]10\^|d[+-])-?[0-9]+")
_SCIENTIFIC: Final = re.compile(r"[+-]?([0-9])(?:[.,]([0-9]*+)e([+-]?)|()e(\+))([0-9]{1,4})")

_UNKNOWN: Final = frozenset(
    latin_alike(word)
    for word in re.findall(
        r"\S+",
        """nat n.a. n/d n.d. nd #n/a n.v. k.a. k.a unknown unkown unk undefined missing empty
        blank tbd tba todo anonymous anonym unbekannt fehlt fehlend leer keine keineangabe
        nichtbekannt inconnu inconnue manquant vide desconocido sconosciuto onbekend nieznany true
        false wahr falsch vrai faux notavailable notapplicable notknown nopatient nopatientid nn
        n.n. nil void tbc pending anon dummy placeholder patient patientid patient_id anonymized
        anonymised anonymisiert anonyme deidentified de-identified redacted removed withheld
        hidden unassigned unspecified notprovided notrecorded notreported notcollected
        notspecified noid noname ohne dito ditto idem s.o. sieheoben wieoben sameasabove
        entf\u00e4llt s/n sindatos sansobjet multiple various mixed inf -inf +inf -nan infinity
        -infinity \\n n/k n.b. s/d o.a. notstated desconhecido n\u00e9ant ok\u00e4nd ukjent ukendt
        geen brak \u4e0d\u660e \u672a\u77e5
        \u043d\u0435\u0438\u0437\u0432\u0435\u0441\u0442\u043d\u043e test testpatient mustermann
        maxmustermann johndoe janedoe loading... pd.na missingvalue n/v nr n.r. b.d. same
        samepatient identisch gleich several mehrere verschiedene diverse div. alle all plusieurs
        divers varios nodata nodisponible noconsta ninguno ninguna nessuno nessuna aucun
        nonrenseign\u00e9 nonrenseignee nonpr\u00e9cis\u00e9 brakdanych nezn\u00e1m\u00fd
        nezn\u00e1my tuntematon ismeretlen bilinmiyor yok necunoscut anonymous^patient
        anonymous^anonymous doe^john doe^jane test^patient patient^test phantom qc \u540c\u4e0a
        \u4e0d\u8be6 \u4e0d\u8a73 \u65e0 \u7121 \u672a\u77e5\u60a3\u8005 \u306a\u3057 \u533f\u540d
        \u7a7a \uc5c6\uc74c \u043d\u0435\u0442
        \u043d\u0435\u0442\u0434\u0430\u043d\u043d\u044b\u0445 \u043d\u0435\u0438\u0437\u0432.
        \u043d\u0435\u0432\u0456\u0434\u043e\u043c\u043e \u0430\u043d\u043e\u043d\u0438\u043c
        male female m\u00e4nnlich weiblich homme femme yes no ja nein oui non na. na_character_
        system.object dbnull unknownpatient unbekannterpatient patientunknown multiplepatients
        pooled emptystring leerwert \u043f\u0443\u0441\u0442\u043e
        \u03ac\u03b3\u03bd\u03c9\u03c3\u03c4\u03bf""",
    )
)
# #N/A, #NV, #REF!, #NAME? in all languages.
_ERROR: Final = re.compile(
    r"#.*[!?]|#n[a-z]|#[^\W\d_]/[^\W\d_]!?|#getting_data"
    r"|#(?:value|wert|ref|bezug|name|num|zahl|null|div/0|error|yok|puuttuu|hi\u00e1nyzik)"
    r"|#(?:nen\u00ed_k_dispozici|nie_je_k_dispoz\u00edcii)"
    r"|err:[0-9]{3}|-?1\.#(?:inf|ind|q?nan).*"
)
_LONGEST_ERROR: Final = 30  # characters
# How pandas and statisticians' programs number a missing value; hashes are negative, too, and long.
_MISSING: Final = re.compile(r"-(?:7{1,4}|8{1,4}|9{1,4}|9{1,3}[78])(?:[.,]0*+)?")
# One that was glued to something: f"{site}-{patient}" of an empty cell.
_GLUED: Final = re.compile(r"(?:.*[-_./])(?:nan|none|null|undefined)")
_PLACEHOLDER: Final = re.compile(r"x{2,}+|<.*>|\[.*\]|\([^0-9]*\)")

# Months as spreadsheets in English, German, French, Spanish and Italian write them.
_MONTH: Final = (
    r"(?:jan|feb|mar|m\u00e4r|mrz|mrt|apr|may|mai|jun|jul|aug|sep|sept|oct|okt|nov|dec|dez|d\u00e9c|"
    r"janv|f\u00e9vr|avr|juin|juil|ao\u00fbt|ene|abr|ago|dic|gen|mag|giu|lug|set|ott|"
    r"january|february|march|april|june|july|august|september|october|november|december|"
    r"fev|out|mei|maj|des|sty|lut|kwi|cze|lip|sie|wrz|pa\u017a|lis|gru|\u044f\u043d\u0432|"
    r"\u0444\u0435\u0432|\u043c\u0430\u0440|\u0430\u043f\u0440|\u043c\u0430\u0439|\u0438\u044e\u043d|\u0438\u044e\u043b|"
    r"\u0430\u0432\u0433|\u0441\u0435\u043d|\u043e\u043a\u0442|\u043d\u043e\u044f|\u0434\u0435\u043a|"
    r"januar|februar|m\u00e4rz|juni|juli|oktober|dezember|"
    r"janvier|f\u00e9vrier|mars|avril|juillet|septembre|octobre|novembre|d\u00e9cembre|"
    r"enero|febrero|marzo|abril|mayo|junio|julio|agosto|septiembre|octubre|noviembre|diciembre|"
    r"gennaio|febbraio|aprile|maggio|giugno|luglio|settembre|ottobre|dicembre|"
    r"janeiro|fevereiro|mar\u00e7o|maio|junho|julho|setembro|outubro|novembro|dezembro|"
    r"januari|februari|maart|augustus)\.?"
)
_OF: Final = r"(?:del? )?"  # Spanish and Portuguese have it before month and year
_DAY: Final = r"(?:0?[1-9]|[12][0-9]|3[01])"
_MONTHS: Final = r"(?:0?[1-9]|1[0-2])"
_CLOCK: Final = (
    r"(?:,?[t ]*[0-9]{1,2}:[0-9]{2}(?::[0-9]{2}(?:[.,][0-9]+)?)?"
    r" ?(?:z|uhr|[ap]\.?m\.?|[+-][0-9]{2}:?[0-9]{2})?)?"
)
_WEEKDAY: Final = (
    r"(?:(?:mon|tue|wed|thu|fri|sat|sun|mo|di|mi|do|fr|sa|so|lun|mar|mer|mi\u00e9|jeu|jue|gio|ven|"
    r"vie|sam|s\u00e1b|sab|dim|dom)[a-z\u00e9]*\.?,? )?"
)
_DATE: Final = re.compile(
    rf"{_WEEKDAY}(?:(?:19|20)[0-9]{{2}}([-./]){_MONTHS}\1{_DAY}"
    rf"|(?:{_DAY}([-./]){_MONTHS}|{_MONTHS}([-./]){_DAY})(?:\2|\3)(?:19|20)[0-9]{{2}}"
    rf"|{_DAY}([./]){_MONTHS}\4[0-9]{{2}}|{_MONTHS}/{_DAY}/[0-9]{{2}}"
    rf"|{_DAY}[-./ ]+{_OF}{_MONTH}(?:[-./ ]+{_OF}(?:[0-9]{{2}}|[0-9]{{4}}))?"
    rf"|{_DAY}(?:jan|feb|mar|apr|may|jun|jul|aug|sep|oct|nov|dec)(?:19|20)[0-9]{{2}}:?"  # SAS
    rf"|{_DAY}\.{_MONTHS}\."
    # Nought as a date, and no date at all.
    rf"|00\.01\.1900|0?1/00?/1900|1900-01-00|00?-jan(?:-(?:00|1900))?"
    rf"|{_MONTH}[-./ ]+(?:[0-9]{{2}}|[0-9]{{4}})"
    rf"|{_MONTH}[-./ ]+{_DAY}(?:, ?|[-./ ]+)(?:19|20)[0-9]{{2}}"
    r"|(?:(?:19|20)[0-9]{2}\u5e74)?[0-9]{1,2}\u6708[0-9]{1,2}\u65e5?)"
    rf"{_CLOCK}|(?:[0-9]+ days?,? )?[0-9]{{1,2}}:[0-9]{{2}}(?::[0-9]{{2}}(?:\.[0-9]+)?)?"
)

# Two words with digits and what joins a list, also spelt out; the same letters twice; brackets.
_SEVERAL: Final = re.compile(
    r"\S*[0-9]\S*(?:, | ?& ?| (?:\+|and|und|u\.|et|y|e|en|og|och|i|or|oder|bis|\u0438) )\S*[0-9].*"
    r"|([a-z]{1,12}[-_. ]?)[0-9]+(?: | ?- | / | to )\1[0-9]+.*"
    r"|([a-z][a-z0-9]{0,11}[-_. ]?)[0-9]+[,/]\2[0-9]+.*"
    r"|[\[{(].*[0-9].*,.*[0-9].*[\]})]"
)
_NUMBERS: Final = re.compile(r"[0-9]+(?:,[0-9]+){2,}")  # of a key, where thousands are gone

NOBODY: Final = (
    "patient_id stands for no patient (unknown, xxx, -99, Excel's #N/A and the like); give every "
    "tile the id of its patient"
)
SEVERAL_IDS: Final = (
    "patient_id holds several ids; give the tile a row for each of its patients, or leave it out"
)
SHORTENED: Final = (
    "patient_id is a number that a spreadsheet has shortened (as in 1.23E+12): digits are lost, "
    "and several patients may look like one; format the column as text before the ids are pasted "
    "or imported, and export again from the source"
)
FORMULA: Final = (
    "patient_id is a spreadsheet's formula, not its result; paste the ids as values, and export "
    "again"
)
DATED: Final = (
    "patient_id is a date or a time, as spreadsheets make of ids like 3-12; format the column as "
    "text before the ids are pasted or imported, and export again from the source"
)


def patient_key(text: str) -> str:
    """One form for all the ways in which tables write one patient's id.

    `P1`, `p1` and `P 1` are one patient, so are `001`, `1`, `1.0`, `1,0`, `'001` and `="001"`,
    `1.234` and `1234`, digits of any script, quotes and dashes of any kind, and letters that only
    look alike in Unicode's eyes (NFKC).
    """
    folded = unicodedata.normalize("NFKC", text).casefold()
    shown = (c for c in folded if not c.isspace() and unicodedata.category(c) not in ("Cc", "Cf"))
    key = latin_alike(keyboard_signs("".join(shown)))
    formula = _FORMULA.fullmatch(key)
    key = _unshortened((formula[1] if formula else key).strip(_QUOTES)) or key
    if number := _WHOLE_NUMBER.fullmatch(key):
        return number[1].lstrip("0") or "0"
    grouped = _GROUPED.fullmatch(key)
    return grouped[1].replace(grouped[2], "") if grouped else key


def id_fault(text: str) -> str:
    """Why this names no patient for certain, with the cure; "" where it may. Repeats no id."""
    key = patient_key(text)
    if key in NOTHING:
        return ""  # an empty cell, which says that itself
    if key.startswith("="):
        return FORMULA
    if _SEVERAL.fullmatch(key):
        return SEVERAL_IDS
    nothing = (_ERROR, _PLACEHOLDER, _MISSING, _GLUED)
    if key in _UNKNOWN or any(words.fullmatch(key) for words in nothing):
        return NOBODY
    if not any(c.isalnum() for c in key):
        return NOBODY
    if _SCIENTIFIC.fullmatch(key) or _POWER.fullmatch(key):
        return SHORTENED
    if ";" in key or "|" in key or _NUMBERS.fullmatch(key):
        return SEVERAL_IDS
    spaced = keyboard_signs(" ".join(unicodedata.normalize("NFKC", text).casefold().split()))
    if _DATE.fullmatch(spaced.strip(_QUOTES + "=")):
        return DATED
    return SEVERAL_IDS if _SEVERAL.fullmatch(spaced) or _numbered_lines(text) > 1 else ""


def is_spreadsheets_error(text: str) -> bool:
    """Whether a cell is `#N/A`, `#REF!` or what else spreadsheets write, in any language."""
    return bool(_ERROR.fullmatch(patient_key(text))) and len(text) < _LONGEST_ERROR


def _numbered_lines(text: str) -> int:
    """How many lines of a cell have a digit: a list that somebody wrote into it."""
    return sum(any(c.isdecimal() for c in line) for line in text.splitlines())


def _unshortened(key: str) -> str:
    """The key; as a whole number where it is one in scientific form that shows every digit."""
    found = _SCIENTIFIC.fullmatch(key)
    if found is None or key.startswith("-") or found[3] == "-":
        return key
    decimals, exponent = found[2] or "", int(found[6])
    if exponent > len(decimals) or decimals[exponent:].strip("0"):
        return key
    return found[1] + decimals[:exponent]
