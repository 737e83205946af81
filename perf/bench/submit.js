// k6: CALLERS virtual users, each with a connection of its own, submit one job after the other.
//
// Every call carries an idempotency key, as those of our client do. Calls that begin within the measured window have
// the tag `phase: measured`. Every SAMPLE_EVERYth job is read back with GetJob and compared; of the other answers only
// the status is looked at, because k6 would need as much processor time to read them as the server does to write them.
import grpc from 'k6/net/grpc';
import encoding from 'k6/encoding';
import exec from 'k6/execution';
import { Counter } from 'k6/metrics';

const client = new grpc.Client();
client.load([__ENV.PROTO_FOLDER], 'dispatchd/v1/dispatchd.proto');

const warmUpS = Number(__ENV.WARM_UP_S);
const measuredS = Number(__ENV.MEASURED_S);
const sampleEvery = Number(__ENV.SAMPLE_EVERY);
const payload = encoding.b64encode('x'.repeat(Number(__ENV.PAYLOAD_BYTES)));
const measured = { phase: 'measured' };
const other = { phase: 'other' };

const acknowledged = new Counter('acknowledged');
const compared = new Counter('compared');
const wrong = new Counter('wrong');

export const options = {
  scenarios: {
    submit: {
      executor: 'constant-vus',
      vus: Number(__ENV.CALLERS),
      duration: `${warmUpS + measuredS}s`,
      gracefulStop: '10s',
    },
  },
  systemTags: ['status'],
  summaryTrendStats: ['count', 'avg', 'med', 'p(90)', 'p(95)', 'p(99)', 'max'],
  thresholds: { 'grpc_req_duration{phase:measured}': ['max>=0'] },
};

export function setup() {
  return { begun: Date.now() };
}

let connected = false;
let calls = 0;

export default function (run) {
  if (!connected) {
    client.connect(__ENV.ADDRESS, { plaintext: true });
    connected = true;
  }
  const sinceS = (Date.now() - run.begun) / 1000;
  const isMeasured = sinceS >= warmUpS && sinceS < warmUpS + measuredS;
  const isCompared = calls % sampleEvery === 0;
  const key = `${__ENV.JOB_TYPE}-${exec.vu.idInTest}-${calls}`;
  const answer = client.invoke(
    'dispatchd.v1.JobService/SubmitJob',
    { jobType: __ENV.JOB_TYPE, payload: payload, idempotencyKey: key },
    { tags: isMeasured ? measured : other, discardResponseMessage: !isCompared },
  );
  calls += 1;
  if (answer.status !== grpc.StatusOK) {
    wrong.add(1);
    console.error(`SubmitJob: ${JSON.stringify(answer.error)}`);
    return;
  }
  acknowledged.add(1);
  if (isCompared) {
    compare(answer.message.job.jobId, key);
  }
}

function compare(jobId, key) {
  const answer = client.invoke('dispatchd.v1.JobService/GetJob', { jobId: jobId }, { tags: other });
  const job = answer.status === grpc.StatusOK ? answer.message.job : {};
  if (job.jobId === jobId && job.idempotencyKey === key && job.payload === payload && job.status === 'JOB_STATUS_PENDING') {
    compared.add(1);
  } else {
    wrong.add(1);
    console.error(`GetJob ${jobId}: ${JSON.stringify(answer)}`);
  }
}

export function handleSummary(data) {
  return { stdout: JSON.stringify(data.metrics) };
}
