"""What each error id means: what happened, what was lost, what to do. Makes docs/errors.md.

    python -m privacy.error_catalogue > docs/errors.md

A test fails if the file differs from what this module writes.
"""

from __future__ import annotations

import sys
from collections.abc import Iterator, Mapping

from privacy.error_ids import ErrorId
from privacy.wire.reasons import Guidance, Reason, guidance_of, reason_id

_HEAD = """\
# Errors, by id

The command line ends an error with its id, a failed run keeps its own in the round state
(`craftsfl rounds status --json`, `failure.error`) and in `events.jsonl` (`run-failed`, `error`).
An id never changes its meaning and is never used again. The error's own text names the file, the
site or the figure; this page says what such an error costs.

`python -m privacy.error_catalogue > docs/errors.md` writes this page; do not edit it.
"""
_NOTHING = "Nothing."
_ROUND = (
    "The round under way, and what the sites charged for its attempts. Finished rounds are kept."
)

CLASSES: Mapping[ErrorId, Guidance] = {
    ErrorId.CRAFTSFL: Guidance(
        "Something that does not belong to any of the other classes.",
        _NOTHING,
        "Do what the text says.",
    ),
    ErrorId.CONFIG: Guidance(
        "A settings file or an option is wrong.",
        "Usually nothing: settings are checked before anything is done.",
        "Correct the key or option that the text names, and run the command again.",
    ),
    ErrorId.WIRE: Guidance(
        "Bytes came that are not a message of this protocol.",
        "Nothing: they were refused and changed no state.",
        "Install the same craftsfl version at both ends.",
    ),
    ErrorId.POLICY: Guidance(
        "The site's policy.toml forbids what the study asks for.",
        "Nothing: the site did not train for this request, and charged nothing.",
        "Agree with the site on the bound that the text names; the policy is the site's to change.",
    ),
    ErrorId.ACCOUNTING: Guidance(
        "A mechanism or a figure cannot be accounted for, so no epsilon could be claimed.",
        "Nothing: the study is refused before it starts.",
        "Change the setting of study.toml that the text names.",
    ),
    ErrorId.LEDGER: Guidance(
        "The site's ledger, its key or its mark cannot be used, or contradicts the request.",
        "Nothing yet. A site that cannot say what it has spent does not train.",
        "Restore the newest backup of the whole state folder; never mix files of two backups.",
    ),
    ErrorId.LOG: Guidance(
        "The consortium's log, a proof, a checkpoint or a signature of it does not hold.",
        "Nothing at a site: no step is trained for on it. At the coordinator the run waits.",
        "Compare checkpoints with the other sites before anything else: a log that two sites know "
        "differently was kept twice. The text says which entry, site or signature it is.",
    ),
    ErrorId.DATA: Guidance(
        "The site's data folder cannot be used.",
        "Nothing; the text may name files, so it stays at the site.",
        "Fix the file or column that the text names, and start the agent again.",
    ),
    ErrorId.MODEL: Guidance(
        "A base model or an adapter is missing, was altered, or has another layout.",
        _NOTHING,
        "Install the model whose digest is in the study file: craftsfl model install.",
    ),
    ErrorId.SECAGG: Guidance(
        "Secure aggregation does not allow a message, a key or a setting.",
        "At most the attempt under way.",
        "The text names the check. Compare rosters, study files and versions; then start again.",
    ),
    ErrorId.FEDERATION: Guidance(
        "A round or a run cannot continue.",
        _ROUND,
        "Do what the text says, then start a new run: craftsfl rounds start",
    ),
    ErrorId.DEPLOYMENT: Guidance(
        "A process, port, socket or file system that is needed is not available.",
        "Nothing that was finished: a round is durable before the next one starts.",
        "Free what the text names, and start the command again.",
    ),
    ErrorId.AUDIT: Guidance(
        "A bundle for an auditor, or a signature of a verdict, cannot be made or read.",
        "Nothing: a bundle is a copy, and nothing is changed by checking it.",
        "Do what the text says. A bundle that cannot be read is no evidence; ask for it again.",
    ),
}

FAILURES: Mapping[ErrorId, Guidance] = {
    ErrorId.INTERNAL: Guidance(
        "The server ran into a bug of its own.",
        _ROUND,
        "The traceback is in server.log, and nowhere else, as it could hold anything. Report it.",
    ),
    ErrorId.FILE_UNUSABLE: Guidance(
        "The operating system refused a file or folder.",
        _NOTHING,
        "Check its owner, its permissions and the free space of its disk.",
    ),
    ErrorId.EXTRA_MISSING: Guidance(
        "The command needs a package that this installation does not have.",
        _NOTHING,
        "Install craftsfl with the extra that the text names: site, operator or model.",
    ),
    ErrorId.PACKAGE_HIDDEN: Guidance(
        "Python finds another file or package called client, model, privacy, server or strategies "
        "before craftsfl's own.",
        "Nothing: the other one was not run.",
        "Start craftsfl in another folder, or as python -P -m craftsfl; remove what hides the "
        "package from PYTHONPATH.",
    ),
    ErrorId.NO_RUN: Guidance(
        "The round state has no run, or not the one asked for.",
        _NOTHING,
        "See the newest: craftsfl rounds status; or start one: craftsfl rounds start",
    ),
    ErrorId.RUN_NOT_BEGUN: Guidance(
        "A run was started, but no ServerApp took it up within a minute.",
        "Nothing: no site was asked.",
        "Look at the SuperExec's log: is `craftsfl rounds serve` running?",
    ),
    ErrorId.RUN_FAILED: Guidance(
        "A run has failed under an older coordinator, which kept no id.",
        _ROUND,
        "Do what the text says, then start a new run: craftsfl rounds start",
    ),
    ErrorId.RUN_ENDED: Guidance(
        "A ServerApp was started for a run that has already ended.",
        "Nothing: the run's results stay as they are.",
        "Start a new run: craftsfl rounds start",
    ),
    ErrorId.RUN_STILL_OPEN: Guidance(
        "A run of the study is open, and a second one would destroy its attempts.",
        "Nothing: no second run was created.",
        "Follow it: craftsfl rounds watch; or end it: craftsfl rounds stop",
    ),
    ErrorId.STUDY_USED_UP: Guidance(
        "Earlier runs have used up so many of the study's attempts that another run of it could "
        "not finish.",
        "Nothing: no run was created, and nothing was charged.",
        "Plan the next study: craftsfl rounds plan, then craftsfl rounds add --study",
    ),
    ErrorId.RUN_INTERRUPTED: Guidance(
        "A ServerApp has ended, and its run has not: Flower or this machine gave way.",
        "At most the attempt under way, and what the sites charged for it.",
        "Nothing, while `craftsfl rounds serve` runs: it starts another one, or says why not.",
    ),
    ErrorId.RUN_STOPPED: Guidance(
        "The operator has stopped the run for good.",
        "With --now the attempt under way. Finished rounds' adapters are kept.",
        "Start the next run: craftsfl rounds start",
    ),
    ErrorId.STUDY_CHANGED: Guidance(
        "The study file is not the one with which the run was started.",
        "Nothing: the run goes on with its own study file.",
        "Restore the study file, or end the run: craftsfl rounds stop",
    ),
    ErrorId.PLAIN_STUDY: Guidance(
        'A study or a policy says secure_aggregation = "plain", a mode that is gone.',
        "Nothing: no site was asked.",
        'Write "required" in study.toml, with the table [secure_aggregation]; remove the line from '
        "policy.toml. A run of such a study can only be ended: craftsfl rounds stop",
    ),
    ErrorId.ROSTER_MISSING: Guidance(
        "The study is masked, and consortium.toml names no signed roster.",
        "Nothing: no site was asked.",
        "Set `roster` in consortium.toml to the signed file.",
    ),
    ErrorId.COORDINATOR_KEY: Guidance(
        "The study names a key of the coordinator, and the coordinator does not have it.",
        "Nothing: no site was asked, and none takes steps that another key has signed.",
        "Set `coordinator_key` in consortium.toml to the key that study.toml names.",
    ),
    ErrorId.TOO_FEW_SITES: Guidance(
        "Fewer sites joined than the study's smallest cohort.",
        "Nothing new: no site was asked to train. Rounds finished earlier are kept.",
        "The text gives each absent site's reason. Fix those, then start a new run.",
    ),
    ErrorId.ROUND_FAILED: Guidance(
        "All attempts at a round failed.",
        _ROUND,
        "The text gives each site's reason. Fix those, then start a new run.",
    ),
    ErrorId.NAME_TAKEN: Guidance(
        "Retired: only older versions stop for this. In a study without a roster, two nodes claim "
        "the name of one site.",
        _ROUND,
        "Install this version, which knows a site by its key; or give each hospital its own name.",
    ),
    ErrorId.ROUND_STATE_UNUSABLE: Guidance(
        "The coordinator's database cannot be read or written.",
        "Nothing that was stored; the attempt under way if it was masked.",
        "Check disk space and permissions, then start the run again.",
    ),
    ErrorId.ROUND_STATE_NEWER: Guidance(
        "The coordinator's database was written by a newer version of craftsfl.",
        "Nothing: it was not touched.",
        "Install that version, or a newer one.",
    ),
    ErrorId.ADAPTER_UNUSABLE: Guidance(
        "The stored adapter of a finished round is missing or was changed.",
        "The run cannot be resumed without it.",
        "Restore the file from a backup, or start a new run.",
    ),
    ErrorId.STATE_NOT_WRITABLE: Guidance(
        "A file in the coordinator's state folder cannot be written.",
        "The attempt under way if it was masked. Finished rounds are kept.",
        "Free some space or correct the permissions, then start the run again.",
    ),
    ErrorId.MLFLOW_UNUSABLE: Guidance(
        "MLflow cannot be reached, or refuses what is logged.",
        "Nothing: MLflow is a view, and no run waits for it. The next run logs what is missing.",
        "Start its server, or correct [tracking] in consortium.toml or the option --tracking-uri. "
        "What is missing is logged at once by: craftsfl rounds track consortium.toml",
    ),
    ErrorId.EVENT_UNREADABLE: Guidance(
        "A line of events.jsonl is not an event.",
        "Nothing: the display ends, the run continues.",
        "See how the run stands: craftsfl rounds status",
    ),
    ErrorId.NOT_PROMOTED: Guidance(
        "A version does not show what the study demands of a champion, or there is none to go to.",
        "Nothing: the champion is the one it was.",
        "The text names each demand that is not met, and what would meet it.",
    ),
    ErrorId.EXPORT_TAKEN: Guidance(
        "There is something where the exported adapter was to go.",
        "Nothing: exports replace nothing.",
        "Name a new folder.",
    ),
    ErrorId.SETTINGS_MISSING: Guidance(
        "There is no settings file at the path that was given.",
        _NOTHING,
        "Check the path. docs/examples has a sample of each; craftsfl site init makes the keys.",
    ),
    ErrorId.BASE_MISSING: Guidance(
        "The base model that the study names is not on this machine.",
        "Nothing: models are never fetched unasked.",
        "Install it as the user who needs it: craftsfl model install NAME",
    ),
    ErrorId.BASE_ALTERED: Guidance(
        "The base model on this machine does not have the digest that the study pins.",
        "Nothing: the site does not train on another model.",
        "Install the base whose digest is in the study file.",
    ),
    ErrorId.LEDGER_MISSING: Guidance(
        "The site's ledger is gone, but the site has spent budget.",
        "Nothing yet. The site does not train, because it cannot say what it has spent.",
        "Restore the newest backup of the whole state folder. Only if no copy is left: "
        "craftsfl site recover-ledger, which counts everything that is known to be spent.",
    ),
    ErrorId.LEDGER_KEY_MISSING: Guidance(
        "The key that signs the site's ledger is gone.",
        "The ledger can be read, but not continued.",
        "Restore the key from the newest backup of the state folder. Only if no copy is left: "
        "craftsfl site recover-ledger",
    ),
    ErrorId.LEDGER_OLDER: Guidance(
        "The ledger lacks records that it once had: it is an older copy, or was cut off.",
        "Nothing yet. Budget spent since then would count as unspent, so the site does not train.",
        "Restore the newest backup of the whole state folder; never mix files of two backups.",
    ),
    ErrorId.LEDGER_FOREIGN: Guidance(
        "The ledger belongs to another site, key or identity than the one in site.toml.",
        "Nothing: the ledger was not touched.",
        "Point agent.state at this site's own folder, or restore ledger and keys from one backup.",
    ),
    ErrorId.LEDGER_DAMAGED: Guidance(
        "A record of the ledger was changed or cannot be read.",
        "Nothing yet. The site does not train on a ledger that it cannot trust.",
        "Restore the newest backup of the whole state folder, and find out who could change it.",
    ),
    ErrorId.LOG_DAMAGED: Guidance(
        "The coordinator's file of the log is damaged, or older than what it has signed.",
        "Nothing: the run waits, and no site trains for a log that goes back.",
        "Restore the newest copy of the coordinator's state folder. What came after it is lost to "
        "the log; if sites have cosigned it, they have to be asked.",
    ),
    ErrorId.AGENT_RUNNING: Guidance(
        "Another agent uses the same state folder or socket.",
        "Nothing: two agents would spend one budget twice, so the second does not start.",
        "Stop the other agent, or give this one its own folder and socket.",
    ),
    ErrorId.AGENT_NETWORK: Guidance(
        "The agent cannot cut itself off from the network on this system.",
        "Nothing: the agent did not start.",
        "Run it in a container without a network, or allow unprivileged user namespaces.",
    ),
    ErrorId.NOISE_GENERATOR: Guidance(
        "The generator of the noise fails the trial that every start makes of it.",
        "Nothing: the agent did not start. What was found is a record of its ledger.",
        "Train nothing on this machine. Install craftsfl again with the versions of "
        "constraints.txt; if it stays, use another machine, and report it (SECURITY.md).",
    ),
    ErrorId.ONE_USER: Guidance(
        "Agent and gateway would run as one user, and the gateway is not shut in on this machine.",
        "Nothing: neither was started.",
        "Name two users in site.toml and start as root, or use a Linux with Landlock and our own "
        "gateway, as an ordinary user: docs/hospital.md.",
    ),
    ErrorId.PERSONS_UNCONFIRMED: Guidance(
        "Nobody at the site has confirmed that each patient_id is one person.",
        "Nothing: the agent did not start.",
        "Look at what craftsfl site suspicions finds, then set patient_ids_confirmed = true.",
    ),
    ErrorId.PORT_TAKEN: Guidance(
        "Another program uses the TCP port.",
        _NOTHING,
        "End that program, or choose another port.",
    ),
    ErrorId.PROCESS_ENDED: Guidance(
        "A process that was started ended by itself, or did not become ready in time.",
        "What depends on that process; finished rounds are kept.",
        "Read the end of its log, which the text shows or names.",
    ),
    ErrorId.SUPERLINK_SILENT: Guidance(
        "The SuperLink gave no answer.",
        "Nothing; a run may have started all the same, so look at craftsfl rounds status first.",
        "Check that `craftsfl rounds serve` is running, and its address.",
    ),
    ErrorId.SUPERLINK_REFUSED: Guidance(
        "The SuperLink answered the operator, and refused.",
        _NOTHING,
        "Do what the text says; superlink.log says more.",
    ),
    ErrorId.OPERATOR_REFUSED: Guidance(
        "The SuperLink was started with another secret than the one in consortium.toml.",
        _NOTHING,
        "Use the same superexec.secret for every command, and restart `craftsfl rounds serve`.",
    ),
    ErrorId.SECRET_UNUSABLE: Guidance(
        "The file superexec.secret is missing, too short, or not its user's alone (mode 0600).",
        "If others could read it, they could have started runs.",
        "If others could read it, make a new one and restart `craftsfl rounds serve`; else chmod.",
    ),
    ErrorId.CERTIFICATE_UNUSABLE: Guidance(
        "The SuperLink's certificate, its key or its authority cannot be used.",
        _NOTHING,
        "Correct what the text names; docs/operator.md says which names a certificate needs.",
    ),
    ErrorId.KEY_ADMITTED: Guidance(
        "A SuperNode's key was to be admitted that is admitted already.",
        _NOTHING,
        "Nothing, unless two hospitals share a key: then each makes its own.",
    ),
    ErrorId.SUPERLINK_DATABASE: Guidance(
        "The SuperLink's database is damaged, of a newer Flower, or cannot be written.",
        "The list of admitted nodes, if it is not put back. Rounds, adapters and charges are kept.",
        "Restore it, or move it away and admit the hospitals' keys again.",
    ),
    ErrorId.COORDINATOR_RUNNING: Guidance(
        "A second `craftsfl rounds serve` was started on the same folder.",
        _NOTHING,
        "Nothing, or end the first one; the text names it.",
    ),
    ErrorId.FOLDER_UNUSABLE: Guidance(
        "A folder of the coordinator's belongs to somebody else, or others could replace it.",
        "What was in it may have been read or changed by others.",
        "Give it to the operator's user, in a place that only that user can change.",
    ),
    ErrorId.DISK_FULL: Guidance(
        "Too little space is left on the disk of a folder that the coordinator writes to.",
        _NOTHING,
        "Free some, or move the folder that the text names.",
    ),
    ErrorId.CARD_UNUSABLE: Guidance(
        "A hospital's card is not one of this study's, or not as the hospital signed it.",
        _NOTHING,
        "Ask the hospital for the card that its craftsfl site init made, and compare by phone.",
    ),
    ErrorId.INVITATION_UNUSABLE: Guidance(
        "An invitation is damaged, or is not for this hospital and its key.",
        "Nothing: nothing of it was kept or signed.",
        "Ask the operator for the newest invitation, and which card of yours it was made from.",
    ),
    ErrorId.FINGERPRINT_DIFFERS: Guidance(
        "The fingerprint that was read out on the phone is not that of the file.",
        "Nothing: nothing of it was kept or signed.",
        "Find out who changed the file on its way; have it sent again, another way.",
    ),
    ErrorId.PLACEHOLDER: Guidance(
        "A settings file still has a sample's placeholder where a digest or a key belongs.",
        _NOTHING,
        "Put the real one there; the text names the command that prints or makes it.",
    ),
}


def catalogue() -> dict[str, Guidance]:
    """Every id that an error can have, with what it means."""
    own = {str(id): meaning for id, meaning in {**CLASSES, **FAILURES}.items()}
    return {**own, **_refusals()}


def as_markdown() -> str:
    """The whole of docs/errors.md."""
    sections = [
        ("Particular failures", {str(id): meaning for id, meaning in FAILURES.items()}),
        ("Refusals between server and site", _refusals()),
        ("All other errors, by class", {str(id): meaning for id, meaning in CLASSES.items()}),
    ]
    return _HEAD + "".join(
        line for title, meanings in sections for line in _section(title, meanings)
    )


def _refusals() -> dict[str, Guidance]:
    return {reason_id(reason): guidance_of(reason) for reason in Reason}


def _section(title: str, meanings: Mapping[str, Guidance]) -> Iterator[str]:
    yield f"\n## {title}\n"
    for id, meaning in meanings.items():
        yield f"\n### `{id}`\n\n{meaning.happened}\n\n"
        yield f"- **Lost:** {meaning.lost}\n- **Do:** {meaning.next_step}\n"


if __name__ == "__main__":
    sys.stdout.write(as_markdown())
