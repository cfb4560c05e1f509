import os
import sys

key = os.environ.get("OPENAI_API_KEY")
if not key:
    print("Error: OPENAI_API_KEY not set", file=sys.stderr)
    sys.exit(1)
