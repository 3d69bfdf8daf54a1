"""The committed protobuf code is what protoc makes of the .proto files."""

import re
from pathlib import Path

import pytest
from google.protobuf import descriptor_pb2

from privacy.wire import agent_pb2, envelope_pb2

protoc = pytest.importorskip("grpc_tools.protoc")
ROOT = Path(__file__).resolve().parents[3]


@pytest.mark.parametrize("module", [envelope_pb2, agent_pb2], ids=["envelope", "agent"])
def test_descriptors_are_up_to_date(module, tmp_path):
    name = module.DESCRIPTOR.name
    out = tmp_path / "set"
    assert protoc.main(["protoc", f"-I{ROOT}", f"--descriptor_set_out={out}", name]) == 0
    (made,) = descriptor_pb2.FileDescriptorSet.FromString(out.read_bytes()).file
    committed = descriptor_pb2.FileDescriptorProto()
    module.DESCRIPTOR.CopyToProto(committed)
    assert without_json_names(made) == without_json_names(committed)


def without_json_names(file):
    for message in file.message_type:
        for field in message.field:
            field.ClearField("json_name")
    return file


def test_service_code_is_up_to_date(tmp_path):
    name = agent_pb2.DESCRIPTOR.name
    assert protoc.main(["protoc", f"-I{ROOT}", f"--grpc_python_out={tmp_path}", name]) == 0
    version = re.compile(r"GRPC_GENERATED_VERSION = .*")
    made = (tmp_path / "privacy/wire/agent_pb2_grpc.py").read_text()
    committed = (ROOT / "privacy/wire/agent_pb2_grpc.py").read_text()
    assert version.sub("", made) == version.sub("", committed)
