try:
    import tkinter

    print(tkinter.TkVersion, tkinter.Tcl().eval("expr 1 + 1"))
except Exception as error:
    print(type(error).__name__, error)
