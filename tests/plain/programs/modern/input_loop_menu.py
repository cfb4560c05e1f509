# /// plain
# stdin = "1\n9\nq\n"
# ///
while True:
    print("1) Say hi\nq) Quit")
    choice = input("Choose: ").strip()
    if choice == "1":
        print("hi!")
    elif choice == "q":
        print("Bye!")
        break
    else:
        print("Unknown choice")
