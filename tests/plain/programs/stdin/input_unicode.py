# /// plain
# stdin = "größe ✓ 🎈\n"
# ///
text = input("été? ")
print(text, len(text))
