"""`python -m perf.load --profile NAME`: jobs that arrive at a rate, whatever the installation makes of them.

::

    __main__       the command: arguments, exit code
    profiles       profiles.json: how much arrives when, and what must hold
    run            k6 (load.js) submits and reads, a worker does the jobs, and both counts have to agree
"""
