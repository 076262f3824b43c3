// examples/publisher.mjs
// Schedule an event from JavaScript.
//
// Usage: node examples/publisher.mjs INPUT_TOPIC_ARN TARGET_TOPIC_ARN SECONDS_FROM_NOW
import { randomUUID } from "node:crypto";
import { PublishCommand, SNSClient } from "@aws-sdk/client-sns";

const [inputTopic, target, seconds] = process.argv.slice(2);
if (!seconds) {
  console.error("Usage: node examples/publisher.mjs INPUT_TOPIC_ARN TARGET_TOPIC_ARN SECONDS_FROM_NOW");
  process.exit(1);
}
const event = {
  id: randomUUID(), // so that the SDK's own retry after a lost answer replaces the event instead of adding another
  date: new Date(Date.now() + 1000 * Number(seconds)).toISOString(),
  target,
  user: "team@example.com",
  payload: JSON.stringify({ order: 4711 }),
};
await new SNSClient().send(new PublishCommand({ TopicArn: inputTopic, Message: JSON.stringify(event) }));
console.log(`Scheduled event ${event.id} for ${event.date}`);
