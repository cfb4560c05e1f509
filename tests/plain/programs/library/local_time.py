import time

print(time.tzname, time.timezone, time.strftime("%Y", time.gmtime(0)), time.localtime(0)[:5])
