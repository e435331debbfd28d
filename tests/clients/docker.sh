#!/usr/bin/env bash
# needs: docker dockerd
# needs root
. "$(dirname "$0")/lib.sh"
export DOCKER_CONFIG=$SCRATCH/config
mkdir -p "$DOCKER_CONFIG"
socket=unix://$SCRATCH/docker.sock
background dockerd --data-root "$SCRATCH/data" --exec-root "$SCRATCH/exec" --pidfile "$SCRATCH/docker.pid" \
  -H "$socket" --bridge=none --iptables=false >"$SCRATCH/dockerd.log" 2>&1
docker() { command docker -H "$socket" "$@"; }
wait_for 60 "the Docker engine" docker info
version "$(docker version --format 'engine {{.Server.Version}}, client {{.Client.Version}}')"
here=$REGISTRY/clients/docker

# import REFERENCE: prints the image's id
import() {
  random_layer "$SCRATCH/rootfs.tar" payload 5000000
  docker import "$SCRATCH/rootfs.tar" "$1"
}
# pulls REFERENCE ID
pulls() {
  docker image rm --force "$2" >/dev/null
  docker pull --quiet "$1" >/dev/null
  same "the image from $1" "$(docker image inspect --format '{{.Id}}' "$1")" "$2"
}

id=$(import "$here:one")
docker push --quiet "$here:one" >/dev/null
digest=$(docker image inspect --format '{{index .RepoDigests 0}}' "$here:one" | cut -d@ -f2)
did "push"
for _ in 1 2 3; do
  pulls "$here:one" "$id"
  pulls "$here@$digest" "$id"
done
did "pull by tag and by digest"
# shellcheck disable=SC2086
for region in $REGIONS; do pulls "$region/clients/docker:one" "$id"; done
did "pull from every region by its own address"

docker tag "$id" "$here-copy:one"
docker push --quiet "$here-copy:one" >/dev/null
pulls "$here-copy:one" "$id"
did "push to another repository, by mounts"

# This engine writes its own architecture into what it imports; the list says it otherwise.
arm=$(import "$here:arm")
docker push --quiet "$here:arm" >/dev/null
docker manifest create --insecure "$here:both" "$here:one" "$here:arm" >/dev/null
docker manifest annotate --os linux --arch arm64 "$here:both" "$here:arm"
docker manifest push --insecure "$here:both" >/dev/null
for image in "amd64 $id" "arm64 $arm"; do
  docker image rm --force "$id" "$arm" >/dev/null 2>&1 || true
  docker pull --quiet --platform "linux/${image% *}" "$here:both" >/dev/null
  same "the image for ${image% *}" "$(docker image inspect --format '{{.Id}}' "$here:both")" "${image#* }"
done
docker manifest inspect --insecure "$here:both" | grep -q '"architecture": "arm64"'
did "manifest create and push, and pull of either architecture"

docker pull --quiet --all-tags "$here" >/dev/null
same "the tags pulled" "$(docker image ls --format '{{.Tag}}' "$here" | sort | paste -sd' ')" "arm both one"
did "pull --all-tags"

id=$(import "$here:one")
docker push --quiet "$here:one" >/dev/null
pulls "$here:one" "$id"
did "push of a tag that moves"

# The region of the engine's choice, while another is dead.
pid=$("$CLUSTER_CLI" status --json --endpoint "$PEER" | grep -o '"process_id": *[0-9]*' | head -n1 | tr -dc 0-9)
kill -9 "$pid"
touch "$SCRATCH/killed"
# shellcheck disable=SC2086
set -- $REGIONS
id=$(import "$2/clients/docker:after")
docker push --quiet "$2/clients/docker:after" >/dev/null
pulls "$3/clients/docker:after" "$id"
docker pull --quiet "$3/clients/docker:both" >/dev/null
did "with one region killed, push to a second and pull from the third"
