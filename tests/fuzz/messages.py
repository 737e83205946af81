"""Messages of any type, built from its descriptor: well-formed, with as many hostile values as asked for."""

import random
from typing import Any

from google.protobuf.message import Message

from dispatchd.domain import limits
from fuzz.values import Field, Values

_TIMES = ("google.protobuf.Timestamp", "google.protobuf.Duration")
_LEFT_OUT = 0.35
"""Of the fields that an honest caller may leave out."""
_REQUIRED = {
    "job_type", "payload", "job_id", "job_ids", "items", "request", "worker_id", "process_id", "capabilities",
    "execution_id", "execution_ids", "results", "wait",
}  # fmt: skip
_COUNTS = (0, 1, 2, 3, 64, 65)
_LARGE_COUNTS = (limits.SUBMIT_ITEMS, limits.SUBMIT_ITEMS + 1, limits.HELD_EXECUTIONS + 1)
_LARGE_SHARE = 0.02
_DEEPEST = 4
_MOST_BYTES = 5 * 1024 * 1024
"""Of one list; beyond the bound of a whole message."""


class Messages:
    """Draws from `chance` alone."""

    def __init__(self, chance: random.Random, values: Values) -> None:
        self._chance = chance
        self._values = values

    def encoded(self, kind: type[Message], hostility: float) -> bytes:
        """A message in its encoding; each field is hostile with the probability `hostility`."""
        message = kind()
        self._fill(message, hostility, 0)
        return message.SerializeToString()

    def encoded_part(self, kind: type[Message], part: str, hostility: float) -> bytes:
        """A message that says this one of the things it may say, such as a heartbeat."""
        message = kind()
        self._set(message, message.DESCRIPTOR.fields_by_name[part], hostility, 0)
        return message.SerializeToString()

    def _fill(self, message: Message, hostility: float, depth: int) -> None:
        descriptor: Any = message.DESCRIPTOR
        for oneof in descriptor.oneofs:
            self._set(message, self._chance.choice(oneof.fields), hostility, depth)
        for field in descriptor.fields:
            if field.containing_oneof is not None:
                continue
            is_optional = field.name not in _REQUIRED or self._is_hostile(hostility / 4)
            if not is_optional or self._chance.random() >= _LEFT_OUT:
                self._set(message, field, hostility, depth)

    def _is_hostile(self, hostility: float) -> bool:
        return hostility > 0 and self._chance.random() < hostility

    def _set(self, message: Message, field: Field, hostility: float, depth: int) -> None:
        is_map = field.message_type is not None and field.message_type.GetOptions().map_entry
        if is_map:
            self._set_map(getattr(message, field.name), hostility)
        elif field.is_repeated:
            self._set_list(getattr(message, field.name), field, hostility, depth)
        elif field.message_type is not None:
            inner = getattr(message, field.name)
            inner.SetInParent()
            self._set_message(inner, hostility, depth)
        else:
            is_hostile = self._is_hostile(hostility)
            setattr(message, field.name, self._values.hostile(field) if is_hostile else self._values.honest(field))

    def _set_message(self, message: Any, hostility: float, depth: int) -> None:
        if message.DESCRIPTOR.full_name in _TIMES:
            message.seconds, message.nanos = self._values.time(is_hostile=self._is_hostile(hostility))
        elif depth < _DEEPEST:
            self._fill(message, hostility, depth + 1)

    def _set_list(self, target: Any, field: Field, hostility: float, depth: int) -> None:
        count = self._chance.randrange(1, 4)
        if self._is_hostile(hostility):
            count = self._chance.choice(_LARGE_COUNTS if self._chance.random() < _LARGE_SHARE else _COUNTS)
        if field.message_type is not None:
            for _ in range(min(count, 3)):
                self._set_message(target.add(), hostility, depth)
            if count > 3:
                # A message in a list in a list would be hundreds of megabytes.
                room = _MOST_BYTES // max(1, *(each.ByteSize() for each in target))
                target.extend([target[0]] * min(count - 3, room))
        elif count > 3:
            value = self._values.honest(field)
            target.extend([value] * count)
        else:
            for _ in range(count):
                is_hostile = self._is_hostile(hostility)
                target.append(self._values.hostile(field) if is_hostile else self._values.honest(field))

    def _set_map(self, target: Any, hostility: float) -> None:
        count = self._chance.randrange(3)
        if self._is_hostile(hostility):
            count = self._chance.choice(_COUNTS)
        for number in range(count):
            key, value = f"label-{number}", "value"
            if self._is_hostile(hostility / 2):
                key, value = self._values.hostile_text(), self._values.hostile_text()
            target[key] = value
