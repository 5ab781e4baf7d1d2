"""Recomputes the chain of a store from a plain SELECT: lines of JSON, an append each, on stdin."""
import base64, hashlib, json, struct, sys

def field(value):
    return b"\xff" * 4 if value is None else struct.pack(">I", len(value)) + value

def number(value):
    return field(struct.pack(">q", value))

def text(value):
    if value is not None:
        value = value.replace("\x1a0", "\0").replace("\x1a1", "\x1a").encode()
    return field(value)

def bytes_of(value):
    return field(None if value is None else base64.b64decode(value))

before = bytes(32)
for line in sys.stdin:
    append = json.loads(line)
    fields = field(before) + number(append["append"]) + number(append["micros"])
    fields += number(append["events"])
    for e in append["rows"] or []:
        fields += number(e["position"]) + text(e["stream"]) + number(e["version"] or 0)
        fields += text(e["type"]) + number(e["schema_version"]) + bytes_of(e["id"])
        fields += text(e["content_type"]) + bytes_of(e["data"]) + bytes_of(e["metadata"])
        fields += number(len(e["tags"])) + b"".join(map(text, e["tags"]))
        fields += text(e["correlation"]) + text(e["causation"])
        fields += text(e["traceparent"]) + text(e["tracestate"])
        fields += number(len(e["key_ids"])) + b"".join(map(text, e["key_ids"]))
    if append["command"]:
        fields += b"".join(map(bytes_of, (append["command"], append["digest"], append["answer"])))
    else:
        fields += field(None)
    if append["consumer"]:
        fields += text(append["consumer"]) + bytes_of(append["source"]) + text(append["partition"])
        fields += number(append["checkpoint"]) + bytes_of(append["checkpoint_hash"])
    else:
        fields += field(None)
    before = hashlib.sha256(fields).digest()
    if before.hex() != append["hash"]:
        sys.exit(f"append {append['append']} has another hash")
print(before.hex())
