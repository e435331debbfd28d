#!/usr/bin/env bash
# needs: cosign crane
. "$(dirname "$0")/lib.sh"
export HOME=$SCRATCH DOCKER_CONFIG=$SCRATCH COSIGN_PASSWORD=secret COSIGN_EXPERIMENTAL=1
version "$(cosign version 2>/dev/null | sed -n 's/^GitVersion: *//p')"
here=$REGISTRY/clients/cosign
cd "$SCRATCH" || exit
cosign generate-key-pair >/dev/null 2>&1
# Nothing is asked of a service elsewhere.
sign() { cosign sign --yes --key cosign.key --tlog-upload=false --allow-http-registry "$@" >"$SCRATCH/signed" 2>&1; }
check() { cosign "$1" --key cosign.pub --private-infrastructure --allow-http-registry "${@:2}"; }
verify() { check verify "$@" >"$SCRATCH/verified" 2>&1; }
hex() { crane digest "$1" | cut -d: -f2; }

layout one amd64
crane push one "$here:one" >/dev/null 2>&1
digest=$(crane digest "$here:one")
refused "an image without a signature" "no signatures found" check verify "$here:one"
sign -a made=here "$here@$digest"
verify -a made=here "$here:one"
crane ls "$here" | grep -qx "sha256-${digest#sha256:}.sig"
sign -a made=again "$here@$digest"
verify -a made=again "$here:one"
mkdir -p other
(cd other && cosign generate-key-pair >/dev/null 2>&1)
refused "the signature of another key" "no matching signatures" \
  cosign verify --key other/cosign.pub --private-infrastructure --allow-http-registry "$here:one"
did "sign twice and verify, as tags"

layout two amd64
crane push two "$here-referrers:one" >/dev/null 2>&1
digest=$(crane digest "$here-referrers:one")
sign --registry-referrers-mode oci-1-1 "$here-referrers@$digest"
verify --experimental-oci11 "$here-referrers:one"
same "the tags" "$(crane ls "$here-referrers" | paste -sd' ')" one
curl -fsS "http://$REGISTRY/v2/clients/cosign-referrers/referrers/$digest" | grep -q 'application/vnd.dev.cosign.artifact.sig.v1+json'
did "sign and verify, as referrers"

both both
crane push --index both "$here:both" >/dev/null 2>&1
sign --recursive "$here@$(crane digest "$here:both")"
verify "$here:both"
did "sign --recursive of an index"

printf '{"made":"here"}' >predicate
cosign attest --yes --key cosign.key --tlog-upload=false --allow-http-registry --type custom --predicate predicate "$here:one" >attested 2>&1
check verify-attestation --type custom "$here:one" >verified 2>&1
cosign attach sbom --allow-http-registry --sbom predicate "$here:one" >attached 2>&1
cosign tree --allow-http-registry "$here:one" >tree 2>&1
same "what the tree has" "$(grep -c '🍒' tree)" 4
did "attest, verify-attestation, attach sbom, tree"

cosign copy --allow-http-registry "$here:one" "$here-copy:one" >copied 2>&1
verify "$here-copy:one"
cosign save --allow-http-registry --dir saved "$here:one" >saved.out 2>&1
cosign load --allow-http-registry --dir saved "$here-loaded:one" >loaded.out 2>&1
verify "$here-loaded:one"
did "copy, save, load"

cosign clean --force --allow-http-registry "$here:one" >cleaned 2>&1
refused "what was cleaned" "no signatures found" check verify "$here:one"
did "clean"
