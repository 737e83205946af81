"""The client: submits, reads, awaits and cancels jobs, asynchronously or not."""
