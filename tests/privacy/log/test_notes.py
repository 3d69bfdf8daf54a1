from __future__ import annotations

import base64

import pytest
from hypothesis import given
from hypothesis import strategies as st

from craftsfl.simulation.members import SimulatedMembers, seeded_identity
from privacy.errors import LogError
from privacy.identity import verify
from privacy.log.checkpoints import (
    Cosignature,
    TreeHead,
    cosign,
    cosignatures_of,
    cosigned_by,
    log_key,
    log_origin,
    names_without,
    open_checkpoint,
    signed_checkpoint,
    witness_key,
    witness_line,
)
from privacy.log.merkle import EMPTY_ROOT, leaf_hash
from privacy.log.notes import NoteKey, NoteType, SignedNote

# The example of Go's golang.org/x/mod/sumdb/note: a key, and a text that it has signed.
GO_KEY = NoteKey(
    "PeterNeumann",
    NoteType.ED25519,
    base64.b64decode("ARpc2QcUPDhMQegwxbzhKqiBfsVkmqq/LDE4izWy10TW")[1:],
)
GO_NOTE = (
    "If you think cryptography is the answer to your problem,\n"
    "then you don't know what your problem is.\n"
    "\n"
    "— PeterNeumann x08go/ZJkuBS9UG/SffcvIAQxVBtiFupLLr8pAcElZInNIuGUgYN1FFYC2pZSNXgKvqfqdngotp"
    "RZb6KE6RyyBwJnAM=\n"
).encode()
# The example of C2SP's tlog-cosignature, for which no keys are published.
C2SP_NOTE = (
    "example.com/behind-the-sofa\n"
    "20852163\n"
    "CsUYapGGPo4dkMgIAUqom/Xajj7h2fB2MPA3j2jxq2I=\n"
    "\n"
    "— example.com/behind-the-sofa Az3grlgtzPICa5OS8npVmf1Myq/5IZniMp+ZJurmRDeOoRDe4URYN7u5/Zh"
    "cyv2q1gGzGku9nTo+zyWE+xeMcTOAYQ8=\n"
    "— witness.example.com/w1 jWbPPwAAAABkGFDLEZMHwSRaJNiIDoe9DYn/zXcrtPHeolMI5OWXEhZCB9dlrDJsX3"
    "b2oyin1nPZqhf5nNo0xUe+mbIUBkBIfZ+qnA==\n"
).encode()

COORDINATOR = seeded_identity("coordinator")
MEMBERS = SimulatedMembers.seeded(("north", "south", "west"))
ROSTER = MEMBERS.roster
ORIGIN = log_origin(ROSTER.consortium, COORDINATOR.public)
HEAD = TreeHead(ORIGIN, 12, leaf_hash(b"root"))


def test_the_note_of_another_implementation_verifies() -> None:
    note = SignedNote.decode(GO_NOTE)
    assert GO_KEY.id.hex() == "c74f20a3"
    (signature,) = note.signatures_by(GO_KEY)
    assert verify(GO_KEY.public, signature, note.text.encode())
    assert note.encode() == GO_NOTE


def test_the_specifications_checkpoint_is_read() -> None:
    note = SignedNote.decode(C2SP_NOTE)
    head = TreeHead.of_text(note.text)
    assert (head.origin, head.size) == ("example.com/behind-the-sofa", 20852163)
    cosignature = Cosignature.decode(note.lines[1].signature)
    assert cosignature.time == 1679315147
    assert cosignature.encode() == note.lines[1].signature
    assert note.encode() == C2SP_NOTE


@pytest.mark.parametrize(
    "data",
    [
        b"",
        b"text\n",
        b"text\n\n",
        b"text\n\n\n",
        "text\n\n— n QUJDQUI=".encode(),  # no newline at the end
        "text\n\n— n QUJDQUI\n".encode(),  # padding
        "text\n\n— n QUJDQUJ=\n".encode(),  # bits behind the last byte
        "text\n\n— n QUJDQUJD=\n".encode(),
        "text\n\n— n QUJD\n".encode(),  # no more than a key's id
        "text\n\n—  QUJDQUI=\n".encode(),
        "text\n\n— a+b QUJDQUI=\n".encode(),
        b"text\n\n- n QUJDQUI=\n",
        "text\n\n— n QUJDQUI=\nmore\n".encode(),
        "te\rxt\n\n— n QUJDQUI=\n".encode(),
        b"\xff\n\n\xe2\x80\x94 n QUJDQUI=\n",
        b"x" * (2 << 20),
    ],
)
def test_what_is_not_a_note_is_refused(data: bytes) -> None:
    with pytest.raises(LogError):
        SignedNote.decode(data)


@given(st.binary(max_size=200))
def test_no_bytes_do_more_than_be_refused(data: bytes) -> None:
    try:
        note = SignedNote.decode(data)
    except LogError:
        return
    assert note.encode() == data


@pytest.mark.parametrize(
    "text",
    [
        "origin\n1\n",
        "origin\n1\nAAAA\n",
        "origin\n01\n" + "A" * 43 + "=\n",
        "\n1\n" + "A" * 43 + "=\n",
        "origin\n1\n" + "A" * 43 + "=\nextension\n",
        "origin\n0\n" + "A" * 43 + "=\n",  # the empty tree has one root
        "origin\n1\n" + base64.b64encode(EMPTY_ROOT).decode() + "\n",
        "origin\n-1\n" + "A" * 43 + "=\n",
        "origin\n1\n" + "A" * 43 + "=",
    ],
)
def test_what_is_not_a_checkpoint_is_refused(text: str) -> None:
    with pytest.raises(LogError):
        TreeHead.of_text(text)


def test_a_checkpoint_is_the_logs_or_nothing() -> None:
    note = signed_checkpoint(HEAD, COORDINATOR)
    assert open_checkpoint(SignedNote.decode(note.encode()), ORIGIN, COORDINATOR.public) == HEAD
    other = seeded_identity("another")
    theirs = TreeHead(log_origin("others", COORDINATOR.public), HEAD.size, HEAD.root)
    ours = log_key(ORIGIN, COORDINATOR.public)
    bad = {
        "another key": (signed_checkpoint(HEAD, other), ORIGIN, COORDINATOR.public),
        "another log": (note, log_origin("others", COORDINATOR.public), COORDINATOR.public),
        "another log in this one's name": (
            SignedNote(theirs.text, (ours.line(COORDINATOR.sign(theirs.text.encode())),)),
            ORIGIN,
            COORDINATOR.public,
        ),
        "another text": (
            SignedNote(TreeHead(ORIGIN, 13, HEAD.root).text, note.lines),
            ORIGIN,
            COORDINATOR.public,
        ),
        "one bad signature": (
            note.with_lines(ours.line(bytes(64))),
            ORIGIN,
            COORDINATOR.public,
        ),
        "nobody": (SignedNote(HEAD.text, ()), ORIGIN, COORDINATOR.public),
    }
    for what, given_ in bad.items():
        with pytest.raises(LogError):
            open_checkpoint(*given_)
            pytest.fail(what)


def test_cosignatures_count_for_those_who_made_them() -> None:
    north, south, west = ROSTER.members
    good = cosign(HEAD, MEMBERS.identities["north"], 1_700_000_000)
    late = cosign(TreeHead(ORIGIN, 11, HEAD.root), MEMBERS.identities["south"], 1_700_000_000)
    note = signed_checkpoint(HEAD, COORDINATOR).with_lines(
        witness_line(ROSTER.consortium, north, good),
        witness_key("others", west).line(bytes(72)),  # a stranger's: ignored
    )
    read = SignedNote.decode(note.encode())
    assert cosignatures_of(read, ROSTER) == {north.site: good}
    with pytest.raises(LogError, match="south"):
        cosignatures_of(read.with_lines(witness_line(ROSTER.consortium, south, late)), ROSTER)
    claimed = {north.site: good, south.site: late, west.site: good, 99: good}
    assert cosigned_by(HEAD, claimed, ROSTER) == {north.site}
    assert names_without(ROSTER, ROSTER.sites, {north.site}) == "south, west"


def test_a_cosignature_is_of_its_time() -> None:
    north = ROSTER.members[0]
    made = cosign(HEAD, MEMBERS.identities["north"], 5)
    assert made.is_of(HEAD, north.public_key)
    assert not Cosignature(6, made.signature).is_of(HEAD, north.public_key)
    message = f"cosignature/v1\ntime 5\n{HEAD.text}".encode()
    assert verify(north.public_key, made.signature, message)
    for data in (made.encode()[:-1], made.encode() + b"\0", b"\xff" * 72):
        with pytest.raises(LogError):
            Cosignature.decode(data)
