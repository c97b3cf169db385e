"""Certificates for tests, made by the openssl command; whoever uses them is skipped where there is none."""

import shutil
import subprocess

import pytest

P256 = "ec -pkeyopt ec_paramgen_curve:P-256"
EXPIRED = (  # in 2021
    """-----BEGIN CERTIFICATE-----
MIIBFDCBu6ADAgECAgEBMAoGCCqGSM49BAMCMBQxEjAQBgNVBAMMCWxvY2FsaG9z
dDAeFw0yMDAxMDEwMDAwMDBaFw0yMTAxMDEwMDAwMDBaMBQxEjAQBgNVBAMMCWxv
Y2FsaG9zdDBZMBMGByqGSM49AgEGCCqGSM49AwEHA0IABDXn73ivhhTYiw+7yut3
Z8YtrAj02sdpHkod9epsLhhRKDYCqqUYulkiE5L/XSsjzQ2rQjQkAf+VSDHUqRhr
EIkwCgYIKoZIzj0EAwIDSAAwRQIgRXodKC6I2nefSJLmzw1FCNt7mgY1Ve+7kWu6
WMgVfMsCIQCzujwbI2pz4sVldkEjr0EbDww74lS3cDYWCWMP2vaXaw==
-----END CERTIFICATE-----
""",
    """-----BEGIN PRIVATE KEY-----
MIGHAgEAMBMGByqGSM49AgEGCCqGSM49AwEHBG0wawIBAQQgmfF//dbSDt5gXTX3
WXN+Y+T2CrZFrbgvhd7kKu3oAOOhRANCAAQ15+94r4YU2IsPu8rrd2fGLawI9NrH
aR5KHfXqbC4YUSg2AqqlGLpZIhOS/10rI80Nq0I0JAH/lUgx1KkYaxCJ
-----END PRIVATE KEY-----
""",
)
needs_openssl = pytest.mark.skipif(shutil.which("openssl") is None, reason="openssl is not on this machine")


def make(folder, name="", kind=P256, password=None):
    """(certificate, key) of localhost and 127.0.0.1, two files in the folder."""
    cert, key = folder / f"{name}cert.pem", folder / f"{name}key.pem"
    how = f"openssl req -x509 -newkey {kind} -days 1 -keyout {key} -out {cert} -subj /CN=localhost"
    protected = ["-passout", f"pass:{password}"] if password else ["-nodes"]
    names = ["-addext", "subjectAltName=DNS:localhost,IP:127.0.0.1"]
    subprocess.run([*how.split(), *protected, *names], check=True, capture_output=True)
    return cert, key
