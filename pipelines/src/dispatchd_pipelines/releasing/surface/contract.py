"""The messages, enums and services of the contract, from a descriptor image such as `buf build` makes."""

from collections.abc import Iterable, Iterator
from pathlib import Path
from tempfile import TemporaryDirectory

import grpc_tools
from google.protobuf.descriptor_pb2 import DescriptorProto, EnumDescriptorProto, FieldDescriptorProto, FileDescriptorSet
from grpc_tools import protoc

from dispatchd_pipelines.releasing.refused import Refused
from dispatchd_pipelines.releasing.surface import Names

_FILE = "dispatchd/v1/dispatchd.proto"


def contract_image(root: Path) -> bytes:
    """The image of the contract in this tree, with what it imports."""
    well_known = Path(grpc_tools.__file__).parent / "_proto"
    with TemporaryDirectory() as folder:
        image = Path(folder) / "image.binpb"
        paths = [f"--proto_path={root / 'proto'}", f"--proto_path={well_known}"]
        if protoc.main(["protoc", *paths, "--include_imports", f"--descriptor_set_out={image}", _FILE]) != 0:
            raise Refused(f"proto/{_FILE}: protoc can't read it: see above")
        return image.read_bytes()


def contract_names(image: bytes) -> Names:
    """What is ours in an image."""
    names: dict[str, str] = {}
    for file in FileDescriptorSet.FromString(image).file:
        if file.package.startswith("google."):
            continue
        names |= _in_messages(f"{file.package}.", file.message_type)
        names |= _in_enums(f"{file.package}.", file.enum_type)
        for service in file.service:
            for rpc in service.method:
                takes = f"{'stream ' if rpc.client_streaming else ''}{rpc.input_type.removeprefix('.')}"
                gives = f"{'stream ' if rpc.server_streaming else ''}{rpc.output_type.removeprefix('.')}"
                names[f"{file.package}.{service.name}.{rpc.name}"] = f"rpc({takes}) returns ({gives})"
    return names


def _in_messages(prefix: str, messages: Iterable[DescriptorProto]) -> Iterator[tuple[str, str]]:
    for message in messages:
        name = f"{prefix}{message.name}"
        yield name, "message"
        for field in message.field:
            yield f"{name}.{field.name}", _field(message, field)
        yield from _in_messages(f"{name}.", message.nested_type)
        yield from _in_enums(f"{name}.", message.enum_type)


def _in_enums(prefix: str, enums: Iterable[EnumDescriptorProto]) -> Iterator[tuple[str, str]]:
    for enum in enums:
        for value in enum.value:
            yield f"{prefix}{enum.name}.{value.name}", f"{value.number}"


def _field(message: DescriptorProto, field: FieldDescriptorProto) -> str:
    kind = field.type_name.removeprefix(".") or FieldDescriptorProto.Type.Name(field.type).removeprefix("TYPE_").lower()
    label = "repeated " if field.label == FieldDescriptorProto.LABEL_REPEATED else ""
    if field.proto3_optional:
        label = "optional "
    elif field.HasField("oneof_index"):
        label = f"oneof {message.oneof_decl[field.oneof_index].name}: "
    return f"{label}{kind} = {field.number}"
