import datetime as dt
import zoneinfo

print(dt.datetime(2024, 7, 1, tzinfo=zoneinfo.ZoneInfo("Europe/Zurich")).isoformat(), "Asia/Tokyo" in zoneinfo.available_timezones())
zoneinfo.ZoneInfo("No/Where")
