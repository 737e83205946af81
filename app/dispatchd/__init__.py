"""dispatchd: durable task orchestration over gRPC."""
