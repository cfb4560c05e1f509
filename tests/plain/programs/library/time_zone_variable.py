# /// plain
# env = { TZ = "America/New_York" }
# ///
import datetime
import time

print(time.tzname, datetime.datetime.fromtimestamp(0), time.strftime("%z %Z", time.localtime(0)))
