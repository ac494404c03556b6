#!/bin/sh
# Makes the certificates of the micro-benchmarks: a root, an intermediate and an end entity like those of webhook senders. They are
# committed, so that every count uses the same bytes; the keys are deleted. Run `cargo xtask count --bless` afterwards.
set -eu
cd "$(dirname "$0")"
keys=$(mktemp -d)
trap 'rm -r "$keys"' EXIT
key() { openssl genpkey -algorithm EC -pkeyopt ec_paramgen_curve:P-256 -out "$keys/$1.key"; }
# certificate NAME ISSUER SUBJECT: extensions on standard input. Valid for a hundred years: the cases set their own time.
certificate() {
    key "$1"
    cat >"$keys/$1.extensions"
    openssl req -new -key "$keys/$1.key" -subj "$3" -out "$keys/$1.csr"
    openssl x509 -req -in "$keys/$1.csr" -CA "$2.pem" -CAkey "$keys/$2.key" -days 36500 \
        -set_serial "0x$(openssl rand -hex 15)" -extfile "$keys/$1.extensions" -out "$1.pem"
}
key root
openssl req -x509 -new -key "$keys/root.key" -days 36500 -out root.pem \
    -subj "/C=US/O=Authority, Inc./OU=www.authority.example/CN=Authority Global Root G2"
certificate intermediate root "/C=US/O=Authority, Inc./CN=Authority TLS ECC SHA256 2030 CA1" <<END
basicConstraints = critical,CA:true,pathlen:0
keyUsage = critical,keyCertSign,cRLSign
extendedKeyUsage = serverAuth,clientAuth
subjectKeyIdentifier = hash
authorityKeyIdentifier = keyid
crlDistributionPoints = URI:http://crl.authority.example/root.crl
END
certificate end-entity intermediate \
    "/C=US/ST=California/L=San Francisco/O=Sender, Inc./CN=webhooks.sender.example" <<END
basicConstraints = critical,CA:false
keyUsage = critical,digitalSignature
extendedKeyUsage = serverAuth,clientAuth
subjectAltName = DNS:webhooks.sender.example,DNS:client.webhooks.sender.example,URI:https://sender.example/webhooks
subjectKeyIdentifier = hash
authorityKeyIdentifier = keyid
crlDistributionPoints = URI:http://crl.authority.example/ca1.crl
authorityInfoAccess = OCSP;URI:http://ocsp.authority.example,caIssuers;URI:http://cacerts.authority.example/ca1.crt
END
