try:
    raise ValueError
except ValueError as error:
    print(error.__context__, error.__cause__, error.__traceback__.tb_lineno, error.__traceback__.tb_next)
