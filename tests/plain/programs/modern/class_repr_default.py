# /// plain
# normalize = ["addresses"]
# ///
class Thing:
    pass


print(Thing(), Thing, Thing.__init__, print, lambda: 0)
