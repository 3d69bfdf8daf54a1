"""The checks of secure aggregation that can fail: a closed set, so that a refusal says no more."""

from __future__ import annotations

from enum import IntEnum


class Check(IntEnum):
    """What was wrong with a message. Numbers never change; 1 to 19 concern the Offer."""

    VERSION = 1
    EXPIRED = 2
    ROSTER = 3
    RUN = 4
    NOT_NEWER = 5
    MODEL = 6
    RECIPE = 7
    ENCODING = 8
    PRIVACY = 9
    COHORT = 10
    COHORT_SIZE = 11
    THRESHOLD = 12
    COLLUDERS = 13
    SECOND_OFFER = 14
    COHORT_GREW = 15
    OUT_OF_ORDER = 20
    ANSWERED = 21
    SENDER = 22
    SIGNATURE = 30
    REPEATED_KEY = 31
    OWN_KEY = 32
    KEY = 33
    NOT_IN_COHORT = 34
    TOO_FEW = 35
    SHARE_COUNT = 40
    SHARE = 41
    INPUT_LENGTH = 50
    SURVIVORS = 60
    SELF_OMITTED = 61
    DIFFERENCING = 62
    UNMASK_SIGNATURES = 70
    MASK_KEY = 80
    SELF_MASK = 81
    OLDER_LEDGER = 90
    OTHER_LEDGER = 91
    # Sealed steps: privacy/secagg/sealed
    OLD_SESSION = 100
    NO_SESSION = 101
    SESSION_STEPS = 102
    SECOND_KEYS = 103
    NO_KEYS = 104
    GROUP = 105
    EPOCH = 106
    SECOND_LABEL = 107
    LABEL = 108
    ADAPTER = 109
    STATE = 110
    SUMS = 111
    SLOT = 112
    COHORT_CHANGES = 113
    FALSE_SUM = 114
    NO_VECTOR = 115
    COMMITMENT = 116
    FAR_SESSION = 117
    # The consortium's log: privacy/log
    LOG_MISSING = 130
    LOG_WRONG = 131
    LOG_OLDER = 132
    LOG_FORKED = 133
    LOG_BEHIND = 134
    LOG_OWN_OLDER = 135
    LOG_OWN_OTHER = 136
    LOG_ABSENT = 137
    LOG_QUORUM = 138


_EXPLANATIONS = {
    Check.VERSION: "The offer is of another version of the protocol. "
    "Install the same craftsfl version everywhere.",
    Check.EXPIRED: "The offer has expired, or is valid for longer than the policy allows. "
    "Compare the clocks of server and site, then start a new attempt.",
    Check.ROSTER: "The offer names a different roster from the one pinned at the site. "
    "Give the site the signed successor, or the server the roster in force.",
    Check.RUN: "The offer is not for the run, round and attempt of the message that carried it. "
    "Start a new attempt.",
    Check.NOT_NEWER: "The site has already journalled this attempt or a later one. "
    "Start a newer attempt.",
    Check.MODEL: "The offer names a different model from the one that the site was sent. "
    "Start a new attempt; if it happens again, distrust the server.",
    Check.RECIPE: "The offer names a different study from the site's. "
    "Give every site the study file that the server reads.",
    Check.ENCODING: "The offer's dimension, bits or bound differ from the site's policy. "
    "Compare the study files of server and site.",
    Check.PRIVACY: "The offer's clipping norm, weight cap or noise differ from the site's policy. "
    "Compare the study files of server and site.",
    Check.COHORT: "The offered cohort leaves the site out or names sites outside the roster. "
    "Take the cohort from the roster in force.",
    Check.COHORT_SIZE: "The offered cohort is smaller than the policy's n_min. "
    "Wait for more sites, or agree on a smaller n_min.",
    Check.THRESHOLD: "The offer's threshold is not floor(2n/3) + 1. "
    "Install the same craftsfl version everywhere; if it happens again, distrust the server.",
    Check.COLLUDERS: "The cohort is too small for the number of colluders in the policy. "
    "Take a larger cohort, or agree on a smaller n_c.",
    Check.SECOND_OFFER: "A second, different offer came for the same attempt. "
    "Start a new attempt; if it happens again, distrust the server.",
    Check.COHORT_GREW: "The offered cohort has a site that an earlier cohort of this round did not "
    "have; over all attempts and runs they may only shrink. Leave the named site out of this "
    "round, or agree on a new study.",
    Check.OUT_OF_ORDER: "The message does not belong to the current stage of the round. "
    "Start a new attempt.",
    Check.ANSWERED: "This stage was already answered, for a different message. "
    "Start a new attempt; if it happens again, distrust the sender.",
    Check.SENDER: "The message came from a site that has no part in this stage. "
    "Check who dropped out.",
    Check.SIGNATURE: "A signature was not made by the site it names. "
    "Compare the fingerprints of the roster by phone; distrust whoever carried the message.",
    Check.REPEATED_KEY: "Two keys or commitments of a round are the same. "
    "Distrust the named sites, or the server if it sent them.",
    Check.OWN_KEY: "The site's own keys are missing from the list or were changed. "
    "Start a new attempt; if it happens again, distrust the server.",
    Check.KEY: "A key is unusable: a point of low order. Distrust the named site.",
    Check.NOT_IN_COHORT: "A list names a site that is not in the cohort. Distrust the sender.",
    Check.TOO_FEW: "Too few sites are left for the threshold or for the policy's n_min. "
    "Start a new attempt when more sites are present.",
    Check.SHARE_COUNT: "The number of shares is not the number of peers. "
    "Install the same craftsfl version everywhere.",
    Check.SHARE: "A share does not open, is out of range or contradicts the others. "
    "Start a new attempt without the named site; it, or whoever carried the share, is at fault.",
    Check.INPUT_LENGTH: "The masked vector does not have the length that the encoding requires. "
    "Compare the study files of server and site.",
    Check.SURVIVORS: "The survivors are not a subset of those who shared keys. "
    "Start a new attempt; if it happens again, distrust the server.",
    Check.SELF_OMITTED: "The survivors leave out the site that was asked. Start a new attempt.",
    Check.DIFFERENCING: "The survivors differ from those of an earlier round by so few sites that "
    "the two sums would tell of one. Start a new attempt with the same set or a clearly different "
    "one.",
    Check.UNMASK_SIGNATURES: "Too few sites signed the set of survivors, or one outside it did. "
    "Start a new attempt; if it happens again, distrust the server.",
    Check.MASK_KEY: "The shares of a dropped site's mask key do not fit its public key. "
    "Start a new attempt without the named site.",
    Check.SELF_MASK: "The shares of a site's self mask do not open its commitment. "
    "Start a new attempt without the named site.",
    Check.OLDER_LEDGER: "The site's ledger is older than one that it has shown before: what it has "
    "spent since would count as unspent. Leave the site out until it has restored its newest "
    "ledger, or started a replacement (craftsfl site recover-ledger) that everybody accepts.",
    Check.OTHER_LEDGER: "The site shows a different ledger from before. Leave it out and ask it: "
    "either it restores the ledger it had, or it reads out the new one's id over the phone and it "
    "is accepted everywhere (craftsfl site accept-ledger, craftsfl rounds accept-ledger).",
    Check.OLD_SESSION: "The session's number is not above those that the site has journalled. "
    "Open a session with a higher number.",
    Check.FAR_SESSION: "The session's number lies beyond its expiry: it would shut out "
    "all sessions with smaller ones. Number sessions by Unix seconds, as the coordinator does.",
    Check.NO_SESSION: "The site has no keys of this session, for instance because its agent was "
    "restarted. Open a new session.",
    Check.SESSION_STEPS: "The session's steps or attempts are not those of the study. "
    "Give every site the study file that the server reads.",
    Check.SECOND_KEYS: "A second, different list of keys came for the same session. "
    "Open a new session; if it happens again, distrust the server.",
    Check.NO_KEYS: "The session's keys have not come yet. Send them with the step.",
    Check.GROUP: "The group's secret is not for the listed sites, or does not open. "
    "Open a new session, with another dealer.",
    Check.EPOCH: "The step or the attempt is not one of the session's. Open a new session for it.",
    Check.SECOND_LABEL: "A second, different request came for an attempt that the site has already "
    "journalled. Start a new attempt; if it happens again, distrust the server.",
    Check.LABEL: "The request's label is not the one that the site works out from its own data. "
    "Compare study, base model and roster of server and site.",
    Check.ADAPTER: "The site has worked out another adapter for this step. "
    "Send it all opened sums; if it happens again, compare versions and base models.",
    Check.STATE: "The site has worked out another state of the optimiser for this step. "
    "Send it all opened sums; if it happens again, compare versions.",
    Check.SUMS: "The site knows other opened sums, or not all of them. Send it all opened sums; if "
    "it happens again, distrust the server.",
    Check.SLOT: "The slot has passed, or lies behind the session's end: the site was not ready in "
    "time, or a clock is off. Compare the clocks of server and site if it happens again.",
    Check.COHORT_CHANGES: "The cohort has changed more often than the study allows. "
    "Wait for the sites that are missing.",
    Check.FALSE_SUM: "An opened sum is not the sum of what the sites have sent. Try that step "
    "again; if it happens again, distrust the server, or a site that sends garbage.",
    Check.NO_VECTOR: "The site had no vector when its slot came: it was late, or training failed; "
    "only the site knows which. Start a new attempt.",
    Check.COMMITMENT: "A vector is not the one that its site has committed to, or a commitment is "
    "missing. Start a new attempt without the named site.",
    Check.LOG_MISSING: "The step says nothing of the consortium's log, and this site's policy asks "
    'for it (log = "required"), or the site has cosigned one before. Install the newest craftsfl '
    "at the coordinator; if its log was lost: craftsfl site accept-log site.toml "
    "--the-log-was-lost.",
    Check.LOG_WRONG: "What is said of the consortium's log does not hold: a signature, a proof or "
    "a table. Start a new attempt; if it happens again, distrust the server.",
    Check.LOG_OLDER: "The log is shorter than the one that the site has cosigned: an older copy of "
    "it was put back. Restore the coordinator's newest state folder.",
    Check.LOG_FORKED: "The log does not continue the one that the site has cosigned: it was "
    "changed, or is kept twice. Compare checkpoints with all sites; until that is explained, "
    "distrust the server.",
    Check.LOG_BEHIND: "The site has cosigned another checkpoint than the proof begins with. "
    "The coordinator shows it the log before the next attempt.",
    Check.LOG_OWN_OLDER: "The log holds newer records of the site's own ledger than the site has: "
    "its state folder was put back to an older copy, or a second one is in use. The site restores "
    "its newest state folder, and looks for another agent with its key.",
    Check.LOG_OWN_OTHER: "The log holds another ledger of this site, or other records in the same "
    "places: two state folders were in use, or one was put back and went on. The site restores the "
    "folder that the others have seen, and looks for another agent with its key.",
    Check.LOG_ABSENT: "The newest record of the site's own ledger is not in the log yet, or not "
    "under a checkpoint of this session. The coordinator takes it in before the next attempt.",
    Check.LOG_QUORUM: "Too few other sites have cosigned the checkpoint of the log. The site's own "
    "log names those who have not; wait for them.",
}


def explain_check(check: Check) -> str:
    """What `check` means to an operator, and what to do next."""
    return _EXPLANATIONS[check]
