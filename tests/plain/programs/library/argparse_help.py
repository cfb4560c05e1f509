# /// plain
# argv = ["--help"]
# ///
import argparse

parser = argparse.ArgumentParser(description="Does a thing.")
parser.add_argument("file")
parser.add_argument("-n", "--number", type=int, default=3, help="how many (default: %(default)s)")
parser.parse_args()
