# /// plain
# stdin = "typed\n"
# ///
import readline

readline.add_history("x")
print(readline.get_current_history_length(), input("? "))
