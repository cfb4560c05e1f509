# /// plain
# python = "<3.10"
# ///
match 1:
    case 1:
        print("one")
