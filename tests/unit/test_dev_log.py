"""What `dispatchd dev` shows is readable and says where each line came from."""

import json

from dispatchd.entrypoints.dev_log import DevLog


def shown(name: str, line: str, coloured: bool = False) -> str:
    written: list[str] = []
    DevLog(written.append, coloured)(name, line)
    return "".join(written)


def entry(**fields: object) -> str:
    fixed = {"time": "2026-05-01T10:20:30.123456Z", "level": "info", "logger": "dispatchd.x", "message": "started"}
    return json.dumps(fixed | {"role": "scheduler", "region": "local", "instance_id": "s"} | fields)


def test_a_log_line_is_written_out_for_people() -> None:
    line = shown("scheduler", entry(job_id="job_1", batch=3, reason="two words"))
    assert line == 'scheduler         | 10:20:30.123 info    started job_id=job_1 batch=3 reason="two words"\n'


def test_a_traceback_has_the_name_on_every_line() -> None:
    text = shown("worker-gateway-2", entry(level="error", exception="Traceback\n  boom"))
    assert [line.partition(" | ")[0].strip() for line in text.splitlines()] == ["worker-gateway-2"] * 3


def test_anything_else_is_shown_as_it_is() -> None:
    assert shown("dev", "hello") == "dev               | hello\n"
    assert shown("dev", '{"half": 1}') == 'dev               | {"half": 1}\n'
    assert shown("dev", "17") == "dev               | 17\n"


def test_colours_are_for_terminals_only() -> None:
    assert "\x1b[" in shown("worker-gateway-2", entry(), coloured=True)
    assert "\x1b[" not in shown("worker-gateway-2", entry())
