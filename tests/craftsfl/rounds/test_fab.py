"""The app bundle: what is in it, and that both apps run from it and from nowhere else."""

import io
import os
import shutil
import subprocess
import sys
import tempfile
import zipfile
from pathlib import Path

import pytest

from client.agent.progress import ProgressSource
from client.agent.service import serve
from craftsfl.rounds import fab
from privacy.errors import DeploymentError
from privacy.wire.bodies import Hello, Running
from privacy.wire.envelope import Envelope, seal, size_limit

ROOT = Path(__file__).resolve().parents[3]
REQUEST = seal(Envelope(7, 2, 1, Hello(bytes(32))))
ANSWER = seal(Envelope(7, 2, 1, Running()))

# Run with the bundle's folder first on the path; prints what came back and where modules are from.
PRELUDE = """
import gc, sys
gc.disable()  # a fifth of the time in which large libraries are imported
folder, socket = sys.argv[1:]
sys.path.insert(0, folder)
from flwr.supercore.task_identity import TaskIdentity
TaskIdentity.run_id, TaskIdentity.node_id, TaskIdentity.task_id = 7, 1, 1
"""
CLIENT = """
import client.app
from flwr.app import Context, Message, RecordDict
request = bytes.fromhex("{request}")
message = Message(client.app.pack(request), dst_node_id=5, message_type="query.craftsfl")
context = Context(7, 5, {{"agent-socket": socket}}, RecordDict(), {{}})
print(client.app.unpack(client.app.app(message, context).content).hex())
"""
SERVER = """
import server.app
from flwr.serverapp import ServerApp
from privacy.wire.bodies import Hello
from privacy.wire.envelope import Envelope, seal
from server.inprocess import InProcessGrid
from server.messages import Exchange, Request
assert isinstance(server.app.app, ServerApp)
exchange = Exchange(InProcessGrid({{5: lambda data: bytes.fromhex("{answer}")}}, run_id=7))
exchange.send([Request(5, Envelope(7, 2, 1, Hello(bytes(32))))])
(reply,) = exchange.receive()
print(seal(Envelope(7, 2, 1, reply.answer)).hex())
"""
WHENCE = """
ours = {"server", "client", "strategies", "model", "privacy", "craftsfl"}
for name, module in sorted(sys.modules.items()):
    if name.partition(".")[0] in ours and getattr(module, "__file__", None):
        print(module.__file__)
"""


@pytest.fixture(scope="module")
def staged(tmp_path_factory):
    return fab.stage(tmp_path_factory.mktemp("stage"))


@pytest.fixture(scope="module")
def bundle(staged):
    return fab.build(staged)


@pytest.fixture(scope="module")
def unpacked(bundle, tmp_path_factory):
    """The bundle as Flower's own client process unpacks it."""
    from flwr.cli.install import install_from_fab

    return install_from_fab(bundle, tmp_path_factory.mktemp("home"), skip_prompt=True)


@pytest.fixture
def agent():
    folder = Path(tempfile.mkdtemp(prefix="cfl"))  # pytest's own may be too deep for a socket
    server = serve(lambda data: ANSWER, ProgressSource(), folder / "s", limit=size_limit(0))
    yield folder / "s"
    server.stop(grace=0)
    shutil.rmtree(folder)


def names(bundle: bytes) -> set[str]:
    """Of the modules of ours in it."""
    listed = zipfile.ZipFile(io.BytesIO(bundle)).namelist()
    assert len(listed) == len(set(listed))
    return set(listed) - {".info/CONTENT", "pyproject.toml"}


def sources(*folders: str) -> set[str]:
    return {
        path.relative_to(ROOT).as_posix()
        for folder in folders
        for path in (ROOT / folder).rglob("*.py")
    }


def test_the_bundle_holds_server_and_strategies_whole(bundle):
    assert names(bundle) >= sources("server", "strategies")


def test_of_model_and_privacy_it_holds_a_part_and_of_client_the_forwarder(bundle):
    rest = names(bundle) - sources("server", "strategies")
    forwarder = {"app.py", "forwarded.py", "forwarder.py", "packing.py", "__init__.py"}
    assert rest - sources("model", "privacy") == {f"client/{name}" for name in forwarder}


def test_neither_the_laboratory_nor_what_only_a_site_runs_is_in_it(bundle):
    laboratory = sources("model/lab")
    assert len(laboratory) > 80
    assert names(bundle).isdisjoint(laboratory | {"privacy/secagg/client.py"})


@pytest.mark.slow
@pytest.mark.ci
def test_every_import_in_it_is_in_it(unpacked, tmp_path):
    """By Python itself: each module is imported, and no module of ours comes from elsewhere.

    So nothing of the laboratory is loaded either: the coordinator draws grids without it.
    """
    modules = sorted(
        path.relative_to(unpacked).with_suffix("").as_posix().replace("/", ".")
        for path in unpacked.rglob("*.py")
        if path.name != "__init__.py"
    )
    script = f"import importlib\nfor name in {modules}: importlib.import_module(name)\n"
    done = subprocess.run(
        [sys.executable, "-c", PRELUDE + script + WHENCE, str(unpacked), ""],
        capture_output=True,
        text=True,
        cwd=tmp_path,
        timeout=120,
    )
    assert done.returncode == 0, done.stderr
    files = done.stdout.split()
    assert len(files) > len(modules)
    assert f"{unpacked}/server/samples.py" in files
    assert not [file for file in files if "/model/lab/" in file]
    assert [file for file in files if not Path(file).is_relative_to(unpacked)] == []


def test_the_bundle_holds_the_files_as_they_are(bundle):
    archive = zipfile.ZipFile(io.BytesIO(bundle))
    for name in names(bundle) - {"client/__init__.py"}:
        assert archive.read(name) == (ROOT / name).read_bytes(), name
    assert archive.read("client/__init__.py") == b""


def test_the_bundle_is_within_flowers_limits(staged, bundle):
    assert staged.name == "craftsfl"
    assert len(bundle) < 10 * 1024 * 1024
    assert max(len(Path(name).parts) for name in names(bundle)) <= 10


def test_the_bundle_is_reproducible(bundle, tmp_path):
    assert fab.build(fab.stage(tmp_path)) == bundle


def test_a_run_names_its_settings(staged):
    """Flower refuses a --run-config key that the bundle does not declare."""
    from flwr.cli.config_utils import load_and_validate

    config, warnings = load_and_validate(staged / "pyproject.toml")
    assert config["tool"]["flwr"]["app"]["config"] == {"settings": "", "run": 0}
    assert warnings == []


@pytest.mark.parametrize(
    ("script", "answer"),
    [
        pytest.param(CLIENT.format(request=REQUEST.hex()), ANSWER, id="client"),
        pytest.param(SERVER.format(answer=ANSWER.hex()), ANSWER, id="server"),
    ],
)
def test_both_apps_run_from_the_unpacked_bundle(unpacked, agent, tmp_path, script, answer):
    environment = {name: value for name, value in os.environ.items() if name != "PYTHONPATH"}
    done = subprocess.run(
        [sys.executable, "-c", PRELUDE + script + WHENCE, str(unpacked), str(agent)],
        capture_output=True,
        text=True,
        cwd=tmp_path,
        env=environment,
        timeout=120,
    )
    assert done.returncode == 0, done.stderr
    reply, *files = done.stdout.split("\n")[:-1]
    assert reply == answer.hex()
    assert files
    assert [file for file in files if not Path(file).is_relative_to(unpacked)] == []


def test_staging_twice_in_one_folder_is_refused(staged):
    with pytest.raises(DeploymentError, match="cannot be staged"):
        fab.stage(staged.parent)


def test_a_missing_package_is_named(monkeypatch, tmp_path):
    monkeypatch.setattr(fab, "PARTLY", ("absent_package",))
    with pytest.raises(DeploymentError, match="absent_package is not installed"):
        fab.stage(tmp_path)
