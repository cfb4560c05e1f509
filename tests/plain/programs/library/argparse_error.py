# /// plain
# argv = ["--number", "x"]
# ///
import argparse

parser = argparse.ArgumentParser()
parser.add_argument("--number", type=int)
parser.add_argument("--kind", choices=["a", "b"])
parser.parse_args()
