"""TLS and SASL for the tests' Kafka: an authority of its own, certificates, users, and tokens that the broker verifies.

Everything is new with each start, lies in one folder, and guards nothing but test messages on the loopback:

    ca.pem, other-ca.pem          the authority of the broker's certificate, and one that has nothing to do with it
    client.pem, client.key        a client certificate; the key is encrypted with PASSWORD
    token.jwt, token-expired.jwt  signed for the user; one is valid for ten years, the other has been over for an hour
    token-foreign.jwt             the same for another audience
    broker.pem, jwks.json         the broker's
"""

import base64
import json
import shutil
import subprocess
import time

USER = "clipstream-test"
PASSWORD = "clipstream-test-password"
ISSUER = "https://issuer.test"
AUDIENCE = "kafka"
DAYS = 3650
# Of a client without a certificate, of one with, and of users.
LISTENERS = ("SSL", "MTLS", "SASL")


def openssl():
    """The path of openssl, or None."""
    return shutil.which("openssl")


def create(folder):
    """Fills the folder. Raises subprocess.CalledProcessError where openssl refuses."""
    folder.mkdir(parents=True)
    _authority(folder, "ca")
    _authority(folder, "other-ca")
    _signed(folder, "broker", "subjectAltName=IP:127.0.0.1,DNS:localhost\nextendedKeyUsage=serverAuth\n")
    # Java wants the key in front of its certificate, in one file.
    (folder / "broker.pem").write_text((folder / "broker.key").read_text() + (folder / "broker.pem").read_text())
    _signed(folder, "client", "extendedKeyUsage=clientAuth\n")
    _run(["pkcs8", "-topk8", "-v2", "aes-256-cbc", "-in", folder / "client.key", "-passout", f"pass:{PASSWORD}", "-out", folder / "locked.key"])
    (folder / "locked.key").rename(folder / "client.key")
    _tokens(folder)


def properties(folder):
    """Lines of the broker's configuration."""
    jaas = "org.apache.kafka.common.security"
    mechanism = "listener.name.sasl"
    return f"""ssl.keystore.type=PEM
ssl.keystore.location={folder}/broker.pem
ssl.truststore.type=PEM
ssl.truststore.location={folder}/ca.pem
listener.name.mtls.ssl.client.auth=required
{mechanism}.sasl.enabled.mechanisms=PLAIN,SCRAM-SHA-256,SCRAM-SHA-512,OAUTHBEARER
{mechanism}.plain.sasl.jaas.config={jaas}.plain.PlainLoginModule required user_{USER}="{PASSWORD}";
{mechanism}.scram-sha-256.sasl.jaas.config={jaas}.scram.ScramLoginModule required;
{mechanism}.scram-sha-512.sasl.jaas.config={jaas}.scram.ScramLoginModule required;
{mechanism}.oauthbearer.sasl.jaas.config={jaas}.oauthbearer.OAuthBearerLoginModule required;
{mechanism}.oauthbearer.sasl.server.callback.handler.class={jaas}.oauthbearer.OAuthBearerValidatorCallbackHandler
sasl.oauthbearer.jwks.endpoint.url={_jwks_url(folder)}
sasl.oauthbearer.expected.audience={AUDIENCE}
sasl.oauthbearer.expected.issuer={ISSUER}
# A client with a token has to show it again, so that a test sees what happens when it is no longer accepted.
{mechanism}.oauthbearer.connections.max.reauth.ms=3000
"""


def java_options(folder):
    """What the broker's Java needs: Kafka reads keys from named places only."""
    return [f"-Dorg.apache.kafka.sasl.oauthbearer.allowed.urls={_jwks_url(folder)}"]


def scram_users():
    """Arguments of Kafka's storage tool."""
    arguments = []
    for mechanism in ("SCRAM-SHA-256", "SCRAM-SHA-512"):
        arguments += ["--add-scram", f"{mechanism}=[name={USER},password={PASSWORD}]"]
    return arguments


def environment(folder, ports):
    """The variables that lead a test to the listeners."""
    variables = {f"CLIPSTREAM_TEST_KAFKA_{name}": f"127.0.0.1:{port}" for name, port in ports.items()}
    return {
        **variables,
        "CLIPSTREAM_TEST_KAFKA_FILES": str(folder),
        "CLIPSTREAM_TEST_KAFKA_USER": USER,
        "CLIPSTREAM_TEST_KAFKA_PASSWORD": PASSWORD,
    }


def _jwks_url(folder):
    return (folder / "jwks.json").as_uri()


def _run(arguments, **options):
    return subprocess.run([openssl(), *map(str, arguments)], check=True, capture_output=True, **options).stdout


def _authority(folder, name):
    # A configuration of our own: the system's may add extensions or ask questions.
    config = folder / f"{name}.cnf"
    config.write_text("[req]\ndistinguished_name=name\nx509_extensions=ca\n[name]\n[ca]\nbasicConstraints=critical,CA:TRUE\n")
    _run(
        ["req", "-x509", "-newkey", "rsa:2048", "-nodes", "-sha256", "-days", DAYS, "-config", config,
         "-subj", f"/CN=clipstream tests {name}", "-keyout", folder / f"{name}.key", "-out", folder / f"{name}.pem"]
    )  # fmt: skip


def _signed(folder, name, extensions):
    """A key and a certificate by the authority `ca`."""
    request, config = folder / f"{name}.csr", folder / f"{name}.cnf"
    config.write_text(extensions)
    _run(
        ["req", "-newkey", "rsa:2048", "-nodes", "-sha256", "-config", folder / "ca.cnf", "-subj", f"/CN={USER}",
         "-keyout", folder / f"{name}.key", "-out", request]
    )  # fmt: skip
    _run(
        ["x509", "-req", "-sha256", "-days", DAYS, "-in", request, "-CA", folder / "ca.pem", "-CAkey", folder / "ca.key",
         "-CAcreateserial", "-extfile", config, "-out", folder / f"{name}.pem"]
    )  # fmt: skip


def _tokens(folder):
    key = folder / "token.key"
    _run(["genpkey", "-algorithm", "RSA", "-pkeyopt", "rsa_keygen_bits:2048", "-out", key])
    modulus = bytes.fromhex(_run(["rsa", "-in", key, "-noout", "-modulus"]).decode().strip().partition("=")[2])
    public = {"kty": "RSA", "kid": "test", "alg": "RS256", "use": "sig", "n": _encoded(modulus), "e": "AQAB"}
    (folder / "jwks.json").write_text(json.dumps({"keys": [public]}))
    now = int(time.time())
    later = now + DAYS * 86_400
    for name, audience, expires in (
        ("token", AUDIENCE, later), ("token-expired", AUDIENCE, now - 3600), ("token-foreign", "another", later),
    ):  # fmt: skip
        header = {"alg": "RS256", "kid": "test", "typ": "JWT"}
        claims = {"iss": ISSUER, "aud": audience, "sub": USER, "scope": "kafka", "iat": now - 7200, "exp": expires}
        signed = ".".join(_encoded(json.dumps(part).encode()) for part in (header, claims))
        signature = _run(["dgst", "-sha256", "-sign", key], input=signed.encode())
        (folder / f"{name}.jwt").write_text(f"{signed}.{_encoded(signature)}\n")


def _encoded(value):
    """RFC 7515: base64url without padding."""
    return base64.urlsafe_b64encode(value).rstrip(b"=").decode()
