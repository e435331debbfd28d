#!/usr/bin/env bash
# needs: containerd ctr
# needs root
. "$(dirname "$0")/lib.sh"
version "$(containerd --version | cut -d' ' -f3)"
cat >"$SCRATCH/config.toml" <<END
version = 2
root = "$SCRATCH/root"
state = "$SCRATCH/state"
disabled_plugins = ["io.containerd.grpc.v1.cri", "io.containerd.snapshotter.v1.btrfs", "io.containerd.snapshotter.v1.zfs", "io.containerd.snapshotter.v1.aufs", "io.containerd.snapshotter.v1.devmapper"]
[grpc]
  address = "$SCRATCH/socket"
END
background containerd --config "$SCRATCH/config.toml" >"$SCRATCH/containerd.log" 2>&1
ctr() { command ctr --address "$SCRATCH/socket" "$@"; }
wait_for 60 "containerd" ctr version
here=$REGISTRY/clients/containerd

both "$SCRATCH/both"
digest=$(digest_of "$SCRATCH/both")
tar -C "$SCRATCH/both" -cf "$SCRATCH/both.tar" .
ctr images import --all-platforms --digests --base-name imported "$SCRATCH/both.tar" >/dev/null
ctr images push --plain-http "$here:both" "imported@$digest" >/dev/null
cmp <(raw clients/containerd both) "$SCRATCH/both/blobs/sha256/${digest#sha256:}"
did "push of two architectures"
# The tag resolves to the same digest already: nothing is to be sent.
ctr images push --plain-http "$here:both" "imported@$digest" >/dev/null
ctr images tag "imported@$digest" "$here:again" >/dev/null
ctr images push --plain-http "$here:again" >/dev/null
cmp <(raw clients/containerd again) <(raw clients/containerd both)
did "push of what is there, under the same tag and another"

forget() {
  ctr images ls --quiet | while read -r image; do ctr images rm --sync "$image" >/dev/null; done
  ctr content ls --quiet | while read -r content; do ctr content rm "$content" >/dev/null; done
}
for reference in "$here:both" "$here@$digest"; do
  forget
  ctr images pull --plain-http --all-platforms --snapshotter native "$reference" >/dev/null
  same "what is missing of $reference" "$(ctr images check "name==$reference" | awk 'NR > 1 { print $4 }')" "complete"
  # An index, two manifests, two configs and four layers.
  same "the content of $reference" "$(ctr content ls --quiet | wc -l)" 9
done
did "pull by tag and by digest"
