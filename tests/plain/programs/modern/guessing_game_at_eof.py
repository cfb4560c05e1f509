# /// plain
# stdin = "50\n"
# ///
secret = 37
while True:
    guess = int(input("Guess: "))
    print("Too high" if guess > secret else "Too low" if guess < secret else "Right!")
