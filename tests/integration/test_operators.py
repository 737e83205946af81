"""What operators see: the registry of workers and the queues, in pages that fit into an answer."""

from collections.abc import AsyncIterator
from datetime import UTC, datetime

import asyncpg
import pytest

from control_planes import ControlPlane, control_plane_on
from dispatchd.application.ports import NewSession, Renewal
from dispatchd.domain import limits
from dispatchd.domain.settlement import Succeeded
from dispatchd.domain.worker import Registration, WorkerStatus
from dispatchd.v1 import dispatchd_pb2 as pb
from stores import FENCE, LEASE, Stores, from_now, ids, insert, new_job, open_stores, register, sql

Session = asyncpg.Connection


@pytest.fixture
async def plane(database_url: str, redis_address: str) -> AsyncIterator[ControlPlane]:
    async with control_plane_on(database_url, redis_address) as plane:
        yield plane


@pytest.fixture
async def stores(database_url: str) -> AsyncIterator[Stores]:
    async with open_stores(database_url) as stores:
        yield stores


async def pages(plane: ControlPlane, size: int = 0) -> list[list[pb.Worker]]:
    found, token = [], ""
    while True:
        request = pb.ListWorkersRequest(page_size=size, page_token=token)
        answer = await plane.operators.ListWorkers(request, timeout=15.0)
        assert answer.ByteSize() <= limits.ANSWER_BYTES
        found.append(list(answer.workers))
        token = answer.next_page_token
        if not token:
            return found


async def test_a_worker_is_shown_as_it_said_of_itself_and_as_it_is(plane: ControlPlane, stores: Stores) -> None:
    registration = Registration("worker-1", ("email", "report"), 7, {"zone": "näh"})
    session_id = ids.session_id()
    new = NewSession(session_id, registration, "anonymous", "gateway-1", "ipv4:127.0.0.1:1", LEASE)
    before = datetime.now(UTC)
    await stores.sessions.open(new, lambda omitted, is_same: [], FENCE)
    await insert(stores, new_job(), new_job())
    helper = await register(stores, "worker-0")
    helper.session_id = session_id
    held = await helper.claim(2)
    [[idle, shown]] = await pages(plane)
    assert (idle.worker_id, idle.held) == ("worker-0", 0)
    assert (shown.worker_id, shown.status, shown.held) == ("worker-1", pb.WORKER_STATUS_READY, 2)
    assert (list(shown.capabilities), shown.max_concurrency) == (["email", "report"], 7)
    assert (dict(shown.labels), shown.gateway) == ({"zone": "näh"}, "gateway-1")
    assert before <= shown.last_seen_at.ToDatetime(UTC) <= datetime.now(UTC)
    await helper.end(Succeeded(), held[0].execution_id)
    await stores.sessions.renew([Renewal(session_id, "worker-1", WorkerStatus.DRAINING)], LEASE, FENCE)
    [[_, shown]] = await pages(plane)
    assert (shown.status, shown.held) == (pb.WORKER_STATUS_DRAINING, 1)
    await stores.sessions.close([session_id], FENCE)
    [[_, shown]] = await pages(plane)
    assert (shown.status, shown.held) == (pb.WORKER_STATUS_OFFLINE, 1)


async def test_workers_are_listed_by_id_in_pages(plane: ControlPlane, stores: Stores) -> None:
    names = [f"{letter}{n}" for letter in ("b", "Ä", "a", "z", "A", "é", " ", "%") for n in range(3)]
    for name in names:
        await register(stores, name)
    listed = await pages(plane, 5)
    assert [len(page) for page in listed] == [5, 5, 5, 5, 4]
    found = [worker.worker_id for page in listed for worker in page]
    assert sorted(found) == sorted(names)
    assert [worker.worker_id for worker in (await pages(plane, 100))[0]] == found


async def test_a_page_of_workers_with_large_labels_is_cut(plane: ControlPlane, database_url: str) -> None:
    async with sql(database_url) as session:
        await session.execute(
            "insert into workers (worker_id, capabilities, slots, labels, session_id) "
            "select 'w' || n, (select array_agg(repeat('c', 195) || c) from generate_series(1, 64) c), 1, "
            "jsonb_build_object('label', repeat('é', 8000)), gen_random_uuid() from generate_series(1, 400) n"
        )
        await session.execute(
            "insert into worker_sessions (session_id, worker_id, process_id, principal, gateway, peer, status, "
            "lease_expires_at, last_seen_at) select session_id, worker_id, '', '', repeat('g', 200), '', 'ready', "
            "now(), now() from workers"
        )
    listed = await pages(plane, 400)
    assert sum(len(page) for page in listed) == 400
    assert len(listed) == 3


async def test_queues_show_what_could_start_how_long_it_waits_and_what_waits_for_its_time(
    plane: ControlPlane, stores: Stores, database_url: str
) -> None:
    assert list((await plane.operators.ListQueues(pb.ListQueuesRequest())).queues) == []
    await insert(stores, *(new_job("report.render") for _ in range(3)), new_job("report", run_at=from_now(hours=1)))
    await insert(stores, new_job("later", run_at=from_now(hours=1)), *(new_job() for _ in range(2)))
    hands = await register(stores)
    await hands.claim(2)
    async with sql(database_url) as session:
        await session.execute(
            "update executions set due_at = now() - interval '90 seconds' where execution_id in "
            "(select execution_id from executions where capability = 'report' and state = 'queued' limit 1)"
        )
    later, report = (await plane.operators.ListQueues(pb.ListQueuesRequest())).queues
    assert (later.capability, later.depth, later.delayed, later.oldest_age.seconds) == ("later", 0, 1, 0)
    assert (report.capability, report.depth, report.delayed) == ("report", 3, 1)
    assert 90 <= report.oldest_age.seconds < 120
