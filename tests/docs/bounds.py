"""Where the bounds on docs/limits.md stand in the code.

`module:NAME` is a constant of the package; without a module it is one of `dispatchd.domain.limits`. Braces in a text
stand for such a bound.
"""

CLIENT_BOUNDS = {
    "job type": "JOB_TYPE_BYTES",
    "payload": "PAYLOAD_BYTES",
    "idempotency key": "IDEMPOTENCY_KEY_BYTES",
    "metadata: entries": "METADATA_ENTRIES",
    "metadata: keys and values together": "METADATA_BYTES",
    "`run_at`, `timeout` and backoffs": "LONGEST_DELAY",
    "`max_attempts`": "MOST_ATTEMPTS",
    "jobs in one `SubmitJobs`, ids in one `RedriveDeadLetters`": "SUBMIT_ITEMS",
    "request id of an item": "REQUEST_ID_BYTES",
    "headers of a call": "HEADERS",
    "trace context of an item: each field": "TRACE_FIELD_BYTES",
    "page size": "LARGEST_PAGE_SIZE",
    "page size when none is given": "DEFAULT_PAGE_SIZE",
}
WORKER_BOUNDS = {
    "worker id": "WORKER_ID_BYTES",
    "process id": "PROCESS_ID_BYTES",
    "capabilities": "CAPABILITIES",
    "labels: entries": "METADATA_ENTRIES",
    "labels: keys and values together": "METADATA_BYTES",
    "slots": "SLOTS",
    "executions held at a registration": "HELD_EXECUTIONS",
    "entries in one message": "MESSAGE_ITEMS",
    "result": "RESULT_BYTES",
    "error message": "ERROR_BYTES",
    "error type": "ERROR_TYPE_BYTES",
    "line of a log": "LOG_CHUNK_BYTES",
    "metadata of a result: entries": "METADATA_ENTRIES",
    "metadata of a result: keys and values together": "METADATA_BYTES",
    "`retry_after`": "LONGEST_RETRY_AFTER",
}
IN_THE_TEXT = {
    "A whole request may have {}, and ": "REQUEST_BYTES",
    "and its headers {}.": "HEADER_BYTES",
    "where it would grow beyond {}, of which ": "ANSWER_BYTES",
    ", of which {} is kept for the token of the next page.": "PAGE_TOKEN_BYTES",
    "Up to {} items and ": "BATCH_ITEMS",
    " items and {} go into one transaction.": "BATCH_BYTES",
}
SETTINGS = {
    "SUBMIT_QUEUE_ITEMS": "submit_queue_items",
    "SUBMIT_QUEUE_BYTES": "submit_queue_bytes",
    "RESULT_QUEUE_ITEMS": "result_queue_items",
    "RESULT_QUEUE_BYTES": "result_queue_bytes",
    "WAITERS_LIMIT": "waiters",
    "SESSIONS_LIMIT": "sessions",
    "STREAMS_PER_PRINCIPAL": "streams_per_principal",
    "REGISTRATIONS_PER_MINUTE": "registrations_per_minute",
    "AUDIT_LOG_FILE_BYTES": "audit.file_bytes",
    "AUDIT_LOG_FILES_KEPT": "audit.files_kept",
    "CONNECTION_AGE": "connection_age",
    "DATABASE_CONNECTIONS": "database_connections",
    "LEASE_DURATION": "lease_duration",
    "WORKER_HEARTBEAT_TTL": "worker_heartbeat_ttl",
    "MAX_EXECUTION_TIME": "max_execution_time",
    "SHUTDOWN_TIMEOUT_SECONDS": "shutdown_timeout",
    "SCHEDULER_POLL_INTERVAL": "scheduler_poll_interval",
    "RETENTION": "retention",
    "DEAD_LETTER_RETENTION": "dead_letter_retention",
}
OF_A_ROLE = {
    "calls at once": "adapters.grpc.transport:CONCURRENT_CALLS",
    "calls at once on one connection": "adapters.grpc.transport:CALLS_PER_CONNECTION",
    "headers of calls that are over, together, as gRPC leaves them behind": "adapters.grpc.headers:LEFT_BYTES",
    "time until the message of a call has arrived": "adapters.grpc.slow_peers:LONGEST_ARRIVAL",
    "calls whose message is late, which means after {adapters.grpc.slow_peers:SLOW_AFTER}": (
        "adapters.grpc.slow_peers:MOST_SLOW"
    ),
    "answers above {adapters.grpc.slow_peers:SMALL_ANSWER_BYTES} that callers have not read, together": (
        "adapters.grpc.slow_peers:UNREAD_BYTES"
    ),
    "the same for one subject of a token": "adapters.grpc.slow_peers:CALLER_UNREAD_BYTES",
    "open `Watch` calls of health, and open streams of reflection, each": (
        "adapters.grpc.health_reflection:LIBRARY_STREAMS"
    ),
    "time of a stream of reflection": "adapters.grpc.health_reflection:LONGEST_REFLECTION",
    "a token": "adapters.tokens:LONGEST_TOKEN_BYTES",
    "the subject of a token": "adapters.tokens:LONGEST_SUBJECT",
    "verified tokens that are remembered": "adapters.tokens:_REMEMBERED",
    "the request id of a call": "adapters.grpc.call:_REQUEST_ID_CHARACTERS",
    "take-overs of a worker id by other processes in a minute": "adapters.postgres.sessions:MOST_TAKEOVERS_A_MINUTE",
    "time that a worker which comes or goes waits for its turn in Postgres, as it takes a third of the connections": (
        "application.gateway.turns:_WAIT_S"
    ),
    "messages of a stream without their acks": "application.gateway.outbox:UNANSWERED",
    "messages for a worker that it has not read": "application.gateway.outbox:UNWRITTEN",
    "payloads that wait for one worker, together": "application.gateway.outbox:PAYLOAD_BYTES",
    "a payload that is read before its turn": "application.gateway.claimer:INLINE_BYTES",
    "such payloads that are read at once": "adapters.grpc.worker_service:LARGE_PAYLOADS_AT_ONCE",
    "sets of capabilities that are asked for at once": "application.gateway.placing:MOST_DEMANDS",
    "sessions that are renewed at once": "application.gateway.renewals:MOST_SESSIONS",
    "registrations whose end is unclear": "application.gateway.closing:_MOST_UNCLEAR",
    "hints of one kind that wait for Redis": "application.announcer:MOST_HINTS",
    "lines of the log that wait to be written": "telemetry.logs:QUEUE_LINES",
    "the same in bytes": "telemetry.logs:QUEUE_BYTES",
    "a text in a line of the log": "telemetry.logs:LONGEST_TEXT",
    "time of a statement in Postgres": "adapters.postgres.database:STATEMENT_TIMEOUT",
    "wait for a lock in Postgres": "adapters.postgres.database:LOCK_TIMEOUT",
    "time of a call to Redis": "adapters.redis.connection:TIMEOUT",
    "open files": "entrypoints.lifecycle:MOST_OPEN_FILES",
}
OF_THE_SCHEDULER = {
    "sessions, and executions, that are ended at once": "application.scheduler.lease_reaper:BATCH",
    "executions that become due at once": "application.scheduler.due_queuer:BATCH",
    "finished jobs that are deleted at once": "application.scheduler.retention:BATCH",
    "the same in bytes": "adapters.postgres.recovery:_DELETED_BYTES",
    "ready executions of a capability that are looked for in Redis at every look": (
        "application.scheduler.ready_queue_repairer:HEAD"
    ),
    "capabilities whose ready queues are repaired": "application.scheduler.ready_queue_repairer:MOST_CAPABILITIES",
}
OF_THE_SDK = [
    ("time of a call, with its retries", "sdk.client.async_client:DEFAULT_CALL_TIMEOUT_S"),
    ("the same for a command", "--call-timeout"),
    ("pause between the tries of a call", "sdk.client.retrying:LONGEST_BACKOFF_S"),
    ("payload", "sdk.client.submission:MAX_PAYLOAD_BYTES"),
    ("payload of a command", "cli.submit:MOST_PAYLOAD_BYTES"),
    ("submits that wait to be sent", "sdk.client.gather:MAX_WAITING"),
    ("jobs in one call", "sdk.client.gather:MAX_ITEMS"),
    ("the same in bytes", "sdk.client.gather:MAX_BYTES"),
    ("dead letters in one call", "sdk.client.operator:MAX_REDRIVES"),
    ("one wait for a job", "sdk.client.waiting:ONE_WAIT_S"),
    ("jobs that are waited for on one connection", "sdk.client.wait_connections:WAITS_PER_CONNECTION"),
    ("tasks at once in a worker", "max_concurrency"),
    ("the most that this can be set to", "sdk.worker.worker:MAX_CONCURRENCY"),
    ("executions that a worker holds, with those whose acks it has not seen", "sdk.worker.ledger:MAX_HELD"),
    ("results in one message", "sdk.worker.ledger:MAX_IN_MESSAGE"),
    ("the same in bytes", "sdk.worker.ledger:MAX_MESSAGE_BYTES"),
    ("result", "sdk.worker.perform:MAX_RESULT_BYTES"),
    ("error message", "sdk.worker.perform:MAX_ERROR_BYTES"),
    ("error type", "sdk.worker.perform:MAX_ERROR_TYPE_BYTES"),
    ("`Retry(after=…)`", "sdk.worker.context:MAX_RETRY_AFTER"),
    ("log lines of tasks that wait to be sent", "sdk.worker.log_lines:MAX_LINES"),
    ("log line of a task", "sdk.worker.log_lines:MAX_LINE_BYTES"),
    ("time in which a worker that stops finishes its tasks", "sdk.worker.worker:DRAIN_TIMEOUT_S"),
    ("time in which they end after that", "sdk.worker.drain:CANCEL_TIMEOUT_S"),
    ("silence of the program's event loop", "sdk.worker.worker:STALL_LIMIT_S"),
    ("time until a gateway answers a registration", "sdk.worker.stream:REGISTRATION_TIMEOUT_S"),
    ("pause before a worker connects again", "sdk.worker.link:LONGEST_BACKOFF_S"),
    ("time between two heartbeats", "sdk.worker.lease:LONGEST_INTERVAL_S"),
]
IN_THE_TEXT_TOO = [
    "cut to {adapters.grpc.job_codec:_CUT_ERROR_BYTES}, and `GetJob` has",
    "shows at most {application.operate:MOST_QUEUES} capabilities",
    "at most {application.wait_job:LONGEST_WAIT}. Then it answers",
]
NO_BOUNDS_OF_USERS = {
    # What a bound is made of, or a size of what is fixed anyway.
    "adapters.grpc.stream_codec:_RESULT_OVERHEAD_BYTES",
    "adapters.grpc.stream_codec:_LIST_BYTES",
    "adapters.redis.signals:_ID_BYTES",
    "application.page_token:_CHECKSUM_BYTES",
    "application.read_jobs:_EXECUTION_OVERHEAD_BYTES",
    "application.read_jobs:_LARGEST_DELIVERY",
    "application.operate:_OVERHEAD_BYTES",
    "adapters.grpc.transport:_LONGEST_CALL_MS",
    "adapters.grpc.wire:_LONGEST_DURATION_S",
    # The least that a secret may have: the page about security says it.
    "adapters.tokens:SHORTEST_SECRET_BYTES",
    # How many ports that were given out to processes to come are kept from others.
    "entrypoints.child_process:_MOST_CLAIMS",
    # Pauses of loops, which grow up to this.
    "application.gateway.renewals:_LONGEST_TICK",
    "application.loops:LONGEST_PAUSE",
    "application.scheduler.lease_reaper:LONGEST_SLEEP",
    "entrypoints.installation:_LONGEST_RESTART_DELAY_S",
    "sdk.client.waiting:LONGEST_POLL_S",
    # What is shown to people, or made for development.
    "cli.job:_LONGEST_SHOWN",
    "entrypoints.environment:_LONGEST_SHOWN",
    "entrypoints.embedded_server:_LOG_TAIL_BYTES",
    "entrypoints.role_process:_LAST_LINES",
    "entrypoints.role_process:_LONGEST_LINE_BYTES",
    "entrypoints.dev_certificates:_LONGEST_HOST",
}
