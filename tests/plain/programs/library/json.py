import json

print(json.dumps({"b": [1, 2.5, None, True], "ä": "é"}, indent=2, sort_keys=True))
print(json.dumps("é", ensure_ascii=False))
json.loads('{"a": }')
