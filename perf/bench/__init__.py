"""`make bench`: throughput, latency and memory of an installation, beside pgbench on the same server.

::

    __main__   the command: arguments, exit code
    run        the order of the steps, on one installation
    plan       how long and how much
    yardstick  pgbench                             k6          real k6 (submit.js)
    callers · heartbeats · open_loop · backlog     the other drivers, each in a process of its own (driver)
    usage      memory and processor time           machine     what was measured on
    gates      what must hold                      report      the table and the evidence file
"""
