# /// plain
# python = "<3.12"
# ///
def first[T](pair):
    return pair[0]
