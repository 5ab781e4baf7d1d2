"""Judges messages of OCPP 1.6 by the schemas of the PyPI package `ocpp`.

Reads one JSON object a line from stdin: {"type": 2 for a CALL or 3 for a CALLRESULT, "action", "payload"}; prints a
line for each that breaks its schema, and in the end how many it has read.
"""

import json
import re
import sys
from decimal import Decimal

from ocpp.messages import get_validator

MOMENT = re.compile(r"\d{4}-\d\d-\d\dT\d\d:\d\d:\d\d(\.\d+)?Z")


def moments(schema, definition, value):
    """The moments of a value, by its schema."""
    if definition.get("format") == "date-time":
        yield value
    for name, inner in definition.get("properties", {}).items():
        if isinstance(value, dict) and name in value:
            yield from moments(schema, inner, value[name])
    if isinstance(value, list):
        for item in value:
            yield from moments(schema, definition.get("items", {}), item)


read = 0
for line in sys.stdin:
    message = json.loads(line, parse_float=Decimal)
    validator = get_validator(message["type"], message["action"], "1.6", parse_float=Decimal)
    faults = [error.message for error in validator.iter_errors(message["payload"])]
    schema = validator.schema
    faults += [f"{moment} is no moment" for moment in moments(schema, schema, message["payload"]) if not MOMENT.fullmatch(moment)]
    if faults:
        print("; ".join(faults), line, flush=True)
    read += 1
print(read)
