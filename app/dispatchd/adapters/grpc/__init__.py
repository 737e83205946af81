"""The contract over gRPC. Handlers take and return bytes; only `transport` knows grpc.aio."""
