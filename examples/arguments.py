"""A small grep: prints the lines of stdin that match, numbered. Arguments, stdin and a variable reach a script:

    python-executor run arguments.py --stdin -e MARK=__ -- -i liberty < word-count/texts/gettysburg.txt

Matches are put between two MARKs. As with grep, the exit code is 1 where nothing matches.
"""

import argparse
import os
import re
import sys

parser = argparse.ArgumentParser(description="Print the lines of stdin that match a regular expression.")
parser.add_argument("pattern", help="what to look for")
parser.add_argument("-i", "--ignore-case", action="store_true", help="treat upper and lower case alike")
options = parser.parse_args()

pattern = re.compile(options.pattern, re.IGNORECASE if options.ignore_case else 0)
mark = os.environ.get("MARK", "")
found = 0
for number, line in enumerate(sys.stdin, start=1):
    if pattern.search(line):
        found += 1
        print(f"{number}: {pattern.sub(lambda match: mark + match[0] + mark, line.rstrip())}")

sys.exit(0 if found else 1)
