// k6: jobs arrive at the rate of a profile and wait for nobody; each one is submitted, and every READ_EVERYth read back.
//
// PROFILE is one entry of profiles.json. Where no caller is free, k6 drops an arrival and counts it.
import grpc from 'k6/net/grpc';
import encoding from 'k6/encoding';
import exec from 'k6/execution';
import { Counter, Rate } from 'k6/metrics';

const profile = JSON.parse(__ENV.PROFILE);
const readEvery = Number(__ENV.READ_EVERY);
const payload = encoding.b64encode('x'.repeat(Number(__ENV.PAYLOAD_BYTES)));

const client = new grpc.Client();
client.load([__ENV.PROTO_FOLDER], 'dispatchd/v1/dispatchd.proto');

const acknowledged = new Counter('acknowledged');
const compared = new Counter('compared');
const failed = new Rate('failed');

export const options = {
  scenarios: {
    arrivals: {
      executor: 'ramping-arrival-rate',
      startRate: profile.start_rate,
      timeUnit: '1s',
      preAllocatedVUs: profile.callers,
      stages: profile.stages,
      gracefulStop: '10s',
    },
  },
  systemTags: ['status'],
  summaryTrendStats: ['count', 'avg', 'med', 'p(90)', 'p(95)', 'p(99)', 'max'],
  // The last ones always hold; they make k6 tell the two calls apart in its summary.
  thresholds: Object.assign(
    { 'grpc_req_duration{rpc:SubmitJob}': ['max>=0'], 'grpc_req_duration{rpc:GetJob}': ['max>=0'] },
    profile.thresholds,
  ),
};

let connected = false;

export default function () {
  if (!connected && !connect()) {
    return;
  }
  const number = exec.scenario.iterationInTest;
  const key = `${__ENV.JOB_TYPE}-${number}`;
  const request = { jobType: __ENV.JOB_TYPE, payload: payload, idempotencyKey: key };
  const answer = call('SubmitJob', request);
  if (answer === null) {
    return;
  }
  acknowledged.add(1);
  if (number % readEvery === 0) {
    compare(answer.job.jobId, key);
  }
}

// An arrival whose caller gets no connection has failed like one whose call was not answered.
function connect() {
  try {
    client.connect(__ENV.ADDRESS, { plaintext: true, timeout: '5s' });
    connected = true;
  } catch (error) {
    failed.add(true);
    console.error(`connect: ${error}`);
  }
  return connected;
}

function call(rpc, request) {
  const answer = client.invoke(`dispatchd.v1.JobService/${rpc}`, request, { tags: { rpc: rpc }, timeout: '5s' });
  const isGood = answer.status === grpc.StatusOK;
  failed.add(!isGood);
  if (!isGood) {
    console.error(`${rpc}: ${JSON.stringify(answer.error)}`);
  }
  return isGood ? answer.message : null;
}

function compare(jobId, key) {
  const answer = call('GetJob', { jobId: jobId });
  if (answer === null) {
    return;
  }
  const job = answer.job;
  const isSame = job.jobId === jobId && job.idempotencyKey === key && job.payload === payload;
  failed.add(!isSame);
  if (isSame) {
    compared.add(1);
  } else {
    console.error(`GetJob ${jobId}: ${JSON.stringify(job)}`);
  }
}

export function handleSummary(data) {
  return { stdout: JSON.stringify(data.metrics) };
}
