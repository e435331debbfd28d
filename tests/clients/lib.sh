# What the scripts of all clients share; each sources it first.
#
# From `run` they have: REGISTRY, the balancer (host:port) that hands every request to the next region; REGIONS, the regions
# themselves; SCRATCH, an empty directory of their own; CLUSTER_CLI, the tool, and PEER, a node it may ask.
# They leave in SCRATCH: `version`, what the client says that it is, and `did`, a line for each thing that held.
set -euo pipefail

say() { printf -- '-- %s\n' "$*"; }

# fail WHAT...
fail() {
  echo "error: $*" >&2
  exit 1
}

# version TEXT
version() {
  printf '%s\n' "$1" >"$SCRATCH/version"
  say "$(basename "$0" .sh) $1"
}

# did WHAT: it was run, and what it did was checked
did() {
  printf '%s\n' "$1" >>"$SCRATCH/did"
  say "$1"
}

# Waits for a command to succeed: wait_for SECONDS WHAT COMMAND...
wait_for() {
  local left=$(($1 * 5)) what=$2
  shift 2
  until "$@" >/dev/null 2>&1; do
    left=$((left - 1))
    [ "$left" -gt 0 ] || fail "$what did not happen in time"
    sleep 0.2
  done
}

# same WHAT GOT WANTED
same() { [ "$2" = "$3" ] || fail "$1 is $2, not $3"; }

# refused WHAT PATTERN COMMAND...: the command fails, and says something like the pattern
refused() {
  local what=$1 pattern=$2
  shift 2
  if "$@" >"$SCRATCH/refused" 2>&1; then fail "$what was not refused"; fi
  grep -qiE "$pattern" "$SCRATCH/refused" || fail "$what was refused with $(cat "$SCRATCH/refused")"
}

# sha256 FILE
sha256() { sha256sum "$1" | cut -d' ' -f1; }

# A command that is slow to start is ended with the script: background COMMAND...
background() {
  "$@" </dev/null &
  BACKGROUND+=($!)
}
BACKGROUND=()
end_background() {
  local status=$?
  set +e
  for ((i = ${#BACKGROUND[@]} - 1; i >= 0; i--)); do
    kill "${BACKGROUND[i]}" 2>/dev/null
    for _ in $(seq 100); do
      kill -0 "${BACKGROUND[i]}" 2>/dev/null || break
      sleep 0.2
    done
    kill -9 "${BACKGROUND[i]}" 2>/dev/null
  done
  exit "$status"
}
trap end_background EXIT

# random_layer FILE NAME BYTES: a tar with one file of random bytes
random_layer() {
  local root
  root=$(mktemp -d -p "$SCRATCH")
  head -c "$3" /dev/urandom >"$root/$2"
  tar -C "$root" --owner=0 --group=0 -cf "$1" "$2"
  rm -rf "$root"
}

# put LAYOUT FILE: moves a file to the blobs of an OCI layout; prints digest and size as a descriptor does
put() {
  local digest size
  digest=$(sha256 "$2")
  size=$(stat -c %s "$2")
  mkdir -p "$1/blobs/sha256"
  mv "$2" "$1/blobs/sha256/$digest"
  printf '"digest":"sha256:%s","size":%s' "$digest" "$size"
}

# layout DIRECTORY ARCHITECTURE: an OCI layout with an image of two random layers; leaves its descriptor in `entry`
layout() {
  local directory=$1 architecture=$2 layers="" ids="" layer
  mkdir -p "$directory"
  for layer in 1 2; do
    random_layer "$SCRATCH/made.layer" "file-$architecture-$layer" $((layer * 1500000))
    ids+="${ids:+,}\"sha256:$(sha256 "$SCRATCH/made.layer")\""
    gzip -n "$SCRATCH/made.layer"
    layers+="${layers:+,}{\"mediaType\":\"application/vnd.oci.image.layer.v1.tar+gzip\",$(put "$directory" "$SCRATCH/made.layer.gz")}"
  done
  printf '{"architecture":"%s","os":"linux","config":{},"rootfs":{"type":"layers","diff_ids":[%s]}}' \
    "$architecture" "$ids" >"$SCRATCH/made.config"
  printf '{"schemaVersion":2,"mediaType":"application/vnd.oci.image.manifest.v1+json","config":{"mediaType":"application/vnd.oci.image.config.v1+json",%s},"layers":[%s]}' \
    "$(put "$directory" "$SCRATCH/made.config")" "$layers" >"$SCRATCH/made.manifest"
  printf '{"mediaType":"application/vnd.oci.image.manifest.v1+json",%s,"platform":{"os":"linux","architecture":"%s"}}' \
    "$(put "$directory" "$SCRATCH/made.manifest")" "$architecture" >"$directory/entry"
  printf '{"imageLayoutVersion":"1.0.0"}' >"$directory/oci-layout"
  printf '{"schemaVersion":2,"manifests":[%s]}' "$(cat "$directory/entry")" >"$directory/index.json"
}

# both DIRECTORY: an OCI layout with an index of two architectures
both() {
  local one
  layout "$1.amd64" amd64
  layout "$1.arm64" arm64
  mkdir -p "$1/blobs/sha256"
  for one in "$1.amd64" "$1.arm64"; do cp "$one/blobs/sha256/"* "$1/blobs/sha256/"; done
  cp "$1.amd64/oci-layout" "$1/"
  printf '{"schemaVersion":2,"mediaType":"application/vnd.oci.image.index.v1+json","manifests":[%s,%s]}' \
    "$(cat "$1.amd64/entry")" "$(cat "$1.arm64/entry")" >"$SCRATCH/made.index"
  printf '{"schemaVersion":2,"manifests":[{"mediaType":"application/vnd.oci.image.index.v1+json",%s}]}' \
    "$(put "$1" "$SCRATCH/made.index")" >"$1/index.json"
}

# digest_of LAYOUT: of the one thing that its index.json names
digest_of() { grep -o 'sha256:[0-9a-f]*' "$1/index.json" | head -n1; }

# raw REPOSITORY REFERENCE: the stored manifest's bytes, asked from the balancer
raw() { curl -fsS "http://$REGISTRY/v2/$1/manifests/$2"; }
