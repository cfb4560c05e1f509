# /// plain
# stdin = "hello world\nquit\n"
# ///
import cmd


class Shell(cmd.Cmd):
    prompt = "> "

    def do_hello(self, arg):
        "Say hello."
        print("hello", arg)

    def do_quit(self, arg):
        return True


Shell().cmdloop("welcome")
