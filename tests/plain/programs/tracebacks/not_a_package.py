import json.tool.x
