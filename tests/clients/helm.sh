#!/usr/bin/env bash
# needs: helm
. "$(dirname "$0")/lib.sh"
export HOME=$SCRATCH HELM_CACHE_HOME=$SCRATCH/cache HELM_CONFIG_HOME=$SCRATCH/config HELM_DATA_HOME=$SCRATCH/data
version "$(helm version --template '{{.Version}}')"
here=oci://$REGISTRY/clients/helm

cd "$SCRATCH" || exit
helm create app >/dev/null
# A `+` becomes `_` in the tag.
for number in 0.1.0 0.2.0 1.0.0+build.5; do
  helm package app --version "$number" >/dev/null
  helm push "app-$number.tgz" "$here" --plain-http >/dev/null 2>"$SCRATCH/pushed"
done
raw clients/helm/app 1.0.0_build.5 | grep -q 'application/vnd.cncf.helm.config.v1+json'
did "push of three versions, one with +"

mkdir -p pulled
helm pull "$here/app" --version 1.0.0+build.5 --plain-http --destination pulled >/dev/null 2>&1
cmp app-1.0.0+build.5.tgz pulled/app-1.0.0+build.5.tgz
# The newest of a range: from the list of tags.
helm pull "$here/app" --version '~0' --plain-http --destination pulled >/dev/null 2>&1
cmp app-0.2.0.tgz pulled/app-0.2.0.tgz
helm pull "$here/app" --version '<0.2.0' --plain-http --destination pulled >/dev/null 2>&1
cmp app-0.1.0.tgz pulled/app-0.1.0.tgz
did "pull of a version and of the newest in a range"

helm show chart "$here/app" --version 0.1.0 --plain-http 2>/dev/null | grep -qx 'version: 0.1.0'
helm template release "$here/app" --version 0.2.0 --plain-http 2>/dev/null | grep -q 'helm.sh/chart: app-0.2.0'
refused "a version that is not there" "not found" helm pull "$here/app" --version 9.9.9 --plain-http
did "show chart, template"
