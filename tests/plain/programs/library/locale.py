import locale

print(locale.getlocale(), locale.getpreferredencoding(), locale.setlocale(locale.LC_ALL), locale.localeconv()["decimal_point"])
try:
    locale.setlocale(locale.LC_ALL, "xx_XX.UTF-8")
except locale.Error as error:
    print(error)
