"""The demo: audits the installed Python distributions with thousands of jobs, while processes are killed.

::

    RECORD files ──▶ one job a file ──▶ control-plane ──▶ Postgres ──▶ 2 worker-gateways ──▶ 2 workers, which hash
                          │ acknowledged                                    │                  │
                          ▼                                                 └── SIGKILL ───────┘  one of each
                     ledger file ──▶ at the end every job in it has to have ended ──▶ report

Run it with `make demo`, or with `python -m dispatchd.demo` where `dispatchd[dev]` is installed.
"""
