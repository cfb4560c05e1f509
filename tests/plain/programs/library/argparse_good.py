# /// plain
# argv = ["in.txt", "-vv", "--set", "a=1", "--set", "b=2"]
# ///
import argparse

parser = argparse.ArgumentParser(prog="tool")
parser.add_argument("file")
parser.add_argument("-v", action="count")
parser.add_argument("--set", action="append")
print(parser.parse_args())
