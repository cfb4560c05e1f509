import sys

events = []
sys.addaudithook(lambda event, args: events.append(event) if event.startswith("mine") else None)
sys.audit("mine.event", 1)
print(events)
