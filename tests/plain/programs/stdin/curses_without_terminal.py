import curses

try:
    curses.setupterm("dumb", 1)
    curses.initscr()
except Exception as error:
    print(type(error).__name__, error)
