"""The worker: runs a user's functions as tasks and keeps one stream to a worker-gateway."""
