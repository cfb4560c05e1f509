# /// plain
# python = ">=3.12"
# ///
import sys

print([sys.monitoring.get_tool(n) for n in range(6)])
