import sys

seen = []


def profile(frame, event, arg):
    if event == "call":
        seen.append(frame.f_code.co_name)


def f():
    return 1


sys.setprofile(profile)
f()
sys.setprofile(None)
print(seen)
