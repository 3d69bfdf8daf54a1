"""A site's own console sees its agent come, work and go."""

from __future__ import annotations

from pathlib import Path

from client.agent.progress import ProgressEvent, ProgressSource
from client.agent.service import serve
from craftsfl.processes.agent_watch import AgentState, AgentWatch
from tests.waiting import eventually


def test_the_watch_follows_an_agent_from_loading_to_its_end(tmp_path: Path) -> None:
    socket = tmp_path / "a b.sock"
    watch = AgentWatch(socket)
    assert watch.state == AgentState()
    assert not watch.state.ready
    progress = ProgressSource()
    service = serve(lambda data: data, progress, socket, limit=1024)
    progress.publish(ProgressEvent(0, 0, 0, "encoding", 50, 100))
    assert eventually(lambda: watch.state == AgentState("encoding", 0, 2, 4))
    assert watch.state.loaded and not watch.state.ready
    progress.publish(ProgressEvent(0, 0, 0, "ready", 0, 0))
    assert eventually(lambda: watch.state.ready) and watch.state.loaded
    progress.publish(ProgressEvent(7, 3, 1, "training", 3, 4))
    assert eventually(lambda: watch.state == AgentState("training", 3, 0, 0))
    service.stop()
    assert eventually(lambda: watch.state == AgentState())
    watch.close()
