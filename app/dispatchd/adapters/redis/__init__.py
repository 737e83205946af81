"""Redis, fast and rebuildable: ready queues, wake-ups between processes, and the scheduler's leader lock."""
