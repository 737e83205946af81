"""The methods that attacks call, as gRPC writes them in `:path`."""

GET_JOB = "/dispatchd.v1.JobService/GetJob"
WAIT_JOB = "/dispatchd.v1.JobService/WaitJob"
SUBMIT_JOB = "/dispatchd.v1.JobService/SubmitJob"
LIST_EXECUTIONS = "/dispatchd.v1.JobService/ListExecutions"
CONNECT = "/dispatchd.v1.WorkerService/Connect"
WATCH = "/grpc.health.v1.Health/Watch"
REFLECTION = "/grpc.reflection.v1alpha.ServerReflection/ServerReflectionInfo"
