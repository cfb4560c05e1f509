# /// plain
# normalize = ["addresses"]
# argv = ["-a", "--beta=2", "rest"]
# ///
import getopt
import optparse
import sys

print(getopt.getopt(sys.argv[1:], "a", ["beta="]))
parser = optparse.OptionParser()
parser.add_option("-a", action="store_true")
print(parser.parse_args(["-a"]))
parser.parse_args(["--nope"])
