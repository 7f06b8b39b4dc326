"""A certificate authority of the test's own, by openssl."""
import os
import ssl
import subprocess

KEYS = {"ecdsa": ["-newkey", "ec", "-pkeyopt", "ec_paramgen_curve:P-256"], "rsa": ["-newkey", "rsa:2048"]}


def openssl(*words):
    run = subprocess.run(["openssl", *words], capture_output=True, text=True, timeout=60)
    assert run.returncode == 0, run.stderr


class Certificate:
    def __init__(self, directory, name):
        self.certificate = os.path.join(directory, name + ".pem")
        self.key = os.path.join(directory, name + ".key")

    def item(self, **more):
        """As the configuration names it."""
        return {"certificate": self.certificate, "key": self.key, **more}


class Authority:
    def __init__(self, directory, name="ca"):
        os.makedirs(directory, exist_ok=True)
        self.directory = directory
        self.own = Certificate(directory, name)
        self.file = self.own.certificate
        openssl("req", "-x509", *KEYS["ecdsa"], "-nodes", "-days", "30", "-subj", f"/CN={name}", "-keyout", self.own.key,
                "-out", self.own.certificate)

    def issue(self, name, kind="ecdsa", alternative=None, file=None, days=30, subject=None):
        """A leaf for the name; `alternative` is the subjectAltName, the name itself by default."""
        leaf = Certificate(self.directory, file or f"{name}-{kind}")
        request, extensions = leaf.certificate + ".csr", leaf.certificate + ".ext"
        with open(extensions, "w", encoding="utf-8") as out:
            out.write(f"subjectAltName={alternative or 'DNS:' + name}\n")
        openssl("req", *KEYS[kind], "-nodes", "-subj", subject or f"/CN={name[:64]}", "-keyout", leaf.key, "-out", request)
        openssl("x509", "-req", "-in", request, "-CA", self.own.certificate, "-CAkey", self.own.key, "-CAcreateserial",
                "-days", str(days), "-extfile", extensions, "-out", leaf.certificate)
        return leaf

    def context(self, certificate=None, version=None):
        """For a client that trusts this authority."""
        context = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
        context.load_verify_locations(self.file)
        if certificate:
            context.load_cert_chain(certificate.certificate, certificate.key)
        if version:
            context.minimum_version = context.maximum_version = version
        return context
