"""What `dispatchd region` shows: the status, what is waited for, and what is in the way."""

from datetime import datetime, timedelta

from dispatchd.application.region_status import RegionStatus
from dispatchd.application.region_switch import Blockers, Outcome, StillBlocked, Switched
from dispatchd.cli.words import age_in_words, counted, duration_in_words, on_one_line, time_in_words
from dispatchd.domain.region import RegionRow

_SHOWN = 5


def status_text(region: str, status: RegionStatus) -> str:
    """A table of two columns; `region` is REGION of this process. Ages are by the database's clock."""
    row, lease_end = status.row, status.latest_lease_end

    def moment(time: datetime) -> str:
        return f"{time_in_words(time)} ({age_in_words(time, now=status.read_at)})"

    lines = (
        ("region", region),
        ("database", f"{status.database}, at {status.wal_position}"),
        ("read at", time_in_words(status.read_at)),
        ("primary", row.primary_region),
        ("epoch", str(row.epoch)),
        ("mode", row.mode.value),
        ("since", moment(row.changed_at)),
        ("in flight", counted(status.in_flight, "execution")),
        ("last lease", "none runs" if lease_end is None else f"ends {moment(lease_end)}"),
    )
    return "\n".join(f"{name:<11} {value}" for name, value in lines)


def status_shape(region: str, status: RegionStatus) -> dict[str, object]:
    lease_end = status.latest_lease_end
    return {
        "region": region,
        "database": status.database.value,
        "wal_position": status.wal_position,
        "read_at": status.read_at.isoformat(),
        **row_shape(status.row),
        "in_flight": status.in_flight,
        "latest_lease_end": None if lease_end is None else lease_end.isoformat(),
    }


def row_shape(row: RegionRow) -> dict[str, object]:
    return {
        "primary_region": row.primary_region,
        "epoch": row.epoch,
        "mode": row.mode.value,
        "changed_at": row.changed_at.isoformat(),
    }


def switched_text(done: Switched) -> str:
    words = {
        Outcome.CHANGED: "done",
        Outcome.RESUMED: "done (the row was changed by an earlier run)",
        Outcome.UNCHANGED: "nothing to do",
    }[done.outcome]
    note = f", {done.note}" if done.note else ""
    return f"{words}{note}: {_row_words(done.row)}"


def switched_shape(done: Switched) -> dict[str, object]:
    return row_shape(done.row) | {"outcome": done.outcome.value, "blockers": []}


def waiting_text(blockers: Blockers, waited: timedelta) -> str:
    names = [f"pid {transaction.pid}" for transaction in blockers.transactions]
    names += [f"prepared {prepared.gid!r}" for prepared in blockers.prepared]
    shown = ", ".join(names[:_SHOWN]) + (f" and {len(names) - _SHOWN} more" if len(names) > _SHOWN else "")
    return f"waiting {duration_in_words(waited)} for {counted(len(names), 'older transaction')}: {shown}"


def blocked_text(blocked: StillBlocked, *, terminates: bool) -> str:
    blockers = blocked.blockers
    lines = [
        (
            f"the row is changed ({_row_words(blocked.row)}), but after {duration_in_words(blocked.waited)} "
            f"{counted(len(blockers), 'transaction')} from before may still write:"
        )
    ]
    for transaction in blockers.transactions:
        age = "" if transaction.age is None else f" for {duration_in_words(transaction.age)}"
        lines.append(
            f"  pid {transaction.pid}: user {transaction.user or '?'}, application "
            f"{on_one_line(transaction.application) or '?'}, {transaction.state or 'state unknown'}{age}"
        )
    lines += [
        f"  prepared transaction {prepared.gid!r}: user {prepared.user}, {age_in_words(prepared.prepared_at)}; "
        "only COMMIT PREPARED or ROLLBACK PREPARED ends it"
        for prepared in blockers.prepared
    ]
    if blocked.note:
        lines.append(blocked.note)
    advice = ", or with --terminate to end these sessions" if blockers.transactions and not terminates else ""
    lines.append(f"Run the same command again to go on waiting{advice}.")
    return "\n".join(lines)


def blocked_shape(blocked: StillBlocked) -> dict[str, object]:
    transactions = [
        {
            "pid": each.pid,
            "prepared": None,
            "user": each.user,
            "application": each.application,
            "state": each.state,
            "since": None if each.started_at is None else each.started_at.isoformat(),
        }
        for each in blocked.blockers.transactions
    ]
    prepared = [
        {
            "pid": None,
            "prepared": each.gid,
            "user": each.user,
            "application": "",
            "state": "prepared",
            "since": each.prepared_at.isoformat(),
        }
        for each in blocked.blockers.prepared
    ]
    return row_shape(blocked.row) | {"outcome": "blocked", "blockers": transactions + prepared}


def _row_words(row: RegionRow) -> str:
    return f"primary {row.primary_region}, epoch {row.epoch}, {row.mode}"
