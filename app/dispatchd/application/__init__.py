"""The use cases, one a file, and the ports they need. Knows nothing of grpc, SQL or Redis commands."""
