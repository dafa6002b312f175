#!/usr/bin/env bash
# Builds what checks the chart, once, into a folder that is kept: some minutes of a processor. Prints the folder.
# Needs Go and npm; `make chart` says what it leaves out where there are none.
set -euo pipefail
cd "$(dirname "$0")/.."
folder=${KSTASH_TOOLS:-${XDG_CACHE_HOME:-$HOME/.cache}/kstash/chart-tools}
export GOBIN=$folder/bin
mkdir -p "$GOBIN"

command -v go >/dev/null || { echo "Go is missing: helm, kubeconform, kube-score and helm-unittest cannot be built" >&2; exit 3; }

# install NAME PACKAGE VERSION: unless that version is there
install() {
    [ "$(cat "$GOBIN/$1.version" 2>/dev/null)" = "$3" ] && [ -x "$GOBIN/$1" ] && return
    echo "building $1 $3" >&2
    go install "$2@$3" >&2
    echo "$3" >"$GOBIN/$1.version"
}
install kubeconform github.com/yannh/kubeconform/cmd/kubeconform v0.8.0
install kube-score github.com/zegl/kube-score/cmd/kube-score v1.20.0
install helm helm.sh/helm/v3/cmd/helm v3.22.0

# helm-unittest replaces a module, which `go install` of a version refuses: it is built as a dependency, the same way.
unittest=v1.1.2
if [ "$(cat "$GOBIN/helm-unittest.version" 2>/dev/null)" != "$unittest" ]; then
    echo "building helm-unittest $unittest" >&2
    module=$(mktemp -d)
    trap 'rm -rf "$module"' EXIT
    (
        cd "$module"
        go mod init tools
        go mod edit -replace github.com/vmware-labs/yaml-jsonpath@v0.3.2=github.com/helm-unittest/yaml-jsonpath@v0.4.0
        go get "github.com/helm-unittest/helm-unittest/cmd/helm-unittest@$unittest"
        go build -o "$GOBIN/helm-unittest" github.com/helm-unittest/helm-unittest/cmd/helm-unittest
    ) >&2
    echo "$unittest" >"$GOBIN/helm-unittest.version"
fi

# The schemas of custom resources, as validators for Node.
crds="@kubernetes-models/keda@0.4.2 @kubernetes-models/prometheus-operator@6.0.0"
if command -v npm >/dev/null && [ "$(cat "$folder/crds.version" 2>/dev/null)" != "$crds" ]; then
    # shellcheck disable=SC2086 # a list of packages
    npm install --silent --no-audit --no-fund --ignore-scripts --prefix "$folder" $crds >&2
    echo "$crds" >"$folder/crds.version"
fi
echo "$folder"
