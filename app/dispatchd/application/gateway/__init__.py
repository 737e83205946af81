"""The worker-gateway: worker streams, slots, claims, results, renewals."""
