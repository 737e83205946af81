"""What a worker, or somebody who says he is one, says on a stream: the right messages in any order, or any messages."""

import random

from dispatchd.domain import limits
from dispatchd.v1 import dispatchd_pb2 as pb
from fuzz.damage import damaged, noise
from fuzz.messages import Messages

_PARTS = tuple(field.name for field in pb.ConnectRequest.DESCRIPTOR.oneofs_by_name["payload"].fields)
_LIKELY = {"registration": 1, "heartbeat": 3, "result": 5, "results": 2, "log_chunk": 1, "started": 2, "give_back": 2}
_LONGEST = 12
_WAIT_SHARE = 0.3
_DAMAGE_SHARE = 0.06
_LARGE_SHARE = 0.003


def conversation(chance: random.Random, messages: Messages) -> tuple[tuple[bytes, ...], frozenset[int]]:
    """Messages, and those after which the worker waits for an answer."""
    hostility = chance.choice([0.0, 0.0, 0.0, 0.0, 0.02, 0.05, 0.2])
    first = chance.choices(["registration", "heartbeat", "result", "any"], [0.7, 0.1, 0.1, 0.1])[0]
    said = [_said(chance, messages, _any_part(chance) if first == "any" else first, hostility)]
    said += [_said(chance, messages, _any_part(chance), hostility) for _ in range(chance.randrange(_LONGEST))]
    waits = {number for number in range(len(said)) if chance.random() < _WAIT_SHARE}
    return tuple(said), frozenset(waits)


def _any_part(chance: random.Random) -> str:
    # A part that is new in the contract is as likely as the rarest.
    return chance.choices(_PARTS, [_LIKELY.get(part, 1) for part in _PARTS])[0]


def _said(chance: random.Random, messages: Messages, part: str, hostility: float) -> bytes:
    draw = chance.random()
    if draw < _LARGE_SHARE:
        return _large(chance)
    message = messages.encoded_part(pb.ConnectRequest, part, hostility)
    if hostility and draw < _DAMAGE_SHARE:
        return noise(chance) if draw < _DAMAGE_SHARE / 6 else damaged(chance, message)
    return message


def _large(chance: random.Random) -> bytes:
    """Results and lists at and beyond their bounds."""
    size = chance.choice([limits.RESULT_BYTES, limits.RESULT_BYTES + 1, limits.REQUEST_BYTES + 1])
    unknown = "exec_" + "0" * 32
    return chance.choice(
        [
            pb.ConnectRequest(result=pb.TaskResult(execution_id=unknown, success=True, payload=b"x" * size)),
            pb.ConnectRequest(result=pb.TaskResult(execution_id=unknown, error_message="\N{SNOWMAN}" * (size // 3))),
            pb.ConnectRequest(give_back=pb.GiveBack(execution_ids=[unknown] * chance.choice([1_000, 1_001]))),
            pb.ConnectRequest(
                registration=pb.WorkerRegistration(
                    worker_id="fuzz-large",
                    capabilities=["fuzz-a"],
                    process_id="p",
                    features=[pb.WORKER_FEATURE_RESUME],
                    held_execution_ids=[unknown] * chance.choice([10_000, 10_001]),
                )
            ),
        ]
    ).SerializeToString()
