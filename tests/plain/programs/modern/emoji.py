# /// plain
# sample = true
# ///
print("🚀 Starting…")
print("✅ Done — café ñ 日本語 👨‍👩‍👧")
print("\033[1;32mgreen\033[0m")
