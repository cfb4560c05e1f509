import configparser
import io

parser = configparser.ConfigParser()
parser.read_string("[a]\nx = 1\n[b]\ny = %(z)s\nz = 2\n")
print(parser.sections(), parser["b"]["y"], parser.getint("a", "x"))
out = io.StringIO()
parser.write(out)
print(out.getvalue())
parser["missing"]
