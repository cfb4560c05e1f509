import datetime as dt

moment = dt.datetime(2024, 2, 29, 12, 30, tzinfo=dt.timezone.utc)
print(moment.isoformat(), moment + dt.timedelta(days=365), moment.strftime("%A %d %B %Y %H:%M:%S %z"), repr(moment))
dt.datetime.strptime("2024-13-01", "%Y-%m-%d")
