from pkg import VERSION, tools
from pkg.sub.deep import value

print(VERSION, tools.double(4), value, tools.__package__)
