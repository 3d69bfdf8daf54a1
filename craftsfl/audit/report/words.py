"""What a report says whatever the study: side channels, hazards, and what is not claimed."""

from __future__ import annotations

from typing import Final, NamedTuple


class SideChannel(NamedTuple):
    """A way by which something might be learned: "charged", "bounded" or "not claimed"."""

    what: str
    state: str
    how: str


class Hazard(NamedTuple):
    """A line of NIST SP 800-226, what was done about it, and where the evidence lies."""

    hazard: str
    answer: str
    evidence: str


CHANNELS: Final = (
    SideChannel("the update, or the share of a sum", "charged", "before its first byte leaves"),
    SideChannel(
        "the last digits of the noise",
        "charged",
        "sums and noise are integers; how far the sampler is from the exact distribution is part "
        "of δ",
    ),
    SideChannel(
        "pictures drawn from public prompts", "charged", "post-processing of what has been opened"
    ),
    SideChannel(
        "duration of training, size of a draw",
        "bounded",
        "answers leave at a public slot; shapes and capacity are constant",
    ),
    SideChannel(
        "an attempt without an update",
        "bounded",
        "late and failed look the same; the attempt is charged, the bit itself is not covered by ε",
    ),
    SideChannel(
        "attempts that were superseded before their slot",
        "bounded",
        "nothing is told of them, and their number is limited",
    ),
    SideChannel(
        "refusals, and what other studies have spent",
        "bounded",
        "own figures only; one bit says that the others left too little",
    ),
    SideChannel(
        "who is enrolled, and who withdrew", "bounded", "no rule that looks at rows refuses a start"
    ),
    SideChannel("that other studies run at a site", "not claimed", "the ledger's length shows it"),
    SideChannel(
        "how long a start takes, memory, disk",
        "not claimed",
        "they follow the files' number and size",
    ),
    SideChannel(
        "code on the hospital's machine", "not claimed", "it can see when the agent is at work"
    ),
    SideChannel("which memory the sampler reads", "not claimed", "it depends on the noise"),
)

HAZARDS: Final = (
    Hazard(
        "Unit of privacy: events or images in place of people",
        "One patient with all tiles and slides at a site. A patient whom several sites know pays "
        "more; the figures for two and three sites are on this page.",
        "study.toml; section “What is protected”",
    ),
    Hazard(
        "Neighbouring data sets, and a size of the cohort that depends on data",
        "Zero-out over a declared, rounded number of patients: counts, rates and δ use the "
        "declared number, never the true one.",
        "study.toml: sites; section “How it was made private”",
    ),
    Hazard(
        "A large ε, or one that means little to people",
        "ε is shown with what the best attacker could tell from it, for the whole schedule.",
        "section “What an attacker could tell”",
    ),
    Hazard("A large δ", "δ is at most 1/(10 N) of each site, and at most 1e-5.", "study.toml"),
    Hazard(
        "Bounded contributions that are not bounded (clipping, sensitivity)",
        "Each patient's vector is clipped as a whole and added in integers. How it was clipped "
        "cannot be seen from outside: tests and a self-test at the site answer for it.",
        "not in a bundle; the software's tests, docs/security.md",
    ),
    Hazard(
        "Floating-point noise",
        "Noise is drawn on integers, from an exact discrete Gaussian.",
        "docs/privacy-accounting.md; the events name the grid",
    ),
    Hazard(
        "Random numbers that can be predicted",
        "The operating system's generator and a stream cipher keyed by it.",
        "not in a bundle; docs/security.md",
    ),
    Hazard(
        "Sampling that is not what the accountant assumes",
        "The sampler is stated as it is executed. With all patients in every step there is no "
        "amplification to get wrong.",
        "the events in the ledgers; section “How it was made private”",
    ),
    Hazard(
        "Composition: releases that were not counted",
        "Every attempt of which something may have left is charged before it leaves, aborted ones "
        "too. Requests, vectors and charges are compared one by one.",
        "sites/*/ledger.bin, runs/*/requests.bin, runs/*/vectors",
    ),
    Hazard(
        "Budgets that come back",
        "They do not: a ledger only grows, and charges of all studies stay in it for ever.",
        "sites/*/statement.json, sites/*/ledger.bin",
    ),
    Hazard(
        "Parameters tuned on private data",
        "The manifest states on what each constant was chosen; private norms and losses never "
        "leave a site.",
        "study.toml: chosen",
    ),
    Hazard(
        "Trust model: central, local, distributed",
        "Who adds noise, who is trusted for what, and ε without that trust are shown side by side.",
        "section “Against whom”",
    ),
    Hazard(
        "Secure aggregation that opens less than a sum",
        "Sums have a smallest cohort; every cohort that was asked is in the bundle.",
        "runs/*/requests.bin, runs/*/sums.bin",
    ),
    Hazard(
        "Side channels: time, failures, messages",
        "Charged, bounded or not claimed, one by one.",
        "section “Side channels”",
    ),
    Hazard(
        "Claims that nobody can check",
        "Everything on this page is worked out from one file by a program without a network.",
        "craftsfl audit verify",
    ),
    Hazard(
        "Systematic error and bias: rare groups pay most",
        "Noise is the same for all, so that rare tissue types learn least. Accuracy by type is "
        "measured on public data, outside this bundle.",
        "not in a bundle; section “What was counted”, docs/auditor.md",
    ),
    Hazard(
        "Data security before and after",
        "Differential privacy protects what leaves, not the hospital's disks.",
        "not in a bundle; docs/security.md",
    ),
    Hazard(
        "Relatives and groups",
        "The bound is for one patient. For k people together it grows at least k times as fast.",
        "docs/privacy.md",
    ),
)

RARE_TYPES_PAY: Final = (
    "Rare types of tissue, most: the noise is the same for all, and a type moves a sum by no more "
    "than its patients times C. Nothing is learned of this study's patients by type; on public, "
    "synthetic tissue, where figures cost no ε, a type with 61 % of 1,500 patients kept 98 % of "
    "what it gains without noise at ε = 8, and one with 2 % gained nothing that could be shown, "
    "with noise or without (docs/auditor.md)."
)

NEVER_CLAIMED: Final = (
    "That anybody is anonymous. Privacy is bounded here, not absolute.",
    "That the noise was really added. Everything follows from the signed record; that a hospital's "
    "software did what its ledger says rests on that hospital, and in pooled studies on the honest "
    "ones.",
    "That a pooled study learned from true sums, if the coordinator and a site lie together. "
    "Training then goes where they want; ε stays.",
    "That a site's limits are wise, or its patient ids are true. They are its own word.",
    "What the model learns of tissue in general. If many patients show a pattern, it may show it "
    "too.",
    "Anything about time on a hospital's own machine.",
)
