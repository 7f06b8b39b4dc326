"""Password files, made by hand so that what reads them is tested against the format and not against its own writer."""
import base64
import hashlib
import hmac
import os

ITERATIONS = 4096  # the least that is taken: tests log in often


def verifier(password, salt=None, iterations=ITERATIONS):
    salt = salt or os.urandom(16)
    salted = hashlib.pbkdf2_hmac("sha256", password.encode(), salt, iterations)
    client_key = hmac.digest(salted, b"Client Key", "sha256")
    server_key = hmac.digest(salted, b"Server Key", "sha256")
    parts = (salt, hashlib.sha256(client_key).digest(), server_key)
    return f"{{SCRAM-SHA-256}}{iterations}," + ",".join(base64.b64encode(part).decode() for part in parts)


def line(name, password=None, options=""):
    return f"{name}:{verifier(password) if password is not None else '-'} {options}".rstrip() + "\n"


def write(path, *lines):
    with open(path + ".new", "w", encoding="utf-8") as file:
        file.write("".join(lines))
    os.chmod(path + ".new", 0o600)
    os.rename(path + ".new", path)


def plain(name, password, authorization=""):
    """The response of AUTH PLAIN."""
    return base64.b64encode(f"{authorization}\0{name}\0{password}".encode()).decode()
