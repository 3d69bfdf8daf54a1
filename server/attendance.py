"""Who takes part: every node is greeted, and what a site says of itself must fit the study.

Whoever has a registered node can claim anything. By the signed roster, a node speaks for a site
only if the site's key has signed its statement, for this run and this very node. A node that fails
is turned away by its node id, and nothing that it says can keep the site itself out or hold up the
run.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping

from model.layout import Layout
from privacy.identity import verify
from privacy.secagg import transcript
from privacy.secagg.roster import Roster
from privacy.wire.bodies import Hello, Refusal, SignedFacts, SiteFacts
from privacy.wire.envelope import Envelope
from privacy.wire.signing import RosterSignature
from server.absentees import awaited_words, troubles_of, unheard_sites
from server.context import RunContext
from server.contradictions import layout_contradiction, study_contradiction
from server.events import NodeRefused, RunWaiting, SiteJoined, SiteMissing, SiteRefused
from server.messages import FlowerFailure, Reply, Request
from server.nodes import TRY_AGAIN, Attendee, Node, refused_words


class Attendance:
    """The nodes of a run, and which site each of them speaks for.

    Without a signed roster, two nodes that claim the same name end the run with a
    `FederationError`: one of them is not what it claims, and only a person can tell which.
    """

    def __init__(self, context: RunContext) -> None:
        self._context = context
        self._nodes: dict[int, Node] = {}
        self._layout: Layout | None = None
        self._unsigned: set[int] = set()  # nodes of sites whose roster lacks signatures

    def gather(self, while_waiting: Callable[[], None] = lambda: None) -> None:
        """Greet nodes until every site of the study has answered or the join deadline passes."""
        clock, timing = self._context.clock, self._context.timing
        began = clock.monotonic()
        told = ""
        while not self._complete() and clock.monotonic() < began + timing.join:
            self.greet()
            self.listen()
            while_waiting()
            words = self._awaited() if clock.monotonic() >= began + timing.tell else ""
            if words and words != told:
                told = words
                self._context.store.awaits(words)
                self._context.emit(RunWaiting(words))
            clock.sleep(timing.poll)
        self._context.store.awaits("")

    def greet(self, since: float | None = None) -> None:
        """Greet the nodes whose turn it is: those that have not answered at all, or not `since`."""
        now = self._context.clock.monotonic()
        for node in self._context.exchange.nodes():
            fresh = Node(due=now, pause=self._context.timing.first_pause)
            entry = self._nodes.setdefault(node, fresh)
            answered = entry.settled if since is None else entry.heard >= since
            if entry.due <= now and not answered:
                self._greet(node, entry)

    def listen(self) -> None:
        """Take in the answers that have arrived."""
        for reply in self._context.exchange.receive():
            self.note(reply)

    def accepted(self) -> dict[int, Node]:
        """The nodes that speak for sites that may take part, by node id."""
        return {node: entry for node, entry in self._nodes.items() if entry.accepted}

    def known(self) -> dict[int, Node]:
        """All nodes that were ever greeted, by node id."""
        return dict(self._nodes)

    def hopeless(self) -> int:
        """How many sites have answered, and may not take part as they are.

        Nodes that have proved no name do not count: nobody signs a refusal.
        """
        refused = {e.facts.name for e in self._nodes.values() if e.facts and e.trouble}
        count = len(refused - {attendee.name for attendee in self.attendees()})
        return count

    def attendees(self) -> list[Attendee]:
        """The accepted sites, by name."""
        accepted = [
            Attendee(entry.facts.name, node)
            for node, entry in self._nodes.items()
            if entry.facts is not None and entry.accepted
        ]
        return sorted(accepted, key=lambda attendee: attendee.name)

    def present(self) -> list[Attendee]:
        """The accepted sites whose SuperNode is connected now."""
        online = self._context.exchange.nodes()
        return [attendee for attendee in self.attendees() if attendee.node in online]

    def spent(self, name: str) -> float:
        """What the site `name` had spent on the study when it last said so."""
        known = [entry.facts for entry in self._nodes.values() if entry.facts is not None]
        return next((facts.epsilon_spent for facts in known if facts.name == name), 0.0)

    def check_layout(self, layout: Layout) -> None:
        """Refuse sites whose adapter layout differs from the server's, from now on at once."""
        self._layout = layout
        for node, entry in self._nodes.items():
            if entry.facts is not None and entry.accepted:
                reason = layout_contradiction(entry.facts, layout)
                if reason:
                    self._refuse(node, entry, entry.facts, reason)

    def report_missing(self) -> None:
        """Record which sites of the study have not answered."""
        answered = {entry.facts.name for entry in self._nodes.values() if entry.facts}
        for site in self._context.study.sites:
            if site.name not in answered:
                reason = self._why_missing(site.name)
                self._context.store.site_missing(site.name, reason)
                self._context.emit(SiteMissing(site.name, reason))

    def absentees(self) -> Mapping[str, str]:
        """The sites of the study that do not take part, each with its reason."""
        refused = {
            entry.facts.name: entry.trouble
            for entry in self._nodes.values()
            if entry.facts is not None and entry.trouble
        }
        present = {attendee.name for attendee in self.attendees()}
        names = [site.name for site in self._context.study.sites if site.name not in present]
        return {name: refused.get(name) or self._why_missing(name) for name in names}

    def heard(self, node: int) -> None:
        """An accepted node has just answered something else: it need not be greeted for a while."""
        entry = self._nodes.get(node)
        if entry is not None and entry.accepted and not entry.away:
            entry.heard = self._context.clock.monotonic()

    def doubt(self, node: int) -> None:
        """A node has just refused an attempt: the next roll call asks it before another begins."""
        entry = self._nodes.get(node)
        if entry is not None:
            entry.heard, entry.due = -math.inf, self._context.clock.monotonic()

    def note(self, reply: Reply) -> None:
        """Take in the answer to a greeting; other replies are ignored."""
        node = reply.request.node
        entry = self._nodes.get(node)
        if entry is None or not isinstance(reply.request.envelope.body, Hello):
            return
        match reply.answer:
            case SignedFacts() as signed:
                self._hear(node, entry, signed, self._context.consortium)
            case RosterSignature() as signature:
                self._sign(node, entry, signature)
            case SiteFacts(name=name):
                self._turn_away(node, entry, _unproved(name))
            case Refusal() as refusal:
                self._not_now(node, entry, refused_words(refusal), refusal.reason not in TRY_AGAIN)
            case FlowerFailure() as failure:
                self._not_now(node, entry, failure.explain() + ".", settled=False)
            case _:
                self._not_now(node, entry, "It answered a greeting with something else.", True)
        if entry.accepted and not entry.away and reply.request.envelope is entry.asked:
            entry.heard = self._context.clock.monotonic()
        self._ask_later(entry)

    def _sign(self, node: int, entry: Node, given: RosterSignature) -> None:
        """Keep a site's signature of the roster; once there are enough, every site gets all."""
        signing = self._context.signing
        trouble = "Its roster lacks signatures." if signing is None else signing.take(given)
        words = trouble or "Its roster lacks signatures, which it is sent as soon as they are here."
        self._not_now(node, entry, words, settled=False)
        entry.pause = self._context.timing.first_pause
        if not trouble:
            self._unsigned.add(node)
        everything = None if signing is None else signing.signatures()
        if everything is None:
            return
        for each in self._unsigned:
            envelope = Envelope(self._context.run, 0, 0, everything)
            self._context.exchange.send([Request(each, envelope)])
            if each in self._nodes:
                self._nodes[each].due = self._context.clock.monotonic()
        self._unsigned.clear()

    def _not_now(self, node: int, entry: Node, words: str, settled: bool) -> None:
        """No facts came. A site that was accepted before is away; anybody can say so for it."""
        if entry.accepted:
            entry.away = words[0].upper() + words[1:]
            return
        told = entry.trouble == words
        entry.trouble, entry.settled = words, settled
        if settled and not told:
            self._tell_node(node, words)

    def _hear(self, node: int, entry: Node, signed: SignedFacts, consortium: Roster) -> None:
        """Admit the node if the site that it names has signed what it says, for this node."""
        facts, member = signed.facts, consortium.member_named(signed.facts.name)
        if member is None:
            if self._context.study.site(facts.name) is None:
                self._turn_away(
                    node, entry, f"It calls itself {facts.name}, which is not a member."
                )
            else:
                self._admit(node, entry, facts)  # only to be refused by name
            return
        text = transcript.site_facts(self._context.run, node, facts)
        if not verify(member.public_key, signed.signature, text):
            self._turn_away(node, entry, _unproved(facts.name))
            return
        other = self._other_node(node, facts.name)
        if other is None:
            self._admit(node, entry, facts)
            return
        # The first one stays, so nothing under way changes; this one is asked again later.
        reason = (
            f"Node {other} speaks for {facts.name} already, with the same key: two gateways lead "
            "to its agent, or its key is in two places. Stop one of them; another site that is "
            "missing may have its gateway at this agent's socket."
        )
        self._turn_away(node, entry, reason, settled=False)

    def _turn_away(self, node: int, entry: Node, reason: str, *, settled: bool = True) -> None:
        """The node may not speak for the site that it names; the site's own record is kept."""
        told = entry.trouble == reason
        entry.trouble, entry.settled = reason, settled
        if not told:
            self._context.store.node_refused(node, reason)
            self._tell_node(node, reason)

    def _tell_node(self, node: int, reason: str) -> None:
        self._context.emit(NodeRefused(str(node), reason))

    def _admit(self, node: int, entry: Node, facts: SiteFacts) -> None:
        before, known = entry.facts, entry.accepted
        entry.facts, entry.settled, entry.away = facts, True, ""
        reason = study_contradiction(facts, self._context) or self._stranger(facts.name)
        if not reason and self._layout is not None:
            reason = layout_contradiction(facts, self._layout)
        if reason:
            if entry.trouble != reason:
                self._refuse(node, entry, facts, reason)
            return
        entry.trouble = ""
        joins = not known or before is None or before.name != facts.name
        if joins or (before is not None and before.epsilon_spent != facts.epsilon_spent):
            self._context.store.site_joined(facts, node)
        if joins:
            self._context.emit(
                SiteJoined(
                    site=facts.name,
                    patients=facts.declared_patients,
                    epsilon=facts.epsilon_spent,
                    budget=facts.epsilon_budget,
                    masked=True,
                )
            )

    def _stranger(self, name: str) -> str:
        consortium = self._context.consortium
        if consortium.member_named(name) is not None:
            return ""
        return "The consortium's roster does not list it. Sign a successor that does."

    def _refuse(self, node: int, entry: Node, facts: SiteFacts, reason: str) -> None:
        entry.trouble = reason
        self._context.store.site_refused(facts, node, reason)
        self._context.emit(SiteRefused(facts.name, reason))

    def _other_node(self, node: int, name: str) -> int | None:
        """The other node that speaks for `name` now; nodes that have left are forgotten."""
        online = self._context.exchange.nodes()
        for other, entry in list(self._nodes.items()):
            if other == node or entry.facts is None or entry.facts.name != name:
                continue
            if other in online:
                return other
            del self._nodes[other]  # the same site under a new registration
        return None

    def _greet(self, node: int, entry: Node) -> None:
        clock, timing = self._context.clock, self._context.timing
        hello = Hello(self._context.study.digest(), node, self._context.roster_digest())
        entry.asked = Envelope(self._context.run, 0, 0, hello)
        # Short enough for a site to survive the loss of a greeting.
        entry.due = clock.monotonic() + min(timing.silence, timing.join / 3, timing.roll_call / 3)
        self._context.exchange.send([Request(node, entry.asked)])

    def _ask_later(self, entry: Node) -> None:
        entry.due = self._context.clock.monotonic() + entry.pause
        entry.pause = min(entry.pause * 2, self._context.timing.longest_pause)

    def _complete(self) -> bool:
        """Every site has answered.

        Refusals do not count: any node can refuse, as nobody signs a refusal.
        """
        return not unheard_sites(self._context.study, self._nodes)

    def _awaited(self) -> str:
        context = self._context
        return awaited_words(context.study, self._nodes, context.exchange.nodes())

    def _why_missing(self, name: str) -> str:
        """Nobody proved that name: say what is known about the nodes that speak for no site."""
        signing = self._context.signing
        if signing is not None and (words := signing.missing(name)):
            return words
        troubles = troubles_of(self._nodes)
        if not troubles:
            return "It did not connect in time. Ask the site to start its gateway and agent."
        return "It did not join. Nodes that speak for no site report: " + " / ".join(troubles)


def _unproved(name: str) -> str:
    return (
        f"It calls itself {name}, but {name}'s key in the roster has not signed that for this run "
        "and node. Compare the site's key with the roster; if the node is not its own, remove it."
    )
