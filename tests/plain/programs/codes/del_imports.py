# /// plain
# normalize = ["addresses"]
# ///
class T:
    def __del__(self):
        import string

        print(string.digits)


t = T()
