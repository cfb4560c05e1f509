import gc


class T:
    def __del__(self):
        print("cycle gone")


t = T()
t.me = t
del t
print(gc.collect() > 0, gc.isenabled(), gc.get_debug())
