"""Reads lines of hexadecimal bodies. For each, writes as JSON: "text", what json.loads has as the image; "plain", what
base64.b64decode makes of it; "translated", what Python makes of it after the steps that docs/migration.md names."""
import base64
import json
import re
import sys


def hex_or_none(decode):
    try:
        return decode().hex()
    except ValueError:
        return None


def translated(text):
    data = re.sub(r"\A\s*data:[^,]*;base64,", "", text, flags=re.IGNORECASE)
    symbols = "".join(data.split())
    return base64.urlsafe_b64decode(symbols + "=" * (-len(symbols) % 4))


for line in sys.stdin:
    try:
        text = json.loads(bytes.fromhex(line))["image"]
    except (ValueError, KeyError, TypeError):
        print(json.dumps({"text": None, "plain": None, "translated": None}))
        continue
    plain = hex_or_none(lambda: base64.b64decode(text))
    print(json.dumps({"text": text, "plain": plain, "translated": hex_or_none(lambda: translated(text))}))
