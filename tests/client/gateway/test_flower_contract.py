"""What `client.gateway.fleet` needs of Flower's inside, one by one.

Where a version of flwr differs, the failing line says in what. Run once more, with another version,
by `tests/integration/test_other_flower.py`.
"""

from __future__ import annotations

import importlib
import inspect
from importlib.metadata import version

import httpx
import pytest
from flwr.app import ConfigRecord, Message, RecordDict

from client.packing import pack
from privacy.wire.carriage import ARRAY, ONE_RECORD, RECORD

FLWR = f"flwr {version('flwr')}"

NAMES = {
    "flwr.app.message": ["remove_content_from_message"],
    "flwr.common.constant": ["HEARTBEAT_DEFAULT_INTERVAL"],
    "flwr.common.serde": ["message_from_proto", "message_to_proto"],
    "flwr.supercore.constant": ["VERSION_INCOMPATIBILITY_MESSAGE_METADATA_KEY"],
    "flwr.supercore.error": ["ApiErrorCode", "FlowerError"],
    "flwr.supercore.inflatable.inflatable_object": [
        "get_all_nested_objects",
        "get_object_id",
        "get_object_tree",
        "get_object_type_from_object_content",
        "iterate_object_tree",
        "no_object_id_recompute",
    ],
    "flwr.supercore.inflatable.inflatable_utils": ["inflate_object_from_contents"],
    "flwr.supercore.primitives.asymmetric": ["public_key_to_bytes"],
    "flwr.supercore.protobuf.client": ["ProtobufCall", "ProtobufRequestContext"],
    "flwr.supercore.runtime_version_compatibility": ["RuntimeVersionMetadata"],
    "flwr.supernode.fleet_http_client": ["FleetHttpClient"],
    "flwr.supernode.node_auth_http_interceptor": ["NodeAuthHttpInterceptor"],
}
CALLS = (
    *("ActivateNode", "DeactivateNode", "SendNodeHeartbeat"),
    *("PullMessages", "PullObject", "ConfirmMessageReceived", "PushMessages", "PushObject"),
)
FIELDS = {
    "fleet_pb2": {
        "ActivateNodeRequest": {"public_key", "heartbeat_interval"},
        "ActivateNodeResponse": {"node_id"},
        "DeactivateNodeRequest": {"node_id"},
        "PullMessagesRequest": {"node"},
        "PullMessagesResponse": {"messages_list", "message_object_trees"},
        "PushMessagesRequest": {
            *("node", "messages_list", "message_object_trees", "clientapp_runtime_list"),
        },
        "PushMessagesResponse": {"objects_to_push", "session_id"},
    },
    "heartbeat_pb2": {
        "SendNodeHeartbeatRequest": {"node", "heartbeat_interval"},
        "SendNodeHeartbeatResponse": {"success"},
    },
    "message_pb2": {
        "ConfirmMessageReceivedRequest": {"node", "run_id", "message_object_id"},
        "Metadata": {"run_id", "message_id", "group_id", "created_at"},
        "ObjectTree": {"object_id", "children"},
        "PullObjectRequest": {"node", "run_id", "object_id"},
        "PullObjectResponse": {"object_found", "object_available", "object_content"},
        "PushObjectRequest": {"node", "run_id", "object_id", "object_content", "session_id"},
        "PushObjectResponse": {"stored"},
    },
    "node_pb2": {"Node": {"node_id"}},
}


@pytest.mark.parametrize("module", NAMES)
def test_the_names_are_there(module: str) -> None:
    found = importlib.import_module(module)
    missing = [name for name in NAMES[module] if not hasattr(found, name)]
    assert missing == [], f"{FLWR}: {module} has no {', '.join(missing)}"


@pytest.mark.parametrize("module", FIELDS)
def test_the_messages_have_the_fields(module: str) -> None:
    found = importlib.import_module(f"flwr.proto.{module}")
    for name, wanted in FIELDS[module].items():
        fields = {field.name for field in getattr(found, name).DESCRIPTOR.fields}
        assert wanted <= fields, f"{FLWR}: {name} has no {', '.join(wanted - fields)}"


def test_the_client_takes_what_it_is_given() -> None:
    from flwr.supernode.fleet_http_client import FleetHttpClient
    from flwr.supernode.node_auth_http_interceptor import NodeAuthHttpInterceptor

    missing = [call for call in CALLS if not hasattr(FleetHttpClient, call)]
    assert missing == [], f"{FLWR}: FleetHttpClient has no {', '.join(missing)}"
    parameters = set(inspect.signature(FleetHttpClient).parameters)
    assert {"base_url", "interceptors", "verify", "timeout"} <= parameters, FLWR
    made = FleetHttpClient("https://localhost:1")
    assert isinstance(getattr(made, "_client", None), httpx.Client), f"{FLWR}: bind_answers"
    made.close()
    signed = list(inspect.signature(NodeAuthHttpInterceptor).parameters)
    assert signed == ["private_key", "public_key"], FLWR


def test_the_codes_mean_what_they_did() -> None:
    from flwr.supercore.error import ApiErrorCode, FlowerError

    codes = (ApiErrorCode.RUNTIME_VERSION_INCOMPATIBLE, ApiErrorCode.FLEET_NODE_ACTIVATION_FAILED)
    assert codes == (1001, 2004), FLWR
    error = FlowerError.from_json('{"code": 2004, "detail": "words"}')
    assert error is not None
    assert (error.code, error.message) == (2004, "words"), FLWR


def test_a_node_is_counted_as_online_for_a_minute() -> None:
    from flwr.common import constant

    online = constant.HEARTBEAT_DEFAULT_INTERVAL * constant.HEARTBEAT_PATIENCE
    assert online == 60, f"{FLWR}: correct ADMITTED_SECONDS and HEARTBEAT_SECONDS"


def test_a_small_message_is_three_objects_whose_last_is_the_record_alone() -> None:
    """So that one object is all that has to be fetched."""
    from flwr.supercore.inflatable.inflatable_object import (
        get_object_id,
        get_object_tree,
        get_object_type_from_object_content,
    )
    from flwr.supercore.task_identity import TaskIdentity

    TaskIdentity.run_id, TaskIdentity.node_id, TaskIdentity.task_id = 7, 1, 1
    content = pack(bytes(ONE_RECORD))
    tree = get_object_tree(Message(content, dst_node_id=5, message_type="query.craftsfl"))
    (record,) = tree.children[0].children
    assert not record.children, FLWR
    data = content[RECORD].deflate()
    assert get_object_id(data) == record.object_id, FLWR
    assert get_object_type_from_object_content(data) == "ConfigRecord", FLWR
    assert RecordDict({RECORD: ConfigRecord.inflate(data)})[RECORD][ARRAY] == bytes(ONE_RECORD)
