"""The environment of the shipped functions, which they read when they are imported."""

REGION, ACCOUNT = "us-east-1", "123456789012"
TOPIC_PREFIX = f"arn:aws:sns:{REGION}:{ACCOUNT}:punctual-"
ENVIRONMENT = {
    "AWS_DEFAULT_REGION": REGION,
    "AWS_ACCESS_KEY_ID": "not-a-key",
    "AWS_SECRET_ACCESS_KEY": "not-a-key",
    "POWERTOOLS_SERVICE_NAME": "punctual",
    "INPUT_TOPIC_ARN": f"{TOPIC_PREFIX}input",
    "INPUT_QUEUE_URL": f"https://sqs.{REGION}.amazonaws.com/{ACCOUNT}/input",
    "UNDELIVERED_URL": f"https://sqs.{REGION}.amazonaws.com/{ACCOUNT}/undelivered",
    "TARGET_TOPIC_ARNS": f"arn:aws:sns:{REGION}:{ACCOUNT}:*",
    "FAILURE_TOPIC_ARN": f"{TOPIC_PREFIX}failures",
    "ENFORCE_USER": "true",
    "HORIZON_SECONDS": "20",
    "DELIVER_ARN": f"arn:aws:states:{REGION}:{ACCOUNT}:stateMachine:Deliver",
    "PARKED_TABLE": "Parked",
    "REGISTER_TABLE": "Register",
}
