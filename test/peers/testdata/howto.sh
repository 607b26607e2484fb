#!/bin/bash
# usage: howto.sh DIR [SUBJECT]
#
# Makes the how-to's files with its own openssl lines, word for word: in DIR/CA
# the CA, in DIR/device the device's key and deviceCertAndCA.crt. Every question
# is answered with the return key, as the how-to does; a SUBJECT (/CN=gw-1) is
# the one thing added to it.
set -euo pipefail

mkdir -p "$1/CA" "$1/device"
subject=(${2:+-subj "$2"})
return_key() { yes '' 2>/dev/null || true; }

cd "$1/CA"
openssl genrsa -out CAroot.key 2048
openssl req -x509 -new -nodes -key CAroot.key -sha256 -days 365 -out CAroot.pem < <(return_key)

cd ../device
openssl genrsa -out deviceCert.key 2048
openssl req -new -key deviceCert.key -out deviceCert.csr "${subject[@]}" < <(return_key)
openssl x509 -req -in deviceCert.csr -CA ../CA/CAroot.pem -CAkey ../CA/CAroot.key -CAcreateserial -out deviceCert.crt -days 365 -sha256
cat deviceCert.crt ../CA/CAroot.pem > deviceCertAndCA.crt
