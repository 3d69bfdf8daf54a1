"""What is done in plain SQL is what Flower's own state does: two databases, one history.

Both start as copies of one file; the same clock and the same names are given to both. After each
step both have said the same, and at the end every table that messages touch holds the same.
"""

from __future__ import annotations

import itertools
import random
import sqlite3
from collections.abc import Callable, Iterator
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any, cast

import pytest
from flwr.app import Message, RecordDict
from flwr.app.message import make_message
from flwr.app.metadata import Metadata
from flwr.common.constant import Status
from flwr.proto.message_pb2 import ObjectTree
from flwr.server.superlink.linkstate import LinkState
from flwr.server.superlink.linkstate.sql_linkstate import SqlLinkState
from flwr.server.superlink.linkstate.utils import message_to_dict
from flwr.server.superlink.utils import check_abort
from flwr.supercore.object_store.sql_object_store import SqlObjectStore
from flwr.superlink.federation.noop_federation_manager import NoOpFederationManager

from craftsfl.processes.flower import plain_state as plain
from craftsfl.processes.flower.plain_state import PlainState, is_known_code, plain_state
from tests.craftsfl.processes.flower_app import FlowerApp, small_record

CLOCKS = (
    "craftsfl.processes.flower.plain_messages",
    "craftsfl.processes.flower.plain_state",
    "flwr.server.superlink.linkstate.sql_linkstate",
    "flwr.server.superlink.linkstate.utils",
    "flwr.server.utils.validator",
    "flwr.supercore.corestate.sql_corestate",
)
TABLES = (
    *("message_ins", "message_res", "objects", "object_children", "run_objects"),
    *("object_push_sessions", "object_push_session_pending", "object_push_session_roots"),
    *("node", "run", "task"),
)


class Clock:
    """The time that all of both states see."""

    def __init__(self) -> None:
        self.moment = datetime.now(tz=UTC)

    def __call__(self) -> datetime:
        return self.moment


class Pair:
    """The same state twice: in plain SQL, and as Flower keeps it."""

    def __init__(self, app: FlowerApp, source: Path, folder: Path) -> None:
        self.nodes, self.run, self.token = app.nodes, app.run, app.token["flwr-task-token"]
        self.paths = [folder / "plain.db", folder / "flower.db"]
        for path in self.paths:
            with sqlite3.connect(source) as one, sqlite3.connect(path) as other:
                one.backup(other)
                other.execute("UPDATE task SET active_until = '2099-01-01 00:00:00+00:00'")
        states = [opened(path) for path in self.paths]
        self.plain, self.flower = plain_state(states[0]), states[1]
        assert isinstance(self.plain, PlainState)

    def __call__(self, what: Callable[[LinkState], Any]) -> Any:
        """What both say."""
        said = [outcome(what, state) for state in (self.plain, self.flower)]
        assert said[0] == said[1]
        return said[0]

    def tables(self) -> list[dict[str, list[Any]]]:
        """What is in both files."""
        return [contents(path) for path in self.paths]


def opened(path: Path) -> SqlLinkState:
    store = SqlObjectStore(str(path))
    store.initialize()
    state = SqlLinkState(str(path), NoOpFederationManager(), store)
    state.initialize()
    return state


def outcome(what: Callable[[LinkState], Any], state: LinkState) -> Any:
    try:
        return plainly(what(state))
    except Exception as error:  # noqa: BLE001 - compared
        return type(error), str(error)


def plainly(said: Any) -> Any:
    if isinstance(said, list) and said and isinstance(said[0], Message):
        return sorted((sorted(message_to_dict(one).items()) for one in said), key=str)
    return said


def contents(path: Path) -> dict[str, list[Any]]:
    with sqlite3.connect(path) as connection:
        return {
            table: sorted(connection.execute(f"SELECT * FROM {table}").fetchall(), key=repr)
            for table in TABLES
        }


@pytest.fixture(scope="module")
def source(tmp_path_factory: pytest.TempPathFactory) -> Iterator[tuple[FlowerApp, Path]]:
    folder = tmp_path_factory.mktemp("flower")
    with pytest.MonkeyPatch.context() as patch:
        yield FlowerApp(folder, patch), folder / "superlink.db"


@pytest.fixture(scope="module")
def clock() -> Iterator[Clock]:
    clock = Clock()
    with pytest.MonkeyPatch.context() as patch:
        for name in CLOCKS:
            patch.setattr(f"{name}.now", clock)
        for name in ("flwr.supercore.corestate.sql_corestate", plain.__name__):
            numbers = itertools.count()
            patch.setattr(f"{name}.uuid4", lambda numbers=numbers: f"session-{next(numbers)}")
        yield clock


@pytest.fixture(scope="module")
def pair(
    source: tuple[FlowerApp, Path], clock: Clock, tmp_path_factory: pytest.TempPathFactory
) -> Pair:
    return Pair(*source, tmp_path_factory.mktemp("pair"))


class History:
    """Random steps, most of them ordinary, from a seed."""

    def __init__(self, pair: Pair, clock: Clock, seed: int) -> None:
        self.pair, self.clock, self.chance = pair, clock, random.Random(seed)
        self.contents: dict[str, bytes] = {}
        self.trees: dict[str, ObjectTree] = {}
        self.asked: dict[str, int] = {}
        self.pending: list[tuple[str, str]] = []

    def step(self) -> None:
        steps = {
            self.push: 5,
            self.fill: 9,
            self.look: 6,
            self.reply: 6,
            self.collect: 4,
            self.fetch: 4,
            self.forget: 3,
            self.account: 3,
            self.wait: 2,
        }
        (step,) = self.chance.choices(list(steps), list(steps.values()))
        step()

    def often(self, usual: Any, *unusual: Any) -> Any:
        return usual if self.chance.random() < 0.85 else self.chance.choice(unusual)

    def record(self) -> str:
        name, content = small_record()
        parts = self.chance.choice((0, 0, 0, 1, 2)) if not self.trees else 0
        below = self.chance.sample(sorted(self.trees), min(len(self.trees), parts))
        if self.chance.random() < 0.2 and self.trees:
            below = [self.chance.choice(sorted(self.trees))]
        tree = ObjectTree(object_id=name, children=[self.trees[one] for one in below])
        self.contents[name], self.trees[name] = content, tree
        return name

    def push(self) -> None:
        name = self.often(self.record(), *(self.asked or {"": 0}))
        node = self.often(self.chance.choice(self.pair.nodes), 1, 77)
        message = self.message(name, self.often(1, node), node, "")
        self.store(message, name)
        self.asked[name] = node

    def reply(self) -> None:
        if self.asked:
            to = self.chance.choice(sorted(self.asked))
            name = self.often(self.record(), *self.trees)
            node = self.often(self.asked[to], *self.pair.nodes)
            self.store(self.message(name, node, self.often(1, node), self.often(to, "x")), name)

    def message(self, name: str, source: int, to: int, answers: str) -> Message:
        metadata = Metadata(
            run_id=self.often(self.pair.run, 5),
            message_id=name,
            src_node_id=source,
            dst_node_id=to,
            reply_to_message_id=answers,
            group_id="1",
            created_at=self.clock.moment.timestamp(),
            ttl=self.often(200.0 if answers else 600.0, 0.0, 5.0, 900.0),
            message_type="query.craftsfl",
        )
        return make_message(metadata=metadata, content=RecordDict())

    def store(self, message: Message, name: str) -> None:
        session = self.pair(lambda state: state.start_session(self.pair.run))
        session = self.often(session, "another", *(one for one, _ in self.pending))
        tree = self.trees.get(name, ObjectTree(object_id=name))
        said = self.pair(lambda s: s.store_message_and_object_tree(message, tree, session))
        if isinstance(said[1], list):
            self.pending += [(session, wanted) for wanted in said[1]]

    def fill(self) -> None:
        if self.pending:
            session, name = self.pending.pop(self.chance.randrange(len(self.pending)))
            session, run = self.often(session, "", "another"), self.often(self.pair.run, 5)
            content = self.often(self.contents.get(name, b""), b"other")
            self.pair(lambda state: state.store_object(run, session, name, content))

    def look(self) -> None:
        node, limit = self.often(self.chance.choice(self.pair.nodes), 1, 77), self.often(1, None, 0)
        run = self.often(None, self.pair.run, 5)
        self.pair(lambda state: state.get_message_ins(node, limit, run_id=run))

    def collect(self) -> None:
        if self.asked:
            some = self.chance.sample(sorted(self.asked), min(len(self.asked), 3))
            names, run = {*some, *self.often([], ["0" * 64])}, self.often(self.pair.run, 5)
            self.pair(lambda state: state.get_message_res(set(names), run))
            if self.chance.random() < 0.4:
                self.pair(lambda state: state.delete_messages(names))
                for name in names:
                    self.asked.pop(name, None)

    def fetch(self) -> None:
        name = self.often(self.chance.choice(sorted(self.trees) or [""]), "0" * 64)
        self.pair(lambda state: state.get_object(self.pair.run, name))
        self.pair(lambda state: state.object_store.get_object_tree(name))

    def forget(self) -> None:
        name = self.often(self.chance.choice(sorted(self.trees) or [""]), "0" * 64)
        self.pair(lambda state: state.object_store.delete(name))

    def account(self) -> None:
        run, node = self.often(self.pair.run, 5), self.often(self.chance.choice(self.pair.nodes), 7)
        sent, received = self.often(3, 0, -1), self.often(0, 4)
        self.pair(lambda state: state.get_run_status({run}))
        self.pair(lambda s: s.store_traffic(run, bytes_sent=sent, bytes_recv=received))
        self.pair(lambda state: state.add_clientapp_runtime(run, 0.5))
        self.pair(lambda state: state.acknowledge_node_heartbeat(node, 60))
        token = self.often(self.pair.token, "none")
        self.pair(lambda state: state.get_task_by_token(token))

    def wait(self) -> None:
        self.clock.moment += timedelta(seconds=self.often(1, 170, 400))


@pytest.mark.parametrize("seed", range(2))
def test_two_states_with_one_history_are_the_same(pair: Pair, clock: Clock, seed: int) -> None:
    history = History(pair, clock, seed)
    for _ in range(50):
        history.step()
    tables = pair.tables()
    assert tables[0] == tables[1]
    assert tables[0]["run_objects"]


def test_what_flower_refuses_is_refused(pair: Pair, clock: Clock) -> None:
    history, (mine, other) = History(pair, clock, 0), pair.nodes
    history.often = lambda usual, *_: usual  # type: ignore[method-assign]

    def stored(source: int, to: int, answers: str = "", **changes: Any) -> str:
        name = history.record()
        message = history.message(name, source, to, answers)
        for field, value in changes.items():
            message.metadata.__dict__[f"_{field}"] = value
        session = pair(lambda state: state.start_session(pair.run))
        tree = history.trees[name]
        said = pair(lambda s: s.store_message_and_object_tree(message, tree, session))
        return name if said[0] else ""

    pair(lambda state: [state.acknowledge_node_heartbeat(node, 600) for node in pair.nodes])
    asked = stored(1, mine)
    assert asked
    assert not stored(other, mine)
    assert not stored(1, 77)
    assert not stored(1, mine, run_id=5)
    assert not stored(1, mine, ttl=0.0)
    assert not stored(other, 1, asked)
    assert not stored(mine, other, asked)
    assert not stored(mine, 1, "x")
    assert not stored(mine, 1, asked, run_id=5)
    assert not stored(mine, 1, asked, ttl=5000.0)
    assert stored(mine, 1, asked)
    assert not stored(mine, 1, asked)
    late = stored(1, mine)
    clock.moment += timedelta(seconds=700)
    assert not stored(mine, 1, late)
    tables = pair.tables()
    assert tables[0] == tables[1]


def test_another_flower_keeps_its_state_as_it_does(
    pair: Pair, monkeypatch: pytest.MonkeyPatch
) -> None:
    assert is_known_code()
    monkeypatch.setitem(plain.KNOWN_CODE, "flwr.supercore.sql_mixin", ("another",))
    assert plain_state(pair.flower) is pair.flower


def test_a_state_of_another_kind_stays_as_it_is(
    pair: Pair, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(pair.flower.object_store, "verify", False)
    assert plain_state(pair.flower) is pair.flower
    state = SqlLinkState(":memory:", NoOpFederationManager(), SqlObjectStore(":memory:"))
    assert plain_state(state) is state


def test_what_sqlite_refuses_is_asked_of_flower(
    pair: Pair, clock: Clock, monkeypatch: pytest.MonkeyPatch
) -> None:
    """And nothing of it is left behind."""

    def full(*_: object) -> int:
        raise sqlite3.OperationalError("database or disk is full")

    history = History(pair, clock, 0)
    session = pair(lambda state: state.start_session(pair.run))
    asked = history.record()
    message = history.message(asked, 1, pair.nodes[0], "")
    state, sql = pair.plain, cast(PlainState, pair.plain).sql
    monkeypatch.setattr(plain, "register_tree", full)
    said = state.store_message_and_object_tree(message, ObjectTree(object_id=asked), session)
    assert said == (True, [asked])
    assert len(sql.rows("SELECT 1 FROM message_ins WHERE message_id = ?", (asked,))) == 1


def test_a_run_that_has_ended_is_flowers_to_tell(pair: Pair, clock: Clock) -> None:
    """Stopped by the operator in one case; given up by Flower, for want of a heartbeat, before."""
    history = History(pair, clock, 0)
    asked, lost = history.record(), "UPDATE task SET active_until = '2020-01-01 00:00:00+00:00'"
    message = history.message(asked, 1, pair.nodes[0], "")
    history.store(message, asked)
    for path in pair.paths:
        with sqlite3.connect(path) as connection:
            connection.execute(lost)
    assert pair(lambda state: state.get_task_by_token(pair.token)) is None
    assert pair(lambda state: state.get_run_status({pair.run}))[pair.run].sub_status == "failed"
    history.store(history.message(history.record(), 1, pair.nodes[0], ""), asked)
    pair(lambda state: check_abort(pair.run, [Status.FINISHED], state))
    tables = pair.tables()
    assert tables[0] == tables[1]
    assert not tables[0]["message_ins"]
