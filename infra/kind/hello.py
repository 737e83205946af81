"""The example that `make kind-up` runs: a worker with one task, and a client that submits a job and waits for it."""

from dispatchd import Client, Worker

worker = Worker("127.0.0.1:8081", max_concurrency=1)


@worker.task("hello.greet", timeout=30)
def greet(name: str) -> str:
    return f"Hello, {name}!"


if __name__ == "__main__":
    with Client("127.0.0.1:8080") as client:
        job = client.submit(greet, "kind")
        print(client.result(job, greet, timeout=60))
