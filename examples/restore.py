# examples/restore.py
"""Copy what a restored table has and the stack's table lacks.

Usage: python examples/restore.py RESTORED_TABLE STACK_TABLE [EARLIEST_DUE_TIME]
"""

import sys

import boto3

if len(sys.argv) not in (3, 4):
    sys.exit(__doc__)
restored, name, earliest = [*sys.argv[1:], ""][:3]
dynamodb = boto3.resource("dynamodb")
table = dynamodb.Table(name)
copied = 0
for page in dynamodb.meta.client.get_paginator("scan").paginate(TableName=restored):
    for item in page["Items"]:
        if "lane" not in item:  # Register: as always, what was published last wins
            condition = {
                "ConditionExpression": "attribute_not_exists(id) OR publication_order < :order",
                "ExpressionAttributeValues": {":order": item["publication_order"]},
            }
        elif item["lane"].startswith("lane-") and item["sort_key"] >= earliest:  # Parked, without leases and clock
            condition = {"ConditionExpression": "attribute_not_exists(lane)"}
        else:
            continue
        try:
            table.put_item(Item=item, **condition)
            copied += 1
        except table.meta.client.exceptions.ConditionalCheckFailedException:
            pass  # it is there, or something newer is
print(f"{copied} items copied to {name}")
