try:
    import turtle

    turtle.forward(10)
except Exception as error:
    print(type(error).__name__, error)
